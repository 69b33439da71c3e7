"""The contract that every family keeps.

Parametrised over ``registry.FAMILIES``: a new family is tested by being listed there.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from tolerance import assert_off_by_rounding

import kzoo
from kzoo import hparams, registry
from kzoo.layers.sequence import MaskedLayer
from kzoo.models import recurrent
from kzoo.models.family import (
    DecoderHParams,
    Family,
    ImageHParams,
    SequenceHParams,
    TokenHParams,
)

ROOT = Path(__file__).parents[1]
BACKEND = keras.backend.backend()

# What all keys share moves every score of a row alike, and softmax does not see it.
# A variance is drawn with in training alone.
NO_GRADIENT = re.compile(
    r"(stage_\d+_)?block_\d+_(memory_)?key/bias|log_variance/(kernel|bias)"
)


@dataclass(frozen=True)
class Case:
    """A family at its smallest, in one of the forms of its input."""

    family: Family
    form: str
    changes: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.family.name}-{self.form}"

    @property
    def decodes(self) -> bool:
        """Whether its logits are a vocabulary's, a row a step, instead of classes."""
        return isinstance(self.family.smallest, DecoderHParams)

    @property
    def reconstructs(self) -> bool:
        """Whether it gives back what it is shown."""
        return self.family.tasks == ("reconstruction",)

    @property
    def headed(self) -> bool:
        """Whether it has logits of ``num_classes``."""
        return not (self.decodes or self.reconstructs)

    @property
    def classes(self) -> int:
        smallest = self.family.smallest
        return smallest.vocab_size if isinstance(smallest, DecoderHParams) else 3

    def build(self, **values: Any) -> keras.Model:
        """Built as users build it."""
        name = next(iter(self.family.variants))
        smallest = self.family.smallest.to_json() | dict(self.changes)
        return registry.build_model(name, **smallest | values)


def cases() -> Iterator[Case]:
    for family in registry.FAMILIES:
        yield Case(family, "smallest")
        if isinstance(family.smallest, SequenceHParams):
            numbers = (("vocab_size", 0), ("num_features", 5))
            mask = (("padding_mask", True),)
            yield Case(family, "features", numbers)
            yield Case(family, "masked_features", numbers + mask)
            yield Case(family, "masked_tokens", mask)
        elif "padding_mask" in family.smallest.to_json():  # tokens alone
            yield Case(family, "masked_tokens", (("padding_mask", True),))
        if "segment_ids" in family.smallest.to_json():
            yield Case(family, "segments", (("segment_ids", True),))


# Deep convolutional networks: on other backends their outputs are compared at the end
# of this file, and their own tests show that they learn; the rest would take minutes.
ZOO = frozenset(
    family.name
    for family in registry.FAMILIES
    if (isinstance(family.smallest, ImageHParams) or "reconstruction" in family.tasks)
    and family.name not in ("mlp", "cnn")
)


# Each differs from another family, lstm or bert, in a cell or in its embeddings.
KIN = ("simple_rnn", "gru", "distilbert", "roberta")


def here(case: Case) -> bool:
    return BACKEND == "tensorflow" or case.family.name not in ZOO


def repeats(case: Case) -> bool:
    """Whether the case says little that TensorFlow and others here have not said."""
    if BACKEND == "tensorflow":
        return False
    tokens_or_features = isinstance(case.family.smallest, SequenceHParams)
    forms = ("features", "segments", *(["masked_tokens"] * tokens_or_features))
    return case.family.name in KIN or case.form in forms


def each_of(
    cases: Iterable[Case], exhaustive: Container[str] = ()
) -> pytest.MarkDecorator:
    """A test of each case, exhaustive of these families and where it repeats."""
    marked = [
        pytest.param(case, marks=pytest.mark.exhaustive)
        if case.family.name in exhaustive or repeats(case)
        else case
        for case in cases
    ]
    return pytest.mark.parametrize("case", marked, ids=str)


CASES = tuple(cases())
# Where the form of the input makes little difference.
FAMILY_CASES = [case for case in CASES if case.form in ("smallest", "masked_features")]
HERE = [case for case in FAMILY_CASES if here(case)]
MASKED_CASES = [
    case
    for case in CASES
    if isinstance(case.family.smallest, TokenHParams) and case.form != "features"
]
each_case = each_of(case for case in CASES if here(case))
each_family = each_of(HERE, exhaustive=ZOO)
each_headed_family = each_of((c for c in HERE if c.headed), exhaustive=ZOO)
each_small_family = each_of(case for case in HERE if case.family.name not in ZOO)
each_masked_case = each_of(MASKED_CASES)


def inputs_for(model: keras.Model, batch: int = 8, time: int = 6) -> Any:
    """Random inputs in the model's own structure: images 8x8, every step real."""
    rng = np.random.default_rng(batch * time)
    known = hparams.identity(model).hparams

    def draw(tensor: Any) -> np.ndarray:
        open_size = 8 if len(tensor.shape) == 4 else time
        shape = (batch, *(size or open_size for size in tensor.shape[1:]))
        if tensor.dtype == "bool":
            return np.ones(shape, bool)
        if tensor.name == "segment_ids":
            return rng.integers(0, known["num_segments"], shape, dtype="int32")
        if tensor.dtype == "int32":
            padding = known.get("pad_token_id", 0)  # some decoders have none
            real = [i for i in range(known["vocab_size"]) if i != padding]
            return rng.choice(np.array(real, "int32"), shape)
        return rng.normal(size=shape).astype("float32")

    drawn = {tensor.name: draw(tensor) for tensor in model.inputs}
    return drawn if isinstance(model.input, dict) else next(iter(drawn.values()))


def labels_for(case: Case, inputs: Any) -> np.ndarray:
    """A class an example; of a decoder, at each step the token after the one read.

    What gives back what it is shown has other numbers to give.
    """
    if case.reconstructs:
        return inputs[::-1].copy()
    if not case.decodes:
        return np.arange(8) % 3
    read = inputs["decoder_tokens"] if isinstance(inputs, dict) else inputs
    return (read + 1) % case.classes


def numpy_of(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def logits_of(model: keras.Model, inputs: Any) -> np.ndarray:
    if BACKEND == "jax":  # which takes longer to compile each operation alone
        return model.predict_on_batch(inputs)
    return numpy_of(model(inputs, training=False))


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: numpy_of(weight) for weight in model.weights}


def loss_for(model: keras.Model) -> keras.losses.Loss:
    if model.kzoo.name.endswith("autoencoder"):
        return keras.losses.MeanSquaredError()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def gradients(model: keras.Model, inputs: Any, labels: Any) -> dict[str, Any]:
    """The loss's gradient by the path of each trainable weight; None where cut off."""
    loss_of = loss_for(model)
    weights = model.trainable_weights
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(inputs, training=False))
        found = [
            g if g is None else tf.convert_to_tensor(g)
            for g in tape.gradient(loss, weights)
        ]
    elif BACKEND == "jax":
        import jax

        frozen = [weight.value for weight in model.non_trainable_variables]

        def stateless_loss(values: list[Any]) -> Any:
            logits, _ = model.stateless_call(values, frozen, inputs, training=False)
            return loss_of(labels, logits)

        compiled = jax.jit(jax.grad(stateless_loss))
        found = compiled([weight.value for weight in weights])
    else:
        loss_of(labels, model(inputs, training=False)).backward()
        found = [weight.value.grad for weight in weights]
    return {
        weight.path: gradient if gradient is None else numpy_of(gradient)
        for weight, gradient in zip(weights, found, strict=True)
    }


# Building


@pytest.mark.contract
@each_case
def test_builds_with_float32_logits(case: Case) -> None:
    keras.utils.set_random_seed(0)
    model = case.build()
    assert sum(weight.size for weight in weights_of(model).values()) < 100_000
    inputs = inputs_for(model)
    steps = (6,) if case.decodes else ()
    shape = (*(None for _ in steps), case.classes)
    if case.reconstructs:
        steps, shape = inputs.shape[1:-1], inputs.shape[1:]
    assert model.output_shape == (None, *shape)
    logits = model(inputs, training=False)
    assert tuple(logits.shape) == (8, *steps, shape[-1])
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(numpy_of(logits)).all()
    # The input matters, however small a deep network's first answers are.
    spread = np.ptp(numpy_of(logits), axis=0)
    if case.family.name == "squeezenet":  # its classes end in a ReLU: one may stay 0
        assert spread.max() > 0
    else:
        assert spread.min() > 0


@pytest.mark.contract
@each_family
def test_identity_builds_the_same_model_again(case: Case) -> None:
    model = case.build()
    stored = json.loads(json.dumps(model.kzoo.to_json()))
    again = registry.build_model(stored["name"], **stored["hparams"])
    assert again.kzoo == model.kzoo
    assert [w.path for w in again.weights] == [w.path for w in model.weights]


@pytest.mark.contract
def test_weight_paths_do_not_depend_on_what_was_built_before() -> None:
    def paths(case: Case) -> list[str]:
        return [weight.path for weight in case.build().weights]

    first = {str(case): paths(case) for case in HERE}
    # The other way round: what was built last comes before everything else.
    for case in reversed(HERE):
        again = paths(case)
        assert again == first[str(case)], case
        assert len(set(again)) == len(again), case


@pytest.mark.contract
@each_family
def test_same_seed_gives_same_weights(case: Case) -> None:
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(weights_of(case.build()))
    assert all(np.array_equal(drawn[0][path], drawn[1][path]) for path in drawn[0])
    assert any(not np.array_equal(drawn[0][path], drawn[2][path]) for path in drawn[0])


@pytest.mark.contract
@each_headed_family
def test_head_has_the_asked_number_of_classes(case: Case) -> None:
    for num_classes in (1, 4):
        model = case.build(num_classes=num_classes)
        assert logits_of(model, inputs_for(model)).shape == (8, num_classes)
    headless = case.build(num_classes=0)
    inputs = inputs_for(headless)
    pooled = keras.Model(headless.input, headless.get_layer("pooled").output)
    np.testing.assert_array_equal(
        logits_of(headless, inputs), logits_of(pooled, inputs)
    )
    assert kzoo.list_features(headless)[-1] == "pooled"


@pytest.mark.contract
@pytest.mark.bfloat16
@each_family
def test_output_is_float32_under_mixed_bfloat16(case: Case) -> None:
    keras.utils.set_random_seed(0)
    heads: tuple[dict[str, int], ...] = ({"num_classes": 0}, {"num_classes": 3})
    for head in heads if case.headed else ({},):
        keras.config.set_dtype_policy("float32")
        model = case.build(**head)
        inputs = inputs_for(model)
        keras.config.set_dtype_policy("mixed_bfloat16")
        mixed = case.build(**head)
        halved = {layer.compute_dtype for layer in mixed.layers if layer.weights}
        last = ("logits", "decoder_out/")
        precise = any(w.path.startswith(last) for w in mixed.weights)
        assert precise == (head.get("num_classes") != 0) or case.decodes
        assert halved == {"bfloat16"} | ({"float32"} if precise else set())
        for weight, other in zip(mixed.weights, model.weights, strict=True):
            weight.assign(numpy_of(other))
        outputs = mixed(inputs, training=False)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
        assert_off_by_rounding(mixed, model, inputs, logits_of)


@pytest.mark.contract
@pytest.mark.bfloat16
@each_family
def test_large_inputs_give_finite_logits(case: Case) -> None:
    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = case.build()
        for weight in model.weights:
            if weight.path.startswith("embedding"):
                weight.assign(weight * 1000)
        inputs = keras.tree.map_structure(
            lambda x: x * np.float32(1000) if x.dtype == np.float32 else x,
            inputs_for(model),
        )
        assert np.isfinite(logits_of(model, inputs)).all()


# Training


@pytest.mark.contract
@each_case
def test_every_weight_gets_a_gradient(case: Case) -> None:
    keras.utils.set_random_seed(0)
    model = case.build()
    inputs = inputs_for(model)
    found = gradients(model, inputs, labels_for(case, inputs))
    assert found
    without = [
        path
        for path, gradient in found.items()
        if gradient is None or not (np.abs(gradient) > 0).any()
    ]
    assert [path for path in without if not NO_GRADIENT.fullmatch(path)] == []


@pytest.mark.contract
@each_small_family
def test_overfits_eight_examples(case: Case) -> None:
    keras.utils.set_random_seed(0)
    declared = hparams.declarations(type(case.family.smallest))
    model = case.build(**{"dropout_rate": 0.0} if "dropout_rate" in declared else {})
    inputs = inputs_for(model)
    labels = labels_for(case, inputs)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    steps = 400
    model.fit(
        keras.tree.map_structure(lambda x: np.concatenate([x] * steps), inputs),
        np.concatenate([labels] * steps),
        batch_size=8,
        shuffle=False,
        verbose=0,
    )
    after = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 5
    assert after["accuracy"] == 1.0
    predicted = model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(predicted.argmax(axis=-1), labels)


# Storing


@each_case
def test_save_and_load_give_an_equal_model(case: Case, tmp_path: Path) -> None:
    model = case.build()
    kzoo.save(model, tmp_path / "model")
    loaded = kzoo.load(tmp_path / "model")
    assert loaded.kzoo == model.kzoo
    saved, read = weights_of(model), weights_of(loaded)
    assert saved.keys() == read.keys()
    assert all(np.array_equal(saved[path], read[path]) for path in saved)
    inputs = inputs_for(model)
    np.testing.assert_array_equal(logits_of(loaded, inputs), logits_of(model, inputs))


@pytest.mark.contract
@each_family
def test_keras_file_gives_an_equal_model(case: Case, tmp_path: Path) -> None:
    model = case.build()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    inputs = inputs_for(model)
    np.testing.assert_array_equal(logits_of(loaded, inputs), logits_of(model, inputs))


# Padding


def with_lengths(model: keras.Model, inputs: Any, lengths: list[int], seed: int) -> Any:
    """The inputs with padding from each row's length on; features hold noise there."""
    rng = np.random.default_rng(seed)
    named = inputs if isinstance(inputs, dict) else {model.inputs[0].name: inputs}
    named = dict(named)
    time = next(iter(named.values())).shape[1]
    real = np.arange(time) < np.array(lengths)[:, None]
    known = hparams.identity(model).hparams
    for name, value in named.items():
        if name == "padding_mask":
            named[name] = real
        elif name == "segment_ids":
            noise = rng.integers(0, known["num_segments"], value.shape)
            named[name] = np.where(real, value, noise).astype("int32")
        elif value.dtype == np.int32 and "padding_mask" not in named:
            padding = known["pad_token_id"]
            named[name] = np.where(real, value, padding).astype("int32")
        elif value.dtype == np.int32:
            noise = rng.integers(0, 17, value.shape)
            named[name] = np.where(real, value, noise).astype("int32")
        else:
            noise = rng.normal(scale=10, size=value.shape)
            named[name] = np.where(real[..., None], value, noise).astype("float32")
    return named if isinstance(inputs, dict) else next(iter(named.values()))


def assert_padding_changes_nothing(model: keras.Model, time: int = 6) -> None:
    """Four lengths; three and nine steps of padding more, and none at all."""
    lengths = [time, time - 1, 2, 1]
    longest = inputs_for(model, batch=4, time=time + 9)

    def padded_to(width: int) -> Any:
        cut = keras.tree.map_structure(lambda x: x[:, :width], longest)
        return with_lengths(model, cut, lengths, seed=width)

    expected = logits_of(model, padded_to(time))
    for more in (3, 9):
        logits = logits_of(model, padded_to(time + more))
        if logits.ndim == 2:
            np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=0)
            continue
        for row, length in enumerate(lengths):  # one answer a step
            np.testing.assert_allclose(
                logits[row, :length], expected[row, :length], atol=1e-5, rtol=0
            )
    for row in (1, 3):  # alone, without its padding
        length = lengths[row]
        alone = keras.tree.map_structure(
            lambda x, row=row, length=length: x[row : row + 1, :length], padded_to(time)
        )
        single = logits_of(model, alone)[0]
        np.testing.assert_allclose(
            single,
            expected[row] if single.ndim == 1 else expected[row, :length],
            atol=1e-5,
            rtol=0,
        )
    nothing = with_lengths(model, padded_to(time), [0, 0, 3, 1], seed=0)
    assert np.isfinite(logits_of(model, nothing)).all()


@pytest.mark.contract
@each_masked_case
def test_appended_padding_changes_nothing(case: Case) -> None:
    assert_padding_changes_nothing(case.build())


RECURRENT = [f.name for f in recurrent.FAMILIES]
VARIED = [
    *((name, {"pooling": kind, "bidirectional": both})
      for name in RECURRENT
      for kind in ("last", "mean", "max", "attention")
      for both in (False, True)),
    *((name, {"per_step": True, "bidirectional": True, "num_layers": 2})
      for name in RECURRENT),
    *(("cnn_1d", {"pooling": kind, "normalization": norm, "kernel_size": size})
      for kind in ("max", "average")
      for norm in ("batch", "layer", "none")
      for size in (3, 4)),
    *(("transformer", {"norm": norm, "pooling": kind, "num_layers": 2})
      for norm in ("pre", "post")
      for kind in ("mean", "first")),
    ("transformer", {"positions": "learned", "sequence_length": 20}),
    *(("text_cnn", {"kernel_sizes": sizes}) for sizes in ((1, 4), (7,))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"),
    VARIED,
    ids=[f"{n}-{'-'.join(map(str, c.values()))}" for n, c in VARIED],
)
def test_appended_padding_changes_nothing_in_any_variation(
    name: str, changes: dict[str, Any]
) -> None:
    case = next(case for case in CASES if str(case) == f"{name}-masked_features")
    model = case.build(**changes)
    rng = np.random.default_rng(0)
    for weight in model.weights:  # statistics and biases as training leaves them
        if weight.path.endswith(("bias", "beta", "moving_mean")):
            weight.assign(rng.normal(size=weight.shape))
    for time in (6, 7):
        assert_padding_changes_nothing(model, time)


@pytest.mark.contract
def test_padding_that_changes_something_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unmasked(MaskedLayer):
        def call(self, x: Any, mask: Any = None) -> Any:
            return ops.mean(x, axis=1)

    monkeypatch.setattr(recurrent, "pooling", lambda *_, **__: Unmasked(name="pooled"))
    case = next(case for case in CASES if str(case) == "lstm-masked_features")
    with pytest.raises(AssertionError):
        assert_padding_changes_nothing(case.build())


# The other backends


def answer_for_another_backend(folder: Path) -> None:
    """Runs there: builds every family on the given weights and writes its logits."""
    draw_nothing()
    answers, losses = {}, {}
    for case in FAMILY_CASES:
        given = dict(np.load(folder / f"{case}.npz"))
        model = case.build()
        inputs = inputs_for(model)
        for weight in model.weights:
            weight.assign(given[weight.path])
        # Compiled whole: a deep network's operations one by one take JAX minutes.
        answers[str(case)] = model.predict(inputs, verbose=0)
        if case.family.name not in ZOO:
            answers[f"{case}.eager"] = numpy_of(model(inputs, training=False))
            loaded = keras.models.load_model(folder / f"{case}.keras")
            answers[f"{case}.keras"] = numpy_of(loaded(inputs, training=False))
        if BACKEND == "torch":  # eager: four steps of any network take no time
            losses[str(case)] = losses_of_four_steps(case, model, inputs)
    if losses:
        np.savez(folder / "losses.npz", **losses)
    np.savez(folder / "answers.npz", **answers)


def draw_nothing() -> None:
    """All weights are given: drawing them first takes JAX a second for each shape."""
    drawing = ("RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling")
    for name in (*drawing, "Orthogonal"):
        getattr(keras.initializers, name).__call__ = keras.initializers.Zeros.__call__


def losses_of_four_steps(case: Case, model: keras.Model, inputs: Any) -> list[float]:
    """Training losses of small steps on the same eight examples."""
    model.compile(keras.optimizers.SGD(1e-3), loss_for(model))
    labels = labels_for(case, inputs)
    history = model.fit(
        inputs, labels, batch_size=8, epochs=4, shuffle=False, verbose=0
    )
    return history.history["loss"]


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="starts the other ones itself")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_agree_and_need_no_tensorflow(
    backend: str, tmp_path: Path
) -> None:
    pytest.importorskip(backend, reason=f"needs the extra {backend}")
    expected = {}
    for case in FAMILY_CASES:
        keras.utils.clear_session()
        model = case.build()
        np.savez(tmp_path / f"{case}.npz", **weights_of(model))
        model.save(tmp_path / f"{case}.keras")
        expected[str(case)] = logits_of(model, inputs_for(model))
    script = f"""
import sys
sys.modules["tensorflow"] = None
import keras
assert keras.backend.backend() == {backend!r}
from pathlib import Path
import test_models
test_models.answer_for_another_backend(Path({str(tmp_path)!r}))
"""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = dict(np.load(tmp_path / "answers.npz"))
    assert {name.split(".")[0] for name in answers} == set(expected)
    for name, answer in answers.items():
        logits = expected[name.split(".")[0]]
        np.testing.assert_allclose(answer, logits, atol=1e-4, rtol=0, err_msg=name)
    if backend == "torch":
        fitted = dict(np.load(tmp_path / "losses.npz"))
        assert set(fitted) == set(expected)
        for name, losses in fitted.items():
            assert np.isfinite(losses).all(), name
            assert np.unique(losses).size == len(losses), name  # weights moved
