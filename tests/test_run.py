"""The run folder: what opens as a run, and what is left alone."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo.training import Run, open_run

POINTS = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
CLOUDS = (POINTS, np.arange(60) % 3)


def train(out: Path, **changes: object) -> Run:
    settings = {"units": (4,), "batch_size": 32, "epochs": 1}
    return kzoo.train("mlp", CLOUDS, out=out, **{**settings, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "run").folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_run_is_opened_by_its_folder(trained: Path) -> None:
    run = open_run(trained)
    assert open_run(run) is run
    assert open_run(str(trained)) == run == Run(trained)
    assert run.finished
    assert run.load().kzoo.name == "mlp"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", r"config\.json is missing"),
        ("model", "has no model: the run has not finished"),
        ("model/model.safetensors", r"model holds no model\.safetensors"),
    ],
)
def test_missing_file_is_named(folder: Path, name: str, message: str) -> None:
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FileNotFoundError, match=message):
        open_run(folder)


def test_other_folders_are_no_runs(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_run(tmp_path / "none")
    with pytest.raises(ValueError, match=r"config\.json is not that of a run"):
        open_run(folder / "model")
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        open_run(folder)


def test_folder_that_holds_no_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for existing in ("resume", "fresh", "extend"):
        with pytest.raises(ValueError, match="is not empty and holds no run"):
            train(tmp_path, existing=existing)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match=r"notes\.txt is a file"):
        train(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    assert train(tmp_path).finished


def test_fresh_moves_a_run_aside_and_deletes_nothing(folder: Path) -> None:
    before = {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    again = train(folder, existing="fresh", seed=1)
    assert again.config["recipe"]["seed"] == 1
    (aside,) = (path for path in folder.parent.iterdir() if path != folder)
    assert aside.name.startswith("run.")
    for path, data in before.items():
        assert (aside / path).read_bytes() == data
    assert json.loads((aside / "config.json").read_text())["recipe"]["seed"] == 0
    third = train(folder, existing="fresh", seed=2)
    assert third.config["recipe"]["seed"] == 2
    assert len(list(folder.parent.iterdir())) == 3
