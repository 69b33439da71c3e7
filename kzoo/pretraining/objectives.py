"""What there is to learn without labels, by name.

An objective is a pair: a transform of the dataset, which makes views or spoils inputs,
and a trainer around the encoder, which says of each example what it costs.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo import hparams, index
from kzoo.datasets import Dataset
from kzoo.datasets.masks import MaskedTokens, NextTokens, ReplacedTokens
from kzoo.datasets.views import Corrupted, MaskedPatches, two_views
from kzoo.hparams import HParams, hp, in_short
from kzoo.models.contrastive import ContrastiveHParams
from kzoo.models.masked_image import MaskedImageHParams
from kzoo.models.reconstruction import ReconstructionHParams
from kzoo.models.replaced_token import ReplacedTokenHParams
from kzoo.models.token_prediction import TokenPredictionHParams
from kzoo.models.vit import ViTHParams
from kzoo.preprocessing.text import Tokenizer
from kzoo.pretraining.names import check_objective
from kzoo.training.recipe import Recipe


@dataclass(frozen=True)
class Objective:
    """One objective.

    Attributes:
        trainer: the model of the registry that wraps the encoder.
        options: what ``--option`` sets; those of the trainer are among them.
        recipe: where none is asked for.
        adapted: the dataset, the options and the encoder's hyper-parameters -> the
            dataset that the trainer takes, and what of the trainer's options it fixes.
        paper: an arXiv number or a DOI.
    """

    trainer: str
    options: HParams
    recipe: Recipe
    adapted: Callable[[Dataset, Any, HParams], tuple[Dataset, dict[str, Any]]]
    paper: str


@dataclass(frozen=True, kw_only=True)
class DenoisingOptions(ReconstructionHParams):
    """The decoder, and how inputs are spoilt."""

    noise: float = hp(
        0.3, "standard deviation of what is added, after the preprocessing", min=0.0
    )
    dropped: float = hp(0.25, "share of the numbers that become 0", min=0.0, max=0.99)


def encoded(dataset: Dataset, encoder: HParams, task: str, **changes: Any) -> Dataset:
    """The dataset for an encoder without a head, with other fields changed."""
    known = hparams.declarations(type(encoder))
    fixed = {**dataset.spec.hparams, "num_classes": 0}
    fixed = {name: value for name, value in fixed.items() if name in known}
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


def contrasted(
    dataset: Dataset, options: Any, encoder: HParams
) -> tuple[Dataset, dict[str, Any]]:
    """Two views; the augmentation is what they differ by."""
    numbers(dataset, "contrastive")
    if not dataset.augmentation:
        raise ValueError(
            "contrastive needs an augmentation, which its two views differ by: "
            "--set augmentation=..."
        )
    return encoded(dataset, encoder, "pretraining", transform=two_views), {}


def reconstructed(
    dataset: Dataset, options: Any, encoder: HParams
) -> tuple[Dataset, dict[str, Any]]:
    """Inputs, spoilt if the options say so, and the clean ones."""
    shape = numbers(dataset, "reconstruction").shape
    spoilt = Corrupted(getattr(options, "noise", 0.0), getattr(options, "dropped", 0.0))
    return encoded(dataset, encoder, "pretraining", transform=spoilt), {
        "target_shape": shape
    }


@dataclass(frozen=True, kw_only=True)
class MaskedImageOptions(MaskedImageHParams):
    """The decoder, and how many patches are hidden."""

    mask_rate: float = hp(
        0.75, "share of an image's patches", min=0.01, max=0.99, tune=(0.5, 0.9)
    )


def covered(
    dataset: Dataset, options: MaskedImageOptions, encoder: HParams
) -> tuple[Dataset, dict[str, Any]]:
    """Images of which most patches are hidden."""
    if numbers(dataset, "masked_image").ndim != 3:
        raise ValueError(
            f"masked_image is for images; {dataset.name} has {dataset.spec.inputs}"
        )
    if not isinstance(encoder, ViTHParams):
        from kzoo.registry import FAMILIES

        able = [one.name for one in FAMILIES if isinstance(one.smallest, ViTHParams)]
        raise ValueError(
            "masked_image needs a model whose blocks take the visible patches alone: "
            f"one of the families {in_short(able)}"
        )
    if encoder.grid == (1, 1):
        raise ValueError(
            f"patch_size={encoder.patch_size} makes one patch of an image: with it "
            "hidden there is nothing to see"
        )
    transform = MaskedPatches(encoder.patch_size, options.mask_rate)
    return encoded(dataset, encoder, "pretraining", transform=transform), {}


@dataclass(frozen=True, kw_only=True)
class MaskingOptions(TokenPredictionHParams):
    """How tokens are hidden."""

    mask_rate: float = hp(0.15, "share of a text's tokens", min=0.01, max=0.9)
    mask_share: float = hp(0.8, "of those that become the mask", min=0.0, max=1.0)
    random_share: float = hp(0.1, "of those that become another", min=0.0, max=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                f"mask_share={self.mask_share} and random_share={self.random_share} "
                "are more than 1 together"
            )


def check_tokens(dataset: Dataset, objective: str, encoder: HParams) -> Tokenizer:
    """The dataset's tokeniser; a ``ValueError`` where there is none to learn from."""
    tokenizer = dataset.preprocessing.tokenizer
    if tokenizer is None:
        raise ValueError(
            f"{objective} is for texts; {dataset.name} has {dataset.spec.inputs}"
        )
    if "vocab_size" not in hparams.declarations(type(encoder)):
        able = [
            name
            for name, entry in sorted(index.entries().items())
            if "text-classification" in entry["tasks"]
        ]
        raise ValueError(
            f"{objective} needs a model of tokens, such as {in_short(able)}"
        )
    return tokenizer


def masks_of(dataset: Dataset, tokenizer: Tokenizer) -> tuple[int, tuple[int, ...]]:
    """The token that stands for a hidden one, and those that may be hidden.

    ``[MASK]`` where the tokeniser has it, or else its token for the unknown.
    """
    library = tokenizer.library
    names = ("[MASK]", "<mask>")
    found = [library.token_to_id(name) for name in names]
    found = [*(one for one in found if one is not None), tokenizer.unknown_token_id]
    if found[0] is None:
        raise ValueError(
            f"the tokeniser of {dataset.name} has neither {' nor '.join(names)} nor a "
            "token for the unknown, which could stand for a hidden one"
        )
    special = {one for one in (*found, tokenizer.pad_token_id) if one is not None}
    added = library.get_added_tokens_decoder()
    special |= {number for number, token in added.items() if token.special}
    ordinary = tuple(one for one in range(tokenizer.vocab_size) if one not in special)
    return found[0], ordinary


def hidden(
    dataset: Dataset, options: MaskingOptions, encoder: HParams
) -> tuple[Dataset, dict[str, Any]]:
    """Some tokens hidden."""
    tokenizer = check_tokens(dataset, "masked_tokens", encoder)
    transform = MaskedTokens(
        *masks_of(dataset, tokenizer),
        options.mask_rate,
        options.mask_share,
        options.random_share,
    )
    made = encoded(dataset, encoder, "language-modeling", transform=transform)
    return made, {"vocab_size": tokenizer.vocab_size, "causal": False}


@dataclass(frozen=True, kw_only=True)
class ReplacementOptions(ReplacedTokenHParams):
    """The generator, the loss, and how many tokens are hidden."""

    mask_rate: float = hp(0.15, "share of a text's tokens", min=0.01, max=0.9)


def replaced(
    dataset: Dataset, options: ReplacementOptions, encoder: HParams
) -> tuple[Dataset, dict[str, Any]]:
    """Some tokens hidden, for the generator to replace."""
    tokenizer = check_tokens(dataset, "replaced_token", encoder)
    transform = ReplacedTokens(
        MaskedTokens(
            *masks_of(dataset, tokenizer),
            rate=options.mask_rate,
            masked=1.0,
            random=0.0,
        ),
        tokenizer.pad_token_id,
    )
    made = encoded(dataset, encoder, "pretraining", transform=transform)
    return made, {"vocab_size": tokenizer.vocab_size}


def followed(
    dataset: Dataset, options: Any, encoder: HParams
) -> tuple[Dataset, dict[str, Any]]:
    """The next token at each step."""
    tokenizer = check_tokens(dataset, "next_token", encoder)
    made = encoded(
        dataset,
        encoder,
        "language-modeling",
        transform=NextTokens(tokenizer.pad_token_id),
    )
    return made, {"vocab_size": tokenizer.vocab_size, "causal": True}


_RECIPE = Recipe(learning_rate=1e-3, weight_decay=1e-4, epochs=100, batch_size=128)
_TEXTS = dataclasses.replace(_RECIPE, weight_decay=0.01, clip=1.0, epochs=30)
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
    "masked_image": Objective(
        "masked_image",
        MaskedImageOptions(),
        dataclasses.replace(_RECIPE, weight_decay=0.05, batch_size=64, epochs=200),
        covered,
        "2111.06377",
    ),
    "masked_tokens": Objective(
        "token_prediction", MaskingOptions(), _TEXTS, hidden, "1810.04805"
    ),
    "next_token": Objective(
        "token_prediction", TokenPredictionHParams(), _TEXTS, followed, "1511.01432"
    ),
    "replaced_token": Objective(
        "replaced_token", ReplacementOptions(), _TEXTS, replaced, "2003.10555"
    ),
}


def find_objective(name: str) -> Objective:
    """The objective of this name, or a ``ValueError`` with the nearest."""
    check_objective(name)
    return OBJECTIVES[name]


def of_trainer(objective: Objective, options: HParams) -> dict[str, Any]:
    """The trainer's part of the options, in plain JSON types."""
    from kzoo.registry import find_family

    declared = hparams.declarations(
        type(find_family(objective.trainer).variants[objective.trainer])
    )
    return {name: hparams.plain(getattr(options, name)) for name in declared}
