"""What there is to learn without labels, by name.

An objective is a pair: a transform of the dataset, which makes views or spoils inputs,
and a trainer around the encoder, which says of each example what it costs.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo import hparams
from kzoo.datasets import Dataset
from kzoo.datasets.views import Corrupted, two_views
from kzoo.hparams import HParams, hp, nearest
from kzoo.models.contrastive import ContrastiveHParams
from kzoo.models.reconstruction import ReconstructionHParams
from kzoo.training import Recipe


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        trainer: the model of the registry that wraps the encoder.
        options: what ``--option`` sets; those of the trainer are among them.
        recipe: where none is asked for.
        adapted: the dataset and the options -> the dataset that the trainer takes, and
            what of the trainer's hyper-parameters it fixes.
        paper: an arXiv number or a DOI.
    """

    trainer: str
    options: HParams
    recipe: Recipe
    adapted: Callable[[Dataset, Any], tuple[Dataset, dict[str, Any]]]
    paper: str


@dataclass(frozen=True, kw_only=True)
class DenoisingOptions(ReconstructionHParams):
    """The decoder, and how inputs are spoilt."""

    noise: float = hp(
        0.3, "standard deviation of what is added, after the preprocessing", min=0.0
    )
    dropped: float = hp(0.25, "share of the numbers that become 0", min=0.0, max=0.99)


def encoded(dataset: Dataset, task: str, **changes: Any) -> Dataset:
    """The dataset for an encoder without a head, with other fields changed."""
    fixed = {**dataset.spec.hparams, "num_classes": 0}
    spec = dataclasses.replace(dataset.spec, task=task, hparams=fixed, classes=())
    return dataclasses.replace(dataset, spec=spec, **changes)


def numbers(dataset: Dataset, objective: str) -> np.ndarray:
    """One preprocessed example, or a ``ValueError`` where it is not made of numbers."""
    raw = dataset.splits["train"].rows(np.arange(1))
    if isinstance(raw, dict) or dataset.spec.inputs in ("texts", "tokens"):
        raise ValueError(
            f"{objective} is for images, features and vectors; {dataset.name} has "
            f"{dataset.spec.inputs}"
        )
    example: np.ndarray = dataset.preprocessing.inputs(raw)[0]
    return example


def contrasted(dataset: Dataset, options: Any) -> tuple[Dataset, dict[str, Any]]:
    """Two views; the augmentation is what they differ by."""
    numbers(dataset, "contrastive")
    if not dataset.augmentation:
        raise ValueError(
            "contrastive needs an augmentation, which its two views differ by: "
            "--set augmentation=..."
        )
    return encoded(dataset, "pretraining", transform=two_views), {}


def reconstructed(dataset: Dataset, options: Any) -> tuple[Dataset, dict[str, Any]]:
    """Inputs, spoilt if the options say so, and the clean ones."""
    shape = numbers(dataset, "reconstruction").shape
    spoilt = Corrupted(getattr(options, "noise", 0.0), getattr(options, "dropped", 0.0))
    return encoded(dataset, "pretraining", transform=spoilt), {"target_shape": shape}


_RECIPE = Recipe(learning_rate=1e-3, weight_decay=1e-4, epochs=100, batch_size=128)
_VIEWS = ("crop:0.5", "rotation:20", "zoom:0.2", "shift")

OBJECTIVES = {
    "contrastive": Objective(
        "contrastive",
        ContrastiveHParams(),
        dataclasses.replace(_RECIPE, augmentation=_VIEWS, batch_size=256, epochs=200),
        contrasted,
        "2002.05709",
    ),
    "autoencoder": Objective(
        "reconstruction",
        ReconstructionHParams(),
        _RECIPE,
        reconstructed,
        "10.1126/science.1127647",
    ),
    "denoising": Objective(
        "reconstruction",
        DenoisingOptions(),
        _RECIPE,
        reconstructed,
        "10.1145/1390156.1390294",
    ),
}


def find_objective(name: str) -> Objective:
    """The objective of this name, or a ``ValueError`` with the nearest."""
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}{nearest(name, OBJECTIVES)}")
    return OBJECTIVES[name]


def of_trainer(objective: Objective, options: HParams) -> dict[str, Any]:
    """The trainer's part of the options, in plain JSON types."""
    from kzoo.registry import find_family

    declared = hparams.declarations(
        type(find_family(objective.trainer).variants[objective.trainer])
    )
    return {name: hparams.plain(getattr(options, name)) for name in declared}
