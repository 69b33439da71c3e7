"""Dates as written in twenty places, to be written as ISO 8601 has them.

By the formats of Babel's CLDR. A date that names its month and has a year of four
digits is read in one way alone; any other is preceded by its locale.
"""

import datetime
import functools
from dataclasses import dataclass
from typing import Literal

from kzoo.datasets.batches import philox
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.embedded import Options
from kzoo.datasets.pairs import from_pairs
from kzoo.datasets.splits import split_of
from kzoo.hparams import hp

LOCALES = (
    "cs", "da", "de", "el", "en_GB", "en_US", "es", "fi", "fr", "hu", "id", "it", "nb",
    "nl", "pl", "pt", "ro", "ru", "sv", "tr",
)  # fmt: skip
Format = Literal["full", "long", "medium"]
FORMATS: tuple[Format, ...] = ("full", "long", "medium")
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)


@dataclass(frozen=True, kw_only=True)
class DatesOptions(Options):
    """Options of ``dates``."""

    examples: int = hp(20_000, "dates that are drawn", min=100, max=1_000_000)


def dates(options: DatesOptions) -> Dataset:
    """Dates of 1900 to 2099 in words and figures -> ``2021-04-03``.

    No day that one split has is in another one, in whatever writing.
    """
    rng = philox(options.seed, "dates", 0)
    days = rng.integers(0, (LAST - FIRST).days + 1, options.examples)
    locales = rng.integers(0, len(LOCALES), options.examples)
    formats = rng.integers(0, len(FORMATS), options.examples)
    pairs: dict[str, dict[str, str]] = {"train": {}, "validation": {}, "test": {}}
    for day, locale, form in zip(days, locales, formats, strict=True):
        date = FIRST + datetime.timedelta(days=int(day))
        iso = date.isoformat()
        split = split_of(iso.encode(), options.seed)
        pairs[split][written(date, LOCALES[locale], FORMATS[form])] = iso
    return from_pairs(
        "dates",
        options,
        {split: list(found.items()) for split, found in pairs.items()},
        task="translation",
    )


def written(date: datetime.date, locale: str, form: Format) -> str:
    """The date as it is written there; with the locale before it where it must be.

    Example:
        >>> written(datetime.date(2021, 4, 3), "de", "long")
        '3. April 2021'
        >>> written(datetime.date(2021, 4, 3), "de", "medium")
        'de 03.04.2021'
    """
    from babel.dates import format_date

    text = str(format_date(date, form, locale=locale))
    return text if _names_its_month(locale, form) else f"{locale} {text}"


@functools.cache
def _names_its_month(locale: str, form: Format) -> bool:
    """Whether the format has the month by name and the year in full."""
    from babel.dates import get_date_format

    pattern = str(get_date_format(form, locale=locale).pattern)
    named = "MMM" in pattern or "LLL" in pattern
    return named and "yy" not in pattern.replace("yyyy", "y")
