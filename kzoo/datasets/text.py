"""Sets of texts: the tokeniser that they get, and ``names``.

Raw inputs are arrays of str; tokens are made batch by batch, after augmentation.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.embedded import Options
from kzoo.datasets.examples import Examples, fingerprint
from kzoo.datasets.splits import hashed_splits
from kzoo.hparams import hp, nearest
from kzoo.preprocessing import Preprocessing, standardized
from kzoo.preprocessing.text import (
    KINDS,
    Tokenizer,
    static_lengths,
    train_pair_tokenizer,
    train_tokenizer,
)
from kzoo.preprocessing.vocabularies import read_tokenizer

_TOKENIZER = "character, word or bpe; or a model folder or tokenizer.json to take"
_MAX_LENGTH = "tokens of a text"
_TRUNCATE = "cut longer texts; else they are refused"


@dataclass(frozen=True, kw_only=True)
class TextOptions(Options):
    """Options of sets of texts."""

    tokenizer: str = hp("word", _TOKENIZER)
    max_vocab_size: int = hp(
        8000, "tokens of a tokenizer that is trained", min=3, max=10_000_000
    )
    max_length: int = hp(256, _MAX_LENGTH, min=1, max=1_000_000)
    truncate: bool = hp(False, _TRUNCATE)


@dataclass(frozen=True, kw_only=True)
class NamesOptions(TextOptions):
    """Options of ``names``."""

    tokenizer: str = hp("character", _TOKENIZER)
    max_length: int = hp(32, _MAX_LENGTH, min=1, max=1_000_000)
    truncate: bool = hp(True, _TRUNCATE)


def text_dataset(
    name: str,
    options: Any,
    splits: Mapping[str, Examples],
    classes: Sequence[str] = (),
) -> Dataset:
    """A dataset of texts, with a tokeniser of its training split.

    Args:
        name: as ``load_dataset`` knows it.
        options: which tokeniser, and its sizes; see :class:`TextOptions`.
        splits: raw inputs are texts, or dicts of texts ``first`` and ``second``; labels
            are classes, or targets where there are no classes.
        classes: their names.

    Raises:
        ValueError: a text is too long, and is not to be cut.
    """
    preprocessing = text_preprocessing(options, splits["train"], tuple(classes))
    if not options.truncate:
        for split in splits.values():
            for first in range(0, len(split), 1000):
                rows = np.arange(first, min(first + 1000, len(split)))
                preprocessing.inputs(split.rows(rows))
    if not classes:
        means, scales = standardized(splits["train"].labels[:, None])
        preprocessing = dataclasses.replace(
            preprocessing, target_mean=means[0], target_scale=scales[0]
        )
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=splits,
        spec=Spec(
            task="text-classification" if classes else "regression",
            inputs="texts" if preprocessing.pairs is None else "pairs of texts",
            hparams={**text_hparams(preprocessing), "num_classes": len(classes) or 1},
            classes=tuple(classes),
            fingerprint=fingerprint(splits),
        ),
        preprocessing=preprocessing,
    )


def text_preprocessing(
    options: Any, train: Examples, classes: tuple[str, ...] = ()
) -> Preprocessing:
    """The tokeniser that the options ask for, and the lengths that texts come in."""
    texts = train.rows(np.arange(len(train)))
    paired = isinstance(texts, dict)
    if isinstance(texts, dict):
        texts = np.concatenate([texts["first"], texts["second"]])
    wanted, vocab_size = options.tokenizer, options.max_vocab_size
    if paired and wanted in KINDS:
        tokenizer = train_pair_tokenizer(wanted, texts, vocab_size)
    else:
        tokenizer = find_tokenizer(wanted, vocab_size, texts)
    return Preprocessing(
        tokenizer=tokenizer,
        lengths=static_lengths(options.max_length),
        truncate=options.truncate,
        classes=classes,
        pairs="joined" if paired else None,
    )


def as_taken(dataset: Dataset, inputs: Collection[str], segments: bool) -> Dataset:
    """Pairs of texts as a model takes them; every other dataset as it is.

    Args:
        dataset: any.
        inputs: the names of the model's inputs.
        segments: whether the model tells two segments of tokens apart.
    """
    if dataset.spec.inputs != "pairs of texts":
        return dataset
    if "first" in inputs:
        pairs = "separate"
    else:
        pairs = "segments" if segments else "joined"
    fixed = {"segment_ids": True} if pairs == "segments" else {}
    hparams = {**dataset.spec.hparams, **fixed}
    return dataclasses.replace(
        dataset,
        spec=dataclasses.replace(dataset.spec, hparams=hparams),
        preprocessing=dataclasses.replace(dataset.preprocessing, pairs=pairs),
    )


def text_hparams(preprocessing: Preprocessing) -> dict[str, Any]:
    """What texts under this preprocessing fix of a model."""
    assert preprocessing.tokenizer is not None
    return {
        "vocab_size": preprocessing.tokenizer.vocab_size,
        "sequence_length": preprocessing.lengths[-1],
        "pad_token_id": preprocessing.tokenizer.pad_token_id,
    }


def find_tokenizer(
    wanted: str, vocab_size: int, texts: Sequence[str] | np.ndarray
) -> Tokenizer:
    """One trained on these texts, or the one that lies at a path.

    Raises:
        ValueError: neither a kind of tokeniser nor a path, or not a tokeniser's file.
        FileNotFoundError: the folder has no tokeniser.
    """
    if wanted in KINDS:
        return train_tokenizer(wanted, texts, vocab_size)
    path = Path(wanted)
    if not path.exists():
        raise ValueError(
            f"tokenizer={wanted!r} is neither a folder or file nor one of "
            f"{', '.join(KINDS)}{nearest(wanted, KINDS)}"
        )
    if path.is_file():
        tokenizer = Tokenizer(path.read_text("utf-8"))
    else:
        inside = path / "model"  # of a run
        tokenizer = Tokenizer(
            read_tokenizer(inside if inside.exists() else path).to_str()
        )
    _ = tokenizer.library  # is it one?
    return tokenizer


# In Latin letters, so that the script does not tell, and with over a thousand names in
# CLDR each. Of near twins (Norwegian's two, Indonesian and Malay) there is one.
LANGUAGES: tuple[str, ...] = (
    *("cs", "da", "de", "en", "es", "et", "fi", "fr", "hr", "hu", "id", "is", "it"),
    *("lt", "lv", "nb", "nl", "pl", "pt", "ro", "sk", "sl", "sq", "sv", "tr", "vi"),
)


def names(options: NamesOptions) -> Dataset:
    """Names of countries, languages, currencies and scripts: in which language?

    Of Unicode's CLDR, by Babel, in 26 languages in Latin letters. Only names that one
    language has alone, so that each has one answer. Split 70/10/20 by a hash of the
    CLDR key: all languages' words for Japan are in the same split.
    """
    from babel import Locale

    owners: dict[str, set[str]] = {}
    keys: dict[tuple[str, str], str] = {}
    for language in LANGUAGES:
        locale = Locale.parse(language)
        for kind in ("territories", "languages", "currencies", "scripts"):
            for key, text in sorted(getattr(locale, kind).items()):
                owners.setdefault(text, set()).add(language)
                keys.setdefault((text, language), f"{kind}/{key}")
    chosen = sorted(pair for pair in keys if len(owners[pair[0]]) == 1)
    texts = np.array([text for text, _ in chosen], object)
    labels = np.array([LANGUAGES.index(one) for _, one in chosen], "int32")
    named = [keys[pair].encode() for pair in chosen]
    splits = hashed_splits(texts, labels, named, options.seed)
    classes = [
        str(Locale.parse(language).get_display_name("en")) for language in LANGUAGES
    ]
    return text_dataset("names", options, splits, classes)
