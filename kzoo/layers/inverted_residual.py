"""The block of networks for telephones: widen, convolve each channel, narrow.

Sandler et al. 2018 (1801.04381), in MobileNet V2 and V3 and in EfficientNet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from kzoo.layers.convolution import ConvNorm, drop_path, squeeze_excite


@dataclass(frozen=True)
class InvertedResidual:
    """One block that widens, convolves each channel, and narrows (1801.04381).

    Attributes:
        filters: channels that come out.
        expanded: channels in between; nothing widens where they are those coming in.
        kernel_size: of the depthwise convolution.
        strides: of the depthwise convolution.
        activation: of the wide layers; the narrow ones have none.
        squeeze: units of squeeze-and-excitation in the wide part; 0 = none.
        squeeze_activation: of these units.
        gate: what makes a scale of what they say.
    """

    filters: int
    expanded: int
    kernel_size: int = 3
    strides: int = 1
    activation: str = "relu"
    squeeze: int = 0
    squeeze_activation: str = "relu"
    gate: str = "sigmoid"


def inverted_residual(
    x: Any, block: InvertedResidual, kind: ConvNorm, drop_path_rate: float, name: str
) -> Any:
    """(batch, h, w, c) -> (batch, h / strides, w / strides, filters)."""
    shortcut = x
    conv = replace(kind, activation=block.activation)
    if block.expanded != x.shape[-1]:
        x = conv(x, block.expanded, 1, name=f"{name}_expand")
    x = conv.depthwise(x, block.kernel_size, block.strides, name=f"{name}_depthwise")
    if block.squeeze:
        x = squeeze_excite(
            x,
            block.squeeze,
            activation=block.squeeze_activation,
            gate=block.gate,
            name=f"{name}_se",
        )
    x = conv.linear(x, block.filters, 1, name=f"{name}_project")
    return residual(shortcut, x, block.strides, drop_path_rate, name)


def residual(shortcut: Any, x: Any, strides: int, rate: float, name: str) -> Any:
    """The layer ``name``: the sum where the shapes agree, else what the block gives.

    Args:
        shortcut: what comes into the block.
        x: what comes out of its last convolution.
        strides: of the block.
        rate: of examples that go by the shortcut alone, in training.
        name: of the block.
    """
    if strides > 1 or shortcut.shape[-1] != x.shape[-1]:
        return keras.layers.Identity(name=name)(x)
    x = drop_path(x, rate, f"{name}_drop_path")
    return keras.layers.Add(name=name)([shortcut, x])


def unstrided(
    stages: Sequence[Sequence[InvertedResidual]],
) -> list[list[InvertedResidual]]:
    """For small images: the first block with a stride of 2 gets one of 1.

    >>> block = InvertedResidual(8, 8, strides=2)
    >>> [[b.strides for b in stage] for stage in unstrided([[block, block], [block]])]
    [[1, 2], [2]]
    """
    flat = [block.strides for stage in stages for block in stage]
    first = flat.index(2)
    blocks = iter(range(len(flat)))
    return [
        [replace(b, strides=1) if next(blocks) == first else b for b in stage]
        for stage in stages
    ]


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple, and never less than nine tenths (1801.04381's code).

    >>> make_divisible(32 * 0.35), make_divisible(96 * 0.35)
    (16, 32)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
