"""JSON as its standard has it: numbers that are not finite are null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def finite_or_none(value: Any) -> Any:
    """The value, with None for each number inside it that is NaN or infinite.

    Example:
        >>> finite_or_none({"r2": float("nan"), "rows": [1, float("inf"), 0.5]})
        {'r2': None, 'rows': [1, None, 0.5]}
    """
    if isinstance(value, Mapping):
        return {key: finite_or_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON that every parser reads: Python's own writes NaN, which is no JSON.

    Example:
        >>> dumps({"auc": float("nan")})
        '{"auc": null}'
    """
    return json.dumps(finite_or_none(value), indent=indent, allow_nan=False)
