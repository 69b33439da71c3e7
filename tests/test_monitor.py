"""The metric that picks the epoch: which one, why, and what follows it."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import weights
from kzoo.cli.main import main
from kzoo.tasks import TASKS
from kzoo.training.monitor import Monitor, monitor_of
from kzoo.training.plan import plan
from kzoo.training.run import Run
from kzoo.tuning.objectives import objectives_of

RNG = np.random.default_rng(0)


def of_counts(*counts: int) -> dict[str, Any]:
    """Splits whose classes have so many examples each, the class on each axis."""
    labels = np.repeat(np.arange(len(counts)), counts)
    inputs = RNG.normal(size=(len(labels), 4)).astype("float32")
    inputs += 3 * np.eye(4, dtype="float32")[labels % 4]
    return dict.fromkeys(("train", "validation", "test"), (inputs, labels))


def monitored(counts: tuple[int, ...], **settings: Any) -> Monitor:
    return plan("mlp", of_counts(*counts), settings=settings).monitor


def test_accuracy_picks_unless_classes_are_imbalanced_or_weighed() -> None:
    first = Monitor("accuracy", "the first metric of tabular-classification")
    assert monitored((20, 20, 20)) == first
    assert monitored((60, 20, 30)) == first  # 3:1 is not more than 3:1
    rare = monitored((61, 20, 30))
    assert rare.metric == "balanced_accuracy"
    assert rare.reason == (
        "since class '0' has 61 training labels and '1' 20, more than 3:1"
    )
    weighed = monitored((20, 20, 20), class_weights="balanced")
    assert weighed == Monitor("balanced_accuracy", "since training weighs the classes")
    asked = monitored((200, 10, 10), monitor="accuracy", class_weights="balanced")
    assert asked == Monitor("accuracy", "asked for")


def test_tasks_without_classes_keep_their_first_metric() -> None:
    assert plan("mlp", "diabetes").monitor.metric == "r2"
    mae = plan("mlp", "diabetes", settings={"monitor": "mae"}).monitor
    assert mae.value({"mae": 1.0, "loss": 9.0}) > mae.value({"mae": 2.0, "loss": 0.0})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("acuracy", "is no metric of tabular-classification. Did you mean 'accuracy'?"),
        ("r2", "is no metric of tabular-classification. There are: accuracy, auc, "),
        ("top_5_accuracy", "is for more than 5 classes; arrays has 3"),
    ],
)
def test_an_illegal_monitor_is_one_line(name: str, told: str) -> None:
    with pytest.raises(ValueError) as error:
        monitored((20, 20, 20), monitor=name)
    assert str(error.value).startswith(f"monitor='{name}' {told}")
    assert "\n" not in str(error.value)


def test_command_refuses_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", "diabetes", "--out", str(out)]
    assert main([*words, "--set", "monitor=accuracy"]) == 2
    line = capsys.readouterr().err.strip()
    assert line == (
        "error: monitor='accuracy' is no metric of regression. There are: auto, loss, "
        "mae, mse, r2"
    )
    assert not out.exists()


def test_values_go_by_direction_and_what_is_not_defined_comes_last() -> None:
    for metric, better, worse in (("auc", 0.9, 0.8), ("loss", 0.1, 0.2)):
        one = Monitor(metric, "")
        values = [
            one.value({"loss": 5.0, metric: score})
            for score in (better, worse, float("nan"), None)
        ]
        assert values == sorted(values, reverse=True)
        assert values[1] > values[2]
        assert one.score(values[0]) == better
        assert np.isnan(one.score(values[2]))
    tie = Monitor("auc", "")
    low, high = ({"loss": loss, "auc": 0.5} for loss in (0.1, 0.2))
    assert tie.value(low) > tie.value(high)


class Majority(keras.callbacks.Callback):
    """The model always says the largest class in epoch 1, later what inputs name."""

    remembered = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        kernel, bias = self.model.get_layer("logits").weights
        for weight in self.model.weights:
            weight.assign(np.zeros(weight.shape))
        if epoch == 0:
            bias.assign([1.0, 0.0, 0.0])
            return
        self.model.get_layer("block_0").weights[0].assign(np.eye(3))
        kernel.assign(9 * np.eye(3))


def telling() -> dict[str, Any]:
    """100, 10 and 10 examples whose inputs name the class; 25 of the first name 2."""
    labels = np.repeat([0, 1, 2], [100, 10, 10])
    named = labels.copy()
    named[:25] = 2
    split = (np.eye(3, dtype="float32")[named], labels)
    return dict.fromkeys(("train", "validation", "test"), split)


def majority_run(out: Path, **settings: Any) -> Run:
    """Two epochs: accuracy 0.833 and balanced accuracy 0.333, then 0.792 and 0.917."""
    fixed = {"units": (3,), "learning_rate": 1e-9, "epochs": 2, "batch_size": 120}
    request = {**fixed, "callbacks": [Majority()], **settings}
    return kzoo.train("mlp", telling(), out=out, **request)


def test_the_epoch_that_always_says_the_majority_is_not_kept(tmp_path: Path) -> None:
    """The same two epochs: plain accuracy keeps the first, the default the second."""
    plain = majority_run(tmp_path / "plain", monitor="accuracy")
    assert (plain.metrics["best_epoch"], plain.metrics["monitor"]) == (1, "accuracy")
    assert [row["recall"] for row in plain.metrics["test"]["classes"]] == [1, 0, 0]
    run = majority_run(tmp_path / "run", class_weights="balanced")
    assert run.metrics["best_epoch"] == 2
    assert run.metrics["monitor"] == run.monitor == "balanced_accuracy"
    recalls = [row["recall"] for row in run.metrics["test"]["classes"]]
    assert recalls == [0.75, 1.0, 1.0]
    assert run.metrics["test"]["balanced_accuracy"] == pytest.approx(2.75 / 3)
    text = (run.folder / "log.txt").read_text()
    assert "monitor: balanced_accuracy (since training weighs the classes)" in text
    assert (
        "epoch 2 is kept: validation balanced_accuracy 0.9167 is the best (since "
        "training weighs the classes)"
    ) in text
    imbalanced = majority_run(tmp_path / "imbalanced")
    assert imbalanced.metrics["best_epoch"] == 2
    text = (imbalanced.folder / "log.txt").read_text()
    assert "class '0' has 100 training labels and '1' 10, more than 3:1" in text


def test_history_and_metrics_hold_all_scores(tmp_path: Path) -> None:
    run = majority_run(tmp_path / "run")
    names = ["loss", "accuracy", "balanced_accuracy", "macro_f1", "auc"]
    assert [name for name in run.metrics["test"] if name != "classes"] == names
    for row in run.history:
        shown = [name.removeprefix("val_") for name in row if name.startswith("val_")]
        assert sorted(shown) == sorted(names)
        assert shown[:2] == ["loss", "balanced_accuracy"]  # the monitor stands first
    kept = run.history[run.metrics["best_epoch"] - 1]
    for name in names:
        assert kept[f"val_{name}"] == pytest.approx(
            run.metrics["validation"][name], rel=1e-6
        )


def test_log_has_a_line_an_epoch_which_the_terminal_leaves_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", "digits", "--epochs", "2", "--out", str(out)]
    before = logging.getLogger().handlers[:], logging.getLogger("kzoo").level
    try:
        logging.getLogger().handlers.clear()
        assert main([*words, "--set", "units=4"]) == 0
    finally:
        logging.getLogger().handlers[:] = before[0]
        logging.getLogger("kzoo").setLevel(before[1])
    lines = (out / "log.txt").read_text().splitlines()
    epochs = [line for line in lines if "; validation loss" in line]
    rows = Run(out).history
    assert len(epochs) == 2
    for line, row in zip(epochs, rows, strict=True):
        kept = "; kept" if row["best"] else ""
        assert line.endswith(
            f" epoch {row['epoch']:.0f}/2: loss {row['loss']:.4g}; validation "
            f"loss {row['val_loss']:.4g}, accuracy {row['val_accuracy']:.4g}{kept}"
        )
    shown = capfd.readouterr()
    assert "; validation loss" not in shown.err + shown.out
    assert "monitor: accuracy" in shown.err


def test_early_stopping_follows_the_monitor(tmp_path: Path) -> None:
    """Epochs 2 to 4 are alike, and better than the first by balanced accuracy alone."""
    settings = {"epochs": 4, "early_stopping": 1}
    plain = majority_run(tmp_path / "plain", monitor="accuracy", **settings)
    assert len(plain.history) == 2
    assert len(majority_run(tmp_path / "run", **settings).history) > 2


def test_a_sweep_scores_by_the_monitor() -> None:
    rare = plan("mlp", of_counts(90, 10, 10))
    (one,) = objectives_of(rare, None)
    assert (one.name, one.direction) == ("balanced_accuracy", "max")
    loss = plan("mlp", of_counts(90, 10, 10), settings={"monitor": "loss"})
    assert objectives_of(loss, None)[0].direction == "min"
    named = objectives_of(rare, "macro_f1,auc,loss,weights")
    assert [one.direction for one in named] == ["max", "max", "min", "min"]
    with pytest.raises(ValueError, match="reports no objective 'top_5_accuracy'"):
        objectives_of(rare, "top_5_accuracy")
    assert one.gain(float("nan")) == -np.inf


def test_another_monitor_is_another_run(tmp_path: Path) -> None:
    majority_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"another run: 'recipe\.monitor' is auto"):
        majority_run(tmp_path / "run", monitor="loss")


def test_runs_from_before_have_the_first_metric(tmp_path: Path) -> None:
    run = majority_run(tmp_path / "run")
    metrics = run.metrics
    del metrics["monitor"]
    metrics["test"]["accuracy"] = None
    weights.write_json(run.folder / "metrics.json", metrics)
    assert run.monitor == "accuracy"
    assert run.score("validation") == metrics["validation"]["accuracy"]
    assert np.isnan(run.score("test"))


def test_every_task_has_a_monitor_of_its_own() -> None:
    digits = kzoo.load_dataset("digits")
    for task in TASKS.values():
        assert monitor_of(task, "auto", digits).metric == task.metrics[0]
        for name in task.metrics:
            assert monitor_of(task, name, digits).metric == name
