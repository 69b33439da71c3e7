"""``kzoo lr-find``: a range test of learning rates, as a check of a recipe."""

import argparse
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import add_backend, backend_name, choose
from kzoo.cli.checks import check_model, check_request, output_file
from kzoo.cli.trainers import add_assignments, settings_of, told_to
from kzoo.datasets import parse_options
from kzoo.training import range_test
from kzoo.training.settings import named_recipe

PICTURE = "lr_find.png"
SHORT = ("batch_size", "seed", "precision")  # recipe fields with options of their own

EXAMPLES = (
    "kzoo lr-find cnn --dataset digits",
    "kzoo lr-find mlp --dataset csv:table.csv --set optimizer=sgd --out rates.png",
    "kzoo lr-find runs/photos --dataset folder:more --min 1e-7 --max 1 --steps 100",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "model", help="a name; or a run or model folder, to start from it"
    )
    parser.add_argument("--dataset", metavar="D", help="default: the recipe's")
    add_assignments(parser, "--data", "its options")
    parser.add_argument("--recipe", metavar="R", help="default: the model's own")
    add_assignments(parser, "--set", "a hyper-parameter or a recipe field")
    parser.add_argument("--batch-size", metavar="N")
    parser.add_argument("--seed", metavar="S")
    parser.add_argument("--precision", metavar="P", help="such as mixed_bfloat16")
    parser.add_argument(
        "--steps",
        type=int,
        default=range_test.STEPS,
        metavar="N",
        help="updates of the weights at most, default: %(default)s",
    )
    parser.add_argument(
        "--min",
        type=float,
        default=range_test.MIN_RATE,
        metavar="RATE",
        help="learning rate of the first step, default: %(default)s",
    )
    parser.add_argument(
        "--max",
        type=float,
        default=range_test.MAX_RATE,
        metavar="RATE",
        help="learning rate of the last step, default: %(default)s",
    )
    parser.add_argument(
        "--out", metavar="FILE", help=f"the picture, default: {PICTURE}"
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Draws the picture and prints the suggestion; 1 where there is none."""
    check(parsed)
    choose(parsed.backend)
    told_to(parsed)
    from kzoo.training.lr_find import lr_find

    out = output_file(parsed.out, PICTURE)
    request = _request(parsed)
    model, dataset = request.pop("model"), request.pop("dataset")
    result = lr_find(
        model,
        dataset,
        steps=parsed.steps,
        min_rate=parsed.min,
        max_rate=parsed.max,
        out=out,
        **request,
    )
    code = 1 if result.suggestion is None else 0
    if parsed.json:
        print(strict_json.dumps({**result.to_json(), "picture": str(out)}))
        return code
    if result.suggestion is None:
        print("suggestion: none, the loss never fell; try other rates or more --steps")
    else:
        print(f"suggestion: {result.suggestion:.2g} ({result.rule})")
    print(f"recipe: {result.recipe_rate:.2g}, {result.verdict}")
    if result.stopped:
        print(f"stopped at {result.rates[-1]:.2g}: {_STOPPED[result.stopped]}")
    print(f"the picture is {out}")
    return code


_STOPPED = {
    "diverged": f"the smoothed loss was {range_test.DIVERGED:g} times its lowest",
    "not finite": "the next loss was not finite",
}


def check(parsed: argparse.Namespace) -> None:
    """Raises for what is wrong with the command, before Keras is imported."""
    backend_name(parsed.backend)
    range_test.check_options(parsed.steps, parsed.min, parsed.max)
    range_test.check_picture(output_file(parsed.out, PICTURE))
    request = _request(parsed)
    named = {key: request.pop(key) for key in ("recipe", "data")}
    check_request(
        request.pop("model"), request.pop("dataset"), settings=request, **named
    )


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``kzoo.lr_find`` that say what is trained."""
    name, declared = check_model(parsed.model)
    dataset = parsed.dataset
    data: dict[str, Any] = {}
    if parsed.data:
        source = dataset or named_recipe(name, None, parsed.recipe)[0].dataset
        data = parse_options(source, parsed.data)
    return {
        "model": parsed.model,
        "dataset": dataset,
        "recipe": parsed.recipe,
        "data": data,
        **settings_of(parsed, declared, SHORT),
    }
