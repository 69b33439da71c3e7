"""Named recipes: what to train with what, and what came of it.

The first recipe of a model is the one that ``kzoo train MODEL`` takes; its dataset is
the default. Scores stand in ``models/results.json``, written by the benchmarks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
_DIGITS = Recipe(
    learning_rate=3e-3,
    weight_decay=0.05,
    warmup_steps=40,
    epochs=60,
    # Moves by whole pixels would cut images of 8x8.
    augmentation=("rotation:15", "stretch:0.15", "shear:15", "translation:0.1"),
    ema=0.99,
)
# Of convolutions over the characters of short texts.
_CHARACTERS = Recipe(
    learning_rate=2e-3,
    weight_decay=0.02,
    warmup_steps=200,
    batch_size=64,
    epochs=24,
    label_smoothing=0.1,
    augmentation=("character_drop:0.1",),
    ema=0.998,
)

RECIPES = {
    "cnn_digits": NamedRecipe(("cnn",), "digits", _DIGITS),
    "vit_digits": NamedRecipe(
        ("vit_lite_2",),
        "digits",
        replace(_DIGITS, learning_rate=2e-3, warmup_steps=100, epochs=100, clip=1.0),
        hparams={"drop_path_rate": 0.1},
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
    "cnn_1d_names": NamedRecipe(
        ("cnn_1d",),
        "names",
        replace(_CHARACTERS, weight_decay=0.2),
        hparams={
            "filters": (256, 384),
            "kernel_size": 5,
            "global_pooling": "max",
            "dense_units": 0,
            "dropout_rate": 0.5,
        },
    ),
    "text_cnn_names": NamedRecipe(
        ("text_cnn",),
        "names",
        replace(_CHARACTERS, epochs=30),
        hparams={
            "kernel_sizes": (1, 2, 3, 4, 5, 6),
            "filters": 256,
            "embedding_dim": 64,
        },
    ),
    "bert_tiny_names": NamedRecipe(
        ("bert_tiny",),
        "names",
        Recipe(
            learning_rate=1e-3,
            weight_decay=0.05,
            warmup_steps=200,
            batch_size=64,
            epochs=24,
            clip=1.0,
            augmentation=("character_drop:0.05",),
        ),
    ),
    # He et al. 2016, sec. 4.2: 64,000 steps. Weight decay is apart from the momentum
    # here, which makes ten of a decay that goes through it: 1e-4 there is 1e-3.
    "cifar": NamedRecipe(
        ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        "cifar10",
        Recipe(
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=1e-3,
            schedule="step",
            decay_epochs=(82, 123),
            warmup_steps=400,  # which the deepest needs
            batch_size=128,
            epochs=164,
            augmentation=("shift", "flip"),
        ),
    ),
    # Zagoruyko & Komodakis 2016, sec. 3; weight decay as above.
    "wide_resnet_cifar": NamedRecipe(
        ("wide_resnet",),
        "cifar10",
        Recipe(
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-3,
            schedule="step",
            decay_epochs=(60, 120, 160),
            decay_rate=0.2,
            batch_size=128,
            epochs=200,
            augmentation=("shift", "flip"),
        ),
    ),
    # Hassani et al. 2021 (2104.05704).
    "vit_cifar": NamedRecipe(
        ("vit_lite_4",),
        "cifar10",
        Recipe(
            learning_rate=5e-4,
            weight_decay=0.03,
            warmup_steps=3900,  # ten epochs
            batch_size=128,
            epochs=200,
            label_smoothing=0.1,
            augmentation=("shift", "flip", "randaugment:9"),
            mixup=0.8,
            cutmix=1.0,
        ),
        hparams={"drop_path_rate": 0.1},
    ),
    # Like A2 of Wightman et al., "ResNet strikes back", 2021 (2110.00476), with the
    # entropy of softmax where they have each class's own.
    "imagenet": NamedRecipe(
        ("resnet",),
        "imagenet2012",
        Recipe(
            optimizer="lamb",
            learning_rate=5e-3,
            weight_decay=0.02,
            warmup_steps=3100,  # five epochs
            batch_size=2048,
            epochs=300,
            augmentation=("crop", "flip", "randaugment:7"),
            mixup=0.1,
            cutmix=1.0,
            precision="mixed_bfloat16",
        ),
        options={"image_size": 224},
        hparams={"drop_path_rate": 0.05},
    ),
    # After those of larger images, which are these networks' own.
    "networks_digits": NamedRecipe(
        (
            "densenet",
            "efficientnet",
            "mobilenet",
            "resnet",
            "shufflenet_v2",
            "wide_resnet",
        ),
        "digits",
        _DIGITS,
        hparams={"stem": "small"},
    ),
    # From the paper's small weights, so faster and for longer.
    "lenet5_digits": NamedRecipe(
        ("lenet5",),
        "digits",
        replace(_DIGITS, learning_rate=1e-2, weight_decay=0.0, epochs=120),
        hparams={"stem": "small"},
    ),
    # Without normalisation, so more slowly.
    "squeezenet_digits": NamedRecipe(
        ("squeezenet",),
        "digits",
        replace(_DIGITS, learning_rate=1e-3, warmup_steps=100, clip=1.0),
        # Of ten classes some would die under the published ReLU.
        hparams={"stem": "small", "logits_activation": "none"},
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
    # Sets of TensorFlow Datasets, which have to be downloaded: no scores of ours yet.
    "cnn_mnist": NamedRecipe(
        ("cnn",),
        "mnist",
        Recipe(
            learning_rate=2e-3,
            weight_decay=0.05,
            warmup_steps=400,
            batch_size=128,
            epochs=20,
            augmentation=("rotation:10", "zoom:0.1", "shift"),
            ema=0.999,
        ),
    ),
    "lenet5_mnist": NamedRecipe(
        ("lenet5",),
        "mnist",
        Recipe(
            learning_rate=2e-3,
            weight_decay=0.05,
            warmup_steps=400,
            batch_size=128,
            epochs=20,
            augmentation=("shift",),
        ),
        hparams={"stem": "small"},
    ),
    "texts_imdb_reviews": NamedRecipe(
        ("text_cnn", "lstm", "gru", "cnn_1d", "transformer"),
        "imdb_reviews",
        Recipe(
            learning_rate=1e-3, weight_decay=0.05, warmup_steps=200, epochs=10, clip=1.0
        ),
        options={"max_vocab_size": 20_000, "max_length": 400, "truncate": True},
    ),
    "texts_ag_news": NamedRecipe(
        ("text_cnn", "lstm", "gru", "cnn_1d", "transformer"),
        "ag_news_subset",
        Recipe(
            learning_rate=1e-3,
            weight_decay=0.05,
            warmup_steps=400,
            batch_size=128,
            epochs=8,
            clip=1.0,
        ),
        options={"max_vocab_size": 20_000, "max_length": 96, "truncate": True},
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
