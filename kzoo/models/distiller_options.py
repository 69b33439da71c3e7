"""The methods of distillation with their defaults, and the options of the distiller.

Without Keras, so that a typo is told at once.
"""

from dataclasses import dataclass
from typing import ClassVar

from kzoo.hparams import HParams, hp, nearest


@dataclass(frozen=True)
class Method:
    """A loss with its defaults.

    Attributes:
        weight: of the loss.
        label_weight: of the task's own loss beside it.
        temperature: where it has one.
        taps: which features it compares: the ``middle`` stage, each of the ``stages``,
            the ``last`` one, the ``pooled`` vector, the last ``attention``; or logits;
            the ``texts`` that the teacher writes, which are data; or those of ``peers``
            that learn beside the student.
        projected: whether it needs features of the same shape.
    """

    weight: float = 1.0
    label_weight: float = 1.0
    temperature: float | None = None
    taps: str = "logits"
    projected: bool = False


METHODS = {
    "kd": Method(0.9, 0.1, 4.0),
    "kd_standardized": Method(9.0, 0.1, 2.0),
    "dkd": Method(1.0, 1.0, 4.0),
    "dist": Method(1.0, 1.0, 1.0),
    "hard": Method(0.5, 0.5),
    "function_matching": Method(1.0, 0.0, 1.0),
    "fitnet": Method(100.0, taps="middle", projected=True),
    "at": Method(1000.0, taps="stages"),
    "sp": Method(3000.0, taps="last"),
    "rkd": Method(1.0, taps="pooled"),
    "pkt": Method(30000.0, taps="pooled"),
    "vid": Method(1.0, taps="stages", projected=True),
    "hidden": Method(1.0, taps="last", projected=True),
    "relations": Method(1.0, taps="attention"),
    "sequence": Method(1.0, taps="texts"),
    "mutual": Method(1.0, 1.0, 1.0, taps="peers"),
}
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True, kw_only=True)
class DistillerHParams(HParams):
    """How to distil."""

    noun: ClassVar[str] = "option"

    method: str = hp("kd", f"{', '.join(METHODS)}; or several, joined by +")
    temperature: float | None = hp(
        None,
        "of the softmaxes (none = the method's own)",
        min=0.01,
        max=1000.0,
        log=True,
        tune=(1.0, 20.0),
    )
    weights: tuple[float, ...] = hp(
        (), "of the methods, in their order (none = their own)", min=0.0
    )
    label_weight: float | None = hp(
        None, "of the labels' loss (none = the first method's own)", min=0.0, max=1e6
    )
    ensemble: str = hp(
        "log_probabilities",
        "of which several teachers give the mean",
        choices=("log_probabilities", "probabilities"),
    )
    teacher_ema: float = hp(
        0.0,
        "decay of the student's average that teaches it, where the teacher is the "
        "student itself; 0 = the teacher stays as it is",
        min=0.0,
        max=0.99999,
    )
    weight_schedule: str = hp(
        "auto",
        "of the methods' weights: constant, a linear rise, a cosine to 0; auto = "
        "linear with dkd, else constant",
        choices=("auto", *SCHEDULES),
    )
    temperature_schedule: str = hp(
        "constant", "the same between temperature 1 and the full one", choices=SCHEDULES
    )
    warmup_rate: float = hp(
        1 / 12, "share of the steps that a linear rise takes", min=0.0, max=1.0
    )
    total_steps: int = hp(
        0, "training steps, for the schedules (kzoo.distill knows them)", min=0
    )
    dkd_alpha: float = hp(1.0, "of dkd: target against rest", min=0.0)
    dkd_beta: float = hp(8.0, "of dkd: among the rest", min=0.0, tune=(1.0, 16.0))
    dist_beta: float = hp(1.0, "of dist: between classes", min=0.0)
    dist_gamma: float = hp(1.0, "of dist: within a class", min=0.0)
    attention_power: float = hp(2.0, "of at", min=1.0, max=16.0)
    rkd_distance: float = hp(25.0, "of rkd: distances", min=0.0)
    rkd_angle: float = hp(50.0, "of rkd: angles", min=0.0)
    teacher_taps: tuple[str, ...] = hp(
        (), "layers whose features teach (none = by depth)"
    )
    student_taps: tuple[str, ...] = hp((), "layers that learn them, in the same order")
    teacher_input_scale: tuple[float, ...] = hp(
        (), "the teacher sees inputs * scale + offset, a number or one a channel"
    )
    teacher_input_offset: tuple[float, ...] = hp((), "see teacher_input_scale")
    teacher_input_shape: tuple[int, ...] = hp(
        (), "of one example, as the teacher takes it (none = as the student)", min=1
    )
    teacher_classes: tuple[int, ...] = hp(
        (), "the teacher's logit for each class of the student (none = as they are)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.methods:
            if name not in METHODS:
                raise ValueError(f"unknown method {name!r}{nearest(name, METHODS)}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"method={self.method!r} names a method twice")
        for name, what in (("sequence", "its data"), ("mutual", "peers")):
            if name in self.methods and len(self.methods) > 1:
                raise ValueError(
                    f"method={self.method!r}: {name} teaches by {what} and goes alone"
                )
        if self.weights and len(self.weights) != len(self.methods):
            raise ValueError(
                f"{len(self.weights)} weights for the {len(self.methods)} methods of "
                f"{self.method!r}"
            )
        if len(self.teacher_taps) != len(self.student_taps):
            raise ValueError(
                f"teacher_taps and student_taps go in pairs: got "
                f"{len(self.teacher_taps)} and {len(self.student_taps)}"
            )
        moving = (self.weight_schedule, self.temperature_schedule)
        if not self.total_steps and any(kind in SCHEDULES[1:] for kind in moving):
            raise ValueError("a schedule needs total_steps, the steps of the training")

    @property
    def methods(self) -> tuple[str, ...]:
        """The names in ``method``."""
        return tuple(name.strip() for name in self.method.split("+"))

    @property
    def weight_of_labels(self) -> float:
        """The labels' loss weighs this: as given, or the first method's own."""
        own = METHODS[self.methods[0]].label_weight
        return own if self.label_weight is None else self.label_weight

    @property
    def method_weights(self) -> tuple[float, ...]:
        """The weight of each."""
        return self.weights or tuple(METHODS[name].weight for name in self.methods)
