"""``kzoo predict``: what a trained model says of texts, files and folders."""

import argparse
import csv
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import add_backend, backend_name, choose

SHOWN = 20

EXAMPLES = (
    "kzoo predict runs/photos cat.jpg dog.png",
    "kzoo predict runs/table new.csv --out answers.csv",
    "kzoo predict runs/names Reykjavik --top 5 --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run or model folder")
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="a text, an image, a folder of images, a .csv file, or numbers as 1,2,3",
    )
    parser.add_argument("--top", type=int, default=3, metavar="N", help="classes shown")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="a CSV file for the answers; of a folder or a "
        "file of many, default: predictions.csv",
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints the answers; those to folders and tables go to a CSV file."""
    from kzoo.datasets.csv_file import is_table
    from kzoo.training.predict import answers, opened

    if parsed.top < 1 or parsed.batch_size < 1:
        raise ValueError("--top and --batch-size must be at least 1")
    if parsed.out:
        check_folder_of(Path(parsed.out))
    backend_name(parsed.backend)
    asked = opened(parsed.run_folder)
    named = asked.named(parsed.inputs)
    choose(parsed.backend)
    found = answers(asked, named, parsed.top, parsed.batch_size)
    answered = [one for one in found if one.error is None]
    code = 1 if len(answered) < len(found) else 0
    for one in found:
        if one.error is not None:
            print(f"error: {one.error}", file=sys.stderr)
    many = any(
        is_table(one) or (len(one) < 256 and Path(one).is_dir())
        for one in parsed.inputs
    )
    out = parsed.out or ("predictions.csv" if many else None)
    if out:
        write(Path(out), answered)
    if parsed.json:
        print(strict_json.dumps([dataclasses.asdict(one) for one in found]))
        return code
    _print(answered[:SHOWN])
    if len(answered) > SHOWN:
        print(f"and {len(answered) - SHOWN} more")
    if out:
        print(f"{len(answered)} answers are in {out}")
    return code


def check_folder_of(path: Path) -> None:
    """Raises where the file cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")


def write(path: Path, found: Sequence[Any]) -> None:
    """A CSV file with a row for each prediction, in one step."""
    check_folder_of(path)
    aside = path.with_name(f".{path.name}.tmp")
    with open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if found and found[0].value is not None:
            writer.writerow(["input", "value"])
            writer.writerows([one.input, one.value] for one in found)
        else:
            top = len(found[0].classes) if found else 0
            answers = [(f"class_{i + 1}", f"probability_{i + 1}") for i in range(top)]
            writer.writerow(["input", *(name for pair in answers for name in pair)])
            for one in found:
                pairs = zip(one.classes, one.probabilities, strict=True)
                writer.writerow([one.input, *(item for pair in pairs for item in pair)])
    aside.replace(path)


def _print(found: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("input", "answer")
    for one in found:
        answer = f"{one.value:.6g}" if one.value is not None else ""
        pairs = zip(one.classes, one.probabilities, strict=True)
        answer += ", ".join(f"{name} {share:.1%}" for name, share in pairs)
        # Text takes brackets as they are, not as styles.
        table.add_row(Text(one.input), Text(answer))
    Console().print(table)
