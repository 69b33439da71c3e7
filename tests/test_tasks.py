"""The table of tasks."""

import pytest

from kzoo.tasks import HIGHER_IS_BETTER, TASKS, get_task


def test_table_has_every_task() -> None:
    assert set(TASKS) == {
        "image-classification",
        "sequence-classification",
        "text-classification",
        "tabular-classification",
        "sequence-labeling",
        "regression",
        "language-modeling",
        "translation",
        "summarization",
        "reconstruction",
        "pretraining",
    }
    assert all(TASKS[name].name == name for name in TASKS)


def test_every_metric_has_a_direction() -> None:
    falling = {name for name, rises in HIGHER_IS_BETTER.items() if not rises}
    assert falling == {"loss", "mse", "mae", "perplexity", "bits_per_character"}
    named = {name for task in TASKS.values() for name in task.metrics}
    assert named | {"loss"} == set(HIGHER_IS_BETTER)


def test_first_metrics() -> None:
    assert get_task("image-classification").metrics[0] == "accuracy"
    assert get_task("language-modeling").metrics[0] == "perplexity"
    assert get_task("regression").metrics[0] == "r2"
    assert all(task.metrics for task in TASKS.values())


def test_classification_is_cross_entropy_with_a_confusion_plot() -> None:
    for name in ("image-classification", "tabular-classification"):
        task = get_task(name)
        assert (task.loss, task.per_step) == ("cross_entropy", False)
        assert "confusion" in task.plots
    assert get_task("regression").loss == "squared_error"
    assert get_task("sequence-labeling").per_step


def test_unknown_task_gets_the_nearest() -> None:
    with pytest.raises(ValueError) as error:
        get_task("regresion")
    assert str(error.value) == "unknown task 'regresion'. Did you mean 'regression'?"
