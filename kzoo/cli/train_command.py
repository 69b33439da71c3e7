"""``kzoo train``: from a name to a trained, plotted, reloadable model."""

import argparse
import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from kzoo.cli.backend import add_backend, choose


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "model", nargs="?", help="a name; or a run or model folder, to start from it"
    )
    parser.add_argument("--dataset", metavar="D", help="default: the recipe's")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=VALUE", help="its options"
    )
    parser.add_argument("--recipe", metavar="R", help="default: the model's own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyper-parameter or a recipe field",
    )
    parser.add_argument("--epochs", metavar="N")
    parser.add_argument("--batch-size", metavar="N")
    parser.add_argument("--seed", metavar="S")
    parser.add_argument(
        "--labels-per-class", metavar="N", help="known in training and validation"
    )
    parser.add_argument(
        "--freeze", metavar="TAPS", help="that keep their weights: stem..stage_2"
    )
    parser.add_argument(
        "--lora", metavar="RANK", help="of adapters that learn instead of the model"
    )
    parser.add_argument("--precision", metavar="P", help="such as mixed_bfloat16")
    parser.add_argument("--out", metavar="DIR", help="default: runs/MODEL_DATASET")
    parser.add_argument("--distribution", metavar="X", default="none")
    add_backend(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="a run's config.json, to do the same again"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="move a run that lies there aside"
    )
    parser.add_argument(
        "--extend", action="store_true", help="go on with a run for more epochs"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Trains, with a progress line, and prints the scores."""
    from kzoo import index

    check_name(parsed.model, index.entries())
    choose(parsed.backend)
    told = logging.StreamHandler()
    told.setLevel(logging.WARNING if parsed.json else logging.INFO)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[told])
    if not parsed.json:
        logging.getLogger("kzoo").setLevel(logging.INFO)
    request = _request(parsed)

    from kzoo.cli.progress import ProgressLine
    from kzoo.training import Interrupted, NonFiniteLossError, SnapshotError, train

    model, dataset = request.pop("model"), request.pop("dataset")
    if parsed.fresh and parsed.extend:
        raise ValueError("--fresh and --extend exclude each other")
    existing = "fresh" if parsed.fresh else "extend" if parsed.extend else "resume"
    try:
        done = train(
            model,
            dataset,
            out=parsed.out,
            existing=existing,
            distribution=parsed.distribution,
            callbacks=() if parsed.json else (ProgressLine(),),
            **request,
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

    scores_table({split: done.metrics[split] for split in ("validation", "test")})
    print(
        f"epoch {done.metrics['best_epoch']} kept, {done.metrics['seconds']:.0f} s; "
        f"everything is in {done.folder}"
    )
    return 0


def check_name(model: str | None, known: Any) -> None:
    """A typo is told before Keras is imported, which takes seconds."""
    from kzoo.index import unknown_model

    if model is not None and model not in known and not Path(model).exists():
        if Path(model).name != model:
            raise FileNotFoundError(f"there is no folder {model}")
        raise ValueError(unknown_model(model, known))


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``kzoo.train`` that the command line asks for."""
    from kzoo import weights
    from kzoo.datasets import parse_options
    from kzoo.hparams import declarations, from_text, split_assignments
    from kzoo.training.plan import IN_MEMORY, named_recipe, starting_point
    from kzoo.training.recipe import Recipe

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
    _, name, known = starting_point(request["model"])
    kinds = {
        key: declaration.type
        for declared in (type(known), Recipe)
        for key, declaration in declarations(declared).items()
    }
    short = (
        *("epochs", "batch_size", "seed", "precision"),
        *("labels_per_class", "freeze", "lora"),
    )
    given = [(key, getattr(parsed, key)) for key in short]
    for key, text in [*given, *split_assignments(parsed.set)]:
        if text is not None:
            # What is unknown goes on as text: train says what it should be.
            settings[key] = from_text(text, kinds.get(key, str))
    if parsed.data:
        dataset = request["dataset"]
        if dataset is None:
            named, _ = named_recipe(name, None, parsed.recipe)
            dataset = named.dataset
        data |= parse_options(dataset, parsed.data)
    return {**request, "recipe": parsed.recipe, "data": data, **settings}
