"""Progress of a training: a line that fits the terminal, or lines each 30 seconds."""

import io
import itertools
from typing import Any

import pytest
from rich.console import Console

from kzoo.cli.progress import ProgressLine


class Model:
    """What the line asks of a model."""

    name = "mlp"

    def get_metrics_result(self) -> dict[str, float]:
        names = ("loss", "accuracy", "label_loss", "temperature", "agreement_loss")
        return dict.fromkeys(names, 0.123456)


class Clock:
    """Seconds that a test passes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def line_on(console: Console, clock: Clock, **params: Any) -> ProgressLine:
    line = ProgressLine(clock, console)
    line.set_params(
        {"steps": 1000, "epochs": 100, "batch_size": 128, "first_step": 0, **params}
    )
    line.set_model(Model())
    return line


def file() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=False, width=40), out


def test_without_a_terminal_there_is_a_line_at_the_start() -> None:
    console, out = file()
    line_on(console, Clock()).on_train_begin()
    assert out.getvalue() == (
        "training mlp: 100 epochs of 1000 steps of 128 examples; compiling the first "
        "step\n"
    )


def test_without_a_terminal_a_line_comes_at_least_each_30_seconds() -> None:
    console, out = file()
    clock = Clock()
    line = line_on(console, clock)
    line.on_train_begin()
    line.on_epoch_begin(0)
    times = []
    for batch in range(500):  # of half a second each
        before = out.getvalue()
        line.on_train_batch_begin(batch)
        if out.getvalue() != before:
            times.append(clock.now)
        clock.now += 0.5
    gaps = [later - sooner for sooner, later in itertools.pairwise([0.0, *times])]
    assert len(times) == 8
    assert max(gaps) < 30 + 0.5
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("epoch 1/100, step 480/1000  loss 0.1235  accuracy 0.1235")
    assert "256 examples/s" in last  # 128 each half a second

    line.on_epoch_end(0, {"loss": 0.5, "val_accuracy": 0.75, "best": 1.0})
    assert out.getvalue().splitlines()[-1] == "epoch 1/100  loss 0.5  val_accuracy 0.75"


def test_line_at_the_start_comes_once_and_says_where_a_run_goes_on() -> None:
    console, out = file()
    line = line_on(console, Clock(), first_step=1500)
    line.on_train_begin()
    line.on_train_end()
    line.on_train_begin()  # the second call of fit
    assert out.getvalue().count("training mlp") == 1
    assert ", from step 1500;" in out.getvalue()


@pytest.mark.parametrize("width", [80, 60, 120])
def test_bar_fits_the_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    clock = Clock()
    line = line_on(console, clock)
    line.on_train_begin()
    line.on_epoch_begin(98)
    line.on_epoch_end(98, {"val_loss": 0.5, "val_balanced_accuracy": 0.123456})
    line.on_epoch_begin(99)
    for batch in range(3):
        clock.now += 1
        line.on_train_batch_begin(batch)
    page = io.StringIO()
    Console(file=page, width=width).print(line.progress.get_renderable())
    shown = page.getvalue().splitlines()
    assert len(shown) == 1
    assert len(shown[0]) <= width
    assert "epoch 100/100" in shown[0]
    assert "loss 0.1235" in shown[0]
    assert "…" not in shown[0]
    if width >= 80:
        assert "accuracy 0.1235" in shown[0]
    if width == 80:
        assert "128 examples/s" in shown[0]
    line.on_train_end()
