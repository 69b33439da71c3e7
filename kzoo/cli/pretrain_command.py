"""``kzoo pretrain``: from a name to an encoder that learned without labels."""

import argparse
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import choose
from kzoo.cli.trainers import (
    add_assignments,
    add_training,
    check_name,
    ended,
    existing,
    settings_of,
    told_to,
    where_it_is,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("model", help="a name; or a run or model folder to start from")
    parser.add_argument("--objective", required=True, metavar="O")
    told = "of the objective, such as temperature=0.2"
    add_assignments(parser, "--option", told)
    add_training(parser, recipe="the objective's own", of=" of the encoder")


def run(parsed: argparse.Namespace) -> int:
    """Pre-trains, with a progress line, and prints the loss and what to do next."""
    check_name(parsed.model)
    existing(parsed)  # before Keras is imported
    choose(parsed.backend)
    told_to(parsed)
    return ended(lambda: _pretrain(parsed))


def _pretrain(parsed: argparse.Namespace) -> int:
    from kzoo.cli.progress import ProgressLine
    from kzoo.pretraining import pretrain

    done = pretrain(
        parsed.model,
        parsed.dataset,
        parsed.objective,
        parsed.out,
        existing=existing(parsed),
        distribution=parsed.distribution,
        callbacks=() if parsed.json else (ProgressLine(),),
        **_request(parsed),
    )
    if parsed.json:
        print(strict_json.dumps(done.metrics))
        return 0

    from kzoo.cli.tables import scores_table

    scores_table({"validation": done.metrics["validation"]})
    print(f"{where_it_is(done)}; next: kzoo train {done.folder} --dataset ...")
    return 0


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """What ``pretrain`` takes by name."""
    from kzoo.datasets import parse_options
    from kzoo.hparams import parse
    from kzoo.pretraining.objectives import find_objective
    from kzoo.training.plan import starting_point

    declared = type(find_objective(parsed.objective).options)
    options = parse(declared, parsed.option, parsed.objective)
    _, _, known = starting_point(parsed.model)
    settings = settings_of(parsed, known)
    if parsed.data and parsed.dataset is None:
        raise ValueError("--data needs --dataset")
    data = parse_options(parsed.dataset, parsed.data) if parsed.data else {}
    return {"options": options, "recipe": parsed.recipe, "data": data, **settings}
