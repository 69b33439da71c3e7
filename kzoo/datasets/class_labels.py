"""What labels mean: classes by number or by name, one-hot rows, targets, steps."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.hparams import in_short

log = logging.getLogger(__name__)

MAX_CLASSES = 1_000_000  # of a model's head


@dataclass(frozen=True)
class Meaning:
    """Labels as training takes them.

    Attributes:
        arrays: of each split: classes from 0 on, (examples,) or (examples, time) with
            -1 where none counts, or floating targets (examples,).
        classes: their names; empty for targets.
        per_step: whether each step has a class.
    """

    arrays: Mapping[str, np.ndarray]
    classes: tuple[str, ...]
    per_step: bool = False


def meaning(
    labels: Mapping[str, np.ndarray],
    *,
    steps: tuple[int, ...] | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Meaning:
    """Understands labels, and logs what was understood where it could be otherwise.

    Args:
        labels: of each split: numbers, booleans or texts (examples,) or (examples, 1),
            one-hot rows (examples, classes), or classes of steps (examples, time).
        steps: the number of steps of the inputs, where these are sequences.
        task: a task's name, where the user gave one.
        num_classes: where the user gave it: labels are 0 to that minus 1.
        classes: the names that the user gave.
        columns: names of the columns of one-hot labels.

    Returns:
        The labels from 0 on and the names of the classes, which are the labels' own:
        1 to 3 become 0 to 2 with the names "1" to "3".

    Raises:
        ValueError: labels that mean none of these, or are out of the range given.

    Example:
        >>> found = meaning({"all": np.array(["emu", "cat", "emu"], object)})
        >>> found.arrays["all"].tolist(), found.classes
        ([1, 0, 1], ('cat', 'emu'))
    """
    wide = {
        name: array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        for name, array in labels.items()
    }
    kinds = {array.dtype.kind.replace("u", "i") for array in wide.values()}
    if len(kinds) > 1:
        raise ValueError(
            "the splits have labels of different types: "
            + ", ".join(f"{name} {array.dtype}" for name, array in wide.items())
        )
    first = next(iter(wide.values()))
    if first.dtype.kind not in "biufO" or first.ndim not in (1, 2):
        raise ValueError(
            "labels must be numbers or texts of shape (examples,), got "
            f"{first.dtype} of shape {first.shape}"
        )
    per_step = False
    if first.ndim == 2:
        per_step = _is_stepwise(wide, steps, task)
        if not per_step:
            wide = {name: array.argmax(1) for name, array in wide.items()}
            width = first.shape[1]
            named = tuple(classes or columns or map(str, range(width)))
            if len(named) != width:
                raise ValueError(f"{len(named)} names for {width} one-hot columns")
            log.info("labels of shape %s are one-hot: %s classes", first.shape, width)
            return Meaning(wide, named)
    if task == "regression" and first.dtype.kind in "biu":
        wide = {name: array.astype("float64") for name, array in wide.items()}
        return Meaning(wide, ())
    if first.dtype.kind == "f":
        whole = all((array == np.floor(array)).all() for array in wide.values())
        if not (whole and task is not None and task != "regression"):
            _tell_whole(wide, whole, task)
            return Meaning(wide, ())
        wide = {name: _whole(array) for name, array in wide.items()}
    if first.dtype.kind == "O":
        return Meaning(*_of_names(wide, classes, num_classes), per_step)
    return Meaning(*_of_numbers(wide, classes, num_classes, per_step), per_step)


def _is_stepwise(
    labels: Mapping[str, np.ndarray], steps: tuple[int, ...] | None, task: str | None
) -> bool:
    """Whether labels (examples, any) are a class each step, else one-hot rows."""
    first = next(iter(labels.values()))
    one_hot = all(_is_one_hot(array) for array in labels.values())
    fits = steps is not None and first.shape[1:] == steps
    whole = first.dtype.kind in ("iu" if task is None else "biu")
    if task == "sequence-labeling" or (task is None and fits and whole):
        if not (fits and whole):
            raise ValueError(
                f"labels of shape {first.shape} and {first.dtype} are no class for "
                f"each step of the inputs, which have {steps or 'no'} steps"
            )
        if task is None:
            other = (
                "; if each row is one class, one-hot, pass labels.argmax(1)"
                if one_hot
                else "; several labels an example are not supported"
            )
            log.log(
                logging.WARNING if one_hot else logging.INFO,
                "labels of shape %s, as many as the inputs have steps, are a class for "
                "each step (sequence-labeling)%s",
                first.shape,
                other,
            )
        return True
    if one_hot:
        return False
    for name, array in labels.items():
        if array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all():
            sums = array.sum(1)
            row = int(np.flatnonzero(sums != 1)[0]) if (sums != 1).any() else 0
            if sums[row] != 1:
                raise ValueError(
                    f"labels of shape {array.shape} are 0 and 1, but row {row} has "
                    f"{int(sums[row])} ones ({name}): several labels an example, or "
                    "none, are not supported yet"
                )
    kinds = "several targets" if first.dtype.kind == "f" else "several labels"
    raise ValueError(
        f"labels must be (examples,), got {first.dtype} of shape {first.shape}, which "
        f"is neither one-hot nor a class for each step; {kinds} an example are not "
        "supported yet"
    )


def _is_one_hot(array: np.ndarray) -> bool:
    """Whether each row holds a single 1 and zeros."""
    if array.dtype.kind not in "biuf" or array.ndim != 2 or array.shape[1] < 2:
        return False
    return bool(np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all())


def tell_untrained(trained: np.ndarray, classes: Sequence[str]) -> None:
    """Warns of classes without a label to learn from."""
    missing = sorted(set(range(len(classes))) - set(_unique(trained)))
    if missing:
        shown = in_short([classes[i] for i in missing])
        log.warning("no training example has the class %s", shown)


def _tell_whole(
    labels: Mapping[str, np.ndarray], whole: bool, task: str | None
) -> None:
    """Says that floating labels are targets, where they look like classes."""
    values = np.unique(np.concatenate(list(labels.values())))
    if whole and task is None and len(values) <= 20:
        log.warning(
            "labels are floating numbers, so these are targets of a regression; if the "
            "%s values %s are classes, pass integers, as by labels.astype(int)",
            len(values),
            in_short([f"{value:g}" for value in values]),
        )


def _whole(array: np.ndarray) -> np.ndarray:
    if np.abs(array).max(initial=0) >= 2**53:
        raise ValueError("labels are too large to be classes")
    return array.astype("int64")


def _of_names(
    labels: Mapping[str, np.ndarray], classes: Sequence[str], num_classes: int | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Classes by name: sorted, or in the order that the user gave."""
    bare: dict[str, np.ndarray] = {}
    for split, array in labels.items():
        names = [name.strip() for name in array.tolist()]
        if "" in names:
            raise ValueError(f"{split}: the label in row {names.index('')} is empty")
        bare[split] = np.array(names, object)
    found = sorted({name for array in bare.values() for name in array.tolist()})
    known = tuple(classes or found)
    unknown = set(found) - set(known)
    if unknown:
        raise ValueError(
            f"the label {min(unknown)!r} is none of {in_short(list(known))}"
        )
    _check_number(len(known), num_classes)
    return _renumbered(bare, {name: i for i, name in enumerate(known)}), known


def _of_numbers(
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    num_classes: int | None,
    per_step: bool,
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Classes by number: as they are where they are 0, 1, 2 ..., else renumbered."""
    values = sorted({one for array in labels.values() for one in _unique(array)})
    if per_step and -1 in values:
        values.remove(-1)  # no label
    names = [str(value) for value in values]
    if classes and set(names) <= set(classes):
        numbers = [list(classes).index(name) for name in names]
        return _renumbered(labels, dict(zip(values, numbers, strict=True))), tuple(
            classes
        )
    if classes or num_classes:
        number = num_classes or len(classes)
        if classes and len(classes) != number:
            raise ValueError(f"{len(classes)} names for {number} classes")
        wrong = [value for value in values if not 0 <= value < number]
        if wrong:
            raise ValueError(
                f"label {wrong[0]} is out of range: {number} classes are 0 to "
                f"{number - 1}"
            )
        _check_number(number, None)
        return dict(labels), tuple(classes) or tuple(map(str, range(number)))
    if names == ["0"] and "train" in labels:  # splits that the caller made
        names = ["0", "1"]
    _check_number(len(names), None)
    if names == [str(i) for i in range(len(names))]:  # not False and True
        return dict(labels), tuple(names)
    log.info(
        "labels %s are the classes 0 to %s and keep their names",
        in_short(names),
        len(names) - 1,
    )
    numbered = {value: i for i, value in enumerate(values)}
    return _renumbered(labels, numbered), tuple(names)


def _unique(array: np.ndarray) -> list[int]:
    found: list[int] = np.unique(array).tolist()
    return found


def _renumbered(
    labels: Mapping[str, np.ndarray], numbers: Mapping[Any, int]
) -> dict[str, np.ndarray]:
    """Each label replaced by its number; what has none, by -1."""
    renumbered = {}
    for split, array in labels.items():
        found, inverse = np.unique(array, return_inverse=True)
        to = np.array([numbers.get(value, -1) for value in found.tolist()], "int32")
        renumbered[split] = to[inverse].reshape(array.shape)
    return renumbered


def _check_number(number: int, wanted: int | None) -> None:
    if number > MAX_CLASSES:
        raise ValueError(
            f"{number} classes are more than {MAX_CLASSES}; if the labels are numbers "
            "to predict, pass task='regression'"
        )
    if number < 2:
        raise ValueError("labels hold one class alone; two are needed")
    if wanted and number != wanted:
        raise ValueError(f"num_classes={wanted}, but the labels have {number} classes")
