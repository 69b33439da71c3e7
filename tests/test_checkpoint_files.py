"""Checkpoints as training scripts write them: wrappers, prefixes, types, suffixes."""

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import kzoo
from kzoo.cli.main import main
from kzoo.weights import weights_by_path
from kzoo.weights.convert import from_source, to_source
from kzoo.weights.files import read_checkpoint, read_state_dict
from kzoo.weights.pretrained import convert

SMALL: dict[str, Any] = {
    "num_blocks": (1, 1),
    "filters": (4, 4),
    "stem_filters": 4,
    "num_classes": 3,
    "image_size": 32,
}
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def state() -> Arrays:
    """A small resnet50 as timm would store it, in numbers that bfloat16 has."""
    model = kzoo.build_model("resnet50", **SMALL)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        values = rng.normal(size=weight.shape) + 2.0
        weight.assign(values.astype(ml_dtypes.bfloat16).astype("float32"))
    return to_source(model, "timm")


@pytest.fixture(scope="module")
def expected(state: Arrays) -> Arrays:
    return weights_by_path(_converted(state).model)


def _converted(state: Arrays) -> Any:
    return from_source(state, "resnet50", "timm", **SMALL)


def same(model: keras.Model, expected: Arrays) -> bool:
    found = weights_by_path(model)
    return all(np.array_equal(found[path], expected[path]) for path in expected)


def prefixed(state: Any, prefix: str) -> Any:
    return {prefix + name: value for name, value in state.items()}


def tensors(state: Arrays, change: float = 0.0) -> Any:
    torch = pytest.importorskip("torch")
    return {
        k: torch.from_numpy(v.copy()) + (change if v.ndim else 0)
        for k, v in state.items()
    }


PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.", "encoder.visual.")


@pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.model."])
def test_prefixes(state: Arrays, expected: Arrays, prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(prefixed(state, prefix), file)
    found = convert("resnet50", file, **SMALL)
    assert same(found.model, expected)
    n = len(state)
    assert found.changes == (f"{n} of {n} names begin with {prefix!r}: left out",)


def test_without_a_prefix_nothing_is_reported(state: Arrays) -> None:
    assert _converted(state).changes == ()


def test_a_tensor_outside_the_prefix_is_refused_by_its_name(state: Arrays) -> None:
    arrays = {**prefixed(state, "model."), "loss.weight": np.ones(3, "float32")}
    with pytest.raises(ValueError, match=r"'loss.weight' is \(3,\) in the file") as e:
        _converted(arrays)
    assert "conv1" not in str(e.value)


def test_two_tensors_of_one_name_are_refused(state: Arrays) -> None:
    arrays = {**prefixed(state, "module."), "fc.bias": np.ones(3, "float32")}
    with pytest.raises(ValueError, match=r"'fc.bias' and 'module.fc.bias' are both"):
        _converted(arrays)


def test_names_that_do_not_fit_are_summed_up() -> None:
    arrays = {f"text.tower.{i}.w": np.ones(2, "float32") for i in range(100)}
    with pytest.raises(ValueError, match=r"none of the file's 100 names") as error:
        _converted(arrays)
    message = str(error.value)
    assert "which all begin with 'text.tower.'" in message
    assert message.count("text.tower.") == 2 and len(message) < 300


def _lightning(state: Any) -> Any:
    return {
        "state_dict": prefixed(state, "model."),
        "hyper_parameters": {"lr": 0.1, "size": np.float32(3)},
        "epoch": 3,
        "pytorch-lightning_version": "2.5",
        "callbacks": {},
        "optimizer_states": [{"state": {}}],
    }


WRAPPERS: dict[str, Any] = {
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model_state_dict": lambda s: {"model_state_dict": s, "best": np.float64(0.5)},
    "model": lambda s: {"model": s, "args": argparse.Namespace(lr=np.float32(0.1))},
    "net": lambda s: {"net": s, "acc": np.int64(3), "name": np.str_("x")},
    "module": lambda s: {"module": s, "done": np.bool_(True)},
    "model>state_dict": lambda s: {"model": {"state_dict": s}},
    "DataParallel": lambda s: {"state_dict": prefixed(s, "module.")},
    "Lightning": _lightning,
    "model_ema": lambda s: {"model_ema": s},
    "state_dict_ema": lambda s: {"state_dict_ema": prefixed(s, "module.")},
    "ema>module": lambda s: {"ema": {"module": s, "decay": 0.99}},
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers(state: Arrays, name: str, zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "checkpoint.pth"
    content = WRAPPERS[name](tensors(state))
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    found = read_state_dict(file)
    short = {k.removeprefix("module.").removeprefix("model."): found[k] for k in found}
    assert short.keys() == state.keys()
    assert all(np.array_equal(short[k], state[k]) for k in state)


@pytest.mark.parametrize(
    "name",
    ["a.pth", "a.PTH", "a.pth.tar", "last.ckpt", "a.Pt", "pytorch_model.bin", "A.CKPT"],
)
def test_suffixes(state: Arrays, expected: Arrays, name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(_lightning(tensors(state)), tmp_path / name)
    assert same(convert("resnet50", tmp_path / name, **SMALL).model, expected)


def test_raw_or_averaged(state: Arrays, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "both.pth"
    both = {"state_dict": tensors(state), "state_dict_ema": tensors(state, 1.0)}
    torch.save(both, file)
    raw, averaged = read_checkpoint(file), read_checkpoint(file, ema=True)
    np.testing.assert_array_equal(raw.arrays["fc.bias"], state["fc.bias"])
    np.testing.assert_array_equal(averaged.arrays["fc.bias"], state["fc.bias"] + 1)
    assert raw.notes == (
        "the weights are those of 'state_dict'; 'state_dict_ema' is left aside "
        "(--option ema=true takes the averaged weights)",
    )
    assert averaged.notes == (
        "the weights are those of 'state_dict_ema', averaged over the steps; "
        "'state_dict' is left aside",
    )
    torch.save({"state_dict": tensors(state)}, file)
    with pytest.raises(ValueError, match="holds no averaged weights"):
        read_checkpoint(file, ema=True)


def test_the_command_takes_the_averaged_weights(
    state: Arrays, tmp_path: Path, capsys: Any
) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "both.ckpt"
    both = {"model": tensors(state), "model_ema": tensors(state, 1.0)}
    torch.save(both, file)
    words = ["convert", str(file), "--name", "resnet50", "--out", str(tmp_path / "m")]
    for name, value in SMALL.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words += ["--set", f"{name}={text}"]
    assert main([*words, "--option", "emma=true"]) == 2
    assert "no option 'emma'. Did you mean 'ema'?" in capsys.readouterr().err
    assert main([*words, "--option", "ema=2"]) == 2
    assert "ema=2 is neither true nor false" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
    assert main([*words, "--option", "ema=true"]) == 0
    assert "the weights are those of 'model_ema'" in capsys.readouterr().out
    bias = weights_by_path(kzoo.load(tmp_path / "m"))["logits/bias"]
    np.testing.assert_array_equal(bias, state["fc.bias"] + 1)


# --- types of numbers -------------------------------------------------------------

NARROW = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


@pytest.mark.parametrize("kind", NARROW)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_narrow_types_keep_their_values(
    state: Arrays, kind: str, suffix: str, tmp_path: Path
) -> None:
    """PyTorch's own numbers of this type are the outside word."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    dtype = getattr(torch, kind)
    narrow = {k: v.to(dtype) if v.ndim else v for k, v in tensors(state).items()}
    file = tmp_path / f"a{suffix}"
    (save_tensors if suffix == ".safetensors" else torch.save)(narrow, file)
    found = convert("resnet50", file, **SMALL)
    again = to_source(found.model, "timm")
    for name, tensor in narrow.items():
        if tensor.ndim:
            np.testing.assert_array_equal(again[name], tensor.float().numpy())


def test_types_that_no_weights_have_are_named(tmp_path: Path) -> None:
    entry = {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}
    header = json.dumps({"scale": entry}).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(ValueError, match="'scale' is of type F8_E8M0; weights are"):
        read_state_dict(file)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(state: Arrays, value: float) -> None:
    bias = state["fc.bias"].copy()
    bias[1] = value
    with pytest.raises(ValueError, match=r"'fc.bias' holds NaN or infinity"):
        _converted({**state, "fc.bias": bias})
