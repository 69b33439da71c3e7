"""The backend of a command, chosen before Keras is imported."""

import argparse
import importlib
import importlib.util
import os
import sys
import tempfile

from kzoo.hparams import nearest

PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Declares ``--backend``."""
    parser.add_argument("--backend", metavar="B", help=f"one of {', '.join(PACKAGES)}")


def choose(backend: str | None) -> None:
    """Sets the backend; call it before anything imports Keras.

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
    os.environ["KERAS_BACKEND"] = name
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
