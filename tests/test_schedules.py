"""Schedules against their closed forms, and what the optimizers really do."""

import inspect
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.losses.task import TaskLoss, cross_entropy
from kzoo.training.epochs import averaged
from kzoo.training.recipe import Recipe
from kzoo.training.schedules import (
    learning_rate,
    optimizer,
    optimizer_class,
)

OPTIMIZERS = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "rmsprop",
    "sgd",
)


def rates(recipe: Recipe, steps_per_epoch: int) -> np.ndarray:
    total = recipe.epochs * steps_per_epoch
    found = [learning_rate(recipe, step, steps_per_epoch) for step in range(total)]
    return np.array([float(rate) for rate in found])


# --- schedules --------------------------------------------------------------------


@pytest.mark.contract
@pytest.mark.parametrize(
    ("schedule", "closed_form"),
    [
        ("constant", lambda t: np.ones_like(t)),
        ("cosine", lambda t: (1 + np.cos(np.pi * t)) / 2),
        ("linear", lambda t: 1 - t),
    ],
)
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedule_is_its_closed_form(
    schedule: str, closed_form: Callable[[np.ndarray], np.ndarray], warmup: int
) -> None:
    recipe = Recipe(learning_rate=0.3, schedule=schedule, warmup_steps=warmup, epochs=5)
    step = np.arange(50)
    t = np.clip((step - warmup) / (50 - warmup), 0, 1)
    expected = 0.3 * closed_form(t)
    if warmup:
        expected = expected * np.minimum(1, (step + 1) / warmup)
    np.testing.assert_allclose(rates(recipe, 10), expected, rtol=1e-5, atol=1e-8)


def test_cosine_is_keras() -> None:
    theirs = keras.optimizers.schedules.CosineDecay(0.2, decay_steps=40)
    expected = [float(theirs(step)) for step in range(40)]
    found = rates(Recipe(learning_rate=0.2, schedule="cosine", epochs=4), 10)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.contract
def test_step_schedule_falls_where_its_epochs_begin() -> None:
    recipe = Recipe(
        learning_rate=1.0,
        schedule="step",
        decay_epochs=(2, 3),
        decay_rate=0.1,
        epochs=5,
        warmup_steps=4,
    )
    expected = [0.25, 0.5, 0.75, 1, 1, 1] + [0.1] * 3 + [0.01] * 6
    np.testing.assert_allclose(rates(recipe, 3), expected, rtol=1e-5)


def test_warmup_rises_from_its_first_share_to_the_peak() -> None:
    recipe = Recipe(schedule="cosine", learning_rate=1.0, warmup_steps=4, epochs=10)
    found = rates(recipe, 10)
    np.testing.assert_allclose(found[:5], [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-5)
    assert (np.diff(found[4:]) <= 0).all()
    assert 0 < found[-1] < 1e-2


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_steps_past_the_end_stay_legal(schedule: str) -> None:
    recipe = Recipe(learning_rate=1.0, schedule=schedule, epochs=2)
    last = float(learning_rate(recipe, 10**6, 10))
    assert last == (1.0 if schedule == "constant" else pytest.approx(0, abs=1e-6))


def test_warmup_that_takes_the_whole_training_is_an_error() -> None:
    with pytest.raises(ValueError, match="warmup_steps=20 takes the whole training"):
        optimizer(Recipe(epochs=2, warmup_steps=20), 10)


# --- optimizers -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lamb", "LAMB", "Lamb", "AdamW", "adamw", "SGD"])
def test_names_are_known_in_any_case(name: str) -> None:
    made = optimizer(Recipe(optimizer=name), 10)
    assert type(made).__name__.lower() == name.lower()


@pytest.mark.parametrize(
    ("name", "near"),
    [("adm", "adam"), ("sdg", "sgd"), ("lossscaleoptimizer", None), ("zzz", None)],
)
def test_unknown_optimizer_gets_the_nearest(name: str, near: str | None) -> None:
    with pytest.raises(ValueError, match=f"unknown optimizer '{name}'") as error:
        optimizer_class(name)
    assert str(error.value).endswith(f"Did you mean {near!r}?") == (near is not None)


def test_what_only_wraps_optimizers_is_none() -> None:
    assert all(optimizer_class(name).__name__.lower() == name for name in OPTIMIZERS)
    for wrapper in ("optimizer", "lossscaleoptimizer", "multioptimizer"):
        with pytest.raises(ValueError, match=f"unknown optimizer '{wrapper}'"):
            optimizer_class(wrapper)


def tiny() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    model = kzoo.build_model("mlp", num_features=4, units=(5,), num_classes=3)
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(32, 4)).astype("float32"), np.arange(32) % 3


def fitted(
    recipe: Recipe, batch_size: int = 8, epochs: int = 1
) -> tuple[keras.Model, list[np.ndarray], list[np.ndarray]]:
    """The model, and its weights before and after training by the recipe."""
    keras.utils.set_random_seed(0)
    model, x, y = tiny()
    before = model.get_weights()
    steps = len(x) // batch_size
    model.compile(optimizer(recipe, steps), TaskLoss(cross_entropy))
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model, before, model.get_weights()


@pytest.mark.contract
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_with_all_that_a_recipe_may_ask(name: str) -> None:
    recipe = Recipe(
        optimizer=name,
        epochs=1,
        ema=0.9,
        clip=1.0,
        weight_decay=0.01,
        gradient_accumulation=2,
    )
    model, *_ = tiny()
    variables = model.trainable_variables
    before = model.get_weights()
    made = optimizer(recipe, steps_per_epoch=4)
    for _ in range(4):
        made.apply([ops.ones_like(v.value) for v in variables], variables)
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    assert all((b != a).any() for b, a in zip(before, after, strict=True))


@pytest.mark.contract
@pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "lion"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.25])
def test_weight_decay_is_of_kernels_only(name: str, weight_decay: float) -> None:
    """Without a gradient, what is left of a step is the decay."""
    recipe = Recipe(
        optimizer=name,
        learning_rate=0.1,
        schedule="constant",
        weight_decay=weight_decay,
        epochs=1,
    )
    model = kzoo.build_model("cnn_tiny", channels=1, num_classes=3)
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    before = [ops.convert_to_numpy(w.value) for w in model.trainable_variables]
    made = optimizer(recipe, 10)
    made.apply(
        [ops.zeros_like(w.value) for w in model.trainable_variables],
        model.trainable_variables,
    )
    names = set()
    for weight, old in zip(model.trainable_variables, before, strict=True):
        names.add(weight.name)
        share = 1 - 0.1 * weight_decay if weight.name == "kernel" else 1.0
        found = ops.convert_to_numpy(weight.value)
        np.testing.assert_allclose(found, old * share, rtol=1e-5, err_msg=weight.path)
    assert {"kernel", "bias", "gamma", "beta"} <= names


def test_momentum_and_nesterov_go_to_sgd() -> None:
    made = optimizer(Recipe(optimizer="sgd", momentum=0.8), 10)
    assert (made.momentum, made.nesterov) == (0.8, True)
    plain = optimizer(Recipe(optimizer="sgd", momentum=0.0), 10)
    assert (plain.momentum, plain.nesterov) == (0.0, False)


def gradient() -> list[np.ndarray]:
    """The gradient of all examples at the first weights, by a step of plain SGD."""
    _, before, after = fitted(sgd(1.0), batch_size=32)
    return [b - a for b, a in zip(before, after, strict=True)]


def sgd(rate: float, **fields: object) -> Recipe:
    return Recipe(
        optimizer="sgd",
        momentum=0.0,
        learning_rate=rate,
        schedule="constant",
        **{"epochs": 1, **fields},  # type: ignore[arg-type]
    )


@pytest.mark.contract
@pytest.mark.parametrize("clip", [0.01, 100.0])
def test_clip_bounds_the_norm_of_the_whole_gradient(clip: float) -> None:
    whole = gradient()
    norm = np.sqrt(sum((part**2).sum() for part in whole))
    assert 0.01 < norm < 100
    _, before, after = fitted(sgd(1.0, clip=clip), batch_size=32)
    scale = min(1.0, clip / norm)
    for b, a, part in zip(before, after, whole, strict=True):
        np.testing.assert_allclose(b - a, scale * part, rtol=1e-3, atol=1e-6)


@pytest.mark.contract
def test_accumulated_batches_equal_one_large_batch() -> None:
    _, _, large = fitted(sgd(0.1), batch_size=32, epochs=3)
    small = sgd(0.1, gradient_accumulation=4)
    _, _, accumulated = fitted(small, batch_size=8, epochs=3)
    _, _, apart = fitted(sgd(0.1), batch_size=8, epochs=3)
    for one, two, other in zip(large, accumulated, apart, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
        assert np.abs(one - other).max() > 1e-4


@pytest.mark.contract
def test_schedule_counts_training_steps_under_accumulation() -> None:
    recipe = Recipe(
        schedule="linear", learning_rate=1.0, epochs=10, gradient_accumulation=4
    )
    model, *_ = fitted(recipe, batch_size=4)  # 8 training steps of 80
    assert int(model.optimizer.iterations) == 2  # updates
    rate = float(ops.convert_to_numpy(model.optimizer.learning_rate))
    assert rate == pytest.approx(0.9)


@pytest.mark.contract
def test_ema_is_the_average_done_by_hand() -> None:
    decay, steps = 0.5, 3
    trajectory = [fitted(sgd(0.5), batch_size=32, epochs=n)[2] for n in (1, 2, 3)]
    expected = trajectory[0]  # the average starts with the first step's weights
    for weights in trajectory[1:]:
        pairs = zip(expected, weights, strict=True)
        expected = [decay * average + (1 - decay) * now for average, now in pairs]
    keras.utils.set_random_seed(0)
    model, x, y = tiny()
    model.compile(
        optimizer(sgd(0.5, ema=decay, epochs=steps), 1), TaskLoss(cross_entropy)
    )
    found = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            now = self.model.get_weights()
            with averaged(self.model):
                found.append(self.model.get_weights())
            back = self.model.get_weights()
            assert all((a == b).all() for a, b in zip(now, back, strict=True))

    model.fit(
        x, y, batch_size=32, epochs=steps, callbacks=[Look()], shuffle=False, verbose=0
    )
    for one, two in zip(found[-1], expected, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    assert any((a != b).any() for a, b in zip(found[-1], trajectory[-1], strict=True))


def test_averaged_leaves_an_optimizer_without_average_alone() -> None:
    model, _, after = fitted(sgd(0.1))
    with averaged(model):
        assert all(
            (a == b).all() for a, b in zip(after, model.get_weights(), strict=True)
        )


def test_no_optimizer_decays_by_a_default_of_its_own() -> None:
    """Keras's AdamW and Muon have one where none is asked for."""
    for name in OPTIMIZERS:
        made = optimizer(Recipe(optimizer=name), 10)
        decays = [p for p in inspect.signature(type(made)).parameters if "decay" in p]
        for parameter in decays:
            if parameter.endswith("weight_decay"):
                assert not getattr(made, parameter), f"{name}: {parameter}"


def test_noam_is_the_papers_formula() -> None:
    """hidden_dim^-0.5 min(step^-0.5, step warmup^-1.5), steps counted from 1."""
    dim, warmup = 512, 40
    recipe = Recipe(
        schedule="noam",
        learning_rate=(dim * warmup) ** -0.5,
        warmup_steps=warmup,
        epochs=10,
    )
    for step in (1, 7, 40, 41, 100, 400):
        expected = dim**-0.5 * min(step**-0.5, step * warmup**-1.5)
        found = float(learning_rate(recipe, step - 1, steps_per_epoch=40))
        assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="schedule='noam' needs warmup_steps"):
        Recipe(schedule="noam")
