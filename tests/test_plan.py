"""From a request to a run: whose word counts, and what is refused."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from test_recipe import first_model

import kzoo
from kzoo import weights
from kzoo.datasets import DATASETS
from kzoo.training import RECIPES, Recipe, plan

ARRAYS = (
    np.random.default_rng(0).normal(size=(60, 4)).astype("float32"),
    np.arange(60) % 3,
)
MLP = {"num_features": 4, "units": (5,), "num_classes": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kzoo.save(kzoo.build_model("mlp", **MLP), tmp_path / "m")


def test_order_of_precedence() -> None:
    """Defaults < the variant's < the recipe's < what the dataset fixes < the user's."""
    recipe = RECIPES["mlp_digits"].hparams
    assert recipe["units"] != kzoo.build_model("mlp").kzoo.hparams["units"]
    found = plan("mlp", "digits").hparams
    assert found.units == recipe["units"]  # type: ignore[attr-defined]
    assert found.channels == 1  # type: ignore[attr-defined]  # the dataset's; default 3
    mine = plan("mlp", "digits", settings={"units": (7,), "channels": 1}).hparams
    assert mine.units == (7,)  # type: ignore[attr-defined]
    tiny = plan("cnn_tiny").hparams  # the variant's, where nobody else speaks
    variant = kzoo.describe("cnn_tiny")["hparams"]
    filters = next(h["default"] for h in variant if h["name"] == "filters")
    assert list(tiny.filters) == filters  # type: ignore[attr-defined]


def test_recipe_fields_and_hyper_parameters_need_no_prefix() -> None:
    found = plan("mlp", "digits", settings={"units": (7,), "epochs": 3, "seed": 5})
    assert (found.recipe.epochs, found.hparams.units) == (3, (7,))  # type: ignore[attr-defined]
    named = RECIPES["mlp_digits"].recipe
    assert found.recipe.learning_rate == named.learning_rate


def test_seed_of_the_recipe_makes_the_split_unless_the_data_have_their_own() -> None:
    assert plan("mlp", "digits", settings={"seed": 5}).dataset.options["seed"] == 5
    found = plan("mlp", "digits", data={"seed": 2}, settings={"seed": 5})
    assert (found.dataset.options["seed"], found.recipe.seed) == (2, 5)
    assert plan("mlp", ARRAYS, settings={"seed": 5}).dataset.options["seed"] == 5


def test_recipe_given_as_an_object_or_by_name() -> None:
    own = Recipe(epochs=2, learning_rate=0.5)
    found = plan("mlp", "digits", recipe=own, settings={"seed": 1})
    assert (found.recipe.learning_rate, found.recipe.seed) == (0.5, 1)
    assert found.recipe_name == ""
    assert plan("mlp", recipe="mlp_diabetes").dataset.name == "diabetes"
    assert plan("mlp", ARRAYS).recipe == Recipe()
    assert plan("lstm").dataset.options["as_sequence"] is True


def test_notes_say_which_recipe_and_monitor() -> None:
    first = "monitor: accuracy (the first metric of {}-classification)"
    image, tabular = first.format("image"), first.format("tabular")
    assert plan("cnn_tiny").notes == ("recipe: cnn_digits", image)
    given = plan("mlp", "digits", recipe=Recipe(monitor="auc")).notes
    assert given == ("recipe: given", "monitor: auc (asked for)")
    assert plan("mlp", ARRAYS).notes == ("recipe: the defaults", tabular)


def test_warmup_of_a_named_recipe_fits_into_a_short_training() -> None:
    named = RECIPES["cnn_digits"].recipe
    assert plan("cnn").recipe.warmup_steps == named.warmup_steps == 40
    short = plan("cnn", settings={"epochs": 2})  # 40 steps
    assert short.recipe.warmup_steps == 10
    assert short.notes[-1] == "warmup_steps: 10 instead of 40"
    mine = plan("cnn", settings={"epochs": 2, "warmup_steps": 30}).recipe
    assert mine.warmup_steps == 30
    own = Recipe(epochs=2, warmup_steps=39)
    assert plan("cnn", "digits", recipe=own).recipe == own


@pytest.mark.parametrize(
    "recipe",
    [
        name
        for name, named in RECIPES.items()
        if named.dataset in DATASETS and name != "mlp_xor"
    ],
)
def test_every_recipe_runs_for_one_epoch(recipe: str) -> None:
    model = first_model(RECIPES[recipe].models[0])
    found = plan(model, recipe=recipe, settings={"epochs": 1})
    steps = found.dataset.steps_per_epoch(found.recipe.batch_size)
    assert found.recipe.warmup_steps < steps


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan("cn", "digits"), "unknown model 'cn'. Did you mean 'cnn'?"),
        (lambda: plan("cnn", "digit"), "unknown dataset 'digit'. Did you mean 'dig"),
        (
            lambda: plan("cnn", settings={"epoch": 3}),
            "cnn has no hyper-parameter 'epoch', nor has the recipe such a field. Did "
            "you mean 'epochs'?",
        ),
        (
            lambda: plan("cnn", settings={"filter": 3}),
            "nor has the recipe such a field. Did you mean 'filters'?",
        ),
        (
            lambda: plan("cnn", data={"as_sequenc": True}),
            "digits has no option 'as_sequenc'. Did you mean 'as_sequence'?",
        ),
        (lambda: plan("cnn", recipe="cnn_digit"), "Did you mean 'cnn_digits'?"),
        (lambda: plan("cnn", settings={"epochs": 0}), "recipe: epochs=0 is not an int"),
        (lambda: plan("cnn", settings={"filters": (0,)}), "cnn: filters=(0,) is not"),
        (
            lambda: plan("cnn", "digits", settings={"num_classes": 4}),
            "digits fixes num_classes=10; got 4",
        ),
        (
            lambda: plan("cnn", "digits", settings={"image_size": 4}),
            "digits fixes image_size=8; got 4",
        ),
        (
            lambda: plan("mlp", "diabetes", settings={"augmentation": ("shift",)}),
            "augmentation='shift' is for images; diabetes has vectors",
        ),
        (lambda: plan(3), "expected a model's name, a folder or a keras.Model, got 3"),
        (
            lambda: plan("mlp", {"train": ARRAYS}),
            "a dict of arrays has the splits train, validation, test; got train",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(
    call: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "dataset", "able"),
    [
        ("lstm", "diabetes", "mlp, mlp_xor"),
        ("cnn", "xor", "mlp, mlp_xor"),
        ("transformer", "digits", "alexnet, cnn, cnn_tiny, "),
    ],
)
def test_model_that_does_not_serve_names_those_that_do(
    model: str, dataset: str, able: str
) -> None:
    with pytest.raises(ValueError) as error:
        plan(model, dataset, recipe=Recipe())
    text = str(error.value)
    assert text.startswith(f"{model} does not serve {dataset}, which is ")
    assert f"models that do: {able}" in text


def test_summaries_without_their_scorer_are_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"it rains {i} times,rain {i}" for i in range(30)]
    (tmp_path / "news.csv").write_text("\n".join(["article,summary", *rows]))
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    data = {"task": "summarization", "tokenizer": "character"}
    with pytest.raises(ValueError, match=r"needs rouge-score: pip install 'kzoo\[text"):
        plan("t5_small", f"csv:{tmp_path}/news.csv", data=data)


def test_user_may_repeat_what_the_dataset_fixes() -> None:
    found = plan("cnn", "digits", settings={"num_classes": 10, "image_size": 8})
    assert found.hparams.num_classes == 10  # type: ignore[attr-defined]
    images = np.zeros((60, 6, 4, 1)), ARRAYS[1]
    oblong = plan("cnn_tiny", images, settings={"image_size": [6, 4]})
    assert oblong.hparams.image_size == (6, 4)  # type: ignore[attr-defined]


def test_images_too_small_name_the_least_size() -> None:
    tiny = (np.zeros((60, 2, 2, 1), "float32"), ARRAYS[1])
    with pytest.raises(ValueError, match=r"2x2 are too small: .* at least 4x4"):
        plan("cnn", tiny).build()


# --- where the weights come from --------------------------------------------------


def test_start_from_a_folder_keeps_its_model_and_weights(folder: Path) -> None:
    found = plan(folder, ARRAYS)
    assert (found.name, found.start) == ("mlp", folder)
    assert found.hparams.units == (5,)  # type: ignore[attr-defined]
    old = weights.weights_by_path(kzoo.load(folder))
    new = weights.weights_by_path(found.build())
    assert all((old[path] == new[path]).all() for path in old)
    assert plan(str(folder), ARRAYS).start == folder


def test_start_from_a_model_leaves_it_alone() -> None:
    model = kzoo.build_model("mlp", **MLP)
    built = plan(model, ARRAYS).build()
    assert built is not model
    old, new = weights.weights_by_path(model), weights.weights_by_path(built)
    assert all((old[path] == new[path]).all() for path in old)


def test_other_classes_get_a_fresh_head(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "kzoo"):
        built = plan(folder, (ARRAYS[0], np.arange(60) % 4)).build()
    assert "a fresh head for 4 classes instead of 3" in caplog.text
    assert built.output_shape == (None, 4)
    old, new = (
        weights.weights_by_path(kzoo.load(folder)),
        weights.weights_by_path(built),
    )
    np.testing.assert_array_equal(old["block_0/kernel"], new["block_0/kernel"])


def test_start_that_does_not_fit_shows_both_sides(folder: Path) -> None:
    with pytest.raises(ValueError) as error:
        plan(folder, ARRAYS, settings={"units": (6,)}).build()
    text = str(error.value)
    assert "'block_0/kernel' is (4, 5) in the file, (4, 6) in the model" in text
    assert text.startswith(f"{folder} does not fit mlp")


@pytest.mark.parametrize("name", ["runs/none", "./none", "/none"])
def test_folder_that_is_not_there_is_called_so(name: str) -> None:
    for model in (name, Path(name)):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*none"):
            plan(model, ARRAYS)


def test_folder_without_a_model_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        plan(tmp_path, ARRAYS)


def test_folder_that_does_not_say_its_model_is_called_so(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="does not say which model this is"):
        plan(folder, ARRAYS)


def test_model_of_others_is_refused() -> None:
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="sequential is a plain Keras model"):
        plan(other, ARRAYS)
