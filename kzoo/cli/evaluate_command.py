"""``kzoo evaluate``: scores of a run on a split of its data."""

import argparse

from kzoo import strict_json
from kzoo.cli.backend import add_backend, choose
from kzoo.cli.checks import check_distribution, check_scored

EXAMPLES = (
    "kzoo evaluate runs/cnn_digits",
    "kzoo evaluate runs/cnn_digits --split validation",
    "kzoo evaluate runs/cnn_digits --batch-size 32 --json",
)


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
    if parsed.batch_size < 1:
        raise ValueError(f"--batch-size {parsed.batch_size} is not at least 1")
    check_distribution(parsed.distribution, parsed.backend)
    check_scored(parsed.run_folder, parsed.split)
    choose(parsed.backend)
    from kzoo.training.evaluate import evaluate

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
