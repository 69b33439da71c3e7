"""Writes the README's table of models from index.json and results.json.

python scripts/readme_tables.py [--check]
"""

import sys
from pathlib import Path

from kzoo import index

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- scores: written by scripts/readme_tables.py -->\n"
END = "<!-- end of scores -->"


def table() -> str:
    """A row a model, with a column for its measured scores."""
    rows = ["| model | weights | paper | measured |", "|---|---:|---|---|"]
    for name in index.list_models():
        entry = index.describe(name)
        scores = ", ".join(score_text(score) for score in entry["results"])
        rows.append(
            f"| `{name}` | {entry['trainable_parameters']:,} | {link(entry['paper'])} "
            f"| {scores} |"
        )
    return "\n".join(rows) + "\n"


def score_text(score: dict) -> str:
    if score["metric"] == "accuracy":
        shown = f"{score['mean']:.2%}"
    else:
        shown = f"{score['metric']} {score['mean']:.3f}"
    return f"{score['dataset']} {shown}"


def link(paper: str) -> str:
    """A DOI or an arXiv number as a link."""
    if paper.startswith("10."):
        return f"[doi](https://doi.org/{paper})"
    if paper[:4].isdigit():
        return f"[{paper}](https://arxiv.org/abs/{paper})"
    return paper


def written(text: str) -> str:
    """The README with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if written(text) == text else "the README's table is out of date")
    README.write_text(written(text), encoding="utf-8")
