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
from kzoo.cli.checks import output_file
from kzoo.datasets.csv_file import is_table, read_table
from kzoo.training.prediction_inputs import is_folder
from kzoo.training.run import check_file

SHOWN = 20
ANSWERS = "predictions.csv"
NAMES = ("class", "probability")

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
        help="a CSV file for the answers, beside the columns of a .csv input; of a "
        f"folder or a table, default: {ANSWERS}",
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints the answers; those to folders and tables go to a CSV file."""
    from kzoo.training.predict import answers, opened

    if parsed.top < 1 or parsed.batch_size < 1:
        raise ValueError("--top and --batch-size must be at least 1")
    out = _out(parsed)
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
    if out:
        alone = len(parsed.inputs) == 1 and is_table(parsed.inputs[0])
        write(out, found if alone else answered, parsed.inputs[0] if alone else None)
    if parsed.json:
        print(strict_json.dumps([dataclasses.asdict(one) for one in found]))
        return code
    _print(answered[:SHOWN])
    if len(answered) > SHOWN:
        print(f"and {len(answered) - SHOWN} more")
    if out:
        print(f"{len(answered)} answers are in {out}")
    return code


def _out(parsed: argparse.Namespace) -> Path | None:
    """The file for the answers; None where the terminal will do.

    Raises:
        ValueError: it would replace an input, or, unasked, a file that is there.
        FileNotFoundError: there is no such folder.
    """
    many = any(is_table(one) or is_folder(one) for one in parsed.inputs)
    if parsed.out is None and not many:
        return None
    out = output_file(parsed.out, ANSWERS)
    for one in parsed.inputs:
        if out.exists() and is_table(one) and Path(one).exists() and out.samefile(one):
            raise ValueError(f"--out {out} is an input, which would be lost")
    return out


def write(path: Path, found: Sequence[Any], table: str | None = None) -> None:
    """A CSV file with a row for each prediction, in one step.

    Args:
        path: of the file.
        found: the predictions.
        table: a CSV file that has a row for each of them: its columns come first.
            Without one the first column is the input's name.
    """
    check_file(path)
    header: tuple[str, ...] = ("input",)
    if table is None:
        rows = [[one.input] for one in found]
    else:
        read = read_table(table)
        header, rows = read.header, read.rows
    if any(one.value is not None for one in found):
        names = ["value"]
        cells = [[one.value] for one in found]
    else:
        top = max((len(one.classes) for one in found), default=0)
        names = [f"{what}_{i + 1}" for i in range(top) for what in NAMES]
        cells = [
            [
                cell
                for pair in zip(one.classes, one.probabilities, strict=True)
                for cell in pair
            ]
            for one in found
        ]
    while set(names) & set(header):
        names = [f"predicted_{name}" for name in names]
    aside = path.with_name(f".{path.name}.tmp")
    with open(
        aside, "w", newline="", encoding="utf-8", errors="backslashreplace"
    ) as file:
        writer = csv.writer(file)
        writer.writerow([*header, *names])
        for row, answer in zip(rows, cells, strict=True):
            writer.writerow([*row, *answer, *[""] * (len(names) - len(answer))])
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
