"""MixUp and CutMix: each example of a batch with another one, labels and all."""

import numpy as np

from kzoo.datasets.augmentation import in_boxes


def soft_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels that can be mixed, float32.

    Args:
        labels: classes or targets (batch,).
        num_classes: 1 = one logit: labels are targets, or the odds of class 1.

    Returns:
        (batch, num_classes) of 0 and 1, or (batch,) for one logit.
    """
    if num_classes == 1:
        return labels.astype("float32")
    soft = np.zeros((len(labels), num_classes), "float32")
    soft[np.arange(len(labels)), labels] = 1.0
    return soft


def mixed(
    inputs: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    mixup: float,
    cutmix: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Each example with a partner from its batch.

    MixUp (Zhang et al. 2018, 1710.09412) takes the weighted mean of two examples,
    CutMix (Yun et al. 2019, 1905.04899) puts a box of one into the other. The share of
    each example is drawn from Beta(alpha, alpha). Where both are on, each batch goes
    through one of them, drawn evenly.

    Args:
        inputs: raw (batch, ...); (batch, height, width, channels) for CutMix.
        labels: of :func:`soft_labels`.
        rng: of this batch.
        mixup: alpha of MixUp; 0 = off.
        cutmix: alpha of CutMix; 0 = off.

    Returns:
        Inputs, floating where MixUp is on, and labels of the same shapes.
    """
    if not mixup and not cutmix:
        return inputs, labels
    partners = rng.permutation(len(inputs))
    cut = cutmix > 0 and (not mixup or rng.random() < 0.5)
    alpha = cutmix if cut else mixup
    kept = rng.beta(alpha, alpha, len(inputs))  # the share of the example itself
    if cut:
        taken = _boxes(inputs.shape, rng, 1 - kept)
        inputs = np.where(taken, inputs[partners], inputs)
        # What the box has in the end, where the image's rim cut it off.
        kept = 1 - taken.mean(axis=(1, 2, 3))
    if mixup:
        # Of one type, whichever of the two a batch goes through.
        floating = inputs.dtype if inputs.dtype.kind == "f" else np.dtype("float32")
        inputs = inputs.astype(floating)
    if not cut:
        inputs = _between(inputs, inputs[partners], kept)
    return inputs, _between(labels, labels[partners], kept)


def _boxes(
    shape: tuple[int, ...], rng: np.random.Generator, share: np.ndarray
) -> np.ndarray:
    """Boxes of a share of the area around a pixel drawn evenly, cut off at the rim."""
    count, height, width = shape[:3]
    side = np.sqrt(share)
    box_height, box_width = np.rint(side * height), np.rint(side * width)
    top = rng.integers(0, height, count) - box_height // 2
    left = rng.integers(0, width, count) - box_width // 2
    return in_boxes(shape, top, left, box_height, box_width)


def _between(one: np.ndarray, two: np.ndarray, share: np.ndarray) -> np.ndarray:
    """``share`` of the first (batch, ...), the rest of the second."""
    share = share.astype(one.dtype).reshape(-1, *(1,) * (one.ndim - 1))
    return one * share + two * (1 - share)
