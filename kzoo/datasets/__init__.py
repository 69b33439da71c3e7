"""Data by name: ``load_dataset("digits")``.

Every set is an array source first: whole batches are gathered by numpy, nothing needs
TensorFlow, and nothing is downloaded for the embedded sets.
"""

from typing import Any

from kzoo.datasets import arrays, embedded, text
from kzoo.datasets.dataset import Dataset, Spec
from kzoo.hparams import HParams, nearest, parse, replace

__all__ = ["DATASETS", "Dataset", "Spec", "load_dataset", "parse_options"]

# name -> (declaration of its options, loader)
DATASETS = {
    "diabetes": (embedded.DiabetesOptions, embedded.diabetes),
    "digits": (embedded.DigitsOptions, embedded.digits),
    "names": (text.NamesOptions, text.names),
    "xor": (embedded.XorOptions, embedded.xor),
}


def load_dataset(source: Any, /, **options: Any) -> Dataset:
    """Loads a dataset.

    Args:
        source: the name of an embedded set (``digits``, ``names``, ``diabetes``,
            ``xor``); or arrays: ``(inputs, labels)``, which are split by the seed, or a
            dict of such pairs by split, ``{"train": ..., "validation": ..., "test":
            ...}``. A ``Dataset`` is returned as it is.
        **options: the set's own, see ``kzoo.datasets.DATASETS``; all take ``seed``,
            which makes the splits.

    Returns:
        A :class:`Dataset` with the splits ``train``, ``validation`` and ``test``.

    Raises:
        ValueError: an unknown name or option, or arrays that do not fit together.

    Example:
        >>> import kzoo
        >>> digits = kzoo.load_dataset("digits", seed=0)
        >>> digits.spec.task, len(digits.splits["train"])
        ('image-classification', 1257)
    """
    if isinstance(source, Dataset):
        if options:
            raise ValueError(f"a loaded dataset takes no options, got {options}")
        return source
    if not isinstance(source, str):
        chosen = replace(arrays.ArraysOptions(), "arrays", options)
        return arrays.from_arrays(source, chosen)
    declared, loader = find_dataset(source)
    return loader(replace(declared(), source, options))


def find_dataset(name: str) -> tuple[type[HParams], Any]:
    """The options and the loader of a set; a ``ValueError`` with the nearest name."""
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}{nearest(name, DATASETS)}")
    return DATASETS[name]


def parse_options(name: str, assignments: list[str]) -> dict[str, Any]:
    """Reads ``--data name=value`` texts by the declaration of the set's options.

    Raises:
        ValueError: an unknown dataset or option, or a value that is not legal.
    """
    declared, _ = find_dataset(name)
    return parse(declared, assignments, name)
