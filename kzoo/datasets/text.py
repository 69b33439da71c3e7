"""Sets of texts: the tokeniser that they get, and ``names``.

Raw inputs are arrays of str; tokens are made batch by batch, after augmentation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Examples, Spec, fingerprint
from kzoo.datasets.embedded import Options, hashed_splits
from kzoo.hparams import hp, nearest
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import (
    KINDS,
    Tokenizer,
    static_lengths,
    train_tokenizer,
)

_TOKENIZER = "character, word or bpe; or a model folder or tokenizer.json to take"
_MAX_LENGTH = "tokens of a text; longer ones are cut"


@dataclass(frozen=True, kw_only=True)
class TextOptions(Options):
    """Options of sets of texts."""

    tokenizer: str = hp("word", _TOKENIZER)
    max_vocab_size: int = hp(
        8000, "tokens of a tokenizer that is trained", min=3, max=10_000_000
    )
    max_length: int = hp(256, _MAX_LENGTH, min=1, max=1_000_000)


@dataclass(frozen=True, kw_only=True)
class NamesOptions(TextOptions):
    """Options of ``names``."""

    tokenizer: str = hp("character", _TOKENIZER)
    max_length: int = hp(32, _MAX_LENGTH, min=1, max=1_000_000)


def text_classification(
    name: str,
    options: TextOptions,
    splits: Mapping[str, Examples],
    classes: Sequence[str],
) -> Dataset:
    """A dataset of texts and classes, with a tokeniser of its training split.

    Args:
        name: as ``load_dataset`` knows it.
        options: which tokeniser, and its sizes.
        splits: raw inputs are texts, labels are classes.
        classes: their names.
    """
    preprocessing = text_preprocessing(options, splits["train"], tuple(classes))
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=splits,
        spec=Spec(
            task="text-classification",
            inputs="texts",
            hparams={**text_hparams(preprocessing), "num_classes": len(classes)},
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
    tokenizer = find_tokenizer(options.tokenizer, options.max_vocab_size, texts)
    counts = map(len, tokenizer.encode(texts, options.max_length))
    lengths = static_lengths(max(counts, default=1), options.max_length)
    return Preprocessing(tokenizer=tokenizer, lengths=lengths, classes=classes)


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
        FileNotFoundError: the folder has no tokenizer.json.
    """
    if wanted in KINDS:
        return train_tokenizer(wanted, texts, vocab_size)
    path = Path(wanted)
    if not path.exists():
        raise ValueError(
            f"tokenizer={wanted!r} is neither a folder or file nor one of "
            f"{', '.join(KINDS)}{nearest(wanted, KINDS)}"
        )
    found = [path, path / "tokenizer.json", path / "model" / "tokenizer.json"]
    file = next((one for one in found if one.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{path} holds no tokenizer.json")
    tokenizer = Tokenizer(file.read_text("utf-8"))
    _ = tokenizer.library  # is it one?
    return tokenizer


# Of the languages that CLDR covers well, those in Latin letters that are neither
# another's twin (Norwegian's two, Malay) nor written in few names of their own.
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
    return text_classification("names", options, splits, classes)
