"""Every public function says what it does, with an example that runs."""

import doctest
import importlib
import importlib.util
from typing import Any

import pytest

import kzoo
from kzoo import index, registry

NAMES = [name for name in kzoo.__all__ if importlib.util.find_spec(kzoo._HOMES[name])]


def public(name: str) -> Any:
    return getattr(importlib.import_module(kzoo._HOMES[name]), name)


def test_every_home_is_there() -> None:
    assert set(kzoo._HOMES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_documented_with_an_example(name: str) -> None:
    found = public(name)
    assert found.__doc__, f"kzoo.{name} has no docstring"
    first = found.__doc__.splitlines()[0]
    assert first.endswith((".", "?", ":"))
    assert ">>>" in found.__doc__, f"kzoo.{name} has no example"


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(index, "_added", dict(index._added))
    monkeypatch.chdir(tmp_path)
    finder = doctest.DocTestFinder(recurse=False)
    output: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in finder.find(public(name), name, globs={}):
        runner.run(test, out=output.append)
    assert runner.failures == 0, "".join(output)
