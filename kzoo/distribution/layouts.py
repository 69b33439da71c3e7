"""How the variables of a model lie on a mesh of devices, for ``model_parallel``.

A family declares its layout, ``Family.layout``: an expression that a variable's path
matches as a whole -> an axis for each of its dimensions, ``"model"`` where it is cut
and None where it is whole:

    {r".*_(query|key|value)/kernel": (None, "model")}

Variables that no expression matches are whole on every device.
"""

import re
from collections.abc import Mapping
from typing import Any

from kzoo.distribution.single import Layout


def check_layout(layout: Layout, variables: Any, devices: int) -> None:
    """Raises a ``ValueError`` where a layout does not fit a model.

    Args:
        layout: see above.
        variables: the model's.
        devices: along the axis ``"model"``.

    Raises:
        ValueError: an expression that matches no variable, two that match the same, a
            number of axes that is not the variable's, or a dimension that the devices
            do not divide.
    """
    shapes = {variable.path: tuple(variable.shape) for variable in variables}
    seen: dict[str, str] = {}
    for pattern, axes in layout.items():
        matched = [path for path in shapes if re.fullmatch(pattern, path)]
        if not matched:
            raise ValueError(
                f"the layout's {pattern!r} matches no variable; there are "
                + ", ".join(sorted(shapes))
            )
        for path in matched:
            if path in seen:
                raise ValueError(
                    f"the layout's {seen[path]!r} and {pattern!r} both match {path}"
                )
            seen[path] = pattern
            _check_axes(path, shapes[path], pattern, axes, devices)


def _check_axes(
    path: str,
    shape: tuple[int, ...],
    pattern: str,
    axes: tuple[str | None, ...],
    devices: int,
) -> None:
    if len(axes) != len(shape):
        raise ValueError(
            f"the layout's {pattern!r} has {len(axes)} axes, {path} has the shape "
            f"{shape}"
        )
    for size, axis in zip(shape, axes, strict=True):
        if axis == "model" and size % devices:
            raise ValueError(
                f"{path} of shape {shape} cannot be cut into {devices} along its "
                f"dimension of {size}; the nearest size is "
                f"{max(1, round(size / devices)) * devices}"
            )


def bytes_by_device(variables: Any) -> Mapping[str, int]:
    """What each device holds of these variables, on JAX: ``{"cpu:0": 1024, ...}``."""
    held: dict[str, int] = {}
    for variable in variables:
        for shard in variable.value.addressable_shards:
            name = f"{shard.device.platform}:{shard.device.id}"
            held[name] = held.get(name, 0) + shard.data.nbytes
    return held
