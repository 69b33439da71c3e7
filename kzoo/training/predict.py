"""Answers of a trained model on what its user brings: texts, files, folders, arrays."""

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kzoo import weights
from kzoo.datasets.csv_file import is_table, read_table
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.images import read_image
from kzoo.preprocessing.text import in_short
from kzoo.tasks import TASKS
from kzoo.training.metrics import probabilities
from kzoo.training.prediction_inputs import (
    PAIRS,
    as_sources,
    check_raw,
    image_files,
    numbers,
    rows_in_memory,
    table_rows,
    texts,
)
from kzoo.training.run import Run

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

MOST_WARNINGS = 3


@dataclass(frozen=True)
class Prediction:
    """What a model says of one example.

    Attributes:
        input: which: the file, ``file:line`` of a table, the text, or the array's row.
        classes: the likeliest classes, the first one first.
        probabilities: of these.
        value: the number that a regression predicts, in the units of its targets.
        error: why an image file could not be read, where others could; else None.
    """

    input: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    value: float | None = None
    error: str | None = None


def predict(
    run: Run | str | os.PathLike[str],
    inputs: Any,
    *,
    top: int = 5,
    batch_size: int = 256,
) -> list[Prediction]:
    """Asks a trained model, under the preprocessing that it was trained with.

    Args:
        run: a run or its folder, or a model folder that has a preprocessing.
        inputs: one or several of: a text, an image file, a folder of such files, a CSV
            file, of which the columns that the model was trained on are taken by
            name, numbers as ``1,2,3``; or an array, a list of rows or a data frame of
            raw inputs (examples, ...), scaled as the training data were.
        top: classes to give, the likeliest.
        batch_size: examples at a time; it changes the speed alone.

    Returns:
        A prediction for each example, in order. Of an image file that cannot be read it
        has the ``error`` and no classes; if none can be read, that is a ``ValueError``.

    Raises:
        FileNotFoundError: there is no such run or file.
        TypeError: neither of these, such as None.
        ValueError: something that the model cannot read, NaN among it; the message
            names it.

    Example:
        >>> import kzoo, tempfile
        >>> run = kzoo.train("mlp", "diabetes", out=tempfile.mkdtemp() + "/r", epochs=1)
        >>> found = kzoo.predict(run, "59,2,32.1,101,157,93.2,38,4,4.86,87")
        >>> isinstance(found[0].value, float)
        True
    """
    if top < 1 or batch_size < 1:
        raise ValueError(f"top={top} and batch_size={batch_size} must be at least 1")
    asked = opened(run)
    return answers(asked, asked.named(inputs), top, batch_size)


def answers(
    asked: "Asked", named: Sequence[tuple[str, Any]], top: int, batch_size: int
) -> list[Prediction]:
    """The predictions of :func:`predict` for examples that have names."""
    answered: list[Prediction] = []
    failed: dict[int, Prediction] = {}  # by its place among all
    for first in range(0, len(named), batch_size):
        readable: list[tuple[str, np.ndarray]] = []
        for place, (name, row) in enumerate(named[first : first + batch_size], first):
            try:
                readable.append((name, asked.read(row)))
            except ValueError as error:
                if not isinstance(row, Path):
                    raise
                failed[place] = Prediction(name, error=str(error))
        start = 0
        for rows in _of_one_shape([row for _, row in readable]):
            names = [name for name, _ in readable[start : start + len(rows)]]
            outputs = asked.outputs(rows, names)
            start += len(rows)
            if asked.kind == "texts":
                _tell_unknown(names, rows, asked.preprocessing)
            answered += [
                prediction(name, output, asked.preprocessing, top)
                for name, output in zip(names, outputs, strict=True)
            ]
    return _in_order(answered, failed)


def _in_order(
    answered: list[Prediction], failed: Mapping[int, Prediction]
) -> list[Prediction]:
    """The answers with what failed in between, at its place.

    Raises:
        ValueError: nothing was answered.
    """
    if failed and not answered:
        first = next(iter(failed.values())).error
        more = f" (nor can the other {len(failed) - 1})" if len(failed) > 1 else ""
        raise ValueError(f"{first}{more}")
    rest = iter(answered)
    return [
        failed[place] if place in failed else next(rest)
        for place in range(len(answered) + len(failed))
    ]


def prediction(
    name: str, output: np.ndarray, preprocessing: Preprocessing, top: int
) -> Prediction:
    """The answer in one example's outputs (classes,)."""
    if preprocessing.target_mean is not None:
        return Prediction(name, value=float(preprocessing.predictions(output)[0]))
    likely = probabilities(output)
    classes = preprocessing.classes or tuple(map(str, range(len(likely))))
    order = np.argsort(-likely, kind="stable")[:top]
    return Prediction(
        name, tuple(classes[i] for i in order), tuple(float(likely[i]) for i in order)
    )


@dataclass(frozen=True)
class Asked:
    """A model that was opened to be asked, and is loaded when it is.

    Until then nothing imports Keras, so that what cannot be read is refused at once.

    Attributes:
        folder: that holds it.
        preprocessing: its own.
        known: its hyper-parameters, or those that the data of a plain model fix.
        kind: what it reads: ``texts``, ``images``, ``vectors``, or what no file holds.
        columns: of a table that it reads, in their order; empty = all that is no label.
        not_inputs: columns of a table that it does not read.
    """

    folder: Path
    preprocessing: Preprocessing
    known: Mapping[str, Any]
    kind: str
    columns: tuple[str, ...] = ()
    not_inputs: tuple[str, ...] = ()

    @cached_property
    def model(self) -> "keras.Model":
        model = weights.load(self.folder)
        for path, array in weights.weights_by_path(model).items():
            # An activation may hide them: the ReLU of NaN can be 0.
            if not np.isfinite(array.astype("float32")).all():
                raise ValueError(
                    f"{self.folder}: the weights {path} hold NaN or infinity, by which "
                    "no answer means anything"
                )
        return model

    def named(self, inputs: Any) -> list[tuple[str, Any]]:
        """Name and raw example of each input; of images in files, the path."""
        sources = as_sources(inputs)
        if sources is not None:
            return list(self._of_sources(sources))
        rows = rows_in_memory(inputs, self.kind, self.columns)
        return [(str(i), row) for i, row in enumerate(rows)]

    def _of_sources(self, sources: Iterable[Any]) -> Iterator[tuple[str, Any]]:
        if self.kind not in ("texts", PAIRS, "images", "vectors"):
            raise ValueError(
                f"the model reads {self.kind}, which no file holds: ask it by "
                "kzoo.predict(run, array)"
            )
        for source in sources:
            if is_table(source):
                yield from self._of_table(Path(source))
            elif self.kind == PAIRS:
                raise ValueError(
                    f"{str(source)!r}: the model reads pairs of texts, as the rows of "
                    "a .csv file"
                )
            elif self.kind == "images":
                yield from image_files(Path(source))
            elif self.kind == "texts":
                yield from texts(source)
            else:
                name = str(source).strip()
                yield name, numbers(name)

    def _of_table(self, path: Path) -> Iterator[tuple[str, Any]]:
        table = read_table(path)
        columns = self.columns or tuple(
            name for name in table.header if name not in self.not_inputs
        )
        rows = table_rows(table, self.kind, columns)
        for line, row in zip(table.lines, rows, strict=True):
            yield f"{path}:{line}", row

    def read(self, raw: Any) -> np.ndarray:
        """One raw example as an array."""
        if not isinstance(raw, Path):
            if isinstance(raw, str | tuple):  # a text, or two
                return np.array(raw, object)
            return np.asarray(raw)
        made, known = self.preprocessing, self.known
        size = made.image_size or known.get("image_size")
        pixels = read_image(
            raw,
            (size, size) if isinstance(size, int) else size and tuple(size),
            known.get("channels", 3),
            made.crop_rate,
            made.interpolation,
            made.background,
        )
        return pixels if made.white == 255 else pixels * np.float32(made.white / 255)

    def outputs(self, raw: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Outputs of the model (examples, classes) for raw examples of one shape.

        Raises:
            ValueError: the examples do not fit the model, or the answer is no number.
        """
        # Images have been brought to their size when they were read.
        made = dataclasses.replace(self.preprocessing, image_size=None)
        for name, row in zip(names, raw, strict=True):
            # What is reshaped on its way has another shape than the model's input.
            if isinstance(row, np.ndarray) and made.input_shape is None:
                check_raw(row, name, self.kind, self.known)
        if self.kind == PAIRS:
            raw = {"first": raw[:, 0], "second": raw[:, 1]}  # type: ignore[assignment]
        inputs = made.inputs(raw)
        if self.kind == "images":
            _check_shape(inputs.shape[1:], self.model.input_shape[1:])
        outputs = np.asarray(self.model.predict_on_batch(inputs))
        bad = np.flatnonzero(~np.isfinite(outputs.astype("float64")).all(axis=-1))
        if len(bad):
            arrays = weights.weights_by_path(self.model)
            broken = [k for k, v in arrays.items() if not np.isfinite(v).all()]
            why = (
                f": its weights hold NaN or infinity, in {broken[0]}" if broken else ""
            )
            raise ValueError(f"{names[bad[0]]}: the model's answer is no number{why}")
        return outputs


def opened(run: Run | str | os.PathLike[str]) -> Asked:
    """The model of a run or model folder, and what it reads.

    Raises:
        FileNotFoundError: there is no model, or no preprocessing.
        ValueError: it gives no classes or numbers.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    facts = weights.read_json(weights.model_folder(folder) / weights.CONFIG)
    task = TASKS.get(facts.get("task", ""))
    if task is not None and task.per_step:
        raise ValueError(f"{folder} is a model of {task.name}: kzoo generate asks it")
    if task is not None and task.name == "reconstruction":
        raise ValueError(
            f"{folder} gives no classes but {facts.get('inputs') or 'examples'}, as "
            "kzoo.load does"
        )
    preprocessing = weights.load_preprocessing(folder)
    _, known = weights.load_identity(folder)
    kind = facts.get("inputs") or _kind_of(preprocessing, known)
    config = folder / "config.json"
    options = weights.read_json(config).get("dataset", {}) if config.exists() else {}
    told: Mapping[str, Any] = options.get("options", {})
    return Asked(
        folder,
        preprocessing,
        known,
        kind,
        preprocessing.columns or tuple(told.get("inputs") or ()),
        tuple(filter(None, (told.get("label"), told.get("split")))),
    )


def _kind_of(preprocessing: Preprocessing, known: Mapping[str, Any]) -> str:
    """What a model reads whose folder does not say, as one that was converted."""
    if preprocessing.tokenizer is not None:
        return "texts"
    if known.get("image_size") or ("channels" in known and "num_features" not in known):
        return "images"
    return "tokens or features" if "vocab_size" in known else "vectors"


def _tell_unknown(
    names: Sequence[str], texts: Iterable[str], preprocessing: Preprocessing
) -> None:
    """Warns of texts in which training had not seen everything."""
    assert preprocessing.tokenizer is not None
    unknown = preprocessing.tokenizer.unknown_token_id
    if unknown is None:
        return
    encoded = preprocessing.tokenizer.encode(texts)
    counts = [
        (name, ids.count(unknown), len(ids))
        for name, ids in zip(names, encoded, strict=True)
    ]
    partly = [one for one in counts if one[1]]
    for name, count, length in partly[:MOST_WARNINGS]:
        log.warning(
            "%s: %s of %s tokens are unknown to the model",
            in_short(name),
            count,
            length,
        )
    if len(partly) > MOST_WARNINGS:
        log.warning(
            "%s more of %s texts hold tokens that are unknown to the model",
            len(partly) - MOST_WARNINGS,
            len(counts),
        )


def _check_shape(given: Sequence[int], taken: Sequence[int | None]) -> None:
    """Raises a ``ValueError`` where the model takes images of another shape.

    Keras on JAX predicts on any; on TensorFlow its error has many lines.
    """
    sides = zip(given, taken, strict=False)
    if len(given) != len(taken) or any(want not in (None, got) for got, want in sides):
        shown = " x ".join("any" if side is None else str(side) for side in taken)
        raise ValueError(
            f"an image of {' x '.join(map(str, given))}; the model takes {shown} "
            "(height, width, channels)"
        )


def _of_one_shape(rows: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Neighbours of one shape as one array."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end].shape != rows[start].shape:
            yield np.stack(rows[start:end])
            start = end
