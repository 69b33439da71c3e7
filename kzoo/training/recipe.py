"""The training recipe: everything about a run that is not the model or the data."""

from dataclasses import dataclass
from typing import ClassVar

from kzoo.datasets.augmentation import AUGMENTATIONS, find_augmentation
from kzoo.hparams import HParams, hp

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def every(text: str) -> tuple[int | None, float | None]:
    """Reads ``"100"`` as (100 steps, None) and ``"60s"`` as (None, 60 seconds).

    Raises:
        ValueError: neither.
    """
    number = text.strip().removesuffix("s")
    try:
        if text.strip().endswith("s") and float(number) > 0:
            return None, float(number)
        if int(number) > 0:
            return int(number), None
    except ValueError:
        pass
    raise ValueError(
        f"snapshot_every={text!r} is neither a number of steps, such as 100, nor of "
        "seconds, such as 60s"
    )


@dataclass(frozen=True, kw_only=True)
class Recipe(HParams):
    """How to train.

    Steps are training steps, one batch each. Names are disjoint from those of every
    family's hyper-parameters, so that ``--set`` needs no prefix.

    Example:
        >>> import kzoo
        >>> kzoo.Recipe(epochs=10, learning_rate=1e-2).schedule
        'cosine'
    """

    noun: ClassVar[str] = "field"

    optimizer: str = hp(
        "adamw", "adamw, sgd (with Nesterov momentum), or another by Keras's name"
    )
    learning_rate: float = hp(
        1e-3, "at its peak", min=0.0, max=1e3, log=True, tune=(1e-4, 1e-1)
    )
    learning_rate_scaling: str = hp(
        "none",
        "of the rate by batch_size / base_batch_size, or by its square root",
        choices=("none", "linear", "square_root"),
    )
    base_batch_size: int = hp(
        256, "that learning_rate is meant for, where it is scaled", min=1
    )
    momentum: float = hp(
        0.9,
        "of sgd",
        min=0.0,
        max=0.9999,
        tune=(0.8, 0.99),
        when=("optimizer", ("sgd",)),
    )
    weight_decay: float = hp(
        0.0,
        "decoupled, of kernels only",
        min=0.0,
        max=10.0,
        log=True,
        tune=(1e-5, 1e-1),
    )
    schedule: str = hp(
        "cosine",
        "of the learning rate after its warm-up",
        choices=("constant", "cosine", "linear", "noam", "step"),
    )
    warmup_steps: int = hp(0, "of linear rise from 0", min=0)
    decay_epochs: tuple[int, ...] = hp(
        (), "where schedule=step multiplies the rate by decay_rate", min=1
    )
    decay_rate: float = hp(0.1, "of schedule=step", min=0.0, max=1.0)
    batch_size: int = hp(
        64, "of all replicas together", min=1, log=True, tune=(16, 256)
    )
    epochs: int = hp(40, "passes over the training examples", min=1)
    early_stopping: int = hp(
        0, "epochs without a better monitor before the end; 0 = never", min=0
    )
    monitor: str = hp(
        "auto",
        "metric of the validation split that picks the epoch; auto = the task's first, "
        "or balanced_accuracy where classes are weighed or imbalanced",
    )
    loss: str = hp(
        "cross_entropy",
        "of classes in training; scores report cross-entropy",
        choices=("cross_entropy", "focal"),
    )
    focal_gamma: float = hp(
        2.0,
        "power of focal loss that spares examples the model is sure of; 0 = none",
        min=0.0,
        max=10.0,
        tune=(0.5, 5.0),
        when=("loss", ("focal",)),
    )
    label_smoothing: float = hp(
        0.0, "share of the label given to all classes", min=0.0, max=0.9
    )
    augmentation: tuple[str, ...] = hp(
        (), f"of training inputs, in order: {', '.join(AUGMENTATIONS)}; name:strength"
    )
    mixup: float = hp(
        0.0, "alpha of the mean of two examples; 0 = off", min=0.0, max=10.0
    )
    cutmix: float = hp(
        0.0, "alpha of a box from another image; 0 = off", min=0.0, max=10.0
    )
    class_weights: str = hp(
        "none",
        "what examples count: balanced = each class as much as any other",
        choices=("none", "balanced"),
    )
    labels_per_class: int = hp(
        0, "labels known in training and in validation; 0 = all", min=0
    )
    unlabelled: str = hp(
        "none",
        "what is learned from the training examples whose label is not known",
        choices=("none", "pseudo_labels", "fixmatch"),
    )
    confidence: float = hp(
        0.95,
        "least probability of a pseudo-label",
        min=0.0,
        max=1.0,
        tune=(0.7, 0.99),
        when=("unlabelled", ("pseudo_labels", "fixmatch")),
    )
    unlabelled_weight: float = hp(
        1.0, "of the pseudo-labels' loss beside the labels'", min=0.0, max=1e4
    )
    strong_augmentation: tuple[str, ...] = hp(
        (), "of fixmatch, as augmentation; none = one for these inputs"
    )
    freeze: str = hp(
        "",
        "tap up to and with which layers keep their weights, such as block_0; "
        "a..b = from the input of a to the output of b; empty = none",
    )
    layer_decay: float = hp(
        1.0,
        "of the learning rate, from each block to the one before it; 1 = none",
        min=0.0,
        max=1.0,
    )
    unfreeze_epochs: int = hp(
        0, "epochs until the next block from the head learns too; 0 = all do", min=0
    )
    lora: int = hp(
        0, "rank of adapters, which learn instead of the model; 0 = none", min=0
    )
    ema: float = hp(
        0.0, "decay of the weights' average that is kept; 0 = off", min=0.0, max=0.99999
    )
    gradient_accumulation: int = hp(1, "batches to one update", min=1)
    clip: float = hp(0.0, "greatest norm of the whole gradient; 0 = off", min=0.0)
    precision: str = hp("float32", "of the computation", choices=PRECISIONS)
    jit: bool | None = hp(None, "compile by XLA; none = where the backend gains")
    steps_per_execution: int = hp(1, "steps to one call of the backend", min=1)
    batch_norm: str = hp(
        "synchronized",
        "whose statistics replicas use",
        choices=("synchronized", "local"),
    )
    seed: int = hp(0, "of weights, order, augmentation and split", min=0, max=2**31 - 1)
    snapshot_every: str = hp(
        "60s", "steps, such as 100, or seconds, such as 60s; changes no result"
    )
    deterministic: bool = hp(False, "the same bits on a GPU too, for some speed")

    def __post_init__(self) -> None:
        super().__post_init__()
        every(self.snapshot_every)
        for name in (*self.augmentation, *self.strong_augmentation):
            find_augmentation(name)
        if self.unlabelled != "none":
            self._check_unlabelled()
        if self.lora and self.freeze:
            raise ValueError(
                f"lora={self.lora} freezes all layers already; freeze={self.freeze!r} "
                "goes without it"
            )
        if self.schedule == "step" and not self.decay_epochs:
            raise ValueError("schedule='step' needs decay_epochs, such as 30,60")
        if self.schedule == "noam" and not self.warmup_steps:
            raise ValueError("schedule='noam' needs warmup_steps, such as 4000")
        if self.schedule != "step" and self.decay_epochs:
            raise ValueError(
                f"decay_epochs={self.decay_epochs} goes with schedule='step', not with "
                f"{self.schedule!r}"
            )
        if self.epochs and any(epoch >= self.epochs for epoch in self.decay_epochs):
            raise ValueError(
                f"decay_epochs={self.decay_epochs} must come before the last of "
                f"{self.epochs} epochs"
            )

    def _check_unlabelled(self) -> None:
        """Raises a ``ValueError`` where all labels are known, or would be mixed."""
        asked = f"unlabelled={self.unlabelled!r}"
        if not self.labels_per_class:
            raise ValueError(
                f"{asked} needs labels_per_class, such as 5: else all labels are known"
            )
        for name in ("mixup", "cutmix"):
            if getattr(self, name):
                raise ValueError(f"{asked} goes without {name}")
        if self.class_weights != "none":
            raise ValueError(f"{asked} goes without class_weights")
