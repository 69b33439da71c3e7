"""Seconds of kzoo's text encoders beside the same ones of KerasHub and transformers.

    python benchmarks/text.py                                # both, two rounds
    python benchmarks/text.py --models bert_base --rounds 3 --length 512 --backend jax

KerasHub (the extra `benchmarks`) runs on the same backend, transformers (the extras
`peers` and `test`) on PyTorch. No zoo has text_cnn: beside it stands what one writes by
hand, from the layers of Keras (`bare`) and of PyTorch (`torch`), neither of which masks
anything; `beside.py` says what is measured. No token is padding.
"""

from typing import Any

import numpy as np
from beside import (
    Ready,
    arguments,
    compare,
    import_torchvision,
    keras_steps,
    torch_steps,
)

import kzoo

ZOOS = {
    "bert_base": ("hub", "transformers"),
    "bert_tiny": ("hub", "transformers"),
    "text_cnn": ("bare", "torch"),
}
CLASSES = 2
WORDS = 30_522  # of BERT's vocabulary, which text_cnn reads too


def main() -> None:
    parser = arguments(__doc__, ("bert_base", "text_cnn"))
    parser.add_argument("--length", type=int, default=128, help="tokens an example")
    parsed = parser.parse_args()
    rng = np.random.default_rng(0)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        tokens = rng.integers(1, WORDS, (parsed.batch_size, parsed.length))
        labels = rng.integers(0, CLASSES, parsed.batch_size)
        return tokens.astype("int32"), labels.astype("int32")

    compare(parsed, ZOOS, ready, batch)


def ready(zoo: str, model: str) -> Ready:
    """What builds the network, and what gives its training step and its prediction."""
    sizes = {one["name"]: one["default"] for one in kzoo.describe(model)["hparams"]}
    sizes |= {"vocab_size": WORDS, "num_classes": CLASSES}
    if zoo == "kzoo":
        from kzoo.registry import build_model

        known = {"vocab_size": WORDS, "num_classes": CLASSES}
        return lambda: build_model(model, **known), keras_steps
    if zoo == "bare":
        import keras  # noqa: F401  its import is no part of building

        return lambda: bare_text_cnn(sizes), keras_steps
    if zoo == "torch":
        import torch  # noqa: F401

        return lambda: torch_text_cnn(sizes), steps_of_torch
    if zoo == "hub":
        import keras_hub  # noqa: F401

        return lambda: hub_bert(sizes), steps_of_hub
    import_torchvision()
    from transformers import BertForSequenceClassification  # noqa: F401

    return lambda: transformers_bert(sizes), steps_of_transformers


def hub_bert(sizes: dict[str, Any]) -> Any:
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=sizes["vocab_size"],
        num_layers=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        hidden_dim=sizes["hidden_dim"],
        intermediate_dim=sizes["mlp_dim"],
        dropout=sizes["dropout_rate"],
        max_sequence_length=sizes["sequence_length"],
        num_segments=sizes["num_segments"],
    )
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=CLASSES, dropout=sizes["head_dropout_rate"]
    )


def steps_of_hub(model: Any, tokens: np.ndarray, labels: np.ndarray) -> Any:
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": np.ones_like(tokens, bool),
    }
    return keras_steps(model, inputs, labels)


def transformers_bert(sizes: dict[str, Any]) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=sizes["vocab_size"],
        num_hidden_layers=sizes["num_layers"],
        num_attention_heads=sizes["num_heads"],
        hidden_size=sizes["hidden_dim"],
        intermediate_size=sizes["mlp_dim"],
        max_position_embeddings=sizes["sequence_length"],
        num_labels=CLASSES,
    )
    return BertForSequenceClassification(config)


def steps_of_transformers(model: Any, tokens: np.ndarray, labels: np.ndarray) -> Any:
    import torch

    x = torch.from_numpy(tokens).long()
    return torch_steps(model, x, labels, lambda answer: answer.logits)


def bare_text_cnn(sizes: dict[str, Any]) -> Any:
    import keras
    from keras import layers

    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(sizes["vocab_size"], sizes["embedding_dim"])(tokens)
    found = [
        layers.Conv1D(sizes["filters"], size, padding="same", activation="relu")(x)
        for size in sizes["kernel_sizes"]
    ]
    x = layers.Concatenate()([layers.GlobalMaxPooling1D()(y) for y in found])
    x = layers.Dropout(sizes["dropout_rate"])(x)
    return keras.Model(tokens, layers.Dense(CLASSES)(x))


def torch_text_cnn(sizes: dict[str, Any]) -> Any:
    import torch
    from torch import nn

    width, filters = sizes["embedding_dim"], sizes["filters"]

    class TextCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(sizes["vocab_size"], width)
            self.convolutions = nn.ModuleList(
                nn.Conv1d(width, filters, size, padding="same")
                for size in sizes["kernel_sizes"]
            )
            self.dropout = nn.Dropout(sizes["dropout_rate"])
            self.logits = nn.Linear(filters * len(self.convolutions), CLASSES)

        def forward(self, tokens: Any) -> Any:
            x = self.embedding(tokens).transpose(1, 2)  # (batch, width, time)
            found = [torch.relu(one(x)).amax(-1) for one in self.convolutions]
            return self.logits(self.dropout(torch.cat(found, -1)))

    return TextCNN()


def steps_of_torch(model: Any, tokens: np.ndarray, labels: np.ndarray) -> Any:
    import torch

    return torch_steps(model, torch.from_numpy(tokens).long(), labels)


if __name__ == "__main__":
    main()
