"""Parses the command line and calls one command.

A user's mistake is one line on stderr and exit code 2, never a traceback.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from kzoo.cli.backend import add_plugin, note_plugins

# name -> what it does; each is a module of kzoo.cli with `arguments` and `run`.
COMMANDS = {
    "list": "models of the zoo",
    "describe": "one model: its hyper-parameters, size and measured scores",
    "train": "train a model into a run folder",
    "lr-find": "test learning rates, and suggest one",
    "tune": "search a model's hyper-parameters",
    "evaluate": "score a run on a split of its data",
    "predict": "ask a trained model about texts, files and folders",
    "generate": "write on from a prompt, or translate it",
    "convert": "take weights of another zoo, or give a model to it",
    "distill": "train a student with a teacher into a run folder",
    "launch": "train in several processes of this machine",
    "pretrain": "train an encoder without labels into a run folder",
    "doctor": "backend, devices, versions, and the distributions that work",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    try:
        code = _main(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()  # here, where a reader that is gone can be told
    except BrokenPipeError:  # it has seen enough; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _main(words: list[str]) -> int:
    called = command_in(words)
    if called and called not in COMMANDS:
        from kzoo.hparams import nearest

        return _fail(f"unknown command {called!r}{nearest(called, COMMANDS)}")
    parser = parser_of(called)
    parsed = parser.parse_args([_as_argument(word) for word in words])
    if parsed.version:
        import kzoo

        print(kzoo.__version__)
        return 0
    if not parsed.command:
        parser.print_help()
        return 2
    return _call(parsed)


def _as_argument(word: str) -> str:
    """The word; ``-0.2,1`` with a space, by which argparse takes it for no option."""
    return f" {word}" if re.fullmatch(r"-[\d.][\d.,eE+-]*", word) else word


def command_in(words: Sequence[str]) -> str:
    """The command's name, "" where there is none."""
    return next((word for word in words if not word.startswith("-")), "")


def parser_of(called: str) -> Parser:
    """The parser, which knows the arguments of the command that is called alone."""
    parser = Parser(prog="kzoo", description="The model zoo for Keras 3.")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == called:
            module = importlib.import_module(module_of(name))
            module.arguments(command)
            add_plugin(command)
            command.epilog = epilog(module.EXAMPLES)
            command.set_defaults(run=module.run)
    return parser


def module_of(name: str) -> str:
    """The module of a command."""
    return f"kzoo.cli.{name.replace('-', '_')}_command"


def epilog(examples: Sequence[str]) -> str:
    """How the help of a command ends."""
    return "\n  ".join(["examples:", *examples])


def _call(parsed: argparse.Namespace) -> int:
    try:
        note_plugins(parsed)
        code: int = parsed.run(parsed)
    except BrokenPipeError:  # no mistake of the user's
        raise
    except (ValueError, TypeError, OSError) as error:
        if _is_ours(error):
            return _fail(str(error))
        raise
    return code


def _is_ours(error: BaseException) -> bool:
    """Whether kzoo raised it; a ValueError out of Keras is a fault, not a mistake."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return module.split(".")[0] in ("kzoo", "__main__") or isinstance(error, OSError)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
