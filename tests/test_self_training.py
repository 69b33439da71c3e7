"""Pseudo-labels and FixMatch: what is drawn, what it costs, what comes of it."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.datasets import Dataset
from kzoo.losses.pseudo import pseudo_label
from kzoo.training.plan import plan

FEW = {"labels_per_class": 3, "unlabelled": "fixmatch"}
SHORT = {**FEW, "units": (16,), "epochs": 2, "batch_size": 256, "augmentation": ()}


def planned(**settings: Any) -> Dataset:
    return plan("mlp", "digits", settings={**SHORT, **settings}).dataset


def softmax(z: np.ndarray) -> np.ndarray:
    z = np.exp(z.astype("float64"))
    return z / z.sum(axis=-1, keepdims=True)


@pytest.mark.contract
def test_loss_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    teaching, taught = rng.normal(0, 2, (2, 50, 4)).astype("float32")
    likely = softmax(teaching)
    sure = likely.max(axis=-1) >= 0.8
    picked = softmax(taught)[np.arange(50), likely.argmax(axis=-1)]
    costs, counted = pseudo_label(*map(keras.ops.array, (teaching, taught)), 0.8)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(counted), sure)
    assert 5 < sure.sum() < 45
    want = np.where(sure, -np.log(picked), 0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(costs), want, rtol=1e-5)
    # One logit is the log-odds of class 1.
    odds = np.array([[3.0], [-3.0], [0.1]], "float32")
    costs, counted = pseudo_label(*[keras.ops.array(odds)] * 2, 0.9)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(counted), [1, 1, 0])
    want = [np.log1p(np.exp(-3.0))] * 2 + [0]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(costs), want, rtol=1e-5)


def test_batches_hold_known_labels_and_all_examples() -> None:
    data = planned()
    known = data.splits["train"].labels >= 0
    assert known.sum() == 30 and len(known) == 1257
    batch = data.train_batches(256, seed=0)[0]
    assert set(batch["inputs"]) == {"labelled", "weak", "strong"}
    assert all(x.shape == (256, 8, 8, 1) for x in batch["inputs"].values())
    assert (batch["labels"] >= 0).all() and len(set(batch["labels"])) == 10
    every = data.preprocessing.inputs(data.splits["train"].rows(np.arange(1257)))
    rows = {row.tobytes(): label for row, label in zip(
        every[known], data.splits["train"].labels[known], strict=True
    )}  # fmt: skip
    found = [rows[row.tobytes()] for row in batch["inputs"]["labelled"]]
    np.testing.assert_array_equal(found, batch["labels"])
    # Each example comes once a pass, known or not.
    np.testing.assert_array_equal(batch["inputs"]["weak"], every[batch["index"]])
    assert (batch["inputs"]["strong"] != every[batch["index"]]).any()
    again = planned().train_batches(256, seed=0)[0]
    halves = [data.train_batches(256, seed=0, shard=(i, 2))[0] for i in (0, 1)]
    for key, whole in batch["inputs"].items():
        np.testing.assert_array_equal(again["inputs"][key], whole)
        joined = np.concatenate([half["inputs"][key] for half in halves])
        np.testing.assert_array_equal(joined, whole)
    one = planned(unlabelled="pseudo_labels").train_batches(256, seed=0)[0]
    assert set(one["inputs"]) == {"labelled", "weak"}
    scored = next(iter(data.eval_batches("validation", 10)))
    assert scored["inputs"].shape == (10, 8, 8, 1)


@pytest.mark.contract
@pytest.mark.parametrize("kind", ["pseudo_labels", "fixmatch"])
def test_a_step_costs_labels_and_pseudo_labels(kind: str) -> None:
    data = planned(unlabelled=kind)
    keras.utils.set_random_seed(0)
    student = kzoo.build_model("mlp", image_size=8, channels=1, units=(16,))
    trainer = kzoo.build_model(
        "self_training", student=student, confidence=0.15, unlabelled_weight=3.0
    )
    from kzoo.tasks import get_task
    from kzoo.training.compiling import task_loss

    loss = task_loss(get_task("image-classification"), kzoo.Recipe())
    trainer.compile(keras.optimizers.SGD(0.0), loss)
    batch = data.train_batches(64, seed=0)[0]
    inputs, labels = batch["inputs"], batch["labels"]
    taught = inputs.get("strong", inputs["weak"])
    p, weak, strong = (
        softmax(student.predict_on_batch(x))
        for x in (inputs["labelled"], inputs["weak"], taught)
    )
    rows = np.arange(64)
    sure = weak.max(axis=-1) >= 0.15
    assert 0 < sure.sum() < 64
    pseudo = -np.log(strong[rows, weak.argmax(axis=-1)])
    want = -np.log(p[rows, labels]).mean() + 3.0 * (pseudo * sure).mean()
    found = trainer.train_on_batch(inputs, labels, return_dict=True)
    assert found["loss"] == pytest.approx(want, rel=1e-4)
    assert found["confident"] == pytest.approx(sure.mean(), rel=1e-5)


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="not bit-exact on PyTorch yet"
)
def test_killed_and_resumed_ends_the_same(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations.numpy()) == 7:
                raise Killed

    request = {**SHORT, "confidence": 0.15, "snapshot_every": "3"}
    whole = kzoo.train("mlp", "digits", out=tmp_path / "whole", **request)
    out = tmp_path / "run"
    with pytest.raises(Killed):
        kzoo.train("mlp", "digits", out=out, callbacks=[Kill()], **request)
    again = kzoo.train("mlp", "digits", out=out, **request)
    assert "from step 6" in (out / "log.txt").read_text()
    files = [run.folder / "model" / "model.safetensors" for run in (whole, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [row["confident"] for row in whole.history] == [
        row["confident"] for row in again.history
    ]
    assert 0 < whole.history[1]["confident"] < 1
    # What is saved is the model alone, and it is scored on the few labels' data.
    assert whole.load().kzoo.name == "mlp"
    assert kzoo.evaluate(whole)["accuracy"] == whole.metrics["test"]["accuracy"]
    assert len(kzoo.evaluate(whole, split="train")["classes"]) == 10


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "mlp", "--dataset", "digits", "--epochs", "1", "--json"]
    words += ["--labels-per-class", "2", "--unlabelled", "pseudo_labels"]
    out = str(tmp_path / "run")
    assert main([*words, "--set", "confidence=0.5", "--out", out]) == 0
    assert "test" in json.loads(capsys.readouterr().out)
    assert kzoo.training.Run(Path(out)).config["recipe"]["confidence"] == 0.5


@pytest.mark.parametrize(
    ("name", "dataset", "changes", "text"),
    [
        ("mlp", "digits", {"labels_per_class": 0}, "needs labels_per_class"),
        ("mlp", "digits", {"mixup": 0.2}, "goes without mixup"),
        ("mlp", "digits", {"unlabelled": "fixmach"}, "is not one of"),
        (
            "mlp",
            "digits",
            {"strong_augmentation": ("character_drop",)},
            "is for texts; digits has images",
        ),
        ("mlp", "xor", {}, "fixmatch needs strong_augmentation"),
    ],
)
def test_mistakes(name: str, dataset: str, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plan(name, dataset, settings={**FEW, **changes})


def test_other_workflows_say_that_they_have_no_use_for_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unlabelled='fixmatch' is for training"):
        kzoo.pretrain("mlp", "digits", "denoising", tmp_path / "run", **SHORT)
    teacher = kzoo.build_model("mlp", image_size=8, channels=1, num_classes=10)
    with pytest.raises(ValueError, match="unlabelled='fixmatch' is for training"):
        kzoo.distill(teacher, "mlp", "digits", out=tmp_path / "run", **SHORT)
