"""``kzoo doctor``: what this machine offers to kzoo."""

import argparse
import importlib.util
import json
import os
import platform
from importlib import metadata

import kzoo
from kzoo.cli.backend import PACKAGES, add_backend, choose

SHOWN = ("keras", "tensorflow", "jax", "torch", "numpy", "keras-tuner")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints what was found."""
    choose(parsed.backend)
    import keras

    from kzoo.distribution import devices

    found = {
        "kzoo": kzoo.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "backend": keras.config.backend(),
        "backends installed": [
            name for name in PACKAGES if importlib.util.find_spec(PACKAGES[name])
        ],
        "devices": devices(),
        "precision": keras.config.dtype_policy().name,
        "versions": {name: _version(name) for name in SHOWN},
        "distributions": ["none"],
    }
    if parsed.json:
        print(json.dumps(found, indent=2))
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{name:19} {value}")
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
