"""Options of ``distill``, and its data; without Keras, so that errors come at once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo import hparams
from kzoo.hparams import declarations, hp
from kzoo.models.distiller_options import DistillerHParams
from kzoo.training.run import Run, open_run


@dataclass(frozen=True, kw_only=True)
class DistillOptions(DistillerHParams):
    """Options of ``distill``: those of the distiller, and of the workflow."""

    generations: int = hp(
        1,
        "born-again: each student teaches the next of its kind (1805.04770)",
        min=1,
        max=20,
    )
    num_beams: int = hp(
        5, "of sequence: texts side by side in the teacher's search", min=1, max=64
    )
    unlabelled: bool = hp(False, "learn from the teacher alone, without labels")
    report: bool = hp(True, "measure teacher and student, and draw them side by side")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unlabelled and self.label_weight:
            raise ValueError("unlabelled=true has no use for a label_weight")
        if self.by_peers and (self.unlabelled or self.generations > 1):
            raise ValueError(
                "method 'mutual' is for networks that learn from labels, once: without "
                "unlabelled and generations"
            )

    @property
    def by_texts(self) -> bool:
        """Whether the teacher's texts are the data."""
        return "sequence" in self.methods

    @property
    def by_peers(self) -> bool:
        """Whether the teachers are networks that learn beside the student."""
        return "mutual" in self.methods

    def of_distiller(self, **changes: Any) -> dict[str, Any]:
        """The distiller's part, in plain JSON types."""
        values = {name: getattr(self, name) for name in declarations(DistillerHParams)}
        if self.unlabelled:
            values["label_weight"] = 0.0
        return {key: hparams.plain(v) for key, v in {**values, **changes}.items()}


def same_data(
    given: Sequence[Any], dataset: Any, data: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any]]:
    """The teacher's dataset where none is named, and its split where it is the same."""
    options = dict(data or {})
    for teacher in given:
        folder = teacher.folder if isinstance(teacher, Run) else teacher
        if not isinstance(folder, str | os.PathLike):
            continue
        if not (Path(folder) / "metrics.json").exists():
            continue
        theirs = open_run(Path(folder)).config["dataset"]
        if dataset is None and theirs["name"] != "arrays":
            return theirs["name"], {**theirs["options"], **options}
        if dataset == theirs["name"]:
            return dataset, {"seed": theirs["options"]["seed"], **options}
    return dataset, options
