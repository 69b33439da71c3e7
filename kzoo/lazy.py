"""Packages whose public names load on first use, so that importing them costs nothing.

What a package re-exports often imports Keras, which takes seconds; modules beside it do
not, and are checked against before Keras is imported.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Whoever imports ``kzoo.features`` has Python set the attribute ``features`` of
    ``kzoo`` to that module, and ``kzoo.features(model, names)`` would call it: the
    package keeps no module under the name of a public function.

    Args:
        package: its ``__name__``.
        homes: the module that each public name lives in.

    Example:
        >>> load = lazily("kzoo.lazy", {"Recipe": "kzoo.training.recipe"})
        >>> load("Recipe").__name__
        'Recipe'
    """

    class Package(ModuleType):
        """The package itself."""

        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in homes and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    sys.modules[package].__class__ = Package
    return load
