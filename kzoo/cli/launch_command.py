"""``kzoo launch``: one job, or the trials of a sweep, in processes of this machine."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from kzoo.cli.backend import PACKAGES, note_plugins
from kzoo.hparams import nearest

TRAINERS = ("train", "distill", "pretrain", "tune")
# In which several processes train together, by backend.
TOGETHER = {"tensorflow": ("multi_worker",), "jax": ("data_parallel", "model_parallel")}

EXAMPLES = (
    "kzoo launch --workers 2 -- train cnn --distribution multi_worker --out runs/cnn",
    "kzoo launch --workers 2 --max-restarts 3 -- pretrain vit_lite_2 "
    "--objective masked_image --distribution multi_worker --out runs/pre",
    "kzoo launch --workers 4 -- tune lstm --dataset names --out runs/sweep",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--workers",
        type=int,
        required=True,
        metavar="N",
        help="processes that train; those of a sweep have a chief beside them",
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="K",
        help="go on from the last snapshot when a worker dies, K times at most",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long workers wait for one another",
    )
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- train ... --out DIR",
        help="the command of each worker, with --distribution multi_worker, or with "
        "--backend jax --distribution data_parallel; or distill, pretrain, tune",
    )


def run(parsed: argparse.Namespace) -> int:
    """Starts the workers; what the first one prints is the command's output."""
    words = parsed.words[1:] if parsed.words[:1] == ["--"] else parsed.words
    check(parsed, words)
    _check_command(words)
    named = [word for source in parsed.plugin for word in ("--plugin", source)]
    words = [words[0], *named, *words[1:]]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from kzoo.distribution.launcher import Job, launch

    sweep = words[0] == "tune" and not _together(words)
    if sweep:
        words = ["tune", "--option", f"wait_seconds={parsed.start_timeout}", *words[1:]]
    job = Job(
        command=(sys.executable, "-m", "kzoo", *words),
        workers=parsed.workers + sweep,
        backend=_backend(words),
        logs=Path(_value(words, "--out", "")) / "logs",
        max_restarts=parsed.max_restarts,
        start_seconds=parsed.start_timeout,
        sweep=sweep,
    )
    return launch(job, again)


def check(parsed: argparse.Namespace, words: Sequence[str]) -> None:
    """Raises a ``ValueError`` for what no process would get far with."""
    if parsed.workers < 1:
        raise ValueError(f"--workers {parsed.workers} is not at least 1")
    if parsed.max_restarts < 0:
        raise ValueError(f"--max-restarts {parsed.max_restarts} is not at least 0")
    if not parsed.start_timeout > 0:
        raise ValueError(f"--start-timeout {parsed.start_timeout:g} is not above 0")
    if not words or words[0] not in TRAINERS:
        told = f"{words[0]!r}{nearest(words[0], TRAINERS)}" if words else "nothing"
        raise ValueError(
            f"after -- comes {' or '.join(TRAINERS)} and its arguments; got {told}"
        )
    if not _value(words, "--out", ""):
        raise ValueError("--out DIR is missing: where the workers' logs go, too")
    backend, kind = _backend(words), _value(words, "--distribution", "none")
    if words[0] == "tune":
        _check_sweep(words)
        return
    if backend not in TOGETHER:
        raise ValueError(
            f"several processes train on tensorflow or jax, not on {backend!r}"
        )
    if kind != "auto" and not _together(words):
        raise ValueError(
            f"--distribution {kind} is one process's; on {backend} several take "
            f"{' or '.join(TOGETHER[backend])}"
        )


def _check_command(words: Sequence[str]) -> None:
    """Raises for what is wrong with the workers' command, before any is started."""
    from kzoo.cli.main import parser_of

    command = parser_of(words[0]).parse_args(words)
    command.distribution = "none"  # the cluster is there for the workers alone
    note_plugins(command)
    import_module(f"kzoo.cli.{words[0]}_command").check(command)


def _together(words: Sequence[str]) -> bool:
    """Whether the processes train one thing; those of a sweep may share its trials."""
    kind = _value(words, "--distribution", "none").partition(":")[0]
    return kind in TOGETHER.get(_backend(words), ())


def _check_sweep(words: Sequence[str]) -> None:
    if _value(words, "--workers", ""):
        raise ValueError("--workers stands before --, where launch reads it")
    if _value(words, "--replay", ""):
        raise ValueError("--replay is one trial's: call kzoo tune itself")


def again(command: Sequence[str]) -> Sequence[str]:
    """A restart goes on where the job stood, instead of moving it aside."""
    return [word for word in command if word != "--fresh"]


def _backend(words: Sequence[str]) -> str:
    default = os.environ.get("KERAS_BACKEND", "tensorflow")
    name = _value(words, "--backend", default)
    if name not in PACKAGES:
        raise ValueError(f"unknown backend {name!r}{nearest(name, PACKAGES)}")
    return name


def _value(words: Sequence[str], option: str, default: str) -> str:
    """What an option of the workers' command is set to, in either of its forms."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return default
