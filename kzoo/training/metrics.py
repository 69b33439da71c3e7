"""Scores of a split from its outputs: pure functions in numpy, float64."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.tasks import Task


@dataclass(frozen=True)
class Answers:
    """What is right in a split, and what a model said.

    Attributes:
        labels: classes or raw targets (examples,); for a task with an answer a step
            (examples, time), -1 where nothing counts.
        predicted: the likeliest classes, or the predicted numbers; shaped like labels.
        losses: of each label, 0 where nothing counts; shaped like labels.
        outputs: logits (examples, classes), or predictions (examples, 1) in the units
            of the targets; None where there is an answer a step, since all logits of
            all steps may not fit in memory.
        classes: their names, in the order of the logits.
        characters: of the text that all counted labels are; 0 = not known.
        written: the texts that the model wrote, of a task that has it write.
        references: the texts that it should have written.
    """

    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray
    outputs: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    characters: int = 0
    written: tuple[str, ...] = ()
    references: tuple[str, ...] = ()

    @property
    def counted(self) -> np.ndarray:
        """True where a label counts."""
        whole = np.ones(self.labels.shape, bool)
        return self.labels >= 0 if self.labels.ndim == 2 else whole


def answers(
    task: Task, labels: np.ndarray, outputs: np.ndarray, classes: tuple[str, ...] = ()
) -> Answers:
    """The answers in a batch or a split.

    Args:
        task: says how outputs are read.
        labels: classes (examples,), or raw targets of a regression; (examples, time)
            with -1 where nothing counts, for a task with an answer a step.
        outputs: logits (examples, classes), or predictions (examples, 1) in the units
            of the targets; one more axis for a task with an answer a step.
        classes: their names.
    """
    outputs = outputs.astype("float64")
    if task.loss == "outputs":
        return Answers(labels, outputs, outputs)
    if task.loss == "squared_error":
        labels, predicted = labels.astype("float64"), outputs[..., 0]
        return Answers(labels, predicted, np.square(labels - predicted), outputs)
    predicted = predicted_classes(outputs)
    if not task.per_step:
        losses = cross_entropy(labels, outputs)
        return Answers(labels, predicted, losses, outputs, classes)
    losses = np.where(labels >= 0, cross_entropy(np.maximum(labels, 0), outputs), 0.0)
    return Answers(labels, predicted, losses, None, classes)


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several batches in a row, padded to the longest of them."""
    labels = [part.labels for part in parts]
    steps = max(one.shape[-1] for one in labels) if labels[0].ndim == 2 else None

    def together(arrays: Sequence[np.ndarray], fill: int) -> np.ndarray:
        if steps is not None:
            arrays = [
                np.pad(
                    one,
                    ((0, 0), (0, steps - one.shape[1])),
                    constant_values=fill,
                )
                for one in arrays
            ]
        return np.concatenate(arrays)

    whole = [part.outputs for part in parts if part.outputs is not None]
    return Answers(
        labels=together(labels, -1),
        predicted=together([part.predicted for part in parts], 0),
        losses=together([part.losses for part in parts], 0),
        outputs=np.concatenate(whole) if whole else None,
        classes=parts[0].classes,
    )


def scores(task: Task, found: Answers) -> dict[str, float]:
    """``loss``, and each of ``task.metrics`` that applies to these answers.

    A metric that applies and is not defined, such as R² of equal targets, is NaN.
    """
    values = {name: METRICS[name](found) for name in task.metrics}
    applying = {name: value for name, value in values.items() if value is not None}
    return {"loss": loss(found), **applying}


def accuracy(found: Answers) -> float:
    """The share of labels that were found."""
    right = found.predicted == found.labels
    return float(right[found.counted].mean())


def balanced_accuracy(found: Answers) -> float:
    """The mean of the recalls of the classes that occur, by scikit-learn's meaning."""
    labels, predicted = found.labels[found.counted], found.predicted[found.counted]
    examples = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(examples))
    occur = examples > 0
    return float((right[occur] / examples[occur]).mean())


def macro_f1(found: Answers) -> float:
    """The mean F1 of the classes that occur or were predicted; 0/0 is 0."""
    from sklearn.metrics import f1_score

    labels, predicted = found.labels[found.counted], found.predicted[found.counted]
    return float(f1_score(labels, predicted, average="macro", zero_division=0.0))


def auc(found: Answers) -> float:
    """The area under the ROC curve: of three classes or more the mean over them.

    Each class stands against the rest. NaN where a class has no example, or where an
    output is not a number.
    """
    assert found.outputs is not None
    p = probabilities(found.outputs)
    if not np.isfinite(p).all():
        return float("nan")
    columns = range(p.shape[-1]) if p.shape[-1] > 2 else (1,)
    areas = [_area(found.labels == column, p[:, column]) for column in columns]
    return float(np.mean(areas))


def _area(positive: np.ndarray, scored: np.ndarray) -> float:
    """The probability that a positive example scores above a negative one.

    Mann and Whitney's U over all pairs, where a tie counts half.
    """
    from scipy.stats import rankdata

    ones = int(positive.sum())
    pairs = ones * (len(positive) - ones)
    if not pairs:
        return float("nan")
    return float((rankdata(scored)[positive].sum() - ones * (ones + 1) / 2) / pairs)


def top_5_accuracy(found: Answers) -> float | None:
    """The share of labels among the five likeliest classes.

    None where there are five classes or fewer. Of equal logits the first counts as
    the likeliest, as in the accuracy.
    """
    logits = found.outputs
    if logits is None or logits.shape[-1] <= 5:
        return None
    labels = found.labels[:, None]
    own = np.take_along_axis(logits, labels.astype("int64"), axis=-1)
    earlier = np.arange(logits.shape[-1]) < labels
    likelier = (logits > own) | ((logits == own) & earlier)
    return float((likelier.sum(axis=-1) < 5).mean())


def span_f1(found: Answers) -> float:
    """F1 of labelled spans, of classes such as B-PER and I-PER, by seqeval.

    Of other classes the mean of their F1.
    """
    counted = found.counted
    spans = [re.fullmatch(r"O|[BIES]-.+", name) for name in found.classes]
    if not spans or not all(spans):
        return macro_f1(found)
    try:
        from seqeval.metrics import f1_score as seqeval_f1
    except ImportError:
        raise ValueError(
            "F1 of spans needs seqeval: pip install 'kzoo[text]'"
        ) from None
    names = np.array(found.classes, object)
    true, said = (
        [names[row[keep]].tolist() for row, keep in zip(rows, counted, strict=True)]
        for rows in (found.labels, found.predicted)
    )
    return float(seqeval_f1(true, said, zero_division=0))


def perplexity(found: Answers) -> float:
    """The exponential of the mean cross-entropy of a token."""
    return float(np.exp(found.losses[found.counted].mean()))


def bits_per_character(found: Answers) -> float | None:
    """Cross-entropy in bits, of a character of the text, whatever the tokens.

    None where the tokens do not spell the text.
    """
    if not found.characters:
        return None
    return float(found.losses[found.counted].sum() / np.log(2) / found.characters)


def exact_match(found: Answers) -> float:
    """The share of texts that are as they should be, to the last character."""
    pairs = zip(found.written, found.references, strict=True)
    return float(np.mean([text == reference for text, reference in pairs]))


def bleu(found: Answers) -> float | None:
    """BLEU of the whole split from 0 to 100, by sacrebleu (Papineni et al. 2002).

    None without the extra ``text``.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        return None
    scored = BLEU().corpus_score(list(found.written), [list(found.references)])
    return float(scored.score)


def _rouge(kind: str) -> Callable[[Answers], float]:
    """The mean F1 of ROUGE (Lin 2004), by rouge-score."""

    def measured(found: Answers) -> float:
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError:
            raise ImportError(
                "ROUGE needs rouge-score: pip install 'kzoo[text]'"
            ) from None
        scorer = RougeScorer([kind], use_stemmer=True)
        pairs = zip(found.references, found.written, strict=True)
        return float(np.mean([scorer.score(*pair)[kind].fmeasure for pair in pairs]))

    return measured


def loss(found: Answers) -> float:
    """The mean loss of what counts."""
    return float(found.losses[found.counted].mean())


def _regression(name: str) -> Callable[[Answers], float]:
    return lambda found: regression_scores(found.labels, found.predicted)[name]


# What a task's metrics mean, by their names in kzoo.tasks.
METRICS: dict[str, Callable[[Answers], float | None]] = {
    "loss": loss,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc,
    "top_5_accuracy": top_5_accuracy,
    "f1": span_f1,
    "bits_per_character": bits_per_character,
    "bleu": bleu,
    "exact_match": exact_match,
    "perplexity": perplexity,
    "rouge_1": _rouge("rouge1"),
    "rouge_2": _rouge("rouge2"),
    "rouge_l": _rouge("rougeL"),
    "r2": _regression("r2"),
    "mse": _regression("mse"),
    "mae": _regression("mae"),
}


def regression_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """R², mean squared and mean absolute error."""
    error = float(np.square(targets - predicted).mean())
    spread = float(targets.var())
    return {
        "r2": 1.0 - error / spread if spread > 0 else float("nan"),
        "mse": error,
        "mae": float(np.abs(targets - predicted).mean()),
    }


def cross_entropy(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """-log p(label) of each example, in nats."""
    if logits.shape[-1] == 1:
        x = logits[..., 0]
        return np.logaddexp(0.0, x) - labels * x
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    picked = np.take_along_axis(logits, labels[..., None].astype("int64"), axis=-1)
    return log_sum - picked[..., 0]


def predicted_classes(logits: np.ndarray) -> np.ndarray:
    """The likeliest class of each example."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype("int64")
    return logits.argmax(axis=-1)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Of each class (..., classes) by its logits, in float64; two of one logit."""
    x = logits.astype("float64")
    if x.shape[-1] == 1:
        x = np.concatenate([np.zeros_like(x), x], axis=-1)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def class_scores(
    labels: np.ndarray, logits: np.ndarray, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of examples of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels,
        predicted_classes(logits),
        labels=np.arange(len(classes)),
        zero_division=0.0,
    )
    return [
        {
            "class": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "examples": int(count),
        }
        for name, precision, recall, f1, count in zip(classes, *columns, strict=True)
    ]
