"""Families from outside kzoo: by a file, a module, an installed package."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo import extend, index, plugins, registry
from kzoo.cli.main import main
from kzoo.tuning.request import Request, from_json

OWN = '''
"""One hidden layer."""

from dataclasses import dataclass

import keras

from kzoo.extend import Family, VectorHParams, hp, logits_head, register, vector_input


@dataclass(frozen=True, kw_only=True)
class OwnHParams(VectorHParams):
    units: int = hp(3, "hidden units", min=1, max=64, tune=(2, 8))


def build(hparams):
    inputs = vector_input(hparams)
    x = keras.layers.Dense(hparams.units, "relu", name="block_0")(inputs)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


FAMILY = Family(
    build,
    {"own": OwnHParams()},
    smallest=OwnHParams(),
    tasks=("tabular-classification", "regression"),
    paper="none",
)
'''


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers or imports is gone after it."""
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(index, "_added", dict(index._added))
    monkeypatch.setattr(plugins, "_noted", [])
    monkeypatch.setattr(plugins, "_imported", [])
    monkeypatch.setattr(plugins, "_origins", {})
    monkeypatch.setattr(plugins, "_state", dict(plugins._state))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if name.startswith(("own_", "kzoo_plugin_")):
            del sys.modules[name]


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process is: nothing of one's own is registered."""
    for name in [name for name in registry._by_name if name == "own"]:
        del registry._by_name[name]
    for module, attribute in ((index, "_added"), (plugins, "_origins")):
        monkeypatch.setattr(module, attribute, {})
    monkeypatch.setattr(plugins, "_imported", [])
    sys.modules.pop("own_family", None)


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "own_family.py"
    path.parent.mkdir()
    path.write_text(f"{OWN}\nregister(FAMILY)\n")
    return path


def installed(folder: Path, entry_point: str, source: str) -> None:
    """What pip leaves of a package with an entry point, where Python looks."""
    (folder / "own_zoo.py").write_text(source)
    facts = folder / "own_zoo-1.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: own-zoo\nVersion: 1.2\n"
    )
    (facts / "entry_points.txt").write_text(f"[kzoo.families]\nown = {entry_point}\n")
    sys.path.insert(0, str(folder))
    plugins._state["installed"] = False


def test_family_of_a_file_is_listed_and_described(
    own_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "own*", "--json", "--plugin", str(own_file)]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == entry["family"].removesuffix("_family") == "own"
    assert entry["trainable_parameters"] == 8 * 3 + 3 + 3 * 10 + 10
    assert entry["plugin"] == {"file": str(own_file)}
    assert main(["describe", "own"]) == 0
    assert f"plug-in  {own_file}" in capsys.readouterr().out


def test_run_records_its_plug_in_and_names_it_where_it_is_missing(
    own_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    words = ["train", "own", "--dataset", "diabetes", "--epochs", "1", "--json"]
    plugin = ["--plugin", str(own_file)]
    assert main([*words, "--out", str(run), *plugin]) == 0
    for folder in (run, run / "model"):
        config = json.loads((folder / "config.json").read_text())
        assert config["plugin"] == {"file": str(own_file)}
    forget(monkeypatch)
    capsys.readouterr()
    expected = (
        "is of the model 'own' of the plug-in "
        f"{own_file}, which was not named: add --plugin {own_file}"
    )
    for asked in (["evaluate", str(run)], ["predict", str(run), "1,2"]):
        assert main(asked) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1
    for call in (kzoo.load, kzoo.evaluate):
        with pytest.raises(ValueError, match="is of the model 'own' of the plug-in"):
            call(run)
    assert main(["evaluate", str(run), "--json", *plugin]) == 0
    assert main([*words, "--out", str(run), *plugin]) == 0  # it is finished


def test_installed_package_is_read_once_it_is_asked_for(tmp_path: Path) -> None:
    installed(tmp_path, "own_zoo:FAMILY", OWN)
    kzoo.describe("cnn")
    assert "own_zoo" not in sys.modules
    assert kzoo.build_model("own", num_classes=2).output_shape == (None, 2)
    assert "own" in kzoo.list_models(task="regression")
    origin = kzoo.describe("own")["plugin"]
    assert origin == {"distribution": "own-zoo", "version": "1.2"}
    assert "own-zoo" in plugins.missing("own", origin, "runs/a")


def test_installed_package_may_name_a_module_that_registers(tmp_path: Path) -> None:
    installed(tmp_path, "own_zoo", f"{OWN}\nregister(FAMILY)\n")
    assert kzoo.list_models("own") == ["own"]


@pytest.mark.parametrize(
    ("entry_point", "source", "message"),
    [
        ("own_zoo", "1 / 0", "fails in line 1: ZeroDivisionError: division by zero"),
        (
            "own_zoo",
            "",
            "registers no family: its entry point 'own' must name a Family",
        ),
    ],
)
def test_installed_package_that_fails_leaves_the_zoo_as_it_is(
    entry_point: str,
    source: str,
    message: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    installed(tmp_path, entry_point, source)
    with caplog.at_level(logging.WARNING):
        assert "cnn" in kzoo.list_models()
        kzoo.list_models()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"plug-in own-zoo 1.2 {message}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import kzoo\nx = 1 +",
            "fails: SyntaxError: invalid syntax (own_bad.py, line 2)",
        ),
        ("\nraise RuntimeError", "fails in line 2: RuntimeError"),
        ("import no_such", "fails in line 1: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "fails in line 1: SystemExit: 3"),
        ("x = 1", "registers no family, by kzoo.extend.register(FAMILY), nor a class"),
        (
            OWN.replace('"own"', '"cnn"') + "register(FAMILY)",
            f"fails in line {OWN.count(chr(10)) + 1}: there is a model 'cnn' already",
        ),
    ],
)
def test_bad_plug_in_gets_one_line(
    source: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own_bad.py"
    path.write_text(source)
    out = tmp_path / "run"
    assert main(["train", "cnn", "--out", str(out), "--plugin", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: plug-in {path} {message}")
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nothere.py", "there is no plug-in file nothere.py"),
        ("nothere.models", "there is no module 'nothere' to plug in"),
        ("a b", "plug-in 'a b' is neither a module"),
    ],
)
def test_plug_in_that_is_not_there_gets_one_line(
    named: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--plugin", named]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_file_is_imported_once_and_hides_no_module(tmp_path: Path) -> None:
    path = tmp_path / "json.py"
    path.write_text("from own_neighbour import FAMILY, register\nregister(FAMILY)")
    (tmp_path / "own_neighbour.py").write_text(OWN)
    plugins.note([str(path), str(path)])
    plugins.note([str(path)])
    assert "own" in kzoo.list_models()
    plugins.note([str(path)])
    assert "own" in kzoo.list_models()
    assert sys.modules["json"] is json


def test_module_on_the_path_is_a_plug_in_too(own_file: Path) -> None:
    sys.path.insert(0, str(own_file.parent))
    plugins.note(["own_family"])
    assert kzoo.describe("own")["plugin"] == {"module": "own_family"}


def test_other_processes_name_the_same_plug_ins(
    own_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.note([str(own_file)])
    kzoo.build_model("own")
    words = json.loads(json.dumps(Request("own", "diabetes").to_json()))
    forget(monkeypatch)
    assert from_json(words).model == "own"
    assert kzoo.build_model("own").kzoo.name == "own"


def test_family_of_a_script_reaches_no_other_process() -> None:
    exec(f"{OWN}\nregister(FAMILY)", {"__name__": "__main__", "__file__": "job.py"})
    with pytest.raises(ValueError, match="the family of own is registered by job"):
        Request("own", "diabetes").to_json()


def test_unknown_model_is_told_the_architectures() -> None:
    with pytest.raises(ValueError) as error:
        kzoo.build_model("xyzzy")
    told = str(error.value).partition("There are: ")[2]
    trainers = {name for family in registry.TRAINERS for name in family.variants}
    assert told and not trainers & set(told.partition(" and ")[0].split(", "))
    with pytest.raises(ValueError, match="Did you mean 'contrastive'"):
        kzoo.build_model("contrastiv")


EXAMPLE = Path(__file__).parents[1] / "examples" / "own_family.py"


@pytest.mark.slow
def test_example_goes_through_every_command_from_another_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A separable convolution, a nested backbone, an own layer; no other process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kzoo"])
    plugin = ["--plugin", str(EXAMPLE)]
    small = ["--dataset", "digits", "--set", "num_blocks=1", "--epochs", "1", "--json"]

    def answer(*words: str) -> dict[str, Any]:
        assert main([*words, *plugin]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert main(["describe", "mobilenet_gated", *plugin]) == 0
    told = capsys.readouterr().out
    assert "MACs     not known (layer stage_1 (ChannelGate))" in told
    trained = answer("train", "mobilenet_gated", *small, "--out", "run")
    assert answer("evaluate", "run", "--json")["loss"] == trained["test"]["loss"]
    image = np.full((8, 8), 128, np.uint8)
    Image.fromarray(image).save("digit.png")
    (found,) = answer("predict", "run", "digit.png", "--json")
    assert set(found["classes"]) <= set(map(str, range(10)))
    # In processes of their own, which must name the plug-in again.
    sweep = answer(
        *("tune", "mobilenet_gated", *small, "--trials", "2", "--workers", "2"),
        *("--tuner", "random", "--out", "sweep"),
    )
    assert [row["status"] for row in sweep["trials"]] == ["completed", "completed"]
    kept = answer(
        *("distill", "--teacher", "run", "--student", "mobilenet_gated", *small),
        *("--out", "distilled"),
    )
    assert kept["compression"]["student"]["macs"] is None


def test_layers_without_names_have_the_same_paths_in_each_build(
    tmp_path: Path,
) -> None:
    path = tmp_path / "own_family.py"
    path.write_text(OWN.replace(', name="block_0"', "") + "register(FAMILY)")
    plugins.note([str(path)])
    first = kzoo.build_model("own")
    keras.layers.Dense(3)
    paths = [weight.path for weight in first.weights]
    assert "dense/kernel" in paths
    assert [weight.path for weight in kzoo.build_model("own").weights] == paths
    kzoo.save(first, tmp_path / "model")
    loaded = kzoo.load(tmp_path / "model")
    x = np.ones((2, 8), "float32")
    np.testing.assert_array_equal(loaded.predict(x), first.predict(x))


def test_two_weights_of_one_path_are_refused() -> None:
    def build(hparams: extend.VectorHParams) -> keras.Model:
        inputs = x = extend.vector_input(hparams)
        for _ in range(2):
            inner = keras.Input((8,))
            x = keras.Model(inner, keras.layers.Dense(8, name="dense")(inner))(x)
        return keras.Model(inputs, extend.logits_head(x, hparams.num_classes))

    chosen = extend.VectorHParams()
    family = extend.Family(build, {"own": chosen}, chosen, ("regression",), "none")
    with pytest.raises(ValueError, match="own has several weights 'dense/bias'"):
        extend.register(family)
    assert "own" not in kzoo.list_models()
