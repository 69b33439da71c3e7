"""``kzoo evaluate``: scores of a run on a split of its data."""

import argparse
from pathlib import Path

from kzoo import strict_json
from kzoo.cli.backend import add_backend, choose


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run folder")
    parser.add_argument("--split", default="test", help="train, validation or test")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N")
    parser.add_argument("--distribution", metavar="X", default="none")
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints a table, or JSON without the scores by class."""
    if not Path(parsed.run_folder).is_dir():  # told before Keras is imported
        raise FileNotFoundError(f"there is no folder {parsed.run_folder}")
    if parsed.batch_size < 1:
        raise ValueError(f"--batch-size {parsed.batch_size} is not at least 1")
    choose(parsed.backend)
    from kzoo.training import evaluate

    found = evaluate(
        parsed.run_folder,
        split=parsed.split,
        batch_size=parsed.batch_size,
        distribution=parsed.distribution,
    )
    if parsed.json:
        print(strict_json.dumps({k: v for k, v in found.items() if k != "classes"}))
        return 0
    from kzoo.cli.tables import scores_table

    scores_table({parsed.split: found})
    return 0
