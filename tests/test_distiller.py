"""The distiller: what it trains, what it leaves alone, and that every loss counts."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.hparams import declarations
from kzoo.losses import distillation as losses
from kzoo.losses.distillation.schedules import schedule_factor
from kzoo.models.distiller_options import METHODS, DistillerHParams

ROOT = Path(__file__).parents[1]
IMAGES = np.random.default_rng(0).random((12, 8, 8, 1), "float32")
LABELS = np.arange(12) % 3
CNN = {"channels": 1, "num_classes": 3, "dense_units": 8}


def teacher_model(**hparams: Any) -> keras.Model:
    options = {"filters": (6, 10), "num_convs": 1, **CNN, **hparams}
    return kzoo.build_model("cnn", **options)


def student_model(**hparams: Any) -> keras.Model:
    options = {"filters": (4, 8), "num_convs": 1, "dropout_rate": 0.0, **CNN, **hparams}
    return kzoo.build_model("cnn_tiny", **options)


def compiled(teacher: Any, student: keras.Model, **options: Any) -> keras.Model:
    optimizer = keras.optimizers.SGD(options.pop("learning_rate", 0.01))
    made = kzoo.build_model("distiller", teacher=teacher, student=student, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(optimizer, loss=loss, metrics=["accuracy"])
    return made


def fit(model: keras.Model, x: Any = IMAGES, y: Any = LABELS, **options: Any) -> Any:
    options = {"batch_size": 12, "epochs": 1, **options}
    return model.fit(x, y, shuffle=False, verbose=0, **options).history


def sha256(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def logits(model: keras.Model, x: Any = IMAGES) -> np.ndarray:
    return ops.convert_to_numpy(model(x, training=False))


@pytest.mark.contract
@pytest.mark.parametrize(
    "method",
    [
        "kd+kd_standardized+dkd+dist+hard+function_matching",
        "fitnet+at+sp+rkd+pkt+vid+hidden",
    ],
)
def test_trains_the_student_and_touches_no_teacher(method: str) -> None:
    teacher, student = teacher_model(), student_model()
    before, trainable = sha256(teacher), len(teacher.trainable_weights)
    started = [w.copy() for w in student.get_weights()]
    model = compiled(teacher, student, method=method)
    history = fit(model, epochs=2)
    for name in method.split("+"):
        assert np.isfinite(history[f"{name}_loss"]).all()
    assert np.isfinite(history["loss"]).all()
    assert model.teacher is teacher
    assert model.student is student
    assert sha256(teacher) == before
    assert teacher.trainable
    assert len(teacher.trainable_weights) == trainable
    moved = zip(started, student.get_weights(), strict=True)
    assert all((a != b).any() for a, b in moved)


@pytest.mark.contract
def test_a_model_of_one_weight_and_all_its_losses_by_hand() -> None:
    # The student's loss, the regulariser and T^2 KL, with their weights and those of
    # the examples, in numpy; and again without the regulariser and without T^2.
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    regularizer = keras.regularizers.L2(0.5)
    dense = keras.layers.Dense(3, kernel_regularizer=regularizer)
    student = keras.Model(inputs, dense(inputs))
    inputs = keras.Input((4,))
    teacher = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(6, 4)).astype("float32")
    y, weights = np.array([0, 1, 2, 0, 1, 2]), np.array([1, 2, 0, 1, 0.5, 1], "float32")
    z, s = logits(teacher, x), logits(student, x)

    def log_softmax(v: np.ndarray) -> np.ndarray:
        return v - np.log(np.exp(v).sum(1, keepdims=True))

    p, q = log_softmax(z / 4), log_softmax(s / 4)
    kl = (np.exp(p) * (p - q)).sum(1)
    label = -log_softmax(s)[np.arange(6), y]
    l2 = 0.5 * (student.get_weights()[0] ** 2).sum()
    expected = (weights * (0.1 * label + 0.9 * 16 * kl)).mean() + l2
    model = compiled(teacher, student, learning_rate=0.0)
    found = model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)
    assert abs(expected - l2 - float(found["loss"])) > 0.01
    without = (weights * (0.1 * label + 0.9 * kl)).mean() + l2
    assert abs(without - float(found["loss"])) > 0.01


@pytest.mark.contract
def test_evaluate_and_predict_run_no_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    from kzoo.models.teacher import Teacher

    student = student_model(dropout_rate=0.5)
    model = compiled(teacher_model(), student, method="kd+sp")
    calls = []
    called = Teacher.__call__

    def counted(self: Any, inputs: Any) -> Any:
        calls.append(1)
        return called(self, inputs)

    monkeypatch.setattr(Teacher, "__call__", counted)
    before = [w.copy() for w in model.get_weights()]
    found = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    predicted = model.predict(IMAGES, verbose=0)
    assert not calls
    assert set(found) == {"accuracy", "loss"}
    after = zip(before, model.get_weights(), strict=True)
    assert all((a == b).all() for a, b in after)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    alone = float(loss(LABELS, logits(student)))
    assert found["loss"] == pytest.approx(alone, rel=1e-5)
    np.testing.assert_allclose(predicted, logits(student), rtol=1e-5, atol=1e-6)
    fit(model)
    assert calls


def test_one_pass_of_each_model_a_step() -> None:
    teacher, student = teacher_model(), student_model()
    model = compiled(teacher, student, method="kd+at+rkd")
    calls: list[str] = []
    for name, one in (("teacher", teacher), ("student", student)):
        layer = one.get_layer("stage_0_block_0_conv")
        original = layer.call

        def counted(
            *args: Any, name: str = name, call: Any = original, **kw: Any
        ) -> Any:
            calls.append(name)
            return call(*args, **kw)

        layer.call = counted
    outputs = model(IMAGES, training=True)
    model.compute_loss(IMAGES, ops.convert_to_tensor(LABELS), outputs, None, True)
    assert sorted(calls) == ["student", "teacher"]


@pytest.mark.contract
def test_projections_are_learned_and_shown() -> None:
    teacher, student = teacher_model(), student_model()
    model = compiled(teacher, student, method="fitnet")
    names = [layer.name for layer in model.layers]
    assert "fitnet_projection_0_stage_0" in names
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    assert any("fitnet_projection" in line for line in lines)
    before = model.projections["fitnet_0"].get_weights()[0].copy()
    fit(model)
    assert (model.projections["fitnet_0"].get_weights()[0] != before).any()
    assert not any("projection" in weight.path for weight in student.weights)
    same = compiled(teacher_model(), teacher_model(), method="fitnet")
    assert not same.projections


@pytest.mark.contract
@pytest.mark.parametrize("method", ["fitnet+vid", "at"])
def test_unequal_resolutions(method: str) -> None:
    teacher = teacher_model(filters=(6, 10))
    student = student_model(filters=(4,))  # 4x4 against the teacher's 2x2
    history = fit(compiled(teacher, student, method=method))
    assert np.isfinite(history["loss"]).all()


@pytest.mark.contract
def test_batch_norm_of_the_student_alone_moves() -> None:
    teacher, student = teacher_model(), student_model()
    name = "stage_0_block_0_norm"
    moved = [one.get_layer(name).moving_mean for one in (teacher, student)]
    before = [ops.convert_to_numpy(value.value).copy() for value in moved]
    fit(compiled(teacher, student))
    after = [ops.convert_to_numpy(value.value) for value in moved]
    assert (before[0] == after[0]).all()
    assert (before[1] != after[1]).any()


@pytest.mark.contract
def test_unknown_labels_learn_from_the_teacher_alone() -> None:
    unknown = np.where(np.arange(12) < 6, LABELS, -1)
    found = {}
    for name, labels in (
        ("unknown", unknown),
        ("wrong", np.where(unknown < 0, 0, unknown)),
    ):
        keras.utils.set_random_seed(0)
        teacher, student = teacher_model(), student_model()
        model = compiled(teacher, student, label_weight=1.0)
        outputs = model(IMAGES, training=True)["logits"]
        weights = None if name == "unknown" else (unknown >= 0).astype("float32")
        history = fit(model, y=labels, sample_weight=weights)
        kl = losses.kd(logits(teacher), ops.stop_gradient(outputs))
        found[name] = history["loss"][0], history["kd_loss"][0]
        all_of_them = float(ops.mean(kl)) * 0.9
    assert found["unknown"][1] == pytest.approx(all_of_them, rel=1e-4)
    # The labels' part is that of the six known ones.
    label = [total - taught for total, taught in found.values()]
    assert label[0] == pytest.approx(label[1], rel=1e-4)


@pytest.mark.contract
def test_several_teachers() -> None:
    teachers = [teacher_model(), teacher_model(filters=(3, 5))]
    before = [sha256(one) for one in teachers]
    for ensemble in ("probabilities", "log_probabilities"):
        student = student_model()
        model = compiled(teachers, student, ensemble=ensemble, label_weight=0.0)
        said = [ops.convert_to_tensor(logits(one)) for one in teachers]
        together = losses.ensemble_logits(said, ensemble, 4.0)
        taught = losses.kd(together, model(IMAGES, training=True)["logits"])
        expected = 0.9 * float(ops.convert_to_numpy(ops.mean(taught)))
        assert fit(model)["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert model.teacher == teachers
    assert [sha256(one) for one in teachers] == before
    assert len(model.kzoo.parts["teacher"]["together"]) == 2


@pytest.mark.contract
def test_the_average_of_the_student_teaches() -> None:
    student = student_model()
    model = compiled(student, student, teacher_ema=0.9, learning_rate=0.1)
    copies = model.inner.teachers[0].trainable
    started = [ops.convert_to_numpy(weight.value).copy() for weight in copies]
    fit(model, epochs=1)  # the first step begins with copy = student
    now = [ops.convert_to_numpy(weight.value) for weight in copies]
    assert all((a == b).all() for a, b in zip(started, now, strict=True))
    first = student.get_weights()[0].copy()
    fit(model, epochs=1)
    # After one step the decay is (1 + 1) / (10 + 1).
    expected = started[0] + (1 - 2 / 11) * (first - started[0])
    found = ops.convert_to_numpy(copies[0].value)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert (found != started[0]).any()


@pytest.mark.contract
def test_a_teacher_from_elsewhere_that_ends_in_a_softmax() -> None:
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    hidden = keras.layers.Dense(5, name="mine")(x)
    outputs = keras.layers.Dense(3, activation="softmax")(hidden)
    teacher = keras.Model(inputs, outputs)
    student = student_model()
    model = compiled(teacher, student, label_weight=0.0, weights=(1.0,))
    z = np.log(logits(teacher))
    expected = losses.kd(z, model(IMAGES, training=True)["logits"])
    assert fit(model)["loss"][0] == pytest.approx(
        float(ops.convert_to_numpy(ops.mean(expected))), rel=1e-4
    )
    with pytest.raises(ValueError, match="teacher_taps"):
        compiled(teacher, student, method="rkd")
    taps = {"teacher_taps": ("mine",), "student_taps": ("pooled",)}
    model = compiled(teacher, student, method="rkd", **taps)
    assert np.isfinite(fit(model)["loss"]).all()


class Plain(keras.Model):
    """A model without a graph, a configuration or a ``training`` argument."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(ops.reshape(x, (ops.shape(x)[0], 64)))


@pytest.mark.contract
def test_a_subclassed_teacher() -> None:
    teacher = Plain()
    with pytest.raises(ValueError, match="no weights yet"):
        compiled(teacher, student_model())
    teacher(IMAGES)
    assert np.isfinite(fit(compiled(teacher, student_model()))["loss"]).all()
    with pytest.raises(ValueError, match="no graph"):
        taps = {"teacher_taps": ("dense",), "student_taps": ("pooled",)}
        compiled(teacher, student_model(), method="sp", **taps)


@pytest.mark.contract
@pytest.mark.bfloat16
def test_a_float32_teacher_of_a_bfloat16_student() -> None:
    teacher = teacher_model()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        student = student_model()
    finally:
        keras.config.set_dtype_policy("float32")
    history = fit(compiled(teacher, student, method="kd+at+fitnet"))
    assert np.isfinite(history["loss"]).all()


@pytest.mark.contract
@pytest.mark.parametrize("method", ["relations", "hidden", "kd+sp"])
def test_padding_teaches_nothing(method: str) -> None:
    options = {"vocab_size": 9, "num_classes": 3, "num_layers": 1, "num_heads": 2}
    options |= {"dropout_rate": 0.0}
    teacher = kzoo.build_model("transformer", hidden_dim=16, mlp_dim=16, **options)
    student = kzoo.build_model("transformer", hidden_dim=8, mlp_dim=8, **options)
    tokens = np.random.default_rng(0).integers(1, 9, (4, 5)).astype("int32")
    padded = np.pad(tokens, ((0, 0), (0, 3)))
    model = compiled(teacher, student, method=method, learning_rate=0.0)
    values = []
    for x in (tokens, padded):
        found = model.train_on_batch(x, LABELS[:4], return_dict=True)
        values.append(float(found["loss"]))
        model.reset_metrics()
    assert values[1] == pytest.approx(values[0], rel=1e-4)


@pytest.mark.contract
def test_the_teachers_inputs_are_adapted() -> None:
    teacher = kzoo.build_model(
        "lstm", vocab_size=0, num_features=8, num_classes=3, units=4
    )
    student = student_model()
    with pytest.raises(ValueError, match="teacher_input_shape"):
        compiled(teacher, student)
    model = compiled(
        teacher,
        student,
        label_weight=0.0,
        weights=(1.0,),
        teacher_input_shape=(8, 8),
        teacher_input_scale=(2.0,),
        teacher_input_offset=(-1.0,),
        teacher_classes=(2, 1, 0),
    )
    z = logits(teacher, 2 * IMAGES[..., 0] - 1)[:, ::-1]
    expected = losses.kd(z.copy(), model(IMAGES, training=True)["logits"])
    assert fit(model)["loss"][0] == pytest.approx(
        float(ops.convert_to_numpy(ops.mean(expected))), rel=1e-4
    )


@pytest.mark.contract
def test_schedules() -> None:
    def factors(kind: str, steps: tuple[int, ...]) -> list[float]:
        return [float(schedule_factor(kind, step, 40, 0.25)) for step in steps]

    assert factors("constant", (0, 39)) == [1.0, 1.0]
    assert factors("linear", (0, 4, 9, 39)) == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert factors("cosine", (0, 20, 40)) == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    model = compiled(
        teacher_model(),
        student_model(),
        learning_rate=0.0,
        weight_schedule="linear",
        warmup_rate=0.5,
        total_steps=8,
    )
    history = fit(model, epochs=4)
    share = np.array(history["kd_loss"]) / history["kd_loss"][-1]
    np.testing.assert_allclose(share, [0.25, 0.5, 0.75, 1.0], rtol=0.05)


def test_temperature_on_a_schedule() -> None:
    teacher, student = teacher_model(), student_model()
    options = {"label_weight": 0.0, "weights": (1.0,), "total_steps": 4}
    model = compiled(
        teacher, student, temperature=5.0, temperature_schedule="cosine", **options
    )
    x = model(IMAGES, training=True)["logits"]
    z = logits(teacher)
    for step, temperature in ((0, 5.0), (2, 3.0), (4, 1.0)):
        model.step.assign(step)
        outputs = {"logits": x}
        found = model.compute_loss(IMAGES, ops.convert_to_tensor(LABELS), outputs)
        expected = float(ops.mean(losses.kd(z, x, temperature)))
        assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kdd"}, r"unknown method 'kdd'. Did you mean 'kd'\?"),
        ({"method": "kd+kd"}, "twice"),
        ({"temprature": 2}, "has no option 'temprature'. Did you mean 'temperature'"),
        ({"temperature": 0}, "temperature=0 is not"),
        ({"weights": (1.0, 2.0)}, "2 weights for the 1 methods"),
        ({"teacher_taps": ("stage_0",)}, "go in pairs"),
        ({"weight_schedule": "cosine"}, "total_steps"),
        ({"teacher_ema": 0.9}, "pass the student itself"),
        ({"method": "relations"}, "no attention"),
        (
            {
                "method": "at",
                "teacher_taps": ("stage_9",),
                "student_taps": ("stage_0",),
            },
            "no tap 'stage_9'. Did you mean 'stage_",
        ),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compiled(teacher_model(), student_model(), **options)


def test_models_that_do_not_go_together_are_told() -> None:
    with pytest.raises(ValueError, match="tells 4 classes, the student 3"):
        compiled(teacher_model(num_classes=4), student_model())
    features = compiled(teacher_model(num_classes=4), student_model(), method="rkd")
    assert features.built
    with pytest.raises(ValueError, match="of one teacher, got 2"):
        compiled([teacher_model()] * 2, student_model(), method="at")
    options = {"vocab_size": 9, "hidden_dim": 8, "num_layers": 1, "mlp_dim": 8}
    heads = [kzoo.build_model("transformer", num_heads=n, **options) for n in (2, 4)]
    with pytest.raises(ValueError, match="the teacher has 2, the student 4"):
        compiled(*heads, method="relations")
    with pytest.raises(ValueError, match="needs student="):
        kzoo.build_model("distiller", teacher="cnn")


def test_every_method_has_a_line_in_the_declaration_and_the_documentation() -> None:
    told = (ROOT / "docs" / "distillation.md").read_text(encoding="utf-8")
    for name in METHODS:
        assert name in declarations(DistillerHParams)["method"].doc
        assert f"| `{name}` |" in told
    for name in declarations(DistillerHParams):
        assert f"`{name}`" in told


REPLICAS = """
import json, sys
import keras, numpy as np, tensorflow as tf

count, bug = int(sys.argv[1]), sys.argv[2]
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * count
tf.config.set_logical_device_configuration(cpu, logical)
import kzoo

strategy = tf.distribute.get_strategy()
if count > 1:
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
teacher = kzoo.build_model("mlp", num_features=6, units=(9,), num_classes=3)
rng = np.random.default_rng(0)
teacher.set_weights([rng.normal(size=w.shape) for w in teacher.get_weights()])
x = rng.normal(size=(16, 6)).astype("float32")
y, w = rng.integers(0, 3, 16), rng.random(16).astype("float32")
with strategy.scope():
    inputs = keras.Input((6,))
    l2 = keras.regularizers.L2(0.01)
    hidden = keras.layers.Dense(5, "tanh", kernel_regularizer=l2, name="hidden")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(3, name="out")(hidden))
    student.set_weights([rng.normal(size=v.shape) for v in student.get_weights()])
    model = kzoo.build_model(
        "distiller", teacher=teacher, student=student, method="kd+dkd+fitnet",
        weights=(0.9, 1.0, 1.0), total_steps=5, weight_schedule="linear",
        teacher_taps=("block_0",), student_taps=("hidden",))
    for layer in model.projections.values():
        layer.set_weights([0.1 * np.ones(v.shape) for v in layer.get_weights()])
    if bug == "unscaled":
        from kzoo.models import distiller
        distiller.TaskLoss.__call__ = lambda self, a, b, sample_weight=None: (
            keras.ops.mean(b if sample_weight is None else b * sample_weight))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss=loss)
for _ in range(3):
    model.fit(x, y, sample_weight=w, batch_size=16, epochs=1, shuffle=False, verbose=0)
flat = np.concatenate([v.ravel() for v in student.get_weights()])
step = int(model.step.numpy())
print(json.dumps({"weights": flat.tolist(), "step": step}))
"""


def replicas(count: int, bug: str = "") -> dict[str, Any]:
    import json

    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(count), bug],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
def test_two_replicas_train_like_one() -> None:
    one, two = replicas(1), replicas(2)
    assert one["step"] == two["step"] == 3
    np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-6)
    # A loss that is not scaled for the replicas is found out.
    wrong = replicas(2, "unscaled")
    assert np.abs(np.subtract(wrong["weights"], one["weights"])).max() > 1e-3
