"""LoRA: what learns, what it says merged, the file of the adapters alone."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo.registry import replace_head, trainable_parameters
from kzoo.training.recipe import Recipe
from kzoo.weights.adapters import add_adapters, load_adapter, merge_adapters

BERT = {"vocab_size": 200, "sequence_length": 32, "num_classes": 26}
SMALL = {"units": (64, 64), "num_features": 64, "num_classes": 3}


def disturbed(model: keras.Model) -> keras.Model:
    """Adapters that are not zero."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 0.3, weight.shape).astype("float32"))
    return model


@pytest.mark.contract
def test_few_weights_learn_and_begin_as_nothing() -> None:
    model = kzoo.build_model("bert_tiny", **BERT)
    tokens = np.random.default_rng(0).integers(1, 200, (3, 9)).astype("int32")
    before, whole = model.predict_on_batch(tokens), trainable_parameters(model)
    add_adapters(model, rank=4)
    np.testing.assert_allclose(model.predict_on_batch(tokens), before, atol=1e-6)
    names = {weight.path for weight in model.trainable_weights}
    head = {name for name in names if name.startswith("logits/")}
    assert len(head) == 2
    assert all("/lora_kernel_" in name for name in names - head)
    # By hand: (in + out) * rank of q, k, v, o and the MLP of two blocks, and pooled.
    block = 4 * (128 + 128) * 4 + 2 * (128 + 512) * 4
    adapters = 2 * block + (128 + 128) * 4
    head_size = 128 * 26 + 26
    assert trainable_parameters(model) == adapters + head_size
    assert adapters <= 0.05 * (whole - head_size)


@pytest.mark.contract
def test_merged_says_the_same() -> None:
    model = kzoo.build_model("bert_tiny", num_layers=1, **BERT)
    tokens = np.random.default_rng(0).integers(1, 200, (3, 9)).astype("int32")
    before = model.predict_on_batch(tokens)
    said = disturbed(add_adapters(model, rank=2)).predict_on_batch(tokens)
    assert np.abs(said - before).max() > 0.1
    merged = merge_adapters(model)
    assert not merged.kzoo.adapters
    assert not any("lora" in weight.path for weight in merged.weights)
    # Of the largest logit: these adapters make some of 8, and float32 has seven digits.
    distance = np.abs(merged.predict_on_batch(tokens) - said).max()
    assert distance <= 1e-5 * np.abs(said).max()


def test_adapters_alone(tmp_path: Path) -> None:
    base = kzoo.build_model("mlp", **SMALL)
    folder = kzoo.save(base, tmp_path / "base")
    model = disturbed(add_adapters(kzoo.load(folder), rank=1))
    saved = kzoo.save(model, tmp_path / "adapted")
    identity = json.loads((saved / "config.json").read_text())["model"]
    assert identity["adapters"] == {"rank": 1, "layers": ["block_0", "block_1"]}
    sizes = [
        (saved / name).stat().st_size
        for name in ("adapter.safetensors", "model.safetensors")
    ]
    assert sizes[0] < 0.1 * sizes[1]
    x = np.random.default_rng(0).normal(size=(4, 64)).astype("float32")
    said = model.predict_on_batch(x)
    np.testing.assert_array_equal(kzoo.load(saved).predict_on_batch(x), said)
    file = saved / "adapter.safetensors"
    again = load_adapter(kzoo.load(folder), file)
    np.testing.assert_array_equal(again.predict_on_batch(x), said)
    other = kzoo.build_model("mlp", **SMALL)
    with pytest.raises(ValueError, match="belongs to mlp with other weights"):
        load_adapter(other, file)
    with pytest.raises(ValueError, match="holds no adapters"):
        load_adapter(base, saved / "model.safetensors")
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(ValueError, match="is damaged"):
        load_adapter(base, tmp_path / "bad")


def test_a_run_with_adapters_leaves_the_rest_alone(tmp_path: Path) -> None:
    pre = kzoo.train("mlp", "digits", out=tmp_path / "pre", epochs=1, units=(32,))
    run = kzoo.train(pre.folder, "digits", out=tmp_path / "run", epochs=2, lora=2)
    old, new = pre.load(), run.load()
    layers = [model.get_layer("block_0") for model in (old, new)]
    kernels = [keras.ops.convert_to_numpy(layer._kernel) for layer in layers]
    np.testing.assert_array_equal(*kernels)
    assert keras.ops.convert_to_numpy(layers[1].lora_kernel_b).any()
    assert kzoo.evaluate(run)["accuracy"] == run.metrics["test"]["accuracy"]
    # Another run begins with the merged model.
    third = kzoo.train(
        run.folder, "digits", out=tmp_path / "third", epochs=1, learning_rate=0.0
    )
    assert third.metrics["test"]["accuracy"] == run.metrics["test"]["accuracy"]
    assert not third.load().kzoo.adapters


def test_mistakes() -> None:
    model = add_adapters(kzoo.build_model("mlp", **SMALL), rank=1)
    with pytest.raises(ValueError, match="has adapters already: merge them first"):
        add_adapters(model, rank=1)
    with pytest.raises(ValueError, match=r"has adapters: kzoo\.merge_adapters"):
        replace_head(model, 4)
    plain = kzoo.build_model("mlp", **SMALL)
    with pytest.raises(ValueError, match="has no adapters to merge"):
        merge_adapters(plain)
    lstm = kzoo.build_model("lstm", units=4, num_layers=1)
    with pytest.raises(ValueError, match="no dense layer to adapt but its head"):
        add_adapters(lstm, rank=1)
    with pytest.raises(ValueError, match="lora=2 freezes all layers already"):
        Recipe(lora=2, freeze="stem")
