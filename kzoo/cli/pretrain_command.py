"""``kzoo pretrain``: from a name to an encoder that learned without labels."""

import argparse
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import choose
from kzoo.cli.checks import check_model, check_place, check_request
from kzoo.cli.trainers import (
    add_assignments,
    add_training,
    ended,
    existing,
    settings_of,
    told_to,
    where_it_is,
)
from kzoo.datasets import parse_options
from kzoo.hparams import parse
from kzoo.pretraining.names import check_objective
from kzoo.training.recipe import Recipe

EXAMPLES = (
    "kzoo pretrain cnn --objective contrastive --dataset digits --out runs/pre",
    "kzoo pretrain vit_lite_2 --objective masked_image --dataset folder:photographs",
    "kzoo pretrain mlp --objective denoising --option noise=0.5 --dataset diabetes",
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
    check(parsed)
    choose(parsed.backend)
    told_to(parsed)
    return ended(lambda: _pretrain(parsed))


def check(parsed: argparse.Namespace) -> None:
    """Raises for what is wrong with the command, before Keras is imported."""
    check_place(parsed, existing(parsed))
    check_objective(parsed.objective)
    check_request(
        parsed.model,
        parsed.dataset,
        recipe=parsed.recipe or Recipe(),  # the objective's own
        data=_data(parsed),
        settings=_settings(parsed),
    )


def _pretrain(parsed: argparse.Namespace) -> int:
    from kzoo.cli.progress import ProgressLine
    from kzoo.pretraining.pretrain import pretrain

    done = pretrain(
        parsed.model,
        parsed.dataset,
        parsed.objective,
        parsed.out,
        existing=existing(parsed),
        distribution=parsed.distribution,
        callbacks=() if parsed.json else (ProgressLine(),),
        track=parsed.track,
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
    from kzoo.pretraining.objectives import find_objective

    declared = type(find_objective(parsed.objective).options)
    options = parse(declared, parsed.option, parsed.objective)
    asked = {"options": options, "recipe": parsed.recipe, "data": _data(parsed)}
    return {**asked, **_settings(parsed)}


def _settings(parsed: argparse.Namespace) -> dict[str, Any]:
    return settings_of(parsed, check_model(parsed.model)[1])


def _data(parsed: argparse.Namespace) -> dict[str, Any]:
    if parsed.data and parsed.dataset is None:
        raise ValueError("--data needs --dataset")
    return parse_options(parsed.dataset, parsed.data) if parsed.data else {}
