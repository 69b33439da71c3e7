"""JSON that every parser reads, whatever the scores are."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import kzoo
from kzoo import strict_json
from kzoo.cli.main import main
from kzoo.weights import read_json, write_json


def parsed(text: str) -> Any:
    """As a parser that keeps to the standard reads it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_are_null_wherever_they_stand() -> None:
    value = {"a": [1, (math.nan, {"b": -math.inf})], "c": math.inf, "d": 0.1}
    expected = {"a": [1, [None, {"b": None}]], "c": None, "d": 0.1}
    assert parsed(strict_json.dumps(value)) == expected
    assert parsed(strict_json.dumps(value, indent=2)) == expected


def test_files_are_written_so_and_older_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"r2": math.nan})
    assert parsed(path.read_text()) == {"r2": None}
    path.write_text('{"r2": NaN, "mse": Infinity, "mae": 1.0}')
    assert read_json(path) == {"r2": None, "mse": None, "mae": 1.0}


@pytest.fixture(scope="module")
def constant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose target never changes, so that R² is not defined."""
    path = tmp_path_factory.mktemp("data") / "constant.csv"
    rows = [f"{i % 7}.5,{i % 3}.25,2.5" for i in range(60)]
    path.write_text("\n".join(["a,b,target", *rows]) + "\n")
    return path


def test_a_constant_target_gives_null_in_every_output(
    constant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", f"csv:{constant}", "--epochs", "1"]
    words += ["--data", "label=target", "--data", "task=regression"]
    words += ["--set", "units=4", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    metrics = parsed(capsys.readouterr().out)
    assert metrics == parsed((out / "metrics.json").read_text())
    assert metrics["test"]["r2"] is None
    assert metrics["test"]["mae"] >= 0
    assert kzoo.evaluate(out) == metrics["test"]
    assert main(["evaluate", str(out), "--json"]) == 0
    assert parsed(capsys.readouterr().out) == metrics["test"]
    assert main(["evaluate", str(out)]) == 0
    assert "not defined" in capsys.readouterr().out
    for path in out.rglob("*.json"):
        parsed(path.read_text())
