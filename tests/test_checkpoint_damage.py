"""Checkpoints that are damaged, hold something else, or are meant to do harm."""

import argparse
import json
import struct
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from kzoo.weights.checkpoints import find_checkpoint
from kzoo.weights.files import read_state_dict
from kzoo.weights.pretrained import convert


class Trap:
    """A pickle that would open a file for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["weights", "beside", "args"])
def test_a_pickle_runs_nothing(place: str, zipped: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    trap = Trap(tmp_path / "ran")
    content = {
        "weights": {"state_dict": {"conv1.weight": trap}},
        "beside": {"state_dict": {"conv1.weight": torch.ones(1)}, "x": trap},
        "args": {"model": {"a": torch.ones(1)}, "args": argparse.Namespace(x=trap)},
    }[place]
    file = tmp_path / "trap.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"trap.pth .* object of \S*open") as error:
        read_state_dict(file)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_whole_model_is_refused_with_what_to_save(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"Linear.*torch.save\(model.state_dict\(\)"):
        read_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "is empty"),
        ("a.h5", b"", "is empty"),
        ("a.safetensors", b"", "is damaged"),
        ("a.pth", b"not a pickle", "not a file of torch.save, or damaged"),
        ("a.pth", b"PK\x05\x06" + bytes(18), "is not a state dict"),
        ("a.safetensors", struct.pack("<Q", 1 << 62) + b"{}", "is damaged"),
        ("a.safetensors", struct.pack("<Q", 2) + b"{}", "no file|fit|names"),
    ],
)
def test_damaged_files_are_one_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        convert("resnet50", tmp_path / name, "timm", num_blocks=(1,), filters=(4,))
    assert "\n" not in str(error.value)


def test_what_holds_no_weights_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    file = tmp_path / "a.pth"
    one = torch.ones(1)
    for content, message in (
        ([one], "it holds list"),
        ({}, "it holds nothing"),
        (
            {"student": {"a": one}, "teacher": {"a": one}},
            "it holds 'student', 'teacher'",
        ),
        ({"mo\ndel": {"a": one}}, r"it holds 'mo\\ndel'"),
        ({"a": one, "epoch": 3}, "'epoch' is no tensor"),
        ({"state_dict": {"a": one, "b": 1}}, "'b' under 'state_dict' is no tensor"),
        ({"a": one.to_sparse()}, "'a' is sparse or quantised"),
        ({"a": one.to("meta")}, r"'a' has no values \(meta\)"),
        ({"a": one.expand(1 << 40)}, "'a' says to be .* more than the file is long"),
    ):
        torch.save(content, file)
        with pytest.raises(ValueError, match=message):
            read_state_dict(file)


def test_a_packed_archive_is_not_unpacked(tmp_path: Path) -> None:
    import zipfile

    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 20))
    with pytest.raises(ValueError, match="its archive is packed, 1,048,576 bytes in"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": ["a"]}, "weight_map is not an object"),
        ({}, "weight_map is not an object"),
        ({"weight_map": {"a": "../b.safetensors"}}, "a file of the same folder is"),
        ({"weight_map": {"a": 3}}, "gives 'a' the file 3"),
        ({"weight_map": {"a": ".."}}, "a file of the same folder is meant"),
        ({"weight_map": {"a": "b.safetensors"}}, "which is not beside it"),
        ({"weight_map": {"a": "b.txt"}}, "which is no file of weights"),
    ],
)
def test_an_index_that_lists_no_files(index: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        find_checkpoint(str(tmp_path))


def test_a_folder_that_ends_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "a.pth"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        find_checkpoint(str(folder))


# --- Keras's files ------------------------------------------------------------------


def _h5(path: Path, write: Any) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        write(file)
    return path


def _named_weight(file: Any) -> None:
    file.create_group("dense").attrs["weight_names"] = ["dense/kernel:0"]


def _external_group(file: Any) -> None:
    import h5py

    file["layers"] = h5py.ExternalLink("secret.h5", "/layers")


def _external_array(file: Any) -> None:
    import h5py

    _named_weight(file)
    file["dense"].create_group("dense")
    file["dense/dense/kernel:0"] = h5py.ExternalLink("secret.h5", "/x")


def _external_storage(file: Any) -> None:
    _named_weight(file)
    file["dense"].create_dataset(
        "dense/kernel:0", (2,), "f4", external=[("secret.bin", 0, 8)]
    )


def _endless(file: Any) -> None:
    _named_weight(file)
    file["dense"].create_dataset("dense/kernel:0", (1 << 40,), "f4", chunks=(1024,))


def _loop(file: Any) -> None:
    import h5py

    file["layers"] = h5py.SoftLink("/layers")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: file.create_dataset("layers", data=[1.0]), "/layers is no group"),
        (_named_weight, "/dense/dense/kernel:0 is not in it"),
        (lambda file: file.create_dataset("layers/d/vars/x", data=[1.0]), "/0 is not"),
        (lambda f: f.create_dataset("layers/d/vars", data=[1.0]), "/vars is no group"),
        (lambda f: f.create_dataset("layers/d/vars/0", data="x"), "holds no numbers"),
        (_external_group, "is a link to elsewhere; not read"),
        (_external_array, "is a link to elsewhere; not read"),
        (_external_storage, "lies in another file; not read"),
        (_endless, "with the 0 arrays before it is more than the file holds"),
        (_loop, "link|damaged"),
        (lambda file: None, "holds no weights as Keras writes them"),
    ],
)
def test_h5_files_of_no_model(write: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    with pytest.raises(ValueError, match=message) as error:
        read_state_dict(_h5(tmp_path / "a.h5", write))
    assert "\n" not in str(error.value)


def test_many_links_to_one_dataset_of_an_h5_are_not_all_read(tmp_path: Path) -> None:
    def write(file: Any) -> None:
        whole = file.create_dataset("whole", data=np.ones(100_000, "float32"))
        for i in range(30):
            layer = file.create_group(f"layer_{i}")
            layer["kernel:0"] = whole  # a hard link
            layer.attrs["weight_names"] = [b"kernel:0"]
        file.move("whole", "layer_0/whole")

    with pytest.raises(ValueError, match=r"with the \d+ arrays before it is more than"):
        read_state_dict(_h5(tmp_path / "a.h5", write))


@pytest.mark.parametrize("keep", [10, 100, 1000, 3000])
def test_a_truncated_h5_is_damaged(keep: int, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(200)])
    file = tmp_path / "a.weights.h5"
    model.save_weights(file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match="is damaged"):
        read_state_dict(file)


def test_a_model_far_larger_than_its_file_is_not_built(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """A config.json beside the weights says the sizes: here, of 20 GB."""
    save_file({"a": np.ones(1, "float32")}, tmp_path / "model.safetensors")
    config = {"model_type": "bert", "hidden_size": 8192, "num_attention_heads": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    drawn = []
    monkeypatch.setattr(
        keras.initializers.GlorotUniform, "__call__", lambda *a, **k: drawn.append(a)
    )
    with pytest.raises(ValueError, match=r"1 numbers in the file, .* in the model"):
        convert("bert_tiny", tmp_path)
    assert not drawn


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert", "architectures": 3},
        {"model_type": "bert", "architectures": [None]},
        {"model_type": "bert", "hidden_size": "many"},
        {"model_type": "bert", "num_hidden_layers": [1]},
        {"model_type": "bert", "id2label": 3, "hidden_size": None},
    ],
)
def test_a_config_of_other_types_is_one_line(config: Any, tmp_path: Path) -> None:
    save_file({"a": np.ones(1, "float32")}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError) as error:
        convert("bert_tiny", tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
