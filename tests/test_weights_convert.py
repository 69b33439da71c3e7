"""Weights from other zoos: refused whole or taken whole, and back again."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import kzoo
from kzoo.weights import weights_by_path
from kzoo.weights.checkpoints import WeightsUnavailableError
from kzoo.weights.convert import from_source, to_source, with_channels
from kzoo.weights.files import read_state_dict, write_state_dict
from kzoo.weights.names import SOURCES
from kzoo.weights.names.table import Buffer, Rule, Table
from kzoo.weights.places import filled
from kzoo.weights.pretrained import (
    convert,
    convert_to_folder,
    guessed_source,
    load_pretrained,
    preprocessing_of,
)

SMALL: dict[str, Any] = {
    "num_blocks": (1, 2),
    "filters": (4, 8),
    "stem_filters": 8,
    "num_classes": 10,
    "image_size": 32,
}


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """A small resnet50 as timm would store it."""
    keras.utils.set_random_seed(0)
    model = kzoo.build_model("resnet50", **SMALL)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) + 2.0)
    return to_source(model, "timm")


def test_names_and_layout(state: dict[str, np.ndarray]) -> None:
    assert state["conv1.weight"].shape == (8, 3, 7, 7)  # filters, channels, h, w
    assert state["layer2.1.conv3.weight"].shape == (32, 8, 1, 1)
    assert state["layer1.0.downsample.1.running_var"].shape == (16,)
    assert state["fc.weight"].shape == (10, 32)
    assert state["bn1.num_batches_tracked"].dtype == np.int64


def test_round_trip_is_bit_exact(state: dict[str, np.ndarray]) -> None:
    found = from_source(state, "resnet50", "timm", **SMALL)
    assert found.changes == ()
    again = to_source(found.model, "timm")
    assert again.keys() == state.keys()
    assert all(again[name].tobytes() == state[name].tobytes() for name in state)


def _without(name: str) -> Any:
    return lambda state: {k: v for k, v in state.items() if k != name}


def _changed(name: str, change: Any) -> Any:
    return lambda state: {**state, name: change(state[name])}


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            _without("layer1.0.bn2.running_mean"),
            r"'layer1.0.bn2.running_mean' is missing in the file, \(4,\) in the model",
        ),
        (
            lambda state: {**state, "layer3.0.conv1.weight": np.zeros((4, 4, 1, 1))},
            r"'layer3.0.conv1.weight' is \(4, 4, 1, 1\) in the file, missing in",
        ),
        (
            _changed("layer2.0.conv1.weight", np.transpose),
            r"'layer2.0.conv1.weight' is \(1, 1, 16, 8\) in the file, \(8, 16, 1, 1\)",
        ),
        (
            _changed("layer2.1.conv2.weight", lambda a: a[:5]),
            r"'layer2.1.conv2.weight' is \(5, 8, 3, 3\) in the file, \(8, 8, 3, 3\)",
        ),
        (_changed("fc.weight", np.transpose), r"'fc.weight' is \(32, 10\) in the file"),
        (_changed("fc.weight", lambda a: a[:3]), r"'fc.weight' is \(3, 32\) in the"),
        (_without("fc.bias"), r"'fc.bias' is missing in the file"),
        (  # a head of another size on another network's features
            lambda state: {
                **state,
                "fc.weight": state["fc.weight"][:3, :16],
                "fc.bias": state["fc.bias"][:3],
            },
            r"'fc.weight' is \(3, 16\) in the file, \(10, 32\) in the model",
        ),
        (_changed("conv1.weight", lambda a: a[:, :1]), r"'conv1.weight' is \(8, 1, 7"),
        (_changed("bn1.bias", lambda a: a.astype(int)), "'bn1.bias' is of type int64"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    state: dict[str, np.ndarray], damage: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        from_source(damage(state), "resnet50", "timm", **SMALL)


def test_a_head_of_another_size_is_made_afresh(state: dict[str, np.ndarray]) -> None:
    found = from_source(state, "resnet50", "timm", **{**SMALL, "num_classes": 3})
    assert found.model.output_shape == (None, 3)
    assert [change.split()[0] for change in found.changes] == ["fc.weight", "fc.bias"]
    assert "(10, 32) is left aside: a fresh head (3, 32)" in found.changes[0]
    again = to_source(found.model, "timm")
    same = [name for name in state if not name.startswith("fc.")]
    assert all(np.array_equal(again[name], state[name]) for name in same)


def test_without_a_head_it_is_left_aside(state: dict[str, np.ndarray]) -> None:
    found = from_source(state, "resnet50", "timm", **{**SMALL, "num_classes": 0})
    assert found.model.output_shape == (None, 32)
    assert [change.split()[0] for change in found.changes] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_colours(state: dict[str, np.ndarray], channels: int) -> None:
    found = from_source(state, "resnet50", "timm", **SMALL, channels=channels)
    assert len(found.changes) == 1
    assert found.changes[0].startswith("conv1.weight (8, 3, 7, 7) is ")
    kernel = to_source(found.model, "timm")["conv1.weight"]
    # An image that is the same in every channel answers as it did in three colours.
    if channels == 1:
        np.testing.assert_allclose(kernel[:, 0], state["conv1.weight"].sum(1), 1e-5)
    else:
        for i in range(channels):
            expected = state["conv1.weight"][:, i % 3] * 3 / channels
            np.testing.assert_allclose(kernel[:, i], expected, rtol=1e-5)
    mean = found.preprocessing.input_mean
    assert mean is not None and len(mean) == channels


def test_six_colours_keep_the_size_of_the_answer() -> None:
    kernel = np.arange(12.0).reshape(2, 3, 2, 1)
    assert with_channels(kernel, 6, axis=1).sum() == kernel.sum()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_and_model_folders(
    state: dict[str, np.ndarray], suffix: str, tmp_path: Path
) -> None:
    if suffix == ".pth":
        pytest.importorskip("torch")
    file = write_state_dict(state, tmp_path / f"weights{suffix}")
    found = convert_to_folder("resnet50", file, tmp_path / "out", "timm", **SMALL)
    loaded = kzoo.load(tmp_path / "out")
    expected, actual = weights_by_path(found.model), weights_by_path(loaded)
    assert all(np.array_equal(expected[path], actual[path]) for path in expected)
    again = read_state_dict(write_state_dict(state, tmp_path / f"again{suffix}"))
    assert all(np.array_equal(again[name], state[name]) for name in state)


def test_a_pth_runs_nothing(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Trap:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match=r"trap.pth is not a state dict of tensors"):
        read_state_dict(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_not_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*a.safetensors"):
        read_state_dict(tmp_path / "a.safetensors")
    for suffix in (".safetensors", ".h5"):
        file = tmp_path / f"b{suffix}"
        file.write_bytes(b"not weights")
        with pytest.raises(ValueError, match="is damaged"):
            read_state_dict(file)
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(ValueError, match=r"c.txt is none of .safetensors, .pth"):
        read_state_dict(tmp_path / "c.txt")


def test_what_is_changed_is_logged(
    state: dict[str, np.ndarray], tmp_path: Path, caplog: Any
) -> None:
    file = tmp_path / "model.safetensors"
    save_file(state, file)
    with caplog.at_level(logging.INFO):
        load_pretrained("resnet50", str(file), **{**SMALL, "num_classes": 2})
    assert "fc.bias (10,) is left aside" in caplog.text


def test_without_a_network(monkeypatch: Any) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def offline(repository: str, file: str) -> str:
        raise ConnectionError("the network is unreachable")

    monkeypatch.setattr(hub, "hf_hub_download", offline)
    with pytest.raises(WeightsUnavailableError) as caught:
        load_pretrained("resnet50", "timm/resnet50.a1_in1k")
    assert "timm/resnet50.a1_in1k could not be fetched" in str(caught.value)
    assert "the network is unreachable" in str(caught.value)
    assert "hf download timm/resnet50.a1_in1k model.safetensors" in str(caught.value)


def test_from_the_hub(
    state: dict[str, np.ndarray], monkeypatch: Any, tmp_path: Path
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        '{"pretrained_cfg": {"input_size": [3, 160, 160], "crop_pct": 0.95,'
        ' "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 1]}}'
    )
    monkeypatch.setattr(hub, "hf_hub_download", lambda _, file: str(tmp_path / file))
    found = convert("resnet50", "timm/resnet50.a1_in1k", **SMALL)
    assert found.changes == ()
    assert found.preprocessing.image_size == (160, 160)
    assert found.preprocessing.crop_rate == 0.95
    assert found.preprocessing.interpolation == "bicubic"
    assert found.preprocessing.input_scale == (51, 51, 255)
    assert preprocessing_of({}) is None


def test_the_source_is_guessed(state: dict[str, np.ndarray]) -> None:
    assert guessed_source("resnet50", state) == "timm"
    by_keras = to_source(kzoo.build_model("resnet50", **SMALL), "keras")
    assert guessed_source("resnet50", by_keras) == "keras"
    with pytest.raises(ValueError, match="are not those that keras, timm, torchvision"):
        guessed_source("resnet50", {"encoder.weight": np.zeros(3)})


def test_an_unknown_source_is_told() -> None:
    with pytest.raises(ValueError, match=r"in 'tim' are known. Did you mean 'timm'\?"):
        from_source({}, "resnet50", "tim")


def test_sums_of_templates() -> None:
    assert filled("features.{n+2*i+3}", {"n": 4, "i": 1}) == "features.9"
    assert filled("Mixed_{i+5}{j:b}.conv", {"i": 1, "j": 3}) == "Mixed_6e.conv"


# What networks of attention write otherwise than in a layer of its own.
ATTENTION: dict[str, Any] = {
    "vocab_size": 9,
    "sequence_length": 5,
    "positions": "learned",
    "hidden_dim": 4,
    "mlp_dim": 6,
    "num_heads": 2,
    "num_layers": 1,
    "num_classes": 3,
}
ATTENTION_TABLE = Table(
    (
        Rule("embedding", "words"),
        Rule("positions/table", "positions", axes=(None, 0, 1)),
        Rule("block_{i}_query", "h.{i}.qkv", part=0),
        Rule("block_{i}_key", "h.{i}.qkv", part=1),
        Rule("block_{i}_value/kernel", "h.{i}.qkv.weight", part=2),
        Rule("block_{i}_value/bias", "h.{i}.qkv.bias", part=2),
        Rule("block_{i}_output", "h.{i}.output"),
        Rule("block_{i}_mlp_in", "h.{i}.wide", axes=(0, 1)),  # in x out
        Rule("block_{i}_mlp_out", "h.{i}.narrow"),
        Rule("block_{i}_attention_norm/gamma", "h.{i}.scale", axes=(0, None, None)),
        Rule("block_{i}_attention_norm/beta", "h.{i}.shift"),
        Rule("block_{i}_mlp_norm", "h.{i}.norm"),
        Rule("norm", "norm"),
        Rule("logits", "head"),
    ),
    copies={"tied.weight": "words.weight"},
    aside=(r"old_mask",),
    buffers=(
        Buffer(
            "block_{i}_attention",
            "h.{i}.heads",
            lambda layer: np.arange(layer.num_heads),
        ),
    ),
)


@pytest.fixture
def attention(monkeypatch: pytest.MonkeyPatch) -> keras.Model:
    monkeypatch.setitem(SOURCES, "transformer", {"timm": ATTENTION_TABLE})
    model = kzoo.build_model("transformer", **ATTENTION)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def test_tensors_of_several_weights_and_of_none(attention: keras.Model) -> None:
    arrays = to_source(attention, "timm")
    ours = weights_by_path(attention)
    parts = ("query", "key", "value")
    for kind, name in (("kernel", "weight"), ("bias", "bias")):
        expected = np.concatenate(
            [ours[f"block_0_{part}/{kind}"].T for part in parts]  # out x in
        )
        np.testing.assert_array_equal(arrays[f"h.0.qkv.{name}"], expected)
    np.testing.assert_array_equal(arrays["positions"][0], ours["positions/table"])
    np.testing.assert_array_equal(
        arrays["h.0.wide.weight"], ours["block_0_mlp_in/kernel"]
    )
    assert arrays["h.0.scale"].shape == (4, 1, 1)
    assert arrays["h.0.heads"].tolist() == [0, 1]
    assert arrays["tied.weight"] is arrays["words.weight"]
    found = from_source(
        {**arrays, "old_mask": np.ones(3)}, "transformer", "timm", **ATTENTION
    )
    assert found.changes == ("old_mask (3,) is left aside",)
    again = to_source(found.model, "timm")
    assert again.keys() == arrays.keys()
    assert all(again[name].tobytes() == arrays[name].tobytes() for name in arrays)
    without = {n: a for n, a in arrays.items() if n not in ("tied.weight", "h.0.heads")}
    assert from_source(without, "transformer", "timm", **ATTENTION).changes == ()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            _changed("h.0.qkv.weight", lambda a: a[:-4]),
            r"'h.0.qkv.weight' is \(8, 4\) in the file, \(12, 4\) in the model",
        ),
        (
            _changed("h.0.wide.weight", np.transpose),
            r"'h.0.wide.weight' is \(6, 4\) in the file, \(4, 6\) in the model",
        ),
        (_without("h.0.qkv.bias"), r"'h.0.qkv.bias' is missing in the file"),
        (_without("positions"), r"'positions' is missing in the file, \(1, 5, 4\)"),
        (
            _changed("tied.weight", lambda a: a + 1),
            "'tied.weight' is not the same as 'words.weight'",
        ),
        (
            _changed("h.0.heads", lambda a: a + 1),
            "'h.0.heads' is not that of transformer in timm",
        ),
    ],
)
def test_what_does_not_fit_attention_is_refused_by_name(
    attention: keras.Model, damage: Any, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        from_source(
            damage(to_source(attention, "timm")), "transformer", "timm", **ATTENTION
        )


def test_a_bias_before_a_normalisation_goes_into_its_mean() -> None:
    model = kzoo.build_model("resnet50", **SMALL)
    arrays = to_source(model, "keras")
    bias = np.arange(8, dtype="float32")
    found = from_source(
        {**arrays, "conv1_conv.bias": bias}, "resnet50", "keras", **SMALL
    )
    mean = found.model.get_layer("stem_norm").moving_mean
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(mean.value), -bias)


def test_every_table_is_of_a_family_of_the_zoo() -> None:
    families = {kzoo.describe(name)["family"] for name in kzoo.list_models()}
    assert set(SOURCES) <= families


def test_the_command_takes_and_gives_back(
    state: dict[str, np.ndarray], tmp_path: Path, capsys: Any
) -> None:
    from kzoo.cli.main import main

    there, back = tmp_path / "timm.safetensors", tmp_path / "back.safetensors"
    save_file(state, there)
    sets = [
        part
        for name, value in SMALL.items()
        for part in ("--set", f"{name}={value}".replace(" ", ""))
    ]
    folder = str(tmp_path / "out")
    command = ["convert", "--from", "timm", "--name", "resnet50", *sets]
    assert main([*command, str(there), "--out", folder]) == 0
    assert capsys.readouterr().out == f"resnet50 is in {folder}\n"
    assert (tmp_path / "out" / "preprocessing.json").exists()
    assert main(["convert", "--to", "timm", folder, "--out", str(back)]) == 0
    assert there.read_bytes() == back.read_bytes()
    assert main([*command, str(tmp_path / "none.pth"), "--out", folder]) == 2
    assert "error: there is no file" in capsys.readouterr().err
