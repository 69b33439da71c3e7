"""Tables of scores, as the terminal shows them."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def scores_table(splits: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a split, and below it one row a class for the last split."""
    console = Console()
    rows = list(splits.items())
    names = [name for name in rows[0][1] if name != "classes"]
    table = Table("split", *names)
    for split, scores in rows:
        table.add_row(split, *(shown(scores[name], ".4f") for name in names))
    console.print(table)
    split, scores = rows[-1]
    classes = scores.get("classes", [])
    if classes:
        table = Table("class", "precision", "recall", "F1", "examples", title=split)
        for row in classes:
            numbers = (row["precision"], row["recall"], row["f1"])
            cells = (shown(number, ".3f") for number in numbers)
            table.add_row(row["class"], *cells, str(row["examples"]))
        console.print(table)


def shown(score: float | None, form: str) -> str:
    """A score in this form, or that the data do not define it.

    Example:
        >>> shown(0.5, ".2f"), shown(None, ".2f")
        ('0.50', 'not defined')
    """
    return "not defined" if score is None else f"{score:{form}}"
