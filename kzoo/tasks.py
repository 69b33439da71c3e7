"""The tasks: what each one asks of a model, a loss and a report.

A dataset has one task, a family serves some. Nothing else in kzoo branches on a task's
name: what differs between tasks stands in this table.
"""

from dataclasses import dataclass

from kzoo.hparams import nearest

# Every metric, and whether more of it is better.
HIGHER_IS_BETTER = {
    "loss": False,
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "auc": True,
    "top_5_accuracy": True,
    "f1": True,
    "r2": True,
    "mse": False,
    "mae": False,
    "perplexity": False,
    "bits_per_character": False,
    "exact_match": True,
    "bleu": True,
    "rouge_1": True,
    "rouge_2": True,
    "rouge_l": True,
}


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as users write it.
        loss: ``cross_entropy`` (softmax, sigmoid for one logit), ``squared_error``, or
            ``outputs``: the model says of each example what it costs.
        metrics: what ``evaluate`` reports beside the loss. The first one picks the
            epoch, unless the recipe's ``monitor`` or the classes say otherwise; see
            ``kzoo.training.monitor``.
        per_step: one answer a position instead of one an example.
        writes: a text belongs to each example, which the model writes to be scored.
        plots: the pictures of a run beside its curves.
    """

    name: str
    loss: str
    metrics: tuple[str, ...]
    per_step: bool = False
    writes: bool = False
    plots: tuple[str, ...] = ()


def _classification(name: str) -> Task:
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "top_5_accuracy")
    return Task(name, "cross_entropy", metrics, plots=("confusion",))


TASKS = {
    task.name: task
    for task in (
        _classification("image-classification"),
        _classification("sequence-classification"),
        _classification("text-classification"),
        # Rows of numbers in no order: the XOR points, the columns of a CSV file.
        _classification("tabular-classification"),
        Task(
            "sequence-labeling",
            "cross_entropy",
            ("accuracy", "f1", "balanced_accuracy", "macro_f1"),
            per_step=True,
        ),
        Task("regression", "squared_error", ("r2", "mse", "mae"), plots=("predicted",)),
        Task(
            "language-modeling",
            "cross_entropy",
            ("perplexity", "bits_per_character"),
            per_step=True,
        ),
        Task(
            "translation",
            "cross_entropy",
            ("exact_match", "bleu"),
            per_step=True,
            writes=True,
        ),
        Task(
            "summarization",
            "cross_entropy",
            ("rouge_l", "rouge_1", "rouge_2", "exact_match"),
            per_step=True,
            writes=True,
        ),
        # The example itself is what is asked for.
        Task(
            "reconstruction",
            "outputs",
            ("loss",),
            plots=("reconstructions",),
        ),
        # Without labels: an objective's model, which has its encoder inside.
        Task("pretraining", "outputs", ("loss",)),
    )
}


def get_task(name: str) -> Task:
    """The task of this name, or a ``ValueError`` with the nearest."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]
