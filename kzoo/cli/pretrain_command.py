"""``kzoo pretrain``: from a name to an encoder that learned without labels."""

import argparse
import json
import logging
import shlex
import sys
from typing import Any

from kzoo.cli.backend import add_backend, choose
from kzoo.cli.train_command import check_name


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("model", help="a name; or a run or model folder to start from")
    parser.add_argument("--objective", required=True, metavar="O")
    parser.add_argument("--dataset", metavar="D", help="default: the recipe's")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=VALUE", help="its options"
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the objective, such as temperature=0.2",
    )
    parser.add_argument("--recipe", metavar="R", help="default: the objective's own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyper-parameter of the encoder or a recipe field",
    )
    parser.add_argument("--epochs", metavar="N")
    parser.add_argument("--batch-size", metavar="N")
    parser.add_argument("--seed", metavar="S")
    parser.add_argument("--precision", metavar="P", help="such as mixed_bfloat16")
    parser.add_argument("--out", metavar="DIR")
    parser.add_argument("--distribution", metavar="X", default="none")
    add_backend(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="move a run that lies there aside"
    )
    parser.add_argument(
        "--extend", action="store_true", help="go on with a run for more epochs"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Pre-trains, with a progress line, and prints the loss and what to do next."""
    from kzoo import index

    check_name(parsed.model, index.entries())
    if parsed.fresh and parsed.extend:
        raise ValueError("--fresh and --extend exclude each other")
    choose(parsed.backend)
    told = logging.StreamHandler()
    told.setLevel(logging.WARNING if parsed.json else logging.INFO)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[told])
    if not parsed.json:
        logging.getLogger("kzoo").setLevel(logging.INFO)
    from kzoo.cli.progress import ProgressLine
    from kzoo.pretraining import pretrain
    from kzoo.training import Interrupted, NonFiniteLossError, SnapshotError

    existing = "fresh" if parsed.fresh else "extend" if parsed.extend else "resume"
    try:
        done = pretrain(
            parsed.model,
            parsed.dataset,
            parsed.objective,
            parsed.out,
            existing=existing,
            distribution=parsed.distribution,
            callbacks=() if parsed.json else (ProgressLine(),),
            **_request(parsed),
        )
    except (NonFiniteLossError, SnapshotError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        again = shlex.join(word for word in sys.argv[1:] if word != "--fresh")
        print(f"{error}; to go on: kzoo {again}", file=sys.stderr)
        return 75  # EX_TEMPFAIL: try again
    if parsed.json:
        print(json.dumps(done.metrics))
        return 0

    from kzoo.cli.tables import scores_table

    scores_table({"validation": done.metrics["validation"]})
    print(
        f"epoch {done.metrics['best_epoch']} kept, {done.metrics['seconds']:.0f} s; "
        f"everything is in {done.folder}; next: kzoo train {done.folder} --dataset ..."
    )
    return 0


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """What ``pretrain`` takes by name."""
    from kzoo.datasets import parse_options
    from kzoo.hparams import declarations, from_text, parse, split_assignments
    from kzoo.pretraining.objectives import find_objective
    from kzoo.training.plan import starting_point
    from kzoo.training.recipe import Recipe

    declared = type(find_objective(parsed.objective).options)
    options = parse(declared, parsed.option, parsed.objective)
    _, _, known = starting_point(parsed.model)
    kinds = {
        key: declaration.type
        for one in (type(known), Recipe)
        for key, declaration in declarations(one).items()
    }
    short = ("epochs", "batch_size", "seed", "precision")
    given = [(key, getattr(parsed, key)) for key in short]
    settings = {
        key: from_text(text, kinds.get(key, str))
        for key, text in [*given, *split_assignments(parsed.set)]
        if text is not None
    }
    if parsed.data and parsed.dataset is None:
        raise ValueError("--data needs --dataset")
    data = parse_options(parsed.dataset, parsed.data) if parsed.data else {}
    return {"options": options, "recipe": parsed.recipe, "data": data, **settings}
