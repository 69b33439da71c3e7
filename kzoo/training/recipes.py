"""Named recipes: what to train with what, and what came of it.

The first recipe of a model is the one that ``kzoo train MODEL`` takes; its dataset is
the default. Scores stand in ``models/results.json``, written by the benchmarks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kzoo.hparams import nearest
from kzoo.training.recipe import Recipe


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe with the models and the data it is for.

    Attributes:
        models: names of models or of families; a model's own name goes first.
        dataset: the dataset's name.
        options: of the dataset.
        hparams: of the model.
    """

    models: tuple[str, ...]
    dataset: str
    recipe: Recipe
    options: Mapping[str, Any] = field(default_factory=dict)
    hparams: Mapping[str, Any] = field(default_factory=dict)


_SEQUENCES = {"as_sequence": True}

RECIPES = {
    "cnn_digits": NamedRecipe(
        ("cnn",),
        "digits",
        Recipe(
            learning_rate=3e-3,
            weight_decay=0.05,
            warmup_steps=40,
            epochs=60,
            augmentation=("rotation:10", "zoom:0.1", "shift"),
            ema=0.99,
        ),
    ),
    "recurrent_digits": NamedRecipe(
        ("lstm", "gru"),
        "digits",
        Recipe(
            learning_rate=5e-3,
            weight_decay=0.01,
            warmup_steps=40,
            epochs=100,
            clip=1.0,
            augmentation=("shift",),
            ema=0.99,
        ),
        options=_SEQUENCES,
    ),
    "simple_rnn_digits": NamedRecipe(
        ("simple_rnn",),
        "digits",
        Recipe(
            learning_rate=2e-3,
            weight_decay=0.01,
            warmup_steps=40,
            epochs=40,
            clip=1.0,
            augmentation=("shift",),
        ),
        options=_SEQUENCES,
    ),
    "sequence_digits": NamedRecipe(
        ("transformer", "cnn_1d"),
        "digits",
        Recipe(
            learning_rate=1e-3,
            weight_decay=0.05,
            warmup_steps=100,
            epochs=40,
            clip=1.0,
            augmentation=("shift",),
        ),
        options=_SEQUENCES,
    ),
    "recurrent_names": NamedRecipe(
        ("gru", "lstm"),
        "names",
        Recipe(
            learning_rate=3e-3,
            weight_decay=0.05,
            warmup_steps=100,
            epochs=14,
            clip=1.0,
            label_smoothing=0.05,
            augmentation=("character_drop:0.05",),
            ema=0.995,
        ),
        hparams={
            "num_layers": 1,
            "units": 160,
            "bidirectional": True,
            "pooling": "max",
            "dropout_rate": 0.3,
        },
    ),
    "mlp_xor": NamedRecipe(
        ("mlp_xor",),
        "xor",
        Recipe(
            optimizer="adam",
            learning_rate=0.01,
            schedule="constant",
            batch_size=4,
            epochs=400,
        ),
        # Faster or from larger weights, some seeds end in a local minimum.
        hparams={"initial_scale": 0.1},
    ),
    "mlp_digits": NamedRecipe(
        ("mlp",),
        "digits",
        Recipe(
            learning_rate=2e-3, weight_decay=0.05, epochs=40, augmentation=("shift",)
        ),
        hparams={"units": (256, 256), "dropout_rate": 0.2},
    ),
    "mlp_diabetes": NamedRecipe(
        ("mlp",),
        "diabetes",
        Recipe(learning_rate=1e-3, weight_decay=0.1, epochs=100, batch_size=32),
        hparams={"units": (64,), "dropout_rate": 0.3},
    ),
    "transformer_dates": NamedRecipe(
        ("transformer_seq2seq",),
        "dates",
        Recipe(learning_rate=1e-3, warmup_steps=300, epochs=12, clip=1.0),
    ),
    "seq2seq_lstm_dates": NamedRecipe(
        ("seq2seq_lstm",),
        "dates",
        Recipe(learning_rate=2e-3, warmup_steps=200, epochs=12, clip=1.0),
    ),
    "lstm_reference_manual": NamedRecipe(
        ("lstm_language_model",),
        "reference_manual",
        Recipe(
            learning_rate=2e-3,
            weight_decay=0.01,
            warmup_steps=50,
            batch_size=16,
            epochs=14,
            clip=1.0,
        ),
        hparams={
            "embedding_dim": 64,
            "units": 512,
            "num_layers": 1,
            "dropout_rate": 0.4,
        },
    ),
    "gpt2_reference_manual": NamedRecipe(
        ("gpt2_tiny",),
        "reference_manual",
        Recipe(
            learning_rate=1e-3,
            weight_decay=0.1,
            warmup_steps=100,
            batch_size=16,
            epochs=10,
            clip=1.0,
        ),
    ),
}


def get_recipe(name: str) -> NamedRecipe:
    """The recipe of this name; a ``ValueError`` with the nearest if there is none."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, RECIPES)}")
    return RECIPES[name]


def recipe_for(model: str, family: str, dataset: str | None) -> str | None:
    """The recipe's name for this model on this dataset, its own before its family's.

    ``None`` for the dataset takes the model's first.
    """
    for wanted in (model, family):
        for name, named in RECIPES.items():
            if wanted in named.models and dataset in (None, named.dataset):
                return name
    return None
