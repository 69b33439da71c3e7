"""``kzoo doctor``: what this machine offers to kzoo."""

import argparse
import importlib.util
import logging
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import kzoo
from kzoo import strict_json
from kzoo.cli.backend import PACKAGES, add_backend, choose

SHOWN = ("keras", "tensorflow", "jax", "torch", "numpy", "keras-tuner")
START_SECONDS = 60.0

EXAMPLES = (
    "kzoo doctor",
    "kzoo doctor --backend jax",
    "kzoo doctor --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")
    # What a process of the command's own does: two steps with its like.
    parser.add_argument("--trial", help=argparse.SUPPRESS)


def run(parsed: argparse.Namespace) -> int:
    """Prints what was found."""
    choose(parsed.backend)
    import keras

    from kzoo.distribution import devices

    if parsed.trial:
        from kzoo.training.trial import two_steps

        two_steps(parsed.trial)
        return 0
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
        "distributions": distributions(keras.config.backend()),
    }
    if parsed.json:
        print(strict_json.dumps(found, indent=2))
        return 0
    for name, value in found.items():
        if name == "distributions":
            print("distributions, by two steps of training under each:")
            for kind, told in value.items():
                print(f"  {kind:17} {told}")
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {version}" for key, version in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{name:19} {value}")
    return 0


def distributions(backend: str) -> dict[str, str]:
    """Each that the backend has -> ``works, ...`` or ``no: ...``."""
    from kzoo.distribution.resolve import BACKENDS

    logging.getLogger("kzoo").setLevel(logging.ERROR)
    found = {}
    for kind, backends in BACKENDS.items():
        if backend in backends and kind != "multi_worker":
            found[kind] = alone(kind)
    several = {"tensorflow": "multi_worker", "jax": "data_parallel"}.get(backend)
    if several:
        found[f"{several}, 2 processes"] = together(several, backend)
    return found


def alone(kind: str) -> str:
    """How two steps end in this process."""
    from kzoo.training.trial import two_steps

    try:
        where = two_steps(kind)
    except Exception as error:  # whatever it is, it is what the user asked for
        return f"no: {str(error).splitlines()[0]}"
    replicas = f"{where.num_replicas} replica{'s' if where.num_replicas > 1 else ''}"
    return f"works, {replicas} on {where.why}"


def together(kind: str, backend: str) -> str:
    """How two steps end in two processes of this machine."""
    from kzoo.distribution.launcher import Job, launch

    with tempfile.TemporaryDirectory() as folder:
        trial = ("doctor", "--backend", backend, "--trial", kind)
        command = (sys.executable, "-m", "kzoo", *trial)
        code = launch(
            Job(command, 2, backend, Path(folder), start_seconds=START_SECONDS)
        )
        if code == 0:
            return "works over loopback"
        told = (Path(folder) / "rank-1.txt").read_text(errors="replace").splitlines()
    return f"no: {told[-1] if told else f'exit code {code}'}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
