"""Sets of TensorFlow Datasets by their names: ``mnist``, ``cifar10``, ``imdb_reviews``.

Images, texts or pairs of texts (GLUE), each with one class; running text
(``tiny_shakespeare``); texts to translate (``wmt14_translate/de-en``) or to summarize
(``cnn_dailymail``).

They are prepared as array_record, which takes a network, a disk and TensorFlow once,
and then read record by record, which takes none of these.
"""

import importlib.util
import io
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset
from kzoo.datasets.examples import Split
from kzoo.datasets.images import ImageOptions, images_dataset
from kzoo.datasets.language import from_texts
from kzoo.datasets.loading import parallel_map
from kzoo.datasets.pairs import chosen_pairs
from kzoo.datasets.splits import hashed_draws
from kzoo.datasets.text import TextOptions, text_dataset
from kzoo.hparams import hp
from kzoo.preprocessing.images import read_image

log = logging.getLogger(__name__)


class UnavailableError(ValueError):
    """The data are not here and cannot be fetched; says why, and what to run."""


class UnknownSetError(ValueError):
    """TensorFlow Datasets has no set of this name.

    Attributes:
        known: the names that it has, as far as they can be told.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"TensorFlow Datasets has no {name!r}")
        self.known = known


@dataclass(frozen=True, kw_only=True)
class TfdsOptions(ImageOptions, TextOptions):
    """Options of the sets of TensorFlow Datasets, be they of images or of texts."""

    data_dir: str | None = hp(
        None, "where they lie; none = $TFDS_DATA_DIR or ~/tensorflow_datasets"
    )
    window: int = hp(
        128, "tokens of running text that are read at a time", min=1, max=1_000_000
    )


@dataclass(frozen=True)
class Records:
    """Examples of one split that are array_records, images in them still encoded.

    Attributes:
        source: random access to all records of the set's own split.
        index: which of them are this split's.
        keys: the features that hold inputs and label.
        about: what tells these records from others, for the fingerprint.
        cache: the file that keeps the labels of all records, once they were read.
        size: height and width to bring images to.
        channels: of the images.
        background: the colour that transparent images are composited on.
    """

    source: Any
    index: np.ndarray
    keys: tuple[str, str]
    about: bytes
    cache: Path
    size: tuple[int, int]
    channels: int
    background: str = "white"

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes (examples,)."""
        return all_labels(self.source, self.keys[1], self.cache)[self.index]

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The images of these examples (examples, height, width, channels)."""
        return np.stack(parallel_map(self._image, self.index[index].tolist()))

    def _image(self, record: int) -> np.ndarray:
        encoded = io.BytesIO(self.source[record][self.keys[0]])
        return read_image(encoded, self.size, self.channels, background=self.background)

    def contents(self) -> Iterator[bytes]:
        """Which records of which version of the set."""
        yield self.about
        yield self.index.tobytes()


def from_tfds(name: str, options: TfdsOptions) -> Dataset:
    """A set, prepared first if it is not there yet.

    Where the set has no validation or no test split, the one it has is the test split
    and an eighth of the training examples validates; with neither, 20 % are for the
    test. Which, is drawn by the seed from the version's own order. Texts are read into
    memory, images as :func:`images_dataset` says.

    Args:
        name: as TensorFlow Datasets has it: ``name``, ``name/config``, ``name:1.0.0``.
        options: the set's.

    Raises:
        UnknownSetError: no such set.
        UnavailableError: not prepared, and it cannot be now.
        ValueError: a set of another kind.
    """
    tfds = _imported(name)
    builder = opened(tfds, name, options.data_dir)
    task, keys = _kind(tfds, name, builder)
    classes = tuple(getattr(builder.info.features[keys[-1]], "names", ()))
    parts = _split(builder, options.seed)
    if task != "image-classification":
        columns = {
            split: _columns(builder.as_data_source(own), index, keys)
            for split, (own, index) in parts.items()
        }
        return _of_texts(name, options, task, columns, classes)
    size, channels = _shape(builder.info.features[keys[0]].shape, options)
    skip = {keys[0]: tfds.decode.SkipDecoding()}
    splits = {
        split: Records(
            source=builder.as_data_source(own, decoders=skip),
            index=index,
            keys=(keys[0], keys[-1]),
            about=_about(builder, own),
            cache=Path(builder.data_dir) / f"kzoo-labels-{own}.npy",
            size=size,
            channels=channels,
            background=options.background,
        )
        for split, (own, index) in parts.items()
    }
    return images_dataset(name, options, splits, classes, size, channels)


def _shape(
    shape: tuple[int | None, ...], options: TfdsOptions
) -> tuple[tuple[int, int], int]:
    """Height and width, and channels, of images whose feature has this shape."""
    height, width, channels = (side or 0 for side in shape)
    size = options.image_size or ((height, width) if height and width else 224)
    size = (size, size) if isinstance(size, int) else (size[0], size[1])
    return size, options.channels or channels or 3


def _columns(
    source: Sequence[Any], index: np.ndarray, keys: tuple[str, ...]
) -> list[list[Any]]:
    """What these features hold in these records, texts as str."""
    records = [source[i] for i in index.tolist()]

    def plain(value: Any) -> Any:
        return value.decode("utf-8") if isinstance(value, bytes) else value

    return [[plain(one[key]) for one in records] for key in keys]


def _of_texts(
    name: str,
    options: TfdsOptions,
    task: str,
    columns: dict[str, list[list[Any]]],
    classes: tuple[str, ...],
) -> Dataset:
    """A set of texts, with the columns that its task needs of each split."""
    if task == "language-modeling":
        running = {split: "\n".join(texts) for split, (texts,) in columns.items()}
        return from_texts(name, options, running)
    if task != "text-classification":
        pairs = {
            split: list(zip(*both, strict=True)) for split, both in columns.items()
        }
        return chosen_pairs(name, options, pairs, task)
    splits = {}
    for split, (*texts, labels) in columns.items():
        arrays = [np.array(one, object) for one in texts]
        pair = dict(zip(("first", "second"), arrays, strict=False))
        if min(labels, default=0) < 0:
            raise ValueError(f"{name} has a split whose classes are not known")
        inputs = pair if len(texts) == 2 else arrays[0]
        splits[split] = Split(inputs, np.array(labels, "int32"))
    return text_dataset(name, options, splits, classes)


def opened(tfds: Any, name: str, data_dir: str | None) -> Any:
    """The set's builder, with its data on the disk.

    Raises:
        UnknownSetError: no such set.
        UnavailableError: not prepared, and it cannot be now.
    """
    from tensorflow_datasets.core import read_only_builder

    found = _builder(read_only_builder.builder_from_files, tfds, name, data_dir)
    if found is None:
        found = _builder(tfds.builder, tfds, name, data_dir)
        if found is None:
            raise UnknownSetError(name, _names(tfds))
        _prepare(name, found)
    formats = {one.value for one in found.info.available_file_formats()}
    if "array_record" not in formats:
        beside = _root(found) / "array_record"
        raise UnavailableError(
            f"{name} lies in {found.data_dir} as {', '.join(sorted(formats))} alone, "
            "and kzoo reads array_record; to prepare it once more, beside: "
            f"{_command(name, beside)}; then pass data_dir={beside}"
        )
    return found


def _builder(make: Any, tfds: Any, name: str, data_dir: str | None) -> Any:
    try:
        return make(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        return None


def _names(tfds: Any) -> list[str]:
    try:
        return list(tfds.list_builders(with_community_datasets=False))
    except ImportError:  # some sets' code asks for TensorFlow
        return []


def _root(builder: Any) -> Path:
    """Where all sets lie: this one in name/version or name/config/version."""
    return Path(builder.data_dir).parents[2 if builder.builder_config else 1]


def _prepare(name: str, builder: Any) -> None:
    """Downloads and writes the set, or says why that is not possible."""
    folder = Path(builder.data_dir)
    unfinished = sorted(folder.parent.glob(f"incomplete.*_{folder.name}"))
    if unfinished:
        raise UnavailableError(
            f"{name} is being prepared in {unfinished[0]} by another process: wait for "
            "it, or delete that folder if none is running"
        )
    how = f"on a machine with a network run: {_command(name, _root(builder))}"
    cause = _no_network()
    if cause:
        raise UnavailableError(
            f"{name} is not in {folder}, and there is no network ({cause}); {how}"
        )
    log.info("%s is downloaded and prepared in %s", name, folder)
    try:
        builder.download_and_prepare(file_format="array_record")
    except (OSError, AssertionError, ImportError, RuntimeError, ValueError) as error:
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnavailableError(
            f"{name} cannot be prepared in {folder} ({cause}); {how}"
        ) from error


def _no_network() -> str:
    """Why the host that most sets come from cannot be reached, or nothing."""
    import requests

    try:
        requests.head("https://storage.googleapis.com", timeout=10)
    except requests.RequestException as error:
        return _innermost(error)
    return ""


def _innermost(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


def _command(name: str, data_dir: Path) -> str:
    call = f"kzoo.load_dataset({name!r}, data_dir={str(data_dir)!r})"
    return f'python -c "import kzoo; {call}"'


def _imported(name: str) -> Any:
    """The package; without its complaint where there is no TensorFlow."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UnavailableError(
            f"unknown dataset {name!r} here; those of TensorFlow Datasets need: "
            f"pip install tensorflow-datasets ({error})"
        ) from error
    if not hasattr(tfds, "core"):
        raise UnavailableError(
            f"tensorflow_datasets could not be loaded, which {name} needs; "
            "pip install --upgrade tensorflow-datasets tensorflow"
        )
    return tfds


def _kind(tfds: Any, name: str, builder: Any) -> tuple[str, tuple[str, ...]]:
    """The task, and the features that hold what goes in and, last, what comes out."""
    features = dict(builder.info.features.items())

    def named(kind: type) -> list[str]:
        return [key for key, one in features.items() if isinstance(one, kind)]

    images, texts = named(tfds.features.Image), named(tfds.features.Text)
    labels = named(tfds.features.ClassLabel)
    given: Any = builder.info.supervised_keys or ()
    if len(given) == 2 and given[1] in labels and given[0] in (*images, *texts):
        kind = "image" if given[0] in images else "text"
        return f"{kind}-classification", tuple(given)
    if len(images) == 1 and len(labels) == 1:
        return "image-classification", (images[0], labels[0])
    if len(texts) in (1, 2) and not images and len(labels) == 1:
        # A pair: sentence1 before sentence2, the premise before the hypothesis.
        ordered = sorted(texts, key=lambda key: (key == "hypothesis", key))
        return "text-classification", (*ordered, *labels)
    if len(set(given)) == 2 and set(given) <= set(texts):
        in_languages = isinstance(builder.info.features, tfds.features.Translation)
        return "translation" if in_languages else "summarization", tuple(given)
    if len(texts) == 1 and len(features) == 1:
        return "language-modeling", (texts[0],)
    described = ", ".join(
        f"{key} ({type(one).__name__})" for key, one in sorted(features.items())
    )
    raise ValueError(
        f"{name} has {described}; kzoo reads sets of one image, one text or two, "
        "with one class; of running text; and of a text to write from another one"
    )


def _split(builder: Any, seed: int) -> dict[str, tuple[str, np.ndarray]]:
    """The set's own split, and which of its records, of each of our splits."""
    counts = {name: one.num_examples for name, one in builder.info.splits.items()}
    own = {name: name for name in counts}
    if builder.name == "glue":  # nobody has the classes of its test splits
        kept = ("train", "validation", "validation_matched")
        own = {name.partition("_")[0]: name for name in kept if name in counts}
        counts = {name: counts[theirs] for name, theirs in own.items()}
    if "train" not in counts:
        raise ValueError(
            f"{builder.info.full_name} has no train split, but {', '.join(counts)}"
        )
    held_out = [name for name in ("validation", "test") if name in counts]
    whole = {name: (own[name], np.arange(n)) for name, n in counts.items()}
    if len(held_out) == 2:
        return {name: whole[name] for name in ("train", *held_out)}
    keys = (b"%d" % i for i in range(counts["train"]))
    draws = hashed_draws(seed, keys) * (0.8 if held_out else 1.0)
    parts = {
        "train": np.flatnonzero(draws < 0.7),
        "validation": np.flatnonzero((draws >= 0.7) & (draws < 0.8)),
        "test": np.flatnonzero(draws >= 0.8),
    }
    splits = {name: ("train", index) for name, index in parts.items()}
    return splits | {"test": whole[held_out[0]]} if held_out else splits


def _about(builder: Any, split: str) -> bytes:
    facts = builder.info.splits[split]
    lengths = list(facts.shard_lengths)
    return f"{builder.info.full_name} {split} {lengths} {facts.num_bytes}".encode()


def all_labels(source: Sequence[Any], key: str, cache: Path) -> np.ndarray:
    """The labels of all records: of the file, or read and written there."""
    if cache.exists():
        labels = np.load(cache)
        if labels.shape == (len(source),):
            return labels
    labels = np.fromiter((source[i][key] for i in range(len(source))), "int32")
    try:
        with tempfile.NamedTemporaryFile(dir=cache.parent, delete=False) as file:
            np.save(file, labels)
        os.replace(file.name, cache)
    except OSError as error:
        log.info("labels are read each time: %s", error)
    return labels


def check_exists(name: str, options: TfdsOptions) -> None:
    """Raises an ``UnknownSetError`` where there is no set of this name.

    It imports no TensorFlow, as asking for the set itself may.
    """
    if is_tfds_name(name):
        return
    tfds = _imported(name)
    from tensorflow_datasets.core import read_only_builder

    if _builder(read_only_builder.builder_from_files, tfds, name, options.data_dir):
        return
    try:
        tfds.builder_cls(name)
    except tfds.core.registered.DatasetNotFoundError:
        raise UnknownSetError(name, _names(tfds)) from None


def is_tfds_name(name: str) -> bool:
    """Whether a set of this name comes with the package, told without importing it."""
    found = importlib.util.find_spec("tensorflow_datasets")
    places = found.submodule_search_locations if found else None
    return any((Path(place) / "datasets" / name).is_dir() for place in places or ())
