"""Arrays of the caller's own as a dataset."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.splits import (
    SPLITS,
    fair_parts,
    parted,
    rows_of,
    stratified_rows,
)
from kzoo.datasets.text import TextOptions, text_dataset
from kzoo.hparams import hp
from kzoo.preprocessing import Preprocessing, standardized
from kzoo.tasks import get_task

# Inputs that may have a label each step.
STEPS = ("tokens", "features")


@dataclass(frozen=True, kw_only=True)
class ArraysOptions(TextOptions):
    """Options of arrays; those of texts for arrays of str."""

    task: str | None = hp(None, "a task's name; none = by the arrays' types and shapes")
    num_classes: int | None = hp(None, "none = the greatest label + 1", min=1)
    vocab_size: int | None = hp(None, "of tokens; none = the greatest + 1", min=1)
    classes: tuple[str, ...] = hp((), "their names; none = their numbers")


def from_arrays(source: Any, options: ArraysOptions) -> Dataset:
    """Makes a dataset of arrays.

    Inputs are images (examples, height, width, channels), features (examples, time,
    features), vectors (examples, features) of a floating type, tokens (examples, time)
    of an integer type, or texts (examples,) of str; a dict of texts ``first`` and
    ``second`` holds pairs. Integer labels are classes, floating ones are targets;
    integer labels (examples, time) are a class each step, -1 where none counts. 8-bit
    images are scaled to [0, 1]; other images and features are taken as they are;
    vectors and targets are standardised by the training split.

    Raises:
        ValueError: arrays that do not fit together, NaN, or labels out of range.
    """
    given = _as_splits(source)
    for name, (inputs, labels) in given.items():
        _check_pair(name, inputs, labels)
    inputs, labels = next(iter(given.values()))
    if isinstance(inputs, dict):
        return _pairs_of_texts(given, options)
    for name, pair in given.items():
        types = [array.dtype for array in (inputs, labels, *pair)]
        if types[:2] != types[2:]:
            raise ValueError(
                f"train has inputs of {types[0]} and labels of {types[1]}, {name} has "
                f"{types[2]} and {types[3]}"
            )
    regression = labels.dtype.kind == "f"
    kind = _kind_of(inputs)
    stepwise = labels.ndim == 2
    task = options.task or _task_of(kind, regression, stepwise)
    if stepwise != get_task(task).per_step or (stepwise and kind not in STEPS):
        raise ValueError(
            f"task {task!r} does not go with labels of shape {labels.shape} and {kind}"
        )
    if regression != (task == "regression"):
        raise ValueError(
            f"task {task!r} does not go with labels of type {labels.dtype}: integers "
            "are classes, floating numbers are targets"
        )
    splits = _split(given, options.seed, regression)
    if kind == "texts":
        number = 0 if regression else _num_classes(splits, options)
        return text_dataset("arrays", options, splits, _classes(number, options))
    fixed = _sizes(kind, splits, options)
    fixed["num_classes"] = 1 if regression else _num_classes(splits, options)
    if stepwise:
        fixed["per_step"] = True
    classes = () if regression else _classes(fixed["num_classes"], options)
    return Dataset(
        name="arrays",
        options=options.to_json(),
        splits=splits,
        spec=Spec(task, kind, fixed, classes, fingerprint(splits)),
        preprocessing=_preprocessing(kind, splits["train"], regression, classes),
    )


def _classes(number: int, options: ArraysOptions) -> tuple[str, ...]:
    """The names of so many classes."""
    if options.classes and len(options.classes) != number:
        raise ValueError(f"{len(options.classes)} names for {number} classes")
    return options.classes or tuple(map(str, range(number)))


def _pairs_of_texts(given: dict[str, Any], options: ArraysOptions) -> Dataset:
    """Pairs of texts, split by a hash of both."""
    splits = {name: Split(*pair) for name, pair in given.items()}
    if "all" in splits:
        inputs, labels = given["all"]
        keys = [f"{a}\0{b}".encode() for a, b in zip(*inputs.values(), strict=True)]
        parts = fair_parts(keys, None, options.seed)
        splits = parted(inputs, labels, rows_of(parts))
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"there are too few examples: no {name} example")
    regression = splits["train"].labels.dtype.kind == "f"
    number = 0 if regression else _num_classes(splits, options)
    classes = () if regression else _classes(number, options)
    return text_dataset("arrays", options, splits, classes)


def _as_splits(source: Any) -> dict[str, tuple[Any, np.ndarray]]:
    if isinstance(source, Mapping):
        if set(source) != set(SPLITS):
            raise ValueError(
                f"a dict of arrays has the splits {', '.join(SPLITS)}; "
                f"got {', '.join(map(str, source)) or 'none'}"
            )
        return {name: _pair(source[name], name) for name in SPLITS}
    return {"all": _pair(source, "the data")}


def _pair(value: Any, name: str) -> tuple[Any, np.ndarray]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(
            f"{name}: expected a pair (inputs, labels), got {type(value).__name__}"
        )
    if isinstance(value[0], Mapping):
        return _texts_by_name(value[0], name), np.asarray(value[1])
    inputs, labels = np.asarray(value[0]), np.asarray(value[1])
    if inputs.dtype.kind == "U":  # in which each text has the room of the longest
        inputs = inputs.astype(object)
    return inputs, labels


def _texts_by_name(value: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """Arrays of texts ``first`` and ``second``, in this order."""
    if set(value) != {"first", "second"}:
        raise ValueError(
            f"{name}: a dict of inputs has the texts first and second; got "
            f"{', '.join(map(str, value)) or 'none'}"
        )
    texts = {key: np.asarray(value[key]).astype(object) for key in ("first", "second")}
    lengths = [len(one) for one in texts.values()]
    all_texts = (isinstance(x, str) for one in texts.values() for x in one)
    if lengths[0] != lengths[1] or not all(all_texts):
        raise ValueError(f"{name}: first and second must be as many texts (examples,)")
    return texts


def _check_pair(name: str, inputs: Any, labels: np.ndarray) -> None:
    where = "" if name == "all" else f"{name}: "
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise ValueError(f"{where}labels are (examples, 1); pass them as (examples,)")
    stepwise = labels.ndim == 2 and labels.dtype.kind == "i"
    if (labels.ndim != 1 and not stepwise) or labels.dtype.kind not in "iuf":
        raise ValueError(
            f"{where}labels must be numbers of shape (examples,), got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if isinstance(inputs, dict):
        inputs = inputs["first"]
    if stepwise and inputs.shape[:2] != labels.shape:
        raise ValueError(
            f"{where}labels of shape {labels.shape} are no class for each step of "
            f"inputs of shape {inputs.shape}"
        )
    if len(inputs) != len(labels) or not len(labels):
        raise ValueError(f"{where}{len(inputs)} inputs and {len(labels)} labels")
    for what, array in (("inputs", inputs), ("labels", labels)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = np.argwhere(~np.isfinite(array))[0][0]
            raise ValueError(f"{where}{what} hold NaN or infinity, first in row {row}")


def _kind_of(inputs: np.ndarray) -> str:
    kinds = {(2, "i"): "tokens", (2, "f"): "vectors", (3, "f"): "features"}
    kind = "i" if inputs.dtype.kind in "iu" else inputs.dtype.kind
    if inputs.ndim == 4 and kind in "if":
        return "images"
    if inputs.ndim == 1 and all(isinstance(one, str) for one in inputs):
        return "texts"
    if (inputs.ndim, kind) not in kinds:
        raise ValueError(
            f"inputs of {inputs.dtype} and shape {inputs.shape} are none of: images "
            "(examples, height, width, channels), float features (examples, time, "
            "features), float vectors (examples, features), int tokens (examples, "
            "time), texts (examples,)"
        )
    return kinds[inputs.ndim, kind]


def _task_of(kind: str, regression: bool, stepwise: bool) -> str:
    if regression:
        return "regression"
    if stepwise:
        return "sequence-labeling"
    return {
        "images": "image-classification",
        "features": "sequence-classification",
        "tokens": "text-classification",
        "texts": "text-classification",
        "vectors": "tabular-classification",
    }[kind]


def _split(
    given: dict[str, tuple[np.ndarray, np.ndarray]], seed: int, regression: bool
) -> dict[str, Split]:
    if "all" not in given:
        return {name: Split(*pair) for name, pair in given.items()}
    inputs, labels = given["all"]
    keys = (row.encode() if isinstance(row, str) else row.tobytes() for row in inputs)
    if regression or labels.ndim == 2:
        rows = rows_of(fair_parts(keys, None, seed))
    else:
        rows = _stratified(keys, labels, seed)
    splits = parted(inputs, labels, rows)
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{len(labels)} examples are too few: no {name} example")
    return splits


def _stratified(
    keys: Iterable[bytes], labels: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """The examples of each split, each class in its share."""
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 3:
        raise ValueError(
            f"{len(labels)} examples are too few to split: each class needs 3 at "
            f"least, and {classes[counts.argmin()]} has {counts.min()}; or pass a dict "
            "of splits"
        )
    if len(labels) < max(20, 10 * len(classes)):  # too few for scikit-learn's
        return rows_of(fair_parts(keys, labels, seed))
    rows = stratified_rows(labels, seed)
    parts = np.empty(len(labels), int)
    for i, name in enumerate(SPLITS):
        parts[rows[name]] = i
    mended = fair_parts(keys, labels, seed, parts=parts)
    return rows if (mended == parts).all() else rows_of(mended)


def _least(labels: np.ndarray) -> int:
    """The least label; of labels a step -1 counts nowhere."""
    least = int(labels.min())
    return max(least, 0) if labels.ndim == 2 and least == -1 else least


def _num_classes(splits: Mapping[str, Split], options: ArraysOptions) -> int:
    lowest = min(_least(split.labels) for split in splits.values())
    highest = max(int(split.labels.max()) for split in splits.values())
    num_classes = options.num_classes or max(2, highest + 1)
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"label {wrong} is out of range: {num_classes} classes are 0 to "
            f"{num_classes - 1}"
        )
    return num_classes


def _sizes(
    kind: str, splits: Mapping[str, Split], options: ArraysOptions
) -> dict[str, Any]:
    shape = splits["train"].inputs.shape
    for name, split in splits.items():
        if split.inputs.shape[1:] != shape[1:]:
            raise ValueError(
                f"train has examples of shape {shape[1:]}, {name} of "
                f"{split.inputs.shape[1:]}"
            )
    if kind == "images":
        size = shape[1] if shape[1] == shape[2] else tuple(shape[1:3])
        return {"image_size": size, "channels": shape[3]}
    if kind == "vectors":
        return {"num_features": shape[1], "image_size": None}
    if kind == "features":
        return {"vocab_size": 0, "num_features": shape[2], "sequence_length": shape[1]}
    highest = max(int(split.inputs.max()) for split in splits.values())
    lowest = min(int(split.inputs.min()) for split in splits.values())
    vocab_size = options.vocab_size or highest + 1
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"token {wrong} is out of range: a vocabulary of {vocab_size} is 0 to "
            f"{vocab_size - 1}"
        )
    return {"vocab_size": vocab_size, "sequence_length": shape[1]}


def _preprocessing(
    kind: str, train: Split, regression: bool, classes: tuple[str, ...]
) -> Preprocessing:
    mean: tuple[float, ...] | None = (0.0,)
    scale: tuple[float, ...] | None = (1.0,)
    if kind == "tokens":
        mean = scale = None
    elif kind == "vectors":
        mean, scale = standardized(train.inputs)
    elif kind == "images" and train.inputs.dtype == np.uint8:
        scale = (255.0,)
    target_mean = target_scale = None
    if regression:
        means, scales = standardized(train.labels[:, None])
        target_mean, target_scale = means[0], scales[0]
    return Preprocessing(
        input_mean=mean,
        input_scale=scale,
        target_mean=target_mean,
        target_scale=target_scale,
        classes=classes,
    )
