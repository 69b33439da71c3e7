"""The commands that README.md and docs/ show are commands, of names that exist."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

import kzoo
from kzoo.cli import main as command_line
from kzoo.hparams import declarations
from kzoo.models.distiller_options import DistillerHParams
from kzoo.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
# What is shown to be wrong has its error in the next line.
SHOWN = re.compile(r"^ {4,}(?:\$ )?kzoo (.*)$(?!\n +error:)", re.MULTILINE)
COMMANDS = [
    (page.name, line)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for line in SHOWN.findall(page.read_text().replace("\\\n", " "))
]


def parsed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What ``kzoo`` makes of these words, without doing it."""
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(command_line, "_call", lambda one: seen.append(one) or 0)
    assert command_line.main(words) == 0
    return seen[0]


def test_each_page_has_its_own() -> None:
    pages = {page for page, _ in COMMANDS}
    assert {"README.md", "tuning.md", "distillation.md", "scaling.md"} <= pages


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_command_is_one(page: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for word in shlex.split(line, comments=True) if word != "..."]
    found = vars(parsed(words, monkeypatch))
    if found["command"] == "launch":
        found = vars(parsed(found["words"][1:], monkeypatch))
    model = found.get("student") or found.get("model") or found.get("name")
    # A folder's model is of a name that only the folder knows; self is no name.
    named = {
        name: kzoo.describe(name)
        for name in filter(None, [model, *(found.get("teacher") or [])])
        # Nor is one that a plug-in brings.
        if "/" not in name and name != "self" and not found["plugin"]
    }
    if model in named:
        known = {one["name"] for one in named[model]["hparams"]}
        known |= set(declarations(Recipe))
        assert {text.partition("=")[0] for text in found.get("set") or []} <= known
    if found.get("method"):
        DistillerHParams(method=found["method"])
