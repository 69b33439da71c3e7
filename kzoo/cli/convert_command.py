"""``kzoo convert``: weights of another zoo into a model folder, or back."""

import argparse
from pathlib import Path
from typing import Any

from kzoo import index, strict_json
from kzoo.cli.backend import add_backend, choose
from kzoo.hparams import nearest, parse
from kzoo.weights import load_identity
from kzoo.weights.checkpoints import local_checkpoint
from kzoo.weights.files import check_writable as check_kind_written

SOURCES = ("timm", "torchvision", "keras", "transformers")

EXAMPLES = (
    "kzoo convert timm/resnet18.a1_in1k --name resnet18 --out models/resnet18",
    "kzoo convert vgg.pth --name vgg16 --set num_classes=10 --out models/vgg",
    "kzoo convert runs/bert --to transformers --out exported",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "weights",
        metavar="CHECKPOINT",
        help="a state dict in .safetensors, .pth, .ckpt or .weights.h5, a folder that "
        "has one, or a name on the hub; with --to, a model or run folder",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="ZOO",
        help=f"whose names the file has: {', '.join(SOURCES)} (by default the nearest)",
    )
    way.add_argument("--to", metavar="ZOO", help="write the model by its names")
    parser.add_argument("--name", help="kzoo's model, such as resnet50")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyper-parameter, such as num_classes=10",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="how the file is read: ema=true takes its averaged weights",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="OUT",
        help="the model folder; with --to, a .safetensors or .pth file, or with "
        "--to transformers a folder",
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints what was changed on the way, a line each, and what was written."""
    if parsed.to is not None:
        return _run_back(parsed)
    if not parsed.name:
        raise ValueError("--name is missing: which of kzoo's models takes the weights")
    options = _options(parsed.option)
    if Path(parsed.out).is_file():
        raise ValueError(f"--out {parsed.out} is a file, not a folder")
    if parsed.source:
        _check_zoo(parsed.source)
    values = parse(index.declared(parsed.name), parsed.set, parsed.name)
    local_checkpoint(parsed.weights)
    choose(parsed.backend)
    from kzoo.weights.pretrained import convert_to_folder

    found = convert_to_folder(
        parsed.name, parsed.weights, parsed.out, parsed.source, **options, **values
    )
    _report(parsed, {"model": parsed.name, "changes": list(found.changes)})
    return 0


def _options(assignments: list[str]) -> dict[str, bool]:
    """How the checkpoint is read."""
    from kzoo.hparams import from_text, nearest, split_assignments

    options = {}
    for name, text in split_assignments(assignments):
        if name != "ema":
            raise ValueError(f"convert has no option {name!r}{nearest(name, ['ema'])}")
        options[name] = from_text(text, bool)
        if not isinstance(options[name], bool):
            raise ValueError(f"--option ema={text} is neither true nor false")
    return options


def _run_back(parsed: argparse.Namespace) -> int:
    if parsed.set or parsed.name or parsed.option:
        raise ValueError(
            "--to takes a model as it is: --name, --set and --option go with --from"
        )
    _check_zoo(parsed.to)
    load_identity(parsed.weights)
    if parsed.to != "transformers":  # whose checkpoints may be folders
        check_kind_written(Path(parsed.out))
    choose(parsed.backend)
    from kzoo.weights import PREPROCESSING, load, load_preprocessing, model_folder
    from kzoo.weights.checkpoints import write_checkpoint

    model = load(parsed.weights)
    preprocessing = None
    if (model_folder(parsed.weights) / PREPROCESSING).exists():
        preprocessing = load_preprocessing(parsed.weights)
    write_checkpoint(model, parsed.to, parsed.out, preprocessing)
    _report(parsed, {"model": model.name, "changes": []})
    return 0


def _check_zoo(name: str) -> None:
    if name not in SOURCES:
        raise ValueError(f"unknown zoo {name!r}{nearest(name, SOURCES)}")


def _report(parsed: argparse.Namespace, facts: dict[str, Any]) -> None:
    facts["out"] = parsed.out
    if parsed.json:
        print(strict_json.dumps(facts))
        return
    for change in facts["changes"]:
        print(change)
    print(f"{facts['model']} is in {parsed.out}")
