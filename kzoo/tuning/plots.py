"""The pictures of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kzoo.tuning.objectives import Objective
from kzoo.tuning.records import COMPLETED, FAILED, Record
from kzoo.tuning.space import Range

# With fewer scores, an importance would be a guess.
FEWEST_SCORES = 10
SHADES = "viridis"


def history(path: Path, found: Sequence[Record], objective: Objective) -> None:
    """Scores in the order of the trials, and the best so far."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    scored = [record for record in found if record.objectives]
    for status, marker, fill in ((COMPLETED, "o", "C0"), ("stopped", "v", "none")):
        those = [r for r in scored if (r.status == COMPLETED) == (status == COMPLETED)]
        axes.scatter(
            [record.number for record in those],
            [record.objectives[objective.name] for record in those],
            marker=marker,
            facecolors=fill,
            edgecolors="C0",
            label="completed" if status == COMPLETED else "stopped early",
        )
    failed = [record.number for record in found if record.status == FAILED]
    bottom = axes.get_ylim()[0]
    if failed:
        axes.scatter(failed, [bottom] * len(failed), marker="x", c="C3", label="failed")
    gains = [objective.gain(record.objectives[objective.name]) for record in scored]
    best = [objective.gain(gain) for gain in np.maximum.accumulate(gains)]
    numbers = [record.number for record in scored]
    axes.step(numbers, best, where="post", color="C1", label="best so far")
    axes.set(xlabel="trial", ylabel=f"validation {objective.name}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path, dpi=120)


def parallel(
    path: Path, ranges: Sequence[Range], found: Sequence[Record], objective: Objective
) -> None:
    """A line a trial through its hyper-parameters, the better the brighter."""
    scored = [record for record in found if record.objectives]
    scored.sort(key=lambda r: objective.gain(r.objectives[objective.name]))
    scores = np.array([record.objectives[objective.name] for record in scored])
    low, high = float(scores.min()), float(scores.max())
    shares = (scores - low) / ((high - low) or 1.0)
    figure = Figure(figsize=(2.2 + 1.35 * len(ranges), 4.2), layout="constrained")
    axes = figure.subplots()
    shade = figure.colorbar(
        _mappable(low, high), ax=axes, label=f"validation {objective.name}"
    )
    columns = list(range(len(ranges) + 1))
    for record, share in zip(scored, shares, strict=True):
        places = [position(entry, record.values.get(entry.name)) for entry in ranges]
        bright = share if objective.direction == "max" else 1 - share
        axes.plot(
            columns,
            [*places, share],
            color=shade.cmap(share),
            alpha=0.25 + 0.75 * bright,
            linewidth=1 + bright,
        )
    for column, entry in enumerate(ranges):
        axes.axvline(column, color="0.8", zorder=0)
        for place, label in ticks(entry):
            axes.annotate(
                label,
                (column, place),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
    axes.axvline(columns[-1], color="0.8", zorder=0)
    names = [entry.name.replace("_", "\n") for entry in ranges]
    axes.set_xticks(columns, [*names, objective.name])
    axes.set_yticks([])
    axes.set(xlim=(-0.1, columns[-1] + 0.1), ylim=(-0.05, 1.05))
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _mappable(low: float, high: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, high), SHADES)


def position(entry: Range, value: Any) -> float:
    """Where the value stands in its range, from 0 to 1; nan where it was not open."""
    if value is None:
        return float("nan")
    if entry.kind == "choice":
        return entry.values.index(value) / max(1, len(entry.values) - 1)
    if entry.log:
        return float(np.log(value / entry.low) / np.log(entry.high / entry.low))
    return float((value - entry.low) / (entry.high - entry.low))


def ticks(entry: Range) -> list[tuple[float, str]]:
    """Places and labels of an axis."""
    if entry.kind == "choice":
        return [(position(entry, value), str(value)) for value in entry.values]
    ends = (entry.low, entry.high)
    return [(float(i), f"{value:.4g}") for i, value in enumerate(ends)]


def importances(
    ranges: Sequence[Range], found: Sequence[Record], objective: Objective
) -> dict[str, float]:
    """How much a forest that predicts the score needs each hyper-parameter.

    Shares of the permutation importances of 200 trees; Breiman, 2001. Few trials say
    little, and two hyper-parameters that moved together share theirs.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    scored = [record for record in found if record.objectives]
    places = np.array(
        [[position(e, r.values.get(e.name)) for e in ranges] for r in scored]
    )
    points = np.nan_to_num(places, nan=-1.0)
    scores = np.array([record.objectives[objective.name] for record in scored])
    forest = RandomForestRegressor(n_estimators=200, random_state=0)
    forest.fit(points, scores)
    told = permutation_importance(forest, points, scores, n_repeats=10, random_state=0)
    means = np.maximum(told.importances_mean, 0.0)
    shares = means / (means.sum() or 1.0)
    pairs = zip(ranges, shares, strict=True)
    return {entry.name: float(share) for entry, share in pairs}


def importance_bars(path: Path, shares: Mapping[str, float], trials: int) -> None:
    """The importances, the greatest on top."""
    names = sorted(shares, key=lambda name: shares[name])
    size = (6, 1.2 + 0.32 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, [shares[name] for name in names], color="C0")
    axes.bar_label(bars, [f" {shares[name]:.0%}" for name in names])
    axes.set(xlim=(0, 1.15 * max(shares.values()) or 1))
    axes.set_title(f"importance for the score, from {trials} trials", fontsize=10)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path, dpi=120)


def pareto(
    path: Path,
    found: Sequence[Record],
    front: Sequence[Record],
    objectives: Sequence[Objective],
) -> None:
    """The first objective against each of the others; the front in colour."""
    first, others = objectives[0], objectives[1:]
    size = (5.2 * len(others), 4.0)
    figure = Figure(figsize=size, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(others)))
    scored = [record for record in found if record.objectives]
    for axes, other in zip(panels, others, strict=True):
        for those, color, label in (
            (scored, "0.7", "trials"),
            (front, "C1", "no other is better in all"),
        ):
            points = sorted(
                (record.objectives[other.name], record.objectives[first.name])
                for record in those
            )
            line = ":" if color == "C1" and len(objectives) == 2 else ""
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o", linestyle=line, color=color, label=label)
        for record in front:
            axes.annotate(
                str(record.number),
                (record.objectives[other.name], record.objectives[first.name]),
                xytext=(4, -9),
                textcoords="offset points",
                fontsize=8,
            )
        values = [record.objectives[other.name] for record in scored]
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
        label = {"latency": "latency, ms", "macs": "MACs"}.get(other.name, other.name)
        axes.set(xlabel=label, ylabel=f"validation {first.name}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
