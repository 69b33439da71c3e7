"""Many replicas train as one device does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tolerance import ROUNDINGS_RATIO

REPLICAS = Path(__file__).parent / "replicas.py"
MODELS = ("cnn", "lstm", "transformer")

Found = dict[str, dict[str, Any]]


def replicas(backend: str, number: int, *cases: str) -> Found:
    """What ``replicas.py`` prints, by case."""
    done = subprocess.run(
        [sys.executable, str(REPLICAS), backend, str(number), *cases],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
    found = {line.pop("case"): line for line in lines}
    assert set(found) == set(cases)
    return found


def check(found: Found) -> None:
    """Per tensor ‖a - b‖ / ‖b‖ at most 1e-5 with SGD, 1e-3 with AdamW.

    Some 30 steps each add a few roundings of 6e-8: 1e-5 is 170 of them. AdamW divides
    gradients by their size, which turns the rounding of small ones into whole steps.
    A trainer that magnifies rounding may go ``ROUNDINGS_RATIO`` times as far as one
    rounding of its data takes it on one device, as in ``tolerance``.
    """
    for case, figures in found.items():
        bar = 1e-3 if case.endswith("adamw") else 1e-5
        bar = max(bar, ROUNDINGS_RATIO * figures.get("rounding", 0))
        assert figures["distance"] <= bar, (case, figures)
        if case.startswith("trainer"):
            continue
        assert figures["loss"] <= bar, (case, figures)
        assert figures["outputs"] <= 10 * bar, (case, figures)
        assert figures["rows"] == 27, (case, figures)  # padding is gone


@pytest.mark.slow
def test_mirrored_is_one_device() -> None:
    found = replicas(
        "tensorflow",
        2,
        "cnn-sgd",
        "lstm-adamw",
        "transformer-sgd",
        "mlp-61-at-56",
        "mlp-117-at-16",
        "accumulation",
        "unscaled",
        "local",
        "dropout",
        "trainer-train",
        "trainer-relations",
        "trainer-tune",
        "trainer-contrastive",
    )
    # A loss that is not scaled for the number of replicas trains with twice the step.
    assert found.pop("unscaled")["distance"] > 1e-2
    # Replicas draw the same mask for different rows.
    assert found.pop("dropout")["distance"] > 1e-3
    alone = found.pop("local")
    assert alone["distance"] < 1e-6 < 1e-5 < alone["from_synchronized"]
    check(found)


@pytest.mark.slow
def test_data_parallel_is_one_device() -> None:
    found = replicas(
        "jax",
        8,
        "cnn-sgd",
        "lstm-sgd",
        "transformer-adamw",
        "mlp-117-at-16",
        "dropout",
        "local",
        "sharded",
        "trainer-train",
        "trainer-distill",
    )
    sharded = found["sharded"]
    whole, held = sharded["held"]["kernels"]
    assert len(held) == 8
    assert set(held.values()) == {whole // 4}  # each of a row has a quarter
    whole, held = sharded["held"]["all"]
    assert max(held.values()) < 0.5 * whole
    unmatched, missing = sharded["errors"]
    assert "'block_0_qery/kernel' matches no variable" in unmatched
    assert "use data_parallel" in missing
    assert "leave it 'synchronized'" in found.pop("local")["error"]
    check(found)  # dropout too: JAX draws for the whole batch


GRID = [
    f"{model}-{rest}"
    for model in MODELS
    for rest in ("sgd", "adamw", "61-at-56", "117-at-16")
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [2, 4, 8])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_grid(backend: str, number: int) -> None:
    check(replicas(backend, number, *GRID, "cnn_1d-sgd", "clip", "accumulation"))


TRAINERS = ("train", "distill", "relations", "mutual", "tune", "denoising")
TRAINERS += ("contrastive", "masked_tokens", "replaced_token", "translation")
TRAINERS += ("fixmatch",)


@pytest.mark.exhaustive
def test_every_trainer_on_a_model_in_parts() -> None:
    check(replicas("jax", 8, *(f"trainer-{name}-sharded" for name in TRAINERS)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_every_trainer_on_replicas(backend: str) -> None:
    names = (*TRAINERS, "masked_image")  # whose vit has no layout
    check(replicas(backend, 2, *(f"trainer-{name}" for name in names)))
