"""``kzoo list``: models of the zoo, filtered."""

import argparse

from kzoo import index, strict_json

EXAMPLES = (
    "kzoo list",
    "kzoo list '*resnet*' --max-parameters 30e6",
    "kzoo list --task text-classification --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("pattern", nargs="?", default="*", help="such as '*rnn*'")
    parser.add_argument("--task", help="only models that serve this task")
    parser.add_argument(
        "--max-parameters", type=float, metavar="N", help="only models up to this size"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints a table, or JSON."""
    names = index.list_models(
        parsed.pattern, task=parsed.task, max_parameters=parsed.max_parameters
    )
    entries = [index.entries()[name] for name in names]
    if parsed.json:
        print(strict_json.dumps([_short(entry) for entry in entries], indent=2))
        return 0
    width = max((len(name) for name in names), default=4)
    print(f"{'model':{width}}  {'weights':>11}  {'MACs':>9}  tasks")
    for entry in entries:
        print(
            f"{entry['name']:{width}}  {entry['trainable_parameters']:>11,}  "
            f"{scaled(entry['macs']):>9}  {', '.join(entry['tasks'])}"
        )
    return 0


def _short(entry: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in entry.items() if key != "hparams"}


def scaled(count: float | None) -> str:
    """A count in three digits and a unit: 96.2 M."""
    if count is None:
        return "not known"
    for unit in ("", " k", " M", " G"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} T"
