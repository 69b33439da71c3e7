"""An encoder learns to tell which tokens of a text were replaced.

Clark et al., "ELECTRA: pre-training text encoders as discriminators rather than
generators", 2020 (2003.10555). A small generator fills hidden tokens in, and draws from
what it thinks of them; the encoder says of each token whether it is the text's own. A
trainer: ``.encoder`` is what is kept, generator and heads are thrown away. Each of the
two has embeddings of its own, where the paper's share theirs.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp, identity
from kzoo.losses.masked import drawn_tokens
from kzoo.losses.task import cross_entropy
from kzoo.models import transformer
from kzoo.models.family import Family, check_heads
from kzoo.models.token_prediction import check, steps_of


@dataclass(frozen=True, kw_only=True)
class ReplacedTokenHParams(HParams):
    """The generator, and what the discriminator's loss counts."""

    noun = "option"

    generator_layers: int = hp(1, "encoder blocks of the generator", min=1, max=64)
    generator_dim: int = hp(
        64, "its width; a quarter to a half of the encoder's", min=1, max=65536
    )
    generator_heads: int = hp(4, "attention heads; they divide generator_dim", min=1)
    discriminator_weight: float = hp(
        50.0, "of the encoder's loss beside the generator's", min=0.0, max=1e4
    )
    vocab_size: int = hp(17, "tokens", min=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.generator_dim, self.generator_heads)


def generator(
    hparams: ReplacedTokenHParams, pad_token_id: int | None, dropout_rate: float
) -> keras.Model:
    """Tokens (batch, time) -> logits of each step (batch, time, vocab_size)."""
    # A name of its own to each weight: the encoder has layers of the same names.
    with keras.name_scope("generator"):
        model = transformer.build(
            transformer.TransformerHParams(
                vocab_size=hparams.vocab_size,
                pad_token_id=pad_token_id,
                num_layers=hparams.generator_layers,
                hidden_dim=hparams.generator_dim,
                num_heads=hparams.generator_heads,
                mlp_dim=4 * hparams.generator_dim,
                dropout_rate=dropout_rate,
                num_classes=0,
            )
        )
        logits = keras.layers.Dense(
            hparams.vocab_size, dtype="float32", name="guesses"
        )(model.get_layer("norm").output)
    return keras.Model(model.input, logits, name="generator")


@keras.saving.register_keras_serializable("kzoo")
class ReplacedToken(keras.Model):
    """What each text costs, (batch,).

    Takes what the encoder takes, with hidden ``tokens``, and ``originals``,
    ``hidden_weights``, ``token_weights`` and ``chances``, all (batch, time); see
    :class:`kzoo.datasets.masks.ReplacedTokens`.
    """

    def __init__(self, hparams: ReplacedTokenHParams, encoder: keras.Model) -> None:
        super().__init__(name="replaced_token")
        self.hparams = hparams
        known = identity(encoder).hparams
        if "num_classes" not in known:
            raise ValueError(
                f"{encoder.name} writes tokens: replaced_token is for encoders"
            )
        # Only what leads to the steps is trained; pooling has no part in it.
        self._kept = _Untracked(encoder)  # a plain object, which Keras looks not into
        self.steps = keras.Model(encoder.input, steps_of(encoder), name="steps")
        check(encoder, self.steps, causal=False)
        self.pad_token_id = known.get("pad_token_id")
        dropout_rate = known.get("dropout_rate", 0.1)  # as the encoder has it
        self.generator = generator(hparams, self.pad_token_id, dropout_rate)
        width = self.steps.output_shape[-1]
        self.head = [
            keras.layers.Dense(width, activation="gelu", name="head_dense"),
            keras.layers.Dense(1, dtype="float32", name="replaced"),
        ]
        for layer in self.head:
            layer.build((None, None, width))
        self.built = True

    @property
    def encoder(self) -> keras.Model:
        """The model that learns."""
        return self._kept.encoder

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        guesses, tokens, logits = self.played(inputs, training)
        originals = ops.cast(inputs["originals"], "int32")
        replaced = ops.cast(ops.not_equal(tokens, originals), "float32")
        hidden = cross_entropy(originals, guesses) * weights(inputs, "hidden_weights")
        found = cross_entropy(replaced, logits) * weights(inputs, "token_weights")
        total = hidden + self.hparams.discriminator_weight * found  # (batch, time)
        return ops.mean(total, axis=-1)

    def played(
        self, inputs: dict[str, Any], training: bool = False
    ) -> tuple[Any, Any, Any]:
        """What each of the two says.

        Returns:
            The generator's logits (batch, time, vocab_size); the tokens (batch, time)
            that it made; and the log-odds that each is not the text's own, (batch,
            time, 1).
        """
        shown = ops.cast(inputs["tokens"], "int32")
        guesses = self.generator(shown, training=training)
        odds = ops.stop_gradient(guesses)
        if self.pad_token_id is not None:  # what it draws is a token
            vocab_size = self.hparams.vocab_size
            odds = odds - 1e9 * ops.one_hot(self.pad_token_id, vocab_size)
        drawn = drawn_tokens(odds, inputs["chances"])
        tokens = ops.where(inputs["hidden_weights"] > 0, drawn, inputs["originals"])
        tokens = ops.cast(tokens, "int32")
        wanted = self.steps.input
        given: Any = tokens
        if isinstance(wanted, dict):
            given = {name: inputs[name] for name in wanted} | {"tokens": tokens}
        x = self.steps(given, training=training)
        for layer in self.head:
            x = layer(x)
        return guesses, tokens, x


def weights(inputs: dict[str, Any], name: str) -> Any:
    """What each token counts, (batch, time) in float32."""
    return ops.cast(inputs[name], "float32")


@dataclass(frozen=True)
class _Untracked:
    """The encoder with its pooling."""

    encoder: keras.Model


def build(hparams: ReplacedTokenHParams, encoder: keras.Model) -> keras.Model:
    """Hidden tokens and what they were -> (batch,)."""
    return ReplacedToken(hparams, encoder)


VARIANTS = {"replaced_token": ReplacedTokenHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ReplacedTokenHParams(generator_dim=8, generator_heads=2),
    tasks=("pretraining",),
    paper="2003.10555",
    parts=("encoder",),
)
