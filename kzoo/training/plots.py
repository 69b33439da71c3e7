"""The pictures of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kzoo.training.metrics import regression_scores

LABELS = {
    "r2": "R²",
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "auc": "area under the ROC curve",
    "macro_f1": "macro F1",
}


def curves(path: Path, history: Sequence[dict[str, float]], metric: str) -> None:
    """Loss and the monitored metric over the epochs, the best one marked."""
    both = dict.fromkeys(("loss", metric))
    names = [name for name in both if f"val_{name}" in history[0]]
    figure = Figure(figsize=(5 * len(names), 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    best = next(row for row in reversed(history) if row["best"])["epoch"]
    panels = np.atleast_1d(figure.subplots(1, len(names)))
    for axes, name in zip(panels, names, strict=True):
        for key, label, color in (
            (name, "training", "C0"),
            (f"val_{name}", "validation", "C1"),
        ):
            if key in history[0]:
                values = [row[key] for row in history]
                marker = "o" if len(history) < 10 else ""
                axes.plot(epochs, values, label=label, color=color, marker=marker)
        axes.axvline(best, color="0.6", linestyle=":", label=f"kept: epoch {best:.0f}")
        axes.set(xlabel="epoch", ylabel=LABELS.get(name, name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def loss_over_rate(
    path: Path,
    rates: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray,
    *,
    suggestion: float | None,
    recipe_rate: float,
    title: str,
) -> None:
    """Loss over the learning rate, with the suggestion and the recipe's own rate."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="C0", alpha=0.3, label="loss of a batch")
    axes.plot(rates, smoothed, color="C0", label="smoothed")
    for rate, color, style, label in (
        (suggestion, "C2", "-", "suggestion"),
        (recipe_rate, "C1", "--", "recipe"),
    ):
        if rate:
            axes.axvline(rate, color=color, ls=style, label=f"{label}: {rate:.2g}")
    # What diverges would press the rest into a line.
    low = min(losses.min(), smoothed.min())
    high = max(smoothed[0], min(smoothed.max(), smoothed.min() + 3 * abs(low)))
    margin = 0.05 * (high - low) or 1.0
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=title)
    axes.set_ylim(low - margin, high + margin)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    aside = path.with_name(f".{path.name}.tmp")
    figure.savefig(aside, dpi=120, format=path.suffix[1:].lower())
    aside.replace(path)


def confusion(
    path: Path, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> None:
    """Counts by true (rows) and predicted class; shades are shares of the row."""
    size = len(classes)
    counts = np.zeros((size, size), "int64")
    np.add.at(counts, (labels, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = 2.2 + 0.36 * min(size, 40)
    figure = Figure(figsize=(inches + 0.6, inches), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true")
    if size <= 40:
        long = size > 12 or max(map(len, classes)) > 3
        axes.set_xticks(
            range(size),
            classes,
            rotation=45 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
        )
        axes.set_yticks(range(size), classes)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                shade = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=shade)
    accuracy = np.trace(counts) / max(1, counts.sum())
    axes.set_title(f"test: {accuracy:.1%} of {counts.sum()} right")
    figure.savefig(path, dpi=120)


def predicted(path: Path, targets: np.ndarray, outputs: np.ndarray) -> None:
    """Predicted against true values of a regression, with the line of equality."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    low = float(min(targets.min(), outputs.min()))
    high = float(max(targets.max(), outputs.max()))
    axes.plot([low, high], [low, high], color="0.6", linestyle=":")
    axes.scatter(targets, outputs, s=14, alpha=0.7)
    r2 = regression_scores(targets.astype("float64"), outputs.astype("float64"))["r2"]
    axes.set(xlabel="true", ylabel="predicted", aspect="equal")
    axes.set_title(f"test: R² {r2:.3f} of {len(targets)} examples")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
