"""``kzoo train``: from a name to a trained, plotted, reloadable model."""

import argparse
from pathlib import Path
from typing import Any

from kzoo import strict_json, weights
from kzoo.cli.backend import choose
from kzoo.cli.checks import check_model, check_place, check_request
from kzoo.cli.trainers import (
    SHORT,
    add_training,
    ended,
    existing,
    settings_of,
    told_to,
    where_it_is,
)
from kzoo.datasets import parse_options
from kzoo.training.settings import IN_MEMORY, named_recipe

OWN = (
    "labels_per_class",
    "unlabelled",
    "freeze",
    "lora",
)  # fields with words of train's own

EXAMPLES = (
    "kzoo train cnn",
    "kzoo train resnet18 --dataset folder:photographs --epochs 20 --out runs/photos",
    "kzoo train runs/photos --dataset folder:more --freeze stem --set epochs=5",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "model", nargs="?", help="a name; or a run or model folder, to start from it"
    )
    add_training(parser, out="default: runs/MODEL_DATASET")
    parser.add_argument(
        "--labels-per-class", metavar="N", help="known in training and validation"
    )
    parser.add_argument(
        "--unlabelled",
        metavar="METHOD",
        help="learn from the rest: pseudo_labels or fixmatch",
    )
    parser.add_argument(
        "--freeze",
        metavar="TAP",
        help="layers up to and with it keep their weights: block_0 (embeddings or stem "
        "too); A..B = from the input of A to the output of B",
    )
    parser.add_argument(
        "--lora", metavar="RANK", help="of adapters that learn instead of the model"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a run's config.json, to do the same again"
    )


def run(parsed: argparse.Namespace) -> int:
    """Trains, with a progress line, and prints the scores."""
    check(parsed)
    choose(parsed.backend)
    told_to(parsed)
    return ended(lambda: _train(parsed))


def check(parsed: argparse.Namespace) -> None:
    """Raises for what is wrong with the command, before Keras is imported."""
    check_place(parsed, existing(parsed))
    request = _request(parsed)
    known = {key: request.pop(key) for key in ("recipe", "data")}
    check_request(
        request.pop("model"), request.pop("dataset"), settings=request, **known
    )


def _train(parsed: argparse.Namespace) -> int:
    request = _request(parsed)

    from kzoo.cli.progress import ProgressLine
    from kzoo.training.fit import train

    model, dataset = request.pop("model"), request.pop("dataset")
    done = train(
        model,
        dataset,
        out=parsed.out,
        existing=existing(parsed),
        distribution=parsed.distribution,
        callbacks=() if parsed.json else (ProgressLine(),),
        track=parsed.track,
        **request,
    )
    if parsed.json:
        print(strict_json.dumps(done.metrics))
        return 0

    from kzoo.cli.tables import scores_table

    scores_table({split: done.metrics[split] for split in ("validation", "test")})
    print(where_it_is(done))
    return 0


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``kzoo.train`` that the command line asks for."""
    request: dict[str, Any] = {"model": parsed.model, "dataset": parsed.dataset}
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    if parsed.config:
        config = weights.read_json(Path(parsed.config))
        missing = sorted({"model", "dataset", "recipe"} - set(config))
        if missing:
            raise ValueError(f"{parsed.config} has no {', '.join(missing)}")
        start = (config.get("start") or {}).get("from")
        if start == IN_MEMORY or config["dataset"]["name"] == "arrays":
            what = start if start == IN_MEMORY else "arrays"
            raise ValueError(
                f"{parsed.config} is of a run on {what}; "
                "only kzoo.train can do it again"
            )
        request["model"] = parsed.model or start or config["model"]["name"]
        request["dataset"] = parsed.dataset or config["dataset"]["name"]
        if request["dataset"] == config["dataset"]["name"]:
            data |= config["dataset"]["options"]
        if request["model"] in (start, config["model"]["name"]):
            settings |= config["model"]["hparams"]
        settings |= config["recipe"]
    if request["model"] is None:
        raise ValueError("name a model, or a --config that does")
    name, declared = check_model(request["model"])
    settings |= settings_of(parsed, declared, (*SHORT, *OWN))
    if parsed.data:
        dataset = request["dataset"]
        if dataset is None:
            named, _ = named_recipe(name, None, parsed.recipe)
            dataset = named.dataset
        data |= parse_options(dataset, parsed.data)
    return {**request, "recipe": parsed.recipe, "data": data, **settings}
