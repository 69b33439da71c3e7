"""What the commands that train have in common: their words, and how they end."""

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kzoo.cli.backend import add_backend
from kzoo.hparams import Declaration, declarations, from_text, split_assignments
from kzoo.training.recipe import Recipe

SHORT = ("epochs", "batch_size", "seed", "precision")  # words of their own in --set


def add_training(
    parser: argparse.ArgumentParser,
    *,
    dataset: str = "the recipe's",
    recipe: str = "the model's own",
    of: str = "",
    out: str | None = None,
) -> None:
    """Declares what is trained on, how and where; the arguments are for the help."""
    parser.add_argument("--dataset", metavar="D", help=f"default: {dataset}")
    add_assignments(parser, "--data", "its options")
    parser.add_argument("--recipe", metavar="R", help=f"default: {recipe}")
    add_assignments(parser, "--set", f"a hyper-parameter{of} or a recipe field")
    parser.add_argument("--epochs", metavar="N")
    parser.add_argument("--batch-size", metavar="N")
    parser.add_argument("--seed", metavar="S")
    parser.add_argument("--precision", metavar="P", help="such as mixed_bfloat16")
    parser.add_argument("--out", metavar="DIR", help=out)
    parser.add_argument("--distribution", metavar="X", default="none")
    add_backend(parser)
    parser.add_argument(
        "--track", metavar="T", help="show the run in mlflow, wandb or trackio too"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="move a run that lies there aside"
    )
    parser.add_argument(
        "--extend", action="store_true", help="go on with a run for more epochs"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def add_assignments(parser: argparse.ArgumentParser, flag: str, told: str) -> None:
    """Declares a word that may come often, each time with a NAME=VALUE."""
    parser.add_argument(
        flag, action="append", default=[], metavar="NAME=VALUE", help=told
    )


def existing(parsed: argparse.Namespace) -> str:
    """What becomes of a run that lies in the folder."""
    if parsed.fresh and parsed.extend:
        raise ValueError("--fresh and --extend exclude each other")
    return "fresh" if parsed.fresh else "extend" if parsed.extend else "resume"


def settings_of(
    parsed: argparse.Namespace,
    declared: Mapping[str, Declaration],
    short: Sequence[str] = SHORT,
) -> dict[str, Any]:
    """Hyper-parameters and recipe fields that the command line sets.

    Each is read as what its declaration says. What is unknown goes on as text: the
    trainer says what it should be.

    Args:
        parsed: with ``set``, and a value or None for each of ``short``.
        declared: the model's hyper-parameters.
        short: fields that have words of their own.
    """
    kinds = {
        key: declaration.type
        for key, declaration in {**declared, **declarations(Recipe)}.items()
    }
    given = [(key, getattr(parsed, key)) for key in short]
    return {
        key: from_text(text, kinds.get(key, str))
        for key, text in [*given, *split_assignments(parsed.set)]
        if text is not None
    }


def told_to(parsed: argparse.Namespace) -> None:
    """Shows what the library logs, of a run for machines only what went wrong."""
    shown = terminal_handler()
    shown.setLevel(logging.WARNING if parsed.json else logging.INFO)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[shown])
    if not parsed.json:
        logging.getLogger("kzoo").setLevel(logging.INFO)


def terminal_handler() -> logging.Handler:
    """Shows all but the lines of the epochs, which progress shows in its own way."""
    shown = logging.StreamHandler()
    shown.addFilter(lambda record: record.name != "kzoo.epochs")
    return shown


def ended(train: Callable[[], int]) -> int:
    """The exit code of a training: 75 where the same command goes on with it."""
    from kzoo.training import Interrupted, NonFiniteLossError, SnapshotError

    try:
        return train()
    except (NonFiniteLossError, SnapshotError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        again = shlex.join(word for word in sys.argv[1:] if word != "--fresh")
        print(f"{error}; to go on: kzoo {again}", file=sys.stderr)
        return 75  # EX_TEMPFAIL: try again


def where_it_is(done: Any) -> str:
    """The last line of a run: which epoch was kept, and where."""
    metrics = done.metrics
    return (
        f"epoch {metrics['best_epoch']} kept, {metrics['seconds']:.0f} s; "
        f"everything is in {done.folder}"
    )
