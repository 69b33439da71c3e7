"""The backend of a command and its plug-ins, before and after Keras is imported."""

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile

from kzoo import plugins
from kzoo.hparams import nearest

PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Declares ``--backend``."""
    parser.add_argument("--backend", metavar="B", help=f"one of {', '.join(PACKAGES)}")


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Declares ``--plugin``, which every command has."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE_OR_FILE",
        help="registers a family of your own; repeat it for several",
    )


def note_plugins(parsed: argparse.Namespace) -> None:
    """Names the plug-ins of a command, which are imported with Keras.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such module.
    """
    backend = getattr(parsed, "backend", None)
    plugins.note(parsed.plugin, prepare=lambda: _prepare(backend))


def choose(backend: str | None) -> None:
    """Sets the backend, then imports Keras and the plug-ins that were named.

    Raises:
        ValueError: an unknown backend, or one that is not installed; or a plug-in that
            cannot be used.
    """
    _prepare(backend)
    plugins.load_named()


def backend_name(backend: str | None) -> str:
    """The backend that will be chosen.

    Raises:
        ValueError: an unknown backend, or one that is not installed.
    """
    name = backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in PACKAGES:
        raise ValueError(f"unknown backend {name!r}{nearest(name, PACKAGES)}")
    if importlib.util.find_spec(PACKAGES[name]) is None:
        raise ValueError(
            f"backend {name!r} is not installed: pip install {PACKAGES[name]}"
        )
    return name


def _prepare(backend: str | None) -> None:
    os.environ["KERAS_BACKEND"] = backend_name(backend)
    quiet()


def quiet() -> None:
    """Imports Keras without the start-up messages of its backend.

    TensorFlow's libraries write to the terminal before any log level is read. What they
    wrote is shown if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as told:
        os.dup2(told.fileno(), 2)
        try:
            importlib.import_module("keras")
        except BaseException:
            told.seek(0)
            os.write(terminal, told.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
