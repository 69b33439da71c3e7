"""Pictures of what a decoder makes."""

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from kzoo.datasets import Dataset


def reconstructions(
    path: Path, clean: np.ndarray, shown: np.ndarray, made: np.ndarray
) -> None:
    """Three rows of images: as they are, as the encoder saw them, as decoded.

    Args:
        path: of the PNG.
        clean: (count, height, width, channels), in any units; so are the others.
        shown: spoilt ones, or the same.
        made: by the decoder.
    """
    rows = {"image": clean, "shown": shown, "decoded": made}
    if np.array_equal(clean, shown):
        del rows["shown"]
    grid(path, rows, float(clean.min()), float(clean.max()))


def grid(path: Path, rows: dict[str, np.ndarray], low: float, high: float) -> None:
    """Named rows of images, all in the same units from ``low`` to ``high``."""
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(0.9 * count + 0.8, 0.95 * len(rows)), layout="constrained")
    cells = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(cells, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            units = np.clip((image - low) / max(high - low, 1e-9), 0, 1)
            gray = units.shape[-1] != 3
            axes.imshow(units[..., 0] if gray else units, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    figure.savefig(path, dpi=120)


def draw(folder: Path, model: keras.Model, dataset: Dataset) -> None:
    """What an autoencoder makes of ten test images, and forty that it made up.

    Args:
        folder: for ``reconstructions.png`` and, of a model that samples,
            ``samples.png``; nothing is drawn of other inputs than images.
        model: an autoencoder.
        dataset: whose batches hold ``inputs`` and ``targets``.
    """
    if dataset.spec.inputs != "images":
        return
    count = min(10, len(dataset.splits["test"]))
    batch = next(iter(dataset.eval_batches("test", count)))["inputs"]
    clean, shown = batch["targets"], batch["inputs"]
    made = model(keras.ops.convert_to_tensor(shown), training=False)
    reconstructions(
        folder / "reconstructions.png", clean, shown, keras.ops.convert_to_numpy(made)
    )
    if hasattr(model, "sample"):
        drawn = keras.ops.convert_to_numpy(model.sample(40))
        rows = {f"{10 * i + 1}..": drawn[10 * i : 10 * i + 10] for i in range(4)}
        grid(folder / "samples.png", rows, float(clean.min()), float(clean.max()))
