"""Recipes: legal values, rules between fields, and that each named one resolves."""

import json
import sys
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import hparams, registry
from kzoo.datasets import DATASETS, Dataset, find_dataset, load_dataset
from kzoo.datasets.examples import Split
from kzoo.datasets.text import text_dataset
from kzoo.losses.task import cross_entropy
from kzoo.training import RECIPES, Recipe, plan
from kzoo.training.recipes import get_recipe, recipe_for
from kzoo.training.schedules import optimizer


@pytest.mark.parametrize("family", registry.FAMILIES, ids=lambda family: family.name)
def test_names_are_disjoint_from_every_familys(family: Any) -> None:
    ours = set(hparams.declarations(Recipe))
    theirs = set(hparams.declarations(type(family.smallest)))
    assert ours & theirs == set()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "step"}, "schedule='step' needs decay_epochs, such as 30,60"),
        ({"decay_epochs": (3,)}, "decay_epochs=(3,) goes with schedule='step', not"),
        (
            {"schedule": "step", "decay_epochs": (3, 10), "epochs": 10},
            "decay_epochs=(3, 10) must come before the last of 10 epochs",
        ),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 is not a float from 0 to 1000"),
        ({"epochs": 0}, "epochs=0 is not an int of at least 1"),
        ({"schedule": "cosin"}, "schedule='cosin' is not one of 'constant', 'cosine'"),
        ({"precision": "fp16"}, "precision='fp16' is not one of 'float32', "),
        ({"ema": 1.0}, "ema=1.0 is not a float from 0 to 0.99999"),
        ({"jit": 3}, "jit=3 is not true or false or none"),
    ],
)
def test_illegal_values_are_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Recipe(**values)
    assert message in str(error.value)


def test_json_gives_an_equal_recipe_back() -> None:
    recipe = Recipe(
        schedule="step", decay_epochs=(3, 5), epochs=9, jit=False, ema=0.9, seed=7
    )
    text = json.dumps(recipe.to_json())
    assert hparams.from_json(Recipe, "recipe", json.loads(text)) == recipe


# Sets that come with kzoo, and others: training images, their size, classes.
FETCHED = {
    "cifar10": (50_000, 32, 10),
    "imagenet2012": (1_281_167, 224, 1000),
    "mnist": (60_000, 28, 10),
}
TEXTS = {"imdb_reviews": 2, "ag_news_subset": 4}


@pytest.mark.parametrize(
    "name", [name for name, named in RECIPES.items() if named.dataset in FETCHED]
)
def test_named_recipe_fits_models_and_data_that_are_not_here(name: str) -> None:
    named = RECIPES[name]
    images, size, classes = FETCHED[named.dataset]
    fixed = {"image_size": size, "num_classes": classes, **named.hparams}
    by_name = {family.name: family for family in registry.FAMILIES}
    for model in named.models:
        family = by_name.get(model) or registry.find_family(model)
        for variant in [model] if model in family.variants else family.variants:
            hparams.replace(family.variants[variant], variant, fixed)
            assert recipe_for(variant, family.name, named.dataset) == name
    optimizer(named.recipe, -(-images // named.recipe.batch_size))


def stand_in(name: str, **options: Any) -> Dataset:
    """Data like those of a set of texts that would have to be downloaded."""
    if name in DATASETS:
        return load_dataset(name, **options)
    declared, _ = find_dataset(name)
    chosen = hparams.replace(declared(), name, options)
    labels = np.arange(60) % TEXTS[name]
    texts = Split(np.array(["a text of words"] * 60, object), labels)
    splits = dict.fromkeys(("train", "validation", "test"), texts)
    return text_dataset(name, chosen, splits, [str(i) for i in range(TEXTS[name])])


def first_model(name: str) -> str:
    """The model of this name, or the first of the family."""
    by_name = {family.name: family for family in registry.FAMILIES}
    return name if name in kzoo.list_models() else next(iter(by_name[name].variants))


@pytest.mark.parametrize(
    "name", [name for name, one in RECIPES.items() if one.dataset not in FETCHED]
)
def test_named_recipe_resolves_for_each_of_its_models(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module, whose name in its package is the function's.
    monkeypatch.setattr(sys.modules["kzoo.training.plan"], "load_dataset", stand_in)
    named = RECIPES[name]
    for model in map(first_model, named.models):
        # As given: else a small stand-in would have less.
        settings = {"warmup_steps": named.recipe.warmup_steps}
        found = plan(model, recipe=name, settings=settings)
        assert (found.recipe_name, found.recipe) == (name, named.recipe)
        assert found.dataset.name == named.dataset
        values = found.hparams.to_json()
        for key, value in named.hparams.items():
            assert values[key] == hparams.plain(value)
        optimizer(found.recipe, 10**6)


def test_recipe_is_the_models_own_before_its_familys() -> None:
    assert recipe_for("mlp_xor", "mlp", None) == "mlp_xor"
    assert recipe_for("mlp_xor", "mlp", "digits") == "mlp_digits"
    assert recipe_for("cnn_tiny", "cnn", None) == "cnn_digits"
    assert recipe_for("mlp", "mlp", "diabetes") == "mlp_diabetes"
    assert recipe_for("cnn", "cnn", "arrays") is None


def test_unknown_recipe_gets_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"^unknown recipe 'cnn_digit'\. Did you mean 'cnn_digits'\?$"
    ):
        get_recipe("cnn_digit")


# --- XOR --------------------------------------------------------------------------


class SideBySide(keras.layers.Layer):
    """Perceptrons of one hidden sigmoid layer: (batch, inputs) -> (batch, models)."""

    def __init__(self, drawn: list[list[np.ndarray]]) -> None:
        super().__init__()
        self.parts = [
            self.add_weight(
                shape=(len(drawn), *arrays[0].shape),
                initializer=lambda shape, dtype, arrays=arrays: np.stack(arrays),
                name=f"part_{i}",
            )
            for i, arrays in enumerate(zip(*drawn, strict=True))
        ]

    def call(self, x: Any) -> Any:
        kernel, bias, head, head_bias = self.parts
        hidden = keras.ops.einsum("bi,miu->bmu", x, kernel) + bias
        hidden = keras.ops.sigmoid(hidden)  # (batch, models, units)
        return keras.ops.einsum("bmu,muo->bm", hidden, head) + head_bias[:, 0]


def learnt(seeds: int, **changes: Any) -> np.ndarray:
    """Which seeds end with all four points right, by the recipe ``mlp_xor``.

    The perceptrons of all seeds, drawn as ``kzoo.train`` draws them, train side by
    side: the sum of their losses and an optimizer that looks at each weight alone make
    each train as if it were alone.
    """
    named = RECIPES["mlp_xor"]
    recipe = named.recipe
    assert (recipe.optimizer, recipe.clip, recipe.batch_size) == ("adam", 0.0, 4)
    drawn = []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model = kzoo.build_model("mlp_xor", **{**named.hparams, **changes})
        drawn.append(model.get_weights())

    def total(labels: Any, logits: Any) -> Any:
        labels = keras.ops.broadcast_to(labels, keras.ops.shape(logits))
        losses = cross_entropy(labels, keras.ops.expand_dims(logits, -1))
        return keras.ops.sum(losses, axis=-1)  # (batch,)

    batch = kzoo.load_dataset("xor").eval_batches("train", 4)[0]
    layer = SideBySide(drawn)
    many = keras.Sequential([keras.Input((2,)), layer])
    many.compile(optimizer(recipe, 1), total, steps_per_execution=50, jit_compile=False)
    x = np.tile(batch["inputs"], (recipe.epochs, 1))
    y = np.tile(batch["labels"], recipe.epochs)[:, None]
    many.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    right = []
    for parts in zip(*layer.get_weights(), strict=True):
        model.set_weights(parts)
        logits = keras.ops.convert_to_numpy(model(batch["inputs"]))[:, 0]
        right.append(((logits > 0) == batch["labels"]).all())
    return np.array(right)


def test_xor_is_learnt_from_every_seed() -> None:
    assert learnt(20).all()


def test_xor_fails_from_some_seeds_with_large_first_weights() -> None:
    """So that the test above says something."""
    assert not learnt(20, initial_scale=5.0).all()
