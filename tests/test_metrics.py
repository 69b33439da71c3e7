"""Scores against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from kzoo.tasks import TASKS, Task
from kzoo.training.metrics import (
    METRICS,
    Answers,
    answers,
    class_scores,
    cross_entropy,
    joined,
    predicted_classes,
    probabilities,
    regression_scores,
    scores,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (200, 5)).astype("float32")
LABELS = RNG.integers(0, 5, 200).astype("int32")
CLASSIFICATION = TASKS["image-classification"]


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits.astype("float64"))
    return e / e.sum(-1, keepdims=True)


def scored(task: Task, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    return scores(task, answers(task, labels, outputs))


def test_classification_scores_are_scikit_learns() -> None:
    found = scored(CLASSIFICATION, LABELS, LOGITS)
    assert found["accuracy"] == theirs.accuracy_score(LABELS, LOGITS.argmax(1))
    expected = theirs.log_loss(LABELS, softmax(LOGITS), labels=range(5))
    assert found["loss"] == pytest.approx(expected, rel=1e-9)


def test_one_logit_is_scored_as_two_classes() -> None:
    labels = LABELS % 2
    found = scored(CLASSIFICATION, labels, LOGITS[:, :1])
    p = 1 / (1 + np.exp(-LOGITS[:, 0].astype("float64")))
    assert found["loss"] == pytest.approx(theirs.log_loss(labels, p), rel=1e-9)
    assert found["accuracy"] == theirs.accuracy_score(labels, p > 0.5)


def test_extreme_logits_are_exact() -> None:
    logits = np.array([[1e3, -1e3], [-1e3, 1e3]])
    np.testing.assert_array_equal(cross_entropy(np.zeros(2, "int"), logits), [0, 2e3])
    np.testing.assert_array_equal(cross_entropy(np.ones(2), logits[:, :1]), [0, 1e3])


def test_regression_scores_are_scikit_learns() -> None:
    targets, predicted = RNG.normal(size=(2, 50))
    found = regression_scores(targets, predicted)
    assert found["r2"] == pytest.approx(theirs.r2_score(targets, predicted))
    mse = theirs.mean_squared_error(targets, predicted)
    assert found["mse"] == pytest.approx(mse)
    mae = theirs.mean_absolute_error(targets, predicted)
    assert found["mae"] == pytest.approx(mae)
    task = TASKS["regression"]
    assert scored(task, targets, predicted[:, None]) == {"loss": found["mse"], **found}


def test_r2_of_constant_targets_is_not_a_number() -> None:
    assert np.isnan(regression_scores(np.ones(3), np.arange(3.0))["r2"])


def rare(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which the last class is one in twenty, and logits that know a little.

    They are rounded, so that many examples have the same score.
    """
    rng = np.random.default_rng(classes)
    p = np.array([*[1.0] * (classes - 1), 0.05 * classes])
    labels = rng.choice(classes, 300, p=p / p.sum())
    logits = rng.normal(0, 1, (300, classes)) + 2 * np.eye(classes)[labels]
    return labels, logits.round(1)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_scores_of_imbalanced_classes_are_scikit_learns(classes: int) -> None:
    labels, logits = rare(classes)
    found = scored(CLASSIFICATION, labels, logits)
    said, p = logits.argmax(1), probabilities(logits)
    np.testing.assert_allclose(p, softmax(logits), rtol=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(
        theirs.balanced_accuracy_score(labels, said), rel=1e-12
    )
    assert found["macro_f1"] == theirs.f1_score(labels, said, average="macro")
    area = theirs.roc_auc_score(
        labels, p if classes > 2 else p[:, 1], multi_class="ovr", average="macro"
    )
    assert found["auc"] == pytest.approx(area, rel=1e-9)
    assert ("top_5_accuracy" in found) == (classes > 5)


def test_scores_of_one_logit_are_those_of_two_classes() -> None:
    labels, logits = rare(2)
    one = scored(CLASSIFICATION, labels, logits[:, 1:] - logits[:, :1])
    two = scored(CLASSIFICATION, labels, logits)
    assert one.keys() == two.keys()
    assert one["auc"] == pytest.approx(two["auc"], rel=1e-12)
    assert one["macro_f1"] == two["macro_f1"]


def test_a_model_that_always_says_the_majority() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    found = scored(CLASSIFICATION, labels, np.tile([2.0, 0.0, -1.0], (100, 1)))
    assert found["accuracy"] == 0.9
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)
    assert found["macro_f1"] == pytest.approx((2 * 0.9 / 1.9) / 3)
    assert found["auc"] == 0.5


def test_classes_that_do_not_occur() -> None:
    labels, logits = LABELS[LABELS != 4], LOGITS[LABELS != 4]
    found = scored(CLASSIFICATION, labels, logits)
    said = logits.argmax(1)
    recalls = theirs.recall_score(labels, said, labels=range(4), average=None)
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert found["macro_f1"] == theirs.f1_score(
        labels, said, average="macro", zero_division=0.0
    )
    assert np.isnan(found["auc"])  # nothing to tell class 4 from


def test_top_5_accuracy_is_scikit_learns_and_ties_count_as_in_the_accuracy() -> None:
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, 9, 200), rng.normal(size=(200, 9))
    found = scored(CLASSIFICATION, labels, logits)
    expected = theirs.top_k_accuracy_score(labels, logits, k=5, labels=range(9))
    assert found["top_5_accuracy"] == expected
    equal = scored(CLASSIFICATION, np.arange(9), np.zeros((9, 9)))
    assert equal["top_5_accuracy"] == 5 / 9
    assert equal["accuracy"] == 1 / 9


def test_scores_of_steps_leave_padding_out() -> None:
    real = STEP_LABELS >= 0
    flat, said = STEP_LABELS[real], STEPS[real].argmax(-1)
    found = scored(TASKS["sequence-labeling"], STEP_LABELS, STEPS)
    assert found["balanced_accuracy"] == pytest.approx(
        theirs.balanced_accuracy_score(flat, said), rel=1e-12
    )
    assert found["macro_f1"] == theirs.f1_score(flat, said, average="macro")


def test_class_scores_are_scikit_learns() -> None:
    labels, logits = LABELS[LABELS != 4], LOGITS[LABELS != 4]  # class 4 never occurs
    found = class_scores(labels, logits, tuple("abcde"))
    assert [row["class"] for row in found] == list("abcde")
    report = theirs.classification_report(
        labels,
        logits.argmax(1),
        labels=range(5),
        target_names=list("abcde"),
        output_dict=True,
        zero_division=0.0,
    )
    for row in found:
        expected = report[row["class"]]
        assert row["precision"] == pytest.approx(expected["precision"])
        assert row["recall"] == pytest.approx(expected["recall"])
        assert row["f1"] == pytest.approx(expected["f1-score"])
        assert row["examples"] == expected["support"]
    assert found[4]["examples"] == 0


def test_predicted_classes() -> None:
    np.testing.assert_array_equal(predicted_classes(np.array([[0.1], [-0.1]])), [1, 0])
    np.testing.assert_array_equal(predicted_classes(np.array([[0, 2, 1]])), [1])


STEPS = RNG.normal(0, 2, (6, 4, 5)).astype("float32")
STEP_LABELS = RNG.integers(0, 5, (6, 4))
STEP_LABELS[:, 3] = -1
STEP_LABELS[2, 1:] = -1


def test_padding_counts_nowhere_in_the_scores_of_steps() -> None:
    real = STEP_LABELS >= 0
    for name in ("sequence-labeling", "language-modeling"):
        found = scored(TASKS[name], STEP_LABELS, STEPS)
        flat, logits = STEP_LABELS[real], STEPS[real]
        loss = theirs.log_loss(flat, softmax(logits), labels=range(5))
        assert found["loss"] == pytest.approx(loss, rel=1e-9)
        if name == "sequence-labeling":
            expected = theirs.accuracy_score(flat, logits.argmax(-1))
            assert found["accuracy"] == expected
        else:
            assert found["perplexity"] == pytest.approx(np.exp(loss), rel=1e-9)


def test_batches_of_any_length_are_scored_as_one() -> None:
    task = TASKS["sequence-labeling"]
    whole = answers(task, STEP_LABELS, STEPS)
    parts = [
        answers(task, STEP_LABELS[:3, :3], STEPS[:3, :3]),
        answers(task, STEP_LABELS[3:], STEPS[3:]),
    ]
    together = joined(parts)
    assert together.labels.shape == (6, 4)
    assert scores(task, together) == pytest.approx(scores(task, whole), rel=1e-12)
    assert together.outputs is None  # logits of all steps would not fit in memory


def test_a_negative_target_of_a_regression_counts() -> None:
    found = answers(TASKS["regression"], np.array([-3.0, 1.0]), np.zeros((2, 1)))
    assert found.counted.all()
    assert METRICS["mae"](found) == 2.0


def test_joined_answers_of_examples_are_those_of_the_split() -> None:
    parts = [
        answers(CLASSIFICATION, LABELS[i : i + 64], LOGITS[i : i + 64], tuple("abcde"))
        for i in range(0, 200, 64)
    ]
    found: Answers = joined(parts)
    assert found.classes == tuple("abcde")
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_array_equal(found.outputs, LOGITS.astype("float64"))
