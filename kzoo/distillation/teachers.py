"""Who teaches: a run folder, a registry name, a model, or the student itself."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import distribution, index, weights
from kzoo.datasets import Dataset
from kzoo.hparams import Identity
from kzoo.preprocessing import Preprocessing
from kzoo.training.fit import train
from kzoo.training.run import Run, open_run

log = logging.getLogger(__name__)

SELF = "self"


@dataclass(frozen=True)
class Found:
    """A teacher that was found.

    Attributes:
        source: its folder, or its name.
        model: with its weights.
        preprocessing: what its inputs went through; None = what the student's do.
        run: its run folder, where it has one.
    """

    source: str
    model: keras.Model
    preprocessing: Preprocessing | None = None
    run: Run | None = None

    @property
    def saw(self) -> dict[str, Any] | None:
        """The dataset that it was trained on; None where nobody knows."""
        return None if self.run is None else dict(self.run.config["dataset"])

    def alone(self) -> keras.Model:
        """The model for this process alone.

        One that was loaded for all processes of a run would wait for the others.
        """
        in_folder = Path(self.source).is_dir()
        return weights.load(Path(self.source)) if in_folder else self.model

    def to_json(self, dataset: Dataset) -> dict[str, Any]:
        """Who taught, what it had seen, and whether that was the student's split."""
        saw = self.saw
        fingerprint = dataset.spec.fingerprint
        known = getattr(self.model, "kzoo", None)
        return {
            "source": self.source,
            "model": known.to_json() if isinstance(known, Identity) else None,
            "sha256": fingerprint_of(self.model),
            "saw": saw,
            "same_split": None if saw is None else saw["fingerprint"] == fingerprint,
        }


def fingerprint_of(model: keras.Model) -> str:
    """sha256 of the model's weights, in their order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(distribution.current().value(weight).tobytes())
    return digest.hexdigest()


def find(teacher: Any, trained: Callable[[str], Run]) -> Found:
    """The teacher, with its weights.

    Args:
        teacher: a run or model folder, a ``Run``, a registry name or a model.
        trained: trains a registry name; it has no weights of its own.

    Raises:
        ValueError: an unknown name.
        FileNotFoundError: a folder without a model.
    """
    if isinstance(teacher, keras.Model):
        return Found(teacher.name, teacher)
    if isinstance(teacher, Run):
        teacher = teacher.folder
    if not isinstance(teacher, str | os.PathLike):
        raise ValueError(
            f"expected a run folder, a model's name or a keras.Model, got {teacher!r}"
        )
    if str(teacher) in index.entries():
        run = trained(str(teacher))
    elif Path(teacher).exists():
        folder = Path(teacher)
        if not (folder / "history.csv").exists():  # a model folder
            preprocessing = None
            if (weights.model_folder(folder) / weights.PREPROCESSING).exists():
                preprocessing = weights.load_preprocessing(folder)
            return Found(str(folder), weights.load(folder), preprocessing)
        run = open_run(folder)
    else:
        raise ValueError(
            f"there is no folder {teacher}, and it is an "
            + index.unknown_model(str(teacher), index.entries())
        )
    return Found(
        str(run.folder), run.load(), weights.load_preprocessing(run.folder), run
    )


def trained_beside(
    out: Path, dataset: Dataset, seed: int, distribution: str
) -> Callable[[str], Run]:
    """Trains a teacher by its own recipe into ``{out}_teacher``; a finished one stays.

    Raises:
        ValueError: another run lies there.
    """

    def trained(name: str) -> Run:
        folder = out.with_name(f"{out.name}_teacher")
        log.info("the teacher is the %s of %s", name, folder)
        return train(name, dataset, out=folder, distribution=distribution, seed=seed)

    return trained


def check_author(found: Sequence[Found], dataset: Dataset) -> None:
    """Raises a ``ValueError`` unless one teacher writes in the dataset's tokens."""
    if len(found) != 1:
        raise ValueError(
            f"method 'sequence' has one teacher, which is not the student; got "
            f"{len(found)}"
        )
    theirs = found[0].preprocessing
    if theirs is not None and theirs.tokenizer != dataset.preprocessing.tokenizer:
        raise ValueError(
            f"the teacher {found[0].source} has another tokeniser than the student's "
            f"{dataset.name}: train both on the same split"
        )


def adaptation(
    found: Sequence[Found], dataset: Dataset, student_classes: bool
) -> dict[str, Any]:
    """Options of the distiller that give the teachers their inputs and classes.

    Args:
        found: the teachers; all need the same.
        dataset: the student's.
        student_classes: whether the logits are compared.

    Raises:
        ValueError: what the student reads cannot be turned into what a teacher reads,
            the teachers differ, or a class of the student is unknown to a teacher.
    """
    wanted = [_for_one(one, dataset, student_classes) for one in found]
    if any(one != wanted[0] for one in wanted):
        raise ValueError("the teachers need different preprocessing: distil from one")
    return wanted[0]


def _for_one(found: Found, dataset: Dataset, student_classes: bool) -> dict[str, Any]:
    theirs, ours = found.preprocessing, dataset.preprocessing
    if theirs is None or theirs == ours:
        return {}
    options: dict[str, Any] = {}
    tokens = theirs.input_mean is None, ours.input_mean is None
    if any(tokens) and not all(tokens):
        raise ValueError(
            f"the teacher {found.source} and the student read different kinds of input"
        )
    if theirs.target_mean != ours.target_mean:
        raise ValueError(
            f"the teacher {found.source} predicts in other units than the student"
        )
    if not all(tokens):
        options |= _scaling(theirs, ours)
        raw = dataset.splits["train"].rows(np.arange(1)).shape[1:]
        shape = theirs.input_shape or raw
        if shape != (ours.input_shape or raw):
            options["teacher_input_shape"] = tuple(shape)
    if student_classes and theirs.classes != ours.classes:
        unknown = [name for name in ours.classes if name not in theirs.classes]
        if unknown:
            raise ValueError(
                f"the teacher {found.source} does not know the class {unknown[0]!r}; "
                f"it knows {', '.join(theirs.classes[:10])}: distil its features (at, "
                "rkd, sp, pkt, fitnet) instead of its logits"
            )
        picked = tuple(theirs.classes.index(name) for name in ours.classes)
        options["teacher_classes"] = picked
    return options


def _scaling(theirs: Preprocessing, ours: Preprocessing) -> dict[str, Any]:
    """(x - a) / b of theirs from (x - c) / d of ours: times d / b, plus (c - a) / b."""
    a, b = theirs.input_mean or (0.0,), theirs.input_scale or (1.0,)
    c, d = ours.input_mean or (0.0,), ours.input_scale or (1.0,)
    if (a, b) == (c, d):
        return {}
    width = max(len(a), len(b), len(c), len(d))
    a, b, c, d = (
        one * (width if len(one) == 1 and width > 1 else 1) for one in (a, b, c, d)
    )
    if not len(a) == len(b) == len(c) == len(d):
        raise ValueError("teacher and student scale another number of columns")
    rows = list(zip(a, b, c, d, strict=True))
    return {
        "teacher_input_scale": tuple(q / n for _, n, _, q in rows),
        "teacher_input_offset": tuple((p - m) / n for m, n, p, _ in rows),
    }
