"""Distillation losses: values by hand, numpy in float64, finite differences."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.losses import distillation as losses

pytestmark = pytest.mark.contract
Array = np.ndarray


# The same losses, written once more and differently: numpy, float64, loops.


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def kl(p: Array, q: Array) -> float:
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def np_kd(t: Array, s: Array, temperature: float = 4.0) -> Array:
    rows = [
        kl(softmax(a / temperature), softmax(b / temperature))
        for a, b in zip(t, s, strict=True)
    ]
    return temperature**2 * np.array(rows)


def np_standardized(x: Array) -> Array:
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)


def np_kd_standardized(t: Array, s: Array) -> Array:
    return np_kd(np_standardized(t), np_standardized(s), 2.0)


def np_dkd(t: Array, s: Array) -> Array:
    values = []
    for a, b, label in zip(t, s, LABELS, strict=True):
        p, q = softmax(a / 4), softmax(b / 4)
        pair = [np.array([x[label], 1 - x[label]]) for x in (p, q)]
        others = [np.delete(x, label) / (1 - x[label]) for x in (p, q)]
        values.append(16 * (kl(*pair) + 8 * kl(*others)))
    return np.array(values)


def np_dist(t: Array, s: Array) -> float:
    p, q = (np.array([softmax(row) for row in x]) for x in (t, s))
    between = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)]
    within = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    return float(np.mean(between) + np.mean(within))


def np_hard(t: Array, s: Array) -> Array:
    rows = zip(t, s, strict=True)
    return np.array([-np.log(softmax(b)[a.argmax()]) for a, b in rows])


def np_fitnet(t: Array, s: Array) -> Array:
    return np.array([np.mean((a - b) ** 2) for a, b in zip(t, s, strict=True)])


def np_at(t: Array, s: Array) -> Array:
    maps = []
    for x in (t, s):
        flat = (x**2).mean(-1).reshape(len(x), -1)
        maps.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    return ((maps[0] - maps[1]) ** 2).mean(1)


def np_vid(t: Array, s: Array) -> Array:
    variance = np.array([0.5, 1.0, 2.0])
    return (np.log(variance) / 2 + (t - s) ** 2 / (2 * variance)).mean((1, 2, 3))


def np_hidden(t: Array, s: Array) -> Array:
    norms = np.linalg.norm(t, axis=-1) * np.linalg.norm(s, axis=-1)
    return (1 - (t * s).sum(-1) / norms).mean((1, 2))


def np_sp(t: Array, s: Array) -> float:
    grams = []
    for x in (t, s):
        flat = x.reshape(len(x), -1)
        gram = flat @ flat.T
        grams.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return float(((grams[0] - grams[1]) ** 2).sum() / len(t) ** 2)


def np_rkd(t: Array, s: Array) -> float:
    t, s = (x.reshape(len(x), -1) for x in (t, s))
    n = len(t)

    def smooth(x: float) -> float:
        return x * x / 2 if abs(x) < 1 else abs(x) - 0.5

    def distances(x: Array) -> Array:
        found = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        return found / found[found > 0].mean()

    def cosine(x: Array, i: int, j: int, k: int) -> float:
        a, b = x[j] - x[i], x[k] - x[i]
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return float(a @ b / size) if size else 0.0

    near = [smooth(d) for d in (distances(t) - distances(s)).ravel()]
    turned = [
        smooth(cosine(t, i, j, k) - cosine(s, i, j, k))
        for i in range(n)
        for j in range(n)
        for k in range(n)
    ]
    return float(25 * np.mean(near) + 50 * np.mean(turned))


def np_pkt(t: Array, s: Array) -> float:
    rows = []
    for x in (t, s):
        flat = x.reshape(len(x), -1)
        unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        similar = (1 + unit @ unit.T) / 2
        rows.append(similar / similar.sum(1, keepdims=True))
    return float(np.mean(rows[0] * np.log(rows[0] / rows[1])))


def np_relations(t: Array, s: Array) -> Array:
    values = []
    for one, other in zip(t, s, strict=True):  # (3, time, 4), two heads of 2
        total = 0.0
        for left, right in ((0, 1), (2, 2)):
            for head in (slice(0, 2), slice(2, 4)):
                maps = [
                    x[left][:, head] @ x[right][:, head].T / np.sqrt(2)
                    for x in (one, other)
                ]
                rows = zip(*maps, strict=True)
                kls = [kl(softmax(a), softmax(b)) for a, b in rows]
                total += np.mean(kls) / 2
        values.append(total)
    return np.array(values)


RNG = np.random.default_rng(0)
LABELS = np.array([0, 2, 3, 1, 1])
LOGITS = 3 * RNG.normal(size=(2, 5, 4))
IMAGES = RNG.normal(size=(2, 5, 2, 2, 3))
ATTENTION = RNG.normal(size=(2, 5, 3, 3, 4))


def of_attention(t: Any, s: Any) -> Any:
    both = [tuple(x[:, i] for i in range(3)) for x in (t, s)]
    return losses.relations(both[0], both[1], num_heads=2)


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Array]] = {
    "kd": (losses.kd, np_kd, LOGITS),
    "kd_standardized": (
        lambda t, s: losses.kd(losses.standardized(t), losses.standardized(s), 2.0),
        np_kd_standardized,
        LOGITS,
    ),
    "dkd": (lambda t, s: losses.dkd(t, s, LABELS), np_dkd, LOGITS),
    "dist": (losses.dist, np_dist, LOGITS),
    "hard": (losses.hard, np_hard, LOGITS),
    "fitnet": (losses.fitnet, np_fitnet, IMAGES),
    "at": (losses.at, np_at, IMAGES),
    "vid": (
        lambda t, s: losses.vid(t, s, np.array([0.5, 1.0, 2.0], "float32")),
        np_vid,
        IMAGES,
    ),
    "hidden": (losses.hidden, np_hidden, IMAGES),
    "relations": (of_attention, np_relations, ATTENTION),
    "sp": (losses.sp, np_sp, IMAGES),
    "rkd": (losses.rkd, np_rkd, IMAGES),
    "pkt": (losses.pkt, np_pkt, IMAGES),
}
OF_THE_BATCH = ("dist", "sp", "rkd", "pkt")


def value(function: Callable[..., Any], *arguments: Any, **options: Any) -> Array:
    tensors = [ops.convert_to_tensor(np.asarray(x, "float32")) for x in arguments]
    return ops.convert_to_numpy(function(*tensors, **options))


def gradient(function: Callable[[Any], Any], x: Array) -> Array:
    """Of the sum, by the backend."""
    x = x.astype("float32")
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        at = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(at)
            total = tf.reduce_sum(function(at))
        return tape.gradient(total, at).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda at: function(at).sum())(jax.numpy.asarray(x)))
    import torch

    at = torch.tensor(x, requires_grad=True)
    function(at).sum().backward()
    return at.grad.numpy()


@pytest.mark.parametrize("name", CASES)
def test_equals_numpy_in_float64(name: str) -> None:
    ours, theirs, (teacher, student) = CASES[name]
    found, expected = value(ours, teacher, student), theirs(teacher, student)
    assert found.shape == (() if name in OF_THE_BATCH else (5,))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_finite_differences(name: str) -> None:
    ours, theirs, (teacher, student) = CASES[name]
    t = ops.convert_to_tensor(teacher.astype("float32"))
    found = gradient(lambda s: ours(t, s), student)
    expected = np.empty_like(student)
    step = 1e-5
    for place in np.ndindex(student.shape):
        up, down = student.copy(), student.copy()
        up[place] += step
        down[place] -= step
        difference = np.sum(theirs(teacher, up)) - np.sum(theirs(teacher, down))
        expected[place] = difference / (2 * step)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * size)


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("hard", "vid")]
)
def test_zero_where_teacher_equals_student(name: str) -> None:
    ours, _, (teacher, _) = CASES[name]
    np.testing.assert_allclose(value(ours, teacher, teacher), 0, atol=1e-6)
    t = ops.convert_to_tensor(teacher.astype("float32"))
    np.testing.assert_allclose(gradient(lambda s: ours(t, s), teacher), 0, atol=1e-5)


def test_vid_is_zero_at_variance_one() -> None:
    assert value(losses.vid, IMAGES[0], IMAGES[0]).tolist() == [0.0] * 5


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2] is LOGITS])
def test_finite_at_logit_gaps_of_a_thousand(name: str) -> None:
    ours = CASES[name][0]
    wide = np.array(
        [
            [1000, 0, 0, 0],
            [0, 1000, -1000, 0],
            [0, 0, 0, 0],
            [-500, 500, 0, 1],
            [1, 2, 3, 1000],
        ],
        "float32",
    )
    for t, s in ((wide, wide[::-1]), (wide, wide), (wide, 0 * wide), (0 * wide, wide)):
        teacher = ops.convert_to_tensor(np.ascontiguousarray(t))
        assert np.isfinite(value(ours, t, np.ascontiguousarray(s))).all()
        found = gradient(lambda x, t=teacher: ours(t, x), np.ascontiguousarray(s))
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "name", [name for name in CASES if CASES[name][2] is not LOGITS]
)
def test_finite_at_zero_features(name: str) -> None:
    ours, _, (teacher, _) = CASES[name]
    t = ops.convert_to_tensor(teacher.astype("float32"))
    for student in (0 * teacher, 1e4 * teacher):
        assert np.isfinite(value(ours, teacher, student)).all()
        assert np.isfinite(gradient(lambda s: ours(t, s), student)).all()


def test_values_computed_by_hand() -> None:
    # p = softmax(2, 0, -1), q = softmax(1, 0, 0), 9 KL = 1.6505.
    found = value(losses.kd, [[6, 0, -3]], [[3, 0, 0]], temperature=3.0)
    assert found == pytest.approx([1.6505], abs=1e-4)
    # p = (1/2, 1/2), q = (3/4, 1/4): KL = ln 2 - ln 3 / 2.
    found = value(losses.kd, [[0, 0]], [[np.log(3), 0]], temperature=1.0)
    assert found == pytest.approx([np.log(2) - np.log(3) / 2], rel=1e-5)
    # The teacher picks class 0, of which the student thinks 3/4.
    found = value(losses.hard, [[9, 0]], [[np.log(3), 0]])
    assert found == pytest.approx([np.log(4 / 3)], rel=1e-5)
    # Target 1/2 against 1/4, and (1, 1) against (1, 2) among the other two.
    t, s = np.log([[2, 1, 1]]), np.log([[1, 1, 2]])
    pair = np.log(2) / 2 + np.log(2 / 3) / 2
    rest = np.log(3 / 2) / 2 + np.log(3 / 4) / 2
    found = value(losses.dkd, t, s, labels=np.array([0]), temperature=1.0, beta=2.0)
    assert found == pytest.approx([pair + 2 * rest], rel=1e-5)
    # The student ranks the other way, in each row and each column: r = -1.
    t = np.log([[3.0, 1.0], [1.0, 3.0]])
    assert value(losses.dist, t, t[::-1].copy()) == pytest.approx(4.0, rel=1e-5)
    # Maps (1, 0) and (3/5, 4/5): ((2/5)^2 + (4/5)^2) / 2.
    one, other = np.array([[[1.0], [0.0]]]), np.sqrt([[[3.0], [4.0]]])
    assert value(losses.at, one, other) == pytest.approx([0.4], rel=1e-4)
    # Right angles against equal vectors: 1 - 0.
    found = value(losses.hidden, [[[1.0, 0.0]]], [[[0.0, 2.0]]])
    assert found == pytest.approx([1.0], rel=1e-5)
    # Gram rows (1, 0), (0, 1) against (1, 1) / sqrt 2 twice.
    a = 1 / np.sqrt(2)
    expected = 2 * ((1 - a) ** 2 + a**2) / 4
    found = value(losses.sp, np.eye(2), np.ones((2, 1)))
    assert found == pytest.approx(expected, rel=1e-5)
    # Rows (2/3, 1/3) against (1/2, 1/2).
    expected = 2 * (2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3)) / 4
    found = value(losses.pkt, np.eye(2), np.ones((2, 1)))
    assert found == pytest.approx(expected, rel=1e-4)


def test_temperature_keeps_the_gradients_size() -> None:
    t, s = (0.1 * LOGITS[i].astype("float32") for i in (0, 1))
    sizes = [
        np.abs(gradient(lambda x, heat=heat: losses.kd(t, x, heat), s)).max()
        for heat in (4.0, 40.0)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
    # Without T^2 it would be a hundredth.
    bare = gradient(lambda x: losses.kd(t, x, 40.0) / 40.0**2, s)
    assert np.abs(bare).max() < 0.01 * sizes[0]


def test_one_logit_is_two_classes() -> None:
    t, s = LOGITS[:, :, :1]
    pairs = [np.concatenate([0 * x, x], axis=1) for x in (t, s)]
    for function in (losses.kd, losses.hard, losses.dkd):
        np.testing.assert_allclose(value(function, t, s), value(function, *pairs))


def test_dkd_without_a_label_takes_the_teachers_choice() -> None:
    teacher, student = LOGITS
    chosen = teacher.argmax(1)
    expected = value(losses.dkd, teacher, student, labels=chosen)
    unknown = np.full(5, -1)
    np.testing.assert_array_equal(value(losses.dkd, teacher, student), expected)
    found = value(losses.dkd, teacher, student, labels=unknown)
    np.testing.assert_array_equal(found, expected)


def test_ensembles() -> None:
    first, second = (np.array([softmax(row) for row in x]) for x in LOGITS)
    for temperature in (1.0, 4.0):
        tempered = [np.array([softmax(row / temperature) for row in x]) for x in LOGITS]
        for mean, expected in (
            ("probabilities", (tempered[0] + tempered[1]) / 2),
            ("log_probabilities", np.sqrt(tempered[0] * tempered[1])),
        ):
            logits = losses.ensemble_logits(
                [x.astype("float32") for x in LOGITS], mean, temperature
            )
            logits = ops.convert_to_numpy(logits)
            found = np.array([softmax(row / temperature) for row in logits])
            expected = expected / expected.sum(1, keepdims=True)
            np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not np.allclose(first, second)


@pytest.mark.parametrize("name", ["kd", "hard", "fitnet", "at", "vid", "hidden"])
def test_padding_changes_nothing(name: str) -> None:
    function = getattr(losses, name)
    t, s = RNG.normal(size=(2, 3, 4, 5)).astype("float32")
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    short = [function(t[:1, :2], s[:1, :2]), function(t[1:2], s[1:2])]
    expected = [float(ops.convert_to_numpy(x)[0]) for x in short]
    wild = np.where(mask[..., None], 0, 1e6).astype("float32")
    found = value(function, t, s + wild, mask=mask)
    np.testing.assert_allclose(found, [*expected, 0.0], rtol=2e-5, atol=1e-7)


def test_padding_changes_no_relation_of_positions() -> None:
    t, s = RNG.normal(size=(2, 2, 3, 4, 6)).astype("float32")  # (batch, 3, time, dim)
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool)

    def three(x: Array) -> tuple[Any, Any, Any]:
        q, k, v = (ops.convert_to_tensor(x[:, i]) for i in range(3))
        return q, k, v

    alone = losses.relations(three(t[:1, :, :2]), three(s[:1, :, :2]), num_heads=3)
    found = losses.relations(
        three(t), three(s + 1e3 * ~mask[:, None, :, None]), 3, mask
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(found)[0], ops.convert_to_numpy(alone)[0], rtol=1e-4
    )


@pytest.mark.parametrize("name", OF_THE_BATCH)
def test_an_example_of_weight_0_is_not_there(name: str) -> None:
    data = CASES[name][2]
    teacher, student = data[0], data[1].copy()
    student[3:] = 77.0
    function = getattr(losses, name)
    expected = value(function, teacher[:3], student[:3])
    weights = np.array([1, 1, 1, 0, 0], "float32")
    found = value(function, teacher, student, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    doubled = value(function, teacher, student, weights=2 * weights)
    np.testing.assert_allclose(doubled, expected, rtol=1e-4)


def test_half_precision_comes_in_and_float32_goes_out() -> None:
    t, s = (ops.cast(x.astype("float32"), "bfloat16") for x in LOGITS)
    found = losses.kd(t, s)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    expected = np_kd(*(ops.convert_to_numpy(ops.cast(x, "float32")) for x in (t, s)))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-4)
