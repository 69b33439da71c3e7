"""The ``kzoo`` command: what it prints, and one line for what a user got wrong."""

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kzoo
from kzoo.cli import doctor_command, progress
from kzoo.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
TINY = ["--set", "units=8", "--batch-size", "256", "--epochs", "2"]


@pytest.fixture(autouse=True)
def left_as_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command sets the backend and the log level of its process."""
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    logger = logging.getLogger("kzoo")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    kzoo.train("mlp", "digits", out=out, units=(8,), batch_size=256, epochs=2)
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line on stderr of a command that a user got wrong."""
    try:
        code = main(words)
    except SystemExit as exit:  # argparse's own
        code = int(exit.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.strip().removeprefix("error: ")


# --- list, describe, doctor -------------------------------------------------------


def test_list_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "weights", "MACs", "tasks"]
    assert [line.split()[0] for line in lines[1:]] == kzoo.list_models()


def test_list_is_filtered(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["list", "*rnn*", "--task", "sequence-classification", "--json"]
    assert main(words) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == kzoo.list_models("*rnn*")
    assert {"name", "trainable_parameters", "tasks", "macs"} <= set(entries[0])
    assert main(["list", "--max-parameters", "1000", "--json"]) == 0
    found = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert found == kzoo.list_models(max_parameters=1000)


def test_describe_is_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "mlp_xor"]) == 0
    page = capsys.readouterr().out
    assert "17 trainable" in page
    for field in kzoo.describe("mlp_xor")["hparams"]:
        assert re.search(rf"^{field['name']} .*{re.escape(field['doc'])}$", page, re.M)


def test_describe_counts_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["describe", "mlp", "--set", "units=5", "--set", "num_features=3", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trainable_parameters"] == 3 * 5 + 5 + 5 * 10 + 10
    assert main(["describe", "mlp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == kzoo.describe("mlp")


def test_doctor_says_what_is_here(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kzoo"] == kzoo.__version__
    assert found["backend"] == keras.config.backend()
    assert found["versions"]["keras"] == keras.version()
    assert len(found["devices"]) >= 1
    assert keras.config.backend() in found["backends installed"]
    # Two steps under each, of which two processes take their own.
    tried = found["distributions"]
    assert {"none", "mirrored", "tpu", "multi_worker, 2 processes"} == set(tried)
    assert tried["none"] == "works, 1 replica on one device"
    assert tried["mirrored"].startswith("works")
    assert tried["multi_worker, 2 processes"] == "works over loopback"
    assert tried["tpu"].startswith("no: distribution 'tpu' found no TPU")

    monkeypatch.setattr(doctor_command, "distributions", lambda backend: tried)
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in [*found, *tried])


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{kzoo.__version__}\n"
    assert main([]) == 2
    page = capsys.readouterr().out
    assert all(name in page and text in page for name, text in COMMANDS.items())
    for name in COMMANDS:
        with pytest.raises(SystemExit) as exit:
            main([name, "--help"])
        assert exit.value.code == 0
        assert f"kzoo {name}" in capsys.readouterr().out


# --- train and evaluate -----------------------------------------------------------


def test_train_tells_how_it_goes_and_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", "digits", *TINY, "--out", str(out)]
    assert main([*words, "--seed", "3", "--set", "learning_rate=1e-2"]) == 0
    table, told = capsys.readouterr()
    config = json.loads((out / "config.json").read_text())
    assert config["recipe"]["learning_rate"] == 0.01
    assert (config["recipe"]["seed"], config["recipe"]["batch_size"]) == (3, 256)
    assert config["model"]["hparams"]["units"] == [8]
    assert config["dataset"]["options"]["seed"] == 3
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}/2 .*loss \d.*val_accuracy \d", told)
    metrics = json.loads((out / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert f"{metrics[split]['accuracy']:.4f}" in table
    assert "precision" in table  # scores by class
    assert f"everything is in {out}" in table.replace("\n", " ")


def test_train_json_is_the_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "lstm", "--data", "as_sequence=true", "--json"]
    small = ["--set", "units=4", "--set", "num_layers=1", "--epochs", "1"]
    assert main([*words, *small, "--batch-size", "256", "--out", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((out / "metrics.json").read_text())
    assert 0 <= told["test"]["accuracy"] <= 1
    assert {"test", "validation"} <= set(told)


def test_evaluate_json_is_the_scores_of_test(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stored = json.loads((trained / "metrics.json").read_text())
    expected = {k: v for k, v in stored["test"].items() if k != "classes"}
    assert found == expected
    more = {"balanced_accuracy", "macro_f1", "auc", "top_5_accuracy"}
    assert set(found) == {"accuracy", "loss", *more}
    assert main(["evaluate", str(trained), "--split", "validation", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["accuracy"] == stored["validation"]["accuracy"]


def test_evaluate_is_a_table(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained)]) == 0
    table = capsys.readouterr().out
    stored = json.loads((trained / "metrics.json").read_text())["test"]
    assert f"{stored['accuracy']:.4f}" in table
    assert f"{stored['classes'][9]['f1']:.3f}" in table


def digest(folder: Path) -> str:
    data = (folder / "model" / "model.safetensors").read_bytes()
    return hashlib.sha256(data).hexdigest()


def test_config_of_a_run_does_the_same_again(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(trained / "config.json")
    words = ["train", "--config", config, "--json", "--out"]
    assert main([*words, str(tmp_path / "same")]) == 0
    assert main([*words, str(tmp_path / "other"), "--seed", "1"]) == 0
    assert digest(tmp_path / "same") == digest(trained) != digest(tmp_path / "other")
    told = [
        json.loads((f / "config.json").read_text())
        for f in (trained, tmp_path / "same")
    ]
    assert told[0] == told[1]


def test_run_folder_starts_a_training(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "second"
    words = ["train", str(trained), "--dataset", "digits", "--set", "learning_rate=0"]
    assert main([*words, "--epochs", "1", "--json", "--out", str(out)]) == 0
    assert load_file(out / "model" / "model.safetensors").keys()
    assert digest(out) == digest(trained)


def test_progress_line_says_loss_metric_speed_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", "digits", *TINY, "--out", str(out)]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert re.search(r"epoch 2/2", told)
    assert re.search(r"loss [\d.]+", told)
    assert re.search(r"accuracy [\d.]+", told)
    assert re.search(r"validation accuracy [\d.]+", told)
    assert re.search(r"[\d,]+ examples/s", told)
    assert re.search(r"\d:\d\d:\d\d", told)


def test_loss_that_is_no_number_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "mlp", "--dataset", "digits", *TINY, "--json"]
    wild = ["--set", "optimizer=sgd", "--set", "learning_rate=1000", "--epochs", "9"]
    deep = ["--set", "units=64,64,64", "--set", "schedule=constant"]
    assert main([*words, *wild, *deep, "--out", str(tmp_path / "run")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


# --- what a user gets wrong -------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "cnn"], "unknown command 'trian'. Did you mean 'train'?"),
        (["list", "--task", "image-clasification"], "Did you mean 'image-classificat"),
        (["list", "--max-parameters", "many"], "argument --max-parameters: invalid"),
        (["describe", "cn"], "unknown model 'cn'. Did you mean 'cnn'?"),
        (["describe", "cnn", "--set", "filter=3"], "Did you mean 'filters'?"),
        (["describe", "cnn", "--set", "filters"], "'filters' is not of the form name="),
        (["describe", "cnn", "--set", "filters=a"], "filters=['a'] is not"),
        (["describe", "cnn", "--set", "image_size=2"], "need at least 4x4"),
        (["describe"], "the following arguments are required: name"),
        (["evaluate", "runs/none"], "there is no folder runs/none"),
        (
            ["doctor", "--backend", "jaxx"],
            "unknown backend 'jaxx'. Did you mean 'jax'?",
        ),
    ],
    ids=str,
)
def test_mistakes_are_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in fails(capsys, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transfomer"], "unknown model 'transfomer'. Did you mean 'transformer'?"),
        (["runs/none"], "there is no folder runs/none"),
        ([], "name a model, or a --config that does"),
        (
            ["cnn", "--dataset", "digit"],
            "unknown dataset 'digit'. Did you mean 'digits",
        ),
        (
            ["cnn", "--data", "as_sequnce=true"],
            "digits has no option 'as_sequnce'. Did you mean 'as_sequence'?",
        ),
        (["cnn", "--data", "seed=x"], "seed='x' is not an int from 0"),
        (["cnn", "--recipe", "cnn_digit"], "Did you mean 'cnn_digits'?"),
        (["cnn", "--set", "epoch=3"], "Did you mean 'epochs'?"),
        (["cnn", "--set", "filtres=3"], "Did you mean 'filters'?"),
        (["cnn", "--set", "filters=0,1"], "filters=[0, 1] is not"),
        (["cnn", "--set", "optimizer=adm"], "unknown optimizer 'adm'. Did you mean 'a"),
        (["cnn", "--set", "dropout_rate=2"], "dropout_rate=2 is not a float from 0 to"),
        (["cnn", "--set", "learning_rate=nan"], "learning_rate=nan is not a float"),
        (["cnn", "--set", "epochs"], "'epochs' is not of the form name=value"),
        (["cnn", "--epochs", "0"], "epochs=0 is not an int of at least 1"),
        (["cnn", "--epochs", "ten"], "epochs='ten' is not an int of at least 1"),
        (["cnn", "--batch-size", "1.5"], "batch_size=1.5 is not an int of at least 1"),
        (["cnn", "--seed", "-1"], "seed=-1 is not an int from 0 to"),
        (["cnn", "--precision", "fp16"], "precision='fp16' is not one of 'float32'"),
        (["cnn", "--set", "num_classes=3"], "digits fixes num_classes=10; got 3"),
        (["cnn", "--set", "image_size=4"], "digits fixes image_size=8; got 4"),
        (
            ["cnn", "--set", "filters=4,4,4,4", "--set", "num_convs=1"],
            "need at least 16x16",
        ),
        (
            ["lstm", "--dataset", "diabetes"],
            "lstm does not serve diabetes, which is regression of vectors; models that "
            "do: mlp, mlp_xor",
        ),
        (["cnn", "--distribution", "mirorred"], "Did you mean 'mirrored'?"),
        (["cnn", "--distribution", "parameter_server"], "use 'multi_worker'"),
        (["cnn", "--distribution", "multi_worker"], "kzoo launch --workers 2"),
        (["cnn", "--distribution", "data_parallel"], "is jax's, the backend is"),
        (["cnn", "--backend", "tensorflw"], "Did you mean 'tensorflow'?"),
        (["cnn", "--config", "none.json"], "none.json is missing"),
        (["cnn", "--fresh", "--extend"], "--fresh and --extend exclude each other"),
        (["cnn", "--set", "snapshot_every=often"], "snapshot_every='often' is neither"),
        (["cnn", "--fresch"], "unrecognized arguments: --fresch"),
    ],
    ids=str,
)
def test_mistakes_in_train_leave_nothing_behind(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "train", *words, "--out", "runs/mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "doctor", "evaluate"])
def test_backend_that_is_not_installed(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "torch" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.chdir(tmp_path)
    words = {"train": ["cnn"], "doctor": [], "evaluate": [str(tmp_path)]}[command]
    told = fails(capsys, command, *words, "--backend", "torch")
    assert told == "backend 'torch' is not installed: pip install torch"
    assert list(tmp_path.iterdir()) == []


def test_unknown_backend_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jxa")
    assert "unknown backend 'jxa'. Did you mean 'jax'?" in fails(capsys, "doctor")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model", "has no model: the run has not finished"),
        ("model/config.json", "config.json is missing"),
        ("model/model.safetensors", "holds no model.safetensors"),
        ("model/preprocessing.json", "preprocessing.json is missing"),
    ],
)
def test_run_that_lacks_a_file(
    run: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert message in fails(capsys, "evaluate", str(run))


def test_weights_that_do_not_fit_are_shown_from_both_sides(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "model" / "model.safetensors"
    arrays = load_file(file)
    arrays["block_0/kernel"] = arrays["block_0/kernel"][:, :5].copy()
    del arrays["logits/bias"]
    save_file(arrays, file)
    told = fails(capsys, "evaluate", str(run))
    assert "'block_0/kernel' is (64, 5) in the file, (64, 8) in the model" in told
    assert "'logits/bias' is missing in the file, (10,) in the model" in told


def test_weights_that_are_damaged(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    assert "model.safetensors is damaged" in fails(capsys, "evaluate", str(run))


def test_mistakes_in_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fails(capsys, "evaluate", str(run), "--split", "tets")
    assert told == "unknown split 'tets'. Did you mean 'test'?"
    told = fails(capsys, "evaluate", str(run), "--batch-size", "0")
    assert "--batch-size 0 is not at least 1" in told


def test_folder_that_holds_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    told = fails(capsys, "train", "mlp", "--dataset", "digits", "--out", str(tmp_path))
    assert "is not empty and holds no run" in told
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_fault_of_ours_is_no_mistake_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error out of another package keeps its traceback."""
    from kzoo import index

    monkeypatch.setattr(index, "list_models", lambda *a, **k: json.loads("{"))
    with pytest.raises(json.JSONDecodeError):
        main(["list"])


# --- as a process of its own ------------------------------------------------------


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


NO_KERAS = """
import sys
import kzoo
from kzoo.cli.main import main
for words, code in (
    (["list"], 0),
    (["list", "--json"], 0),
    (["describe", "cnn"], 0),
    (["describe", "cn"], 2),
    (["train", "transfomer"], 2),
    (["train", "runs/none"], 2),
    (["trian"], 2),
    (["evaluate", "runs/none"], 2),
    (["doctor", "--backend", "jaxx"], 2),
):
    assert main(words) == code, words
heavy = {"keras", "tensorflow", "jax", "torch", "sklearn", "matplotlib", "rich"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_asking_and_typing_wrong_import_no_keras() -> None:
    done = process("-c", NO_KERAS)
    assert done.returncode == 0, done.stderr


def test_mistake_is_one_line_however_far_it_gets(tmp_path: Path) -> None:
    """Past the imports of the backend, whose libraries write to stderr themselves."""
    out = tmp_path / "run"
    words = ["-m", "kzoo", "train", "cnn", "--set", "num_classes=3", "--out", str(out)]
    done = process(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: digits fixes num_classes=10; got 3\n"
    assert not out.exists()


def test_command_line_trains_and_evaluates_on_jax(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    out = str(tmp_path / "run")
    words = ["-m", "kzoo", "train", "mlp", "--dataset", "digits", "--json", *TINY]
    done = process(*words, "--backend", "jax", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    trained = json.loads(done.stdout)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["backend"] == "jax"
    done = process("-m", "kzoo", "evaluate", out, "--json", "--backend", "jax")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == trained["test"]["accuracy"]


@pytest.mark.parametrize("command", ["list --json", "describe mlp_xor", "--version"])
@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_has_seen_enough(
    command: str, reader: str, unbuffered: str
) -> None:
    # Gone in the middle of a text, or before a short one leaves its buffer at the end.
    words = f"{sys.executable} -m kzoo {command} | {reader}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_config_of_arrays_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    data = (rng.normal(size=(40, 3)), np.arange(40) % 2)
    run = kzoo.train("mlp", data, out=tmp_path / "run", epochs=1)
    again = ["train", "--config", str(run.folder / "config.json")]
    assert main([*again, "--out", str(tmp_path / "again")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "only kzoo.train can do it again" in line
    assert not (tmp_path / "again").exists()
