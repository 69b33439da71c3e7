"""Data by name: ``load_dataset("digits")``.

Every set is an array source first: whole batches are gathered by numpy, nothing needs
TensorFlow, and nothing is downloaded for the embedded sets.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from typing import Any

from kzoo.datasets import (
    arrays,
    csv_file,
    dates,
    embedded,
    folder,
    language,
    skip_gram,
    sources,
    streams,
    table,
    text,
    tfds,
)
from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.tfds import UnavailableError
from kzoo.hparams import HParams, nearest, parse, replace

__all__ = [
    "DATASETS",
    "SOURCES",
    "Dataset",
    "Spec",
    "UnavailableError",
    "check_dataset",
    "load_dataset",
    "parse_options",
]

# name -> (declaration of its options, loader)
DATASETS: dict[str, tuple[type[HParams], Callable[..., Dataset]]] = {
    "dates": (dates.DatesOptions, dates.dates),
    "diabetes": (embedded.DiabetesOptions, embedded.diabetes),
    "digits": (embedded.DigitsOptions, embedded.digits),
    "names": (text.NamesOptions, text.names),
    "reference_manual": (language.LanguageOptions, language.reference_manual),
    "xor": (embedded.XorOptions, embedded.xor),
}

# kind of "kind:PATH" -> (declaration of its options, loader of the path)
SOURCES: dict[str, tuple[type[HParams], Callable[..., Dataset]]] = {
    "csv": (table.TableOptions, table.from_csv),
    "folder": (folder.FolderOptions, folder.from_folder),
    "skip_gram": (skip_gram.SkipGramOptions, skip_gram.from_running_text),
    "text": (language.LanguageOptions, language.text_files),
}


# kind of "kind:PATH" -> raises where the path leads to nothing
_EXISTING: dict[str, Callable[[str], object]] = {
    "csv": csv_file.existing_table,
    "folder": folder.existing_folder,
    "skip_gram": skip_gram.existing_source,
    "text": language.existing_texts,
}


def load_dataset(source: Any, /, **options: Any) -> Dataset:
    """Loads a dataset.

    Args:
        source: the name of an embedded set (``digits``, ``names``, ``diabetes``,
            ``xor``, ``dates``, ``reference_manual``); ``folder:PATH``, images in one
            folder a class; ``csv:PATH``; ``text:PATH``, a file or a folder of running
            text; a name of TensorFlow Datasets, such as ``mnist``; or arrays:
            ``(inputs, labels)``, which are split by the seed, or a dict of such pairs
            by split, ``{"train": ..., "validation": ..., "test": ...}``. Data frames,
            series, lists and tensors do as well, and so does what gives batches
            (inputs, labels) and has an end: ``keras.utils.PyDataset``,
            ``tf.data.Dataset``, a ``DataLoader`` of PyTorch, a list of batches. A
            ``Dataset`` is returned as it is.
        **options: the set's own, see ``kzoo.datasets.DATASETS``; all take ``seed``,
            which makes the splits. Of arrays, ``groups`` (examples,) says which
            examples go into one split together.

    Returns:
        A :class:`Dataset` with the splits ``train``, ``validation`` and ``test``.

    Raises:
        ValueError: an unknown name or option, or data that do not fit together.
        kzoo.datasets.UnavailableError: a set that is not here and cannot be fetched.

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
        groups = options.pop("groups", None)
        if isinstance(groups, bool):  # of a run's record, which holds no arrays
            options["groups"], groups = groups, None
        if isinstance(source, Mapping) and streams.is_stream(source.get("train")):
            return streams.from_stream(source, options, groups)
        if callable(source) and streams.is_stream(source):
            raise ValueError(
                "the data: a function that makes batches is a stream, which cannot be "
                "split: pass {'train': it, 'validation': ..., 'test': ...}, and "
                "data={'steps': 100}"
            )
        if "steps" in options:
            raise ValueError(
                "steps= is for a stream as train; these examples have a number, which "
                "makes an epoch"
            )
        given = source.values() if isinstance(source, Mapping) else [source]
        if any(map(sources.is_source, given)):
            return _from_batches(source, options, groups)
        chosen = replace(arrays.ArraysOptions(), "arrays", options)
        return arrays.from_arrays(source, chosen, groups)
    declared, loader = find_dataset(source)
    return loader(replace(declared(), source, options))


def _from_batches(source: Any, options: dict[str, Any], groups: Any) -> Dataset:
    """A dataset of batches, which are read after all else was checked."""
    memory = {key: options.pop(key) for key in ("memory",) if key in options}
    reading = replace(sources.SourceOptions(), "arrays", memory)
    names = sources.class_names(source)
    options = {"classes": names, **options} if names else options
    chosen = replace(arrays.ArraysOptions(), "arrays", options)
    if isinstance(source, Mapping):
        arrays.check_splits(source)
    ready = sources.as_arrays(source, reading, ordered=groups is not None)
    return arrays.from_arrays(ready, chosen, groups)


def check_dataset(name: str, options: Mapping[str, Any]) -> None:
    """Raises what ``load_dataset`` would, as far as it shows before data are read.

    Raises:
        ValueError: an unknown name or option, an illegal value, or nothing there.
        FileNotFoundError: there is no such file.
    """
    declared, _ = find_dataset(name)
    chosen = replace(declared(), name, options)
    if name in DATASETS:
        return
    kind, colon, path = name.partition(":")
    if colon and kind in _EXISTING:
        _EXISTING[kind](path)
    elif isinstance(chosen, tfds.TfdsOptions):
        with _named_errors(name):
            tfds.check_exists(name, chosen)


def find_dataset(name: str) -> tuple[type[HParams], Any]:
    """The options and the loader of a set; a ``ValueError`` with the nearest name.

    What is neither an embedded set nor a source of files may be a set of TensorFlow
    Datasets; whether there is one shows when it is loaded.
    """
    if name in DATASETS:
        return DATASETS[name]
    kind, colon, path = name.partition(":")
    if colon and kind in SOURCES:
        declared, from_path = SOURCES[kind]
        return declared, partial(from_path, path)
    if get_close_matches(name, DATASETS, cutoff=0.8) and not tfds.is_tfds_name(name):
        raise ValueError(unknown_dataset(name))
    return tfds.TfdsOptions, partial(_from_tfds, name)


def unknown_dataset(name: str, others: Sequence[str] = ()) -> str:
    """The error for a name that is no dataset's, beside the names of others."""
    known = [*DATASETS, *others]
    if get_close_matches(name, known):
        return f"unknown dataset {name!r}{nearest(name, known)}"
    told = f"unknown dataset {name!r}{nearest(name, DATASETS)}"
    paths = ", ".join(f"{kind}:PATH" for kind in SOURCES)
    return f"{told}, {paths}, and those of TensorFlow Datasets"


def _from_tfds(name: str, options: tfds.TfdsOptions) -> Dataset:
    with _named_errors(name):
        return tfds.from_tfds(name, options)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except tfds.UnknownSetError as error:
        raise ValueError(unknown_dataset(name, error.known)) from None


def parse_options(name: str, assignments: list[str]) -> dict[str, Any]:
    """Reads ``--data name=value`` texts by the declaration of the set's options.

    Raises:
        ValueError: an unknown dataset or option, or a value that is not legal.
    """
    declared, _ = find_dataset(name)
    return parse(declared, assignments, name)
