"""The range test against gradient descent in closed form, and its command."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.training.range_test import (
    MOMENTUM,
    SETTLING,
    Smoother,
    comparison,
    growing_rates,
    has_diverged,
    suggested_rate,
)

SMALL = {"units": (8,), "steps": 20}


@pytest.fixture(scope="module")
def regression() -> tuple[Mapping[str, object], float]:
    """Uncorrelated columns, a linear target; the largest rate that converges.

    The mean squared error of a line has the Hessian 2 E[z z'], z = (x, 1): gradient
    descent diverges above 2 / lambda_max of it.
    """
    rng = np.random.default_rng(0)
    n = 64
    centred = rng.standard_normal((n, 4))
    centred -= centred.mean(axis=0)
    x = np.linalg.qr(centred)[0] * np.sqrt(n)
    y = x @ [1.0, -2.0, 0.5, 3.0]
    z = np.column_stack([x, np.ones(n)])
    largest = 2 / np.linalg.eigvalsh(2 * z.T @ z / n).max()
    pair = x.astype("float32"), y.astype("float32")
    return dict.fromkeys(("train", "validation", "test"), pair), float(largest)


def line() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


@pytest.mark.contract
def test_gradient_descent_converges_below_2_over_lambda_alone(
    regression: tuple[Mapping[str, object], float],
) -> None:
    data, largest = regression
    found = kzoo.lr_find(
        line(),
        data,
        steps=40,
        min_rate=0.65 * largest,
        max_rate=3 * largest,
        optimizer="sgd",
        momentum=0.0,
        batch_size=64,
        schedule="constant",
    )
    losses, rates = np.array(found.losses), np.array(found.rates)
    # All directions have one curvature, so that each step scales the error alike.
    expected = (1 - 2 * rates[:-1] / largest) ** 2
    np.testing.assert_allclose(losses[1:] / losses[:-1], expected, rtol=2e-2)
    falls = losses[1:] < losses[:-1]
    assert falls.tolist() == (rates[:-1] < largest).tolist()
    assert 0 < falls.sum() < len(falls)
    assert found.stopped == "diverged"
    assert rates[-1] < 3 * largest
    assert found.suggestion is not None
    assert found.suggestion < largest


def test_smoothing_is_a_weighted_mean() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 30)
    smoother = Smoother()
    for n, value in enumerate(values, 1):
        weights = MOMENTUM ** np.arange(n)[::-1]
        expected = np.average(values[:n], weights=weights)
        assert smoother.add(float(value)) == pytest.approx(expected)


@pytest.mark.parametrize("steepest", [1e-4, 3e-3, 0.1])
def test_suggestion_is_where_a_sigmoid_is_steepest(steepest: float) -> None:
    rates = growing_rates(200, 1e-6, 10.0)
    falling = 2 - 1 / (1 + (steepest / rates) ** 2)  # a sigmoid of log(rate)
    rising = np.where(rates > 1, 10 * np.log(rates) ** 2, 0)
    found = suggested_rate(rates, falling + rising)
    assert found is not None
    assert abs(np.log(found / steepest)) < np.log(rates[1] / rates[0])


def test_no_suggestion_where_the_loss_never_falls() -> None:
    rates = growing_rates(50, 1e-4, 1.0)
    assert suggested_rate(rates, np.linspace(1, 2, 50)) is None
    assert suggested_rate(rates, np.ones(50)) is None
    assert suggested_rate(rates[:SETTLING], np.linspace(2, 1, SETTLING)) is None


def test_a_fall_after_the_minimum_is_no_suggestion() -> None:
    rates = growing_rates(60, 1e-4, 1.0)
    losses = np.concatenate(
        [np.linspace(2, 1, 30), np.linspace(1.1, 9, 15), np.linspace(9, 5, 15)]
    )
    found = suggested_rate(rates, losses)
    assert found is not None
    assert found <= rates[30]


@pytest.mark.parametrize(
    ("loss", "best", "diverged"),
    [(4.1, 1.0, True), (3.9, 1.0, False), (-1.0, -2.0, False), (5.0, -1.0, True)],
)
def test_divergence_is_four_times_the_best(
    loss: float, best: float, diverged: bool
) -> None:
    assert has_diverged(loss, best) is diverged


def test_comparison_says_each_side() -> None:
    assert comparison(1e-2, 1e-2, 0.1, True) == "near the suggestion (1 times)"
    assert comparison(1e-4, 1e-2, 0.1, True) == "below the suggestion (0.01 times)"
    assert comparison(5e-2, 1e-2, 0.1, True) == "above the suggestion (5 times)"
    assert comparison(1.0, 1e-2, 0.1, True).startswith("too high: ")
    assert comparison(1.0, 1e-2, 0.1, False) == "above the suggestion (1e+02 times)"
    assert comparison(1.0, None, 0.1, True).startswith("no suggestion")


@pytest.mark.parametrize(
    "settings",
    [
        {"layer_decay": 0.5, "weight_decay": 0.1},
        {"gradient_accumulation": 2},
        {"precision": "mixed_float16"},  # its optimizer is inside another
        {"steps_per_execution": 4},
        {"schedule": "noam", "warmup_steps": 10, "ema": 0.9},
    ],
    ids=lambda one: next(iter(one)),
)
def test_every_step_has_its_rate_whatever_the_recipe(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    train_on_batch = keras.Model.train_on_batch

    def noted(self: keras.Model, *args: object, **options: object) -> object:
        seen.append(float(self.optimizer.learning_rate))
        return train_on_batch(self, *args, **options)

    monkeypatch.setattr(keras.Model, "train_on_batch", noted)
    found = kzoo.lr_find("mlp", "digits", **SMALL, max_rate=1e-2, **settings)
    assert not found.stopped
    repeated = np.repeat(np.geomspace(1e-6, 1e-2, 20), len(seen) // 20)
    np.testing.assert_allclose(seen, repeated, rtol=1e-6)
    assert len(seen) == 20 * settings.get("gradient_accumulation", 1)


def test_what_was_given_is_left_as_it_was(tmp_path: Path) -> None:
    model = kzoo.build_model("mlp", units=(8,), image_size=(8, 8), channels=1)
    before = [np.array(weight) for weight in model.get_weights()]
    found = kzoo.lr_find(model, "digits", steps=20, max_rate=1.0)
    again = kzoo.lr_find(model, "digits", steps=20, max_rate=1.0)
    assert found == again
    for weight, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, after)
    run = kzoo.train("mlp", "digits", out=tmp_path / "run", units=(8,), epochs=1)
    files = digests(tmp_path)
    from_run = kzoo.lr_find(run.folder, "digits", steps=20, out=tmp_path / "x.png")
    assert digests(tmp_path).keys() - files.keys() == {"x.png"}
    assert digests(tmp_path).items() >= files.items()
    # It begins with the weights of the run.
    loaded = kzoo.lr_find(run.load(), "digits", steps=20)
    np.testing.assert_allclose(from_run.losses, loaded.losses, rtol=1e-6)
    assert from_run.losses[0] != found.losses[0]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_first_loss_must_be_finite(
    regression: tuple[Mapping[str, object], float],
) -> None:
    model = line()
    model.set_weights([np.full((4, 1), 1e30), np.zeros(1)])
    with pytest.raises(ValueError, match="not finite at the lowest rate, 1e-06"):
        kzoo.lr_find(model, regression[0], steps=20)


@pytest.mark.contract
def test_command(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "lr-find mlp --dataset digits --set units=8 --steps 40 --backend"
    words = [*words.split(), keras.config.backend()]
    assert main(words) == 0
    page = capsys.readouterr().out
    assert "suggestion: " in page
    assert "(steepest descent of the smoothed loss" in page
    assert "recipe: 0.002, " in page
    assert "the picture is lr_find.png" in page
    assert [path.name for path in tmp_path.iterdir()] == ["lr_find.png"]
    picture = Path("lr_find.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    # Unasked, a file that is there is not replaced; by its name it is.
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: lr_find.png is there already: name another")
    assert Path("lr_find.png").read_bytes() == picture
    other = [*words, "--json", "--out", "lr_find.png", "--set", "learning_rate=0.5"]
    assert main([*other, "--max", "0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["picture"] == "lr_find.png"
    assert found["recipe_rate"] == 0.5
    assert found["verdict"].startswith("above the suggestion")
    assert len(found["rates"]) == len(found["losses"]) == 40
    assert Path("lr_find.png").read_bytes() != picture
