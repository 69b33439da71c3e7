"""``kzoo describe``: one model, from the index or built with changed values."""

import argparse
from typing import Any

from kzoo import index, strict_json
from kzoo.cli.backend import quiet
from kzoo.cli.list_command import scaled
from kzoo.hparams import parse
from kzoo.plugins import in_words

EXAMPLES = (
    "kzoo describe cnn",
    "kzoo describe vit_lite_2 --set num_classes=100",
    "kzoo describe lstm --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("name", help="the model's name")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a hyper-parameter to change; builds the model and counts it",
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints a page, or JSON."""
    entry = index.describe(parsed.name)
    if parsed.set:
        values = parse(index.declared(parsed.name), parsed.set, parsed.name)
        quiet()
        entry = index.describe(parsed.name, **values)
    if parsed.json:
        print(strict_json.dumps(entry, indent=2))
    else:
        page(entry)
    return 0


def page(entry: dict[str, Any]) -> None:
    """Prints what there is to know."""
    shape = entry["macs_input"]
    at = shape if isinstance(shape, dict) else "x".join(map(str, shape))
    print(f"{entry['name']}  (family {entry['family']}, paper {entry['paper']})")
    if entry.get("plugin"):
        print(f"plug-in  {in_words(entry['plugin'])}")
    print(f"tasks    {', '.join(entry['tasks'])}")
    print(f"weights  {entry['trainable_parameters']:,} trainable")
    if entry["macs"] is None:
        print(f"MACs     not known (layer {entry['macs_unknown']})")
    else:
        print(f"MACs     {scaled(entry['macs'])} for one example of {at}")
    for result in entry["results"]:
        print(
            f"measured {result['metric']} {result['mean']:.4g} on {result['dataset']} "
            f"({result['recipe']}, {len(result['seeds'])} seeds)"
        )
    print()
    rows = [("hyper-parameter", "default", "legal", "")]
    rows += [
        (h["name"], str(h["default"]), legal(h), h["doc"]) for h in entry["hparams"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[3]]).rstrip())


def legal(declaration: dict[str, Any]) -> str:
    """The legal values in short: ``int 1..512``, ``relu | gelu``."""
    if "choices" in declaration:
        return " | ".join(map(str, declaration["choices"]))
    low, high = declaration.get("min"), declaration.get("max")
    if low is None and high is None:
        return str(declaration["type"])
    if high is None:
        return f"{declaration['type']} >= {low:g}"
    return f"{declaration['type']} {low:g}..{high:g}"
