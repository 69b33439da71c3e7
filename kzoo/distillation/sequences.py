"""Sequence-level distillation: a student learns the texts that its teacher writes.

Kim & Rush, "Sequence-level knowledge distillation", 2016 (1606.07947). What a teacher
finds by beam search stands in the place of the training texts. It is plainer than they
are, and of one mind, so that a small student gets further with it; the student then
trains as it would alone.
"""

import dataclasses
import os
from pathlib import Path

import keras
import numpy as np
import safetensors.numpy

from kzoo import distribution
from kzoo.datasets import Dataset
from kzoo.datasets.examples import Split
from kzoo.datasets.pairs import as_split
from kzoo.tasks import get_task
from kzoo.training.evaluate import written

TAUGHT = "taught.safetensors"


def taught_dataset(
    teacher: keras.Model, dataset: Dataset, num_beams: int = 5, batch_size: int = 64
) -> Dataset:
    """The dataset with the teacher's text for each source of its training split.

    Args:
        teacher: a model that reads and writes, with the dataset's tokens.
        dataset: of translation or summarization.
        num_beams: texts side by side in the teacher's search; 1 = greedy.
        batch_size: sources at a time; it changes the speed alone.

    Returns:
        Another training split; the spec, and with it the fingerprint, stays that of
        the source data.

    Raises:
        ValueError: a dataset of another task, or a teacher that does not write.

    Example:
        >>> import kzoo
        >>> dates = kzoo.load_dataset("dates", examples=100)
        >>> teacher = kzoo.build_model(
        ...     "transformer_seq2seq", hidden_dim=8, num_heads=2, mlp_dim=8,
        ...     num_layers=1, **dates.spec.hparams)
        >>> taught = taught_dataset(teacher, dates, num_beams=2)
        >>> len(taught.splits["train"]) == len(dates.splits["train"])
        True
    """
    check_writes(dataset)
    if not hasattr(teacher, "encode"):
        raise ValueError(f"the teacher {teacher.name} reads no source to write a text")
    beam = {"strategy": "beam", "num_beams": num_beams} if num_beams > 1 else {}
    ids = written(teacher, dataset, "train", batch_size, **beam)
    hparams, train = dataset.spec.hparams, dataset.split("train")
    steps = train.labels.shape[1]
    texts = [row[: steps - 1] for row in _without(ids, hparams["end_token_id"])]
    tokens = train.rows(np.arange(len(train)))["tokens"]
    sources = _without(tokens.tolist(), hparams["pad_token_id"])
    split = as_split(sources, texts, tokens.shape[1], steps)
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": split})


def kept_in(
    folder: Path, teacher: keras.Model, dataset: Dataset, num_beams: int
) -> Dataset:
    """:func:`taught_dataset`, kept in a run folder: the teacher writes once."""
    path = folder / TAUGHT
    if not path.exists():
        taught = taught_dataset(teacher, dataset, num_beams)
        if not distribution.current().is_chief:
            return taught
        train = taught.splits["train"]
        arrays = train.rows(np.arange(len(train))) | {"labels": train.labels}
        aside = path.with_suffix(f".{os.getpid()}")
        safetensors.numpy.save_file(arrays, aside)
        os.replace(aside, path)
    arrays = safetensors.numpy.load_file(path)
    labels = arrays.pop("labels")
    split = Split(arrays, labels)
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": split})


def check_writes(dataset: Dataset) -> None:
    """Raises a ``ValueError`` if no text belongs to each of the dataset's examples."""
    if not get_task(dataset.spec.task).writes:
        raise ValueError(
            f"method 'sequence' teaches texts, and {dataset.name} is "
            f"{dataset.spec.task}: it is for translation and summarization"
        )


def _without(rows: list[list[int]], token: int) -> list[list[int]]:
    return [[each for each in row if each != token] for row in rows]
