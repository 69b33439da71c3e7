"""A convolutional network over words: one layer, several widths, maximum over time.

Kim, "Convolutional neural networks for sentence classification", 2014 (1408.5882),
without its bound on the norm of the last layer's weights.
"""

from dataclasses import dataclass

import keras

from kzoo.hparams import hp
from kzoo.layers.sequence import ZeroPadding
from kzoo.models.family import Family, SequenceHParams, logits_head, sequence_input


@dataclass(frozen=True, kw_only=True)
class TextCNNHParams(SequenceHParams):
    """Tokens (batch, time) or features (batch, time, num_features)."""

    embedding_dim: int = hp(
        300, "of a token", min=1, max=4096, log=True, tune=(16, 512)
    )
    trainable_embedding: bool = hp(
        True, "false = static: the tokens' vectors stay as they are"
    )
    kernel_sizes: tuple[int, ...] = hp(
        (3, 4, 5), "steps that the filters see, a convolution each", min=1, max=512
    )
    filters: int = hp(
        100, "of each convolution", min=1, max=65536, log=True, tune=(32, 512)
    )
    dropout_rate: float = hp(
        0.5, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.7)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.kernel_sizes:
            raise ValueError("kernel_sizes is empty; it needs one size at least")


def build(hparams: TextCNNHParams) -> keras.Model:
    """(batch, time[, num_features]) -> (batch, num_classes)."""
    inputs, x, mask = sequence_input(
        hparams, hparams.embedding_dim, trainable=hparams.trainable_embedding
    )
    x = ZeroPadding(name="stem")(x, mask=mask)
    found = []
    for i, size in enumerate(hparams.kernel_sizes):
        y = keras.layers.Conv1D(
            hparams.filters, size, padding="same", activation="relu", name=f"block_{i}"
        )(x)  # (batch, time, filters)
        # A ReLU's least is 0, so zeros in the padding are no maximum.
        y = ZeroPadding(name=f"block_{i}_real")(y, mask=mask)
        found.append(keras.layers.GlobalMaxPooling1D(name=f"block_{i}_maximum")(y))
    # (batch, filters * convolutions)
    x = keras.layers.Concatenate(name="pooled")(found)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


VARIANTS = {"text_cnn": TextCNNHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=TextCNNHParams(
        vocab_size=17, embedding_dim=8, kernel_sizes=(2, 3), filters=8, num_classes=3
    ),
    tasks=("text-classification", "sequence-classification", "regression"),
    paper="1408.5882",
)
