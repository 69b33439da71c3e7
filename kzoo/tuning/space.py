"""The space of a sweep: what may move, between which values, declared before a build.

It comes from the ``tune=`` of the model's hyper-parameters and the recipe's fields; a
user narrows or widens it by texts such as ``1e-4..1e-2:log`` or ``adamw,sgd``.
"""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras_tuner

from kzoo.hparams import (
    Declaration,
    checked,
    declarations,
    from_text,
    nearest,
    plain,
)
from kzoo.training.plan import Plan
from kzoo.training.recipe import Recipe

Condition = tuple[str, tuple[Any, ...]]
SCALES = ("log", "linear")
# The sweep says these itself, each trial its own.
RESERVED = ("seed", "epochs", "snapshot_every", "early_stopping", "monitor")


@dataclass(frozen=True)
class Range:
    """What one hyper-parameter may be.

    Attributes:
        kind: ``int``, ``float`` or ``choice``.
        low, high: of a number, both included.
        log: even on a logarithmic scale.
        values: of a choice.
        length: of a tuple whose elements are this number, all alike; 0 = the number.
        default: the recipe's own value, or the nearest in the range.
        when: another hyper-parameter, and the values of it that open this one.
    """

    name: str
    kind: str
    low: float = 0
    high: float = 0
    log: bool = False
    values: tuple[Any, ...] = ()
    length: int = 0
    default: Any = None
    when: Condition | None = None

    def points(self, count: int) -> list[Any]:
        """Evenly spread values, both ends among them; all values of a choice."""
        if self.kind == "choice":
            return list(self.values)
        found = [self.at(i / (count - 1)) for i in range(count)]
        return list(dict.fromkeys(found))

    def at(self, share: float) -> Any:
        """The number at this share of the way from low to high."""
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(value, self.low), self.high)
        return round(value) if self.kind == "int" else float(value)

    def setting(self, value: Any) -> Any:
        """What the hyper-parameter is set to for this value of the range."""
        return (value,) * self.length if self.length else value

    def to_json(self) -> dict[str, Any]:
        """The range without what the recipe says, in plain JSON types."""
        if self.kind == "choice":
            told: dict[str, Any] = {"values": plain(self.values)}
        else:
            told = {"low": self.low, "high": self.high, "log": self.log}
        if self.length:
            told["length"] = self.length
        if self.when:
            told["when"] = {self.when[0]: plain(self.when[1])}
        return {"kind": self.kind, **told}


def search_space(
    planned: Plan, settings: Iterable[str], changes: Mapping[str, Any] | None = None
) -> tuple[Range, ...]:
    """The ranges of a sweep, in the order of their declarations, parents first.

    Args:
        planned: the run that the recipe's own values make. Where it starts from
            weights, of the network's own only its rates of dropout move.
        settings: names that the user has set: they do not move.
        changes: ranges by name: ``"1e-4..1e-2:log"``, ``"adamw,sgd"``, or a list of
            values.

    Raises:
        ValueError: an unknown name, values that are not legal, or nothing to move.
    """
    network = declarations(type(planned.hparams))
    declared = {**network, **declarations(Recipe)}
    fixed = {*planned.dataset.spec.hparams, *RESERVED}
    if planned.start is not None:  # other weights would not fit, or mean another thing
        fixed |= {name for name in network if not name.endswith("_rate")}
    values = {**planned.hparams.to_json(), **planned.recipe.to_json()}
    asked = dict(changes or {})
    for name in asked:
        if name not in declared:
            raise ValueError(
                f"{planned.name} has no hyper-parameter {name!r}, nor has the recipe "
                f"such a field{nearest(name, declared)}"
            )
        if name in fixed or name in settings:
            who = "is not for a sweep to move"
            if name in settings:
                who = "is set"
            elif name in network and planned.start is not None:
                who = "is the network's whose weights the sweep starts from"
            raise ValueError(f"{name} {who}: it has no range in the space")
    found: dict[str, Range] = {}
    for name, declaration in declared.items():
        if name in fixed or name in settings:
            continue
        entry = _range_of(declaration, values[name], asked.get(name))
        if entry is not None:
            found[name] = entry
    opened = _opened(found, values)
    closed = set(asked) - {entry.name for entry in opened}
    for name in closed:
        parent, opening = found[name].when or ("", ())
        raise ValueError(
            f"{name} has a meaning where {parent} is one of "
            f"{', '.join(map(str, opening))}; it is {values[parent]}"
        )
    if not opened:
        raise ValueError(
            f"there is nothing to move: {planned.name} and the recipe declare no range "
            "that is left; give one, such as --space learning_rate=1e-4..1e-2:log"
        )
    return opened


def _range_of(
    declaration: Declaration, value: Any, asked: str | Sequence[Any] | None
) -> Range | None:
    """What one hyper-parameter may be, if it moves at all.

    The elements of a tuple that declares a range move together. Where the recipe's own
    are not alike they stay, unless they are asked for: no trial could have them.
    """
    together = element_of(declaration) is not declaration
    if together and asked is None and len(set(value)) != 1:
        return None
    if together and not value:
        raise ValueError(f"{declaration.name} is empty: there is nothing to move")
    if asked is not None:
        entry = asked_range(declaration, asked)
    elif declaration.tune:
        entry = declared_range(declaration)
    else:
        return None
    return dataclasses.replace(
        entry,
        default=_nearest_default(entry, value[0] if together else value),
        when=declaration.when,
        length=len(value) if together else 0,
    )


def element_of(declaration: Declaration) -> Declaration:
    """One element of a tuple of numbers that declares a range; else what is given."""
    kinds = typing.get_args(declaration.type)
    if typing.get_origin(declaration.type) is not tuple or not declaration.tune:
        return declaration
    if kinds[-1] is not Ellipsis or kinds[0] not in (int, float):
        return declaration
    return dataclasses.replace(declaration, type=kinds[0])


def settings_of(space: Iterable[Range], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a trial as the hyper-parameters take them.

    Example:
        >>> settings_of([Range("units", "int", 8, 64, length=2)], {"units": 16})
        {'units': (16, 16)}
    """
    ranges = {entry.name: entry for entry in space}
    return {
        name: ranges[name].setting(value) if name in ranges else value
        for name, value in values.items()
    }


def declared_range(declaration: Declaration) -> Range:
    """What ``tune=`` says; of a tuple of numbers, what one element may be."""
    declaration = element_of(declaration)
    name, tune = declaration.name, declaration.tune
    if declaration.choices or _number(declaration) is None:
        return Range(name, "choice", values=tune)
    low, high = tune
    kind = _number(declaration) or ""
    return Range(name, kind, low, high, declaration.log)


def asked_range(declaration: Declaration, asked: str | Sequence[Any]) -> Range:
    """What the user says; a ``ValueError`` if that is not legal."""
    declaration = element_of(declaration)
    name = declaration.name
    if isinstance(asked, str) and ".." in asked:
        return _asked_numbers(declaration, asked)
    if isinstance(asked, str):
        parts = [part.strip() for part in asked.split(",") if part.strip()]
        asked = [from_text(part, declaration.type) for part in parts]
    values = tuple(dict.fromkeys(checked(declaration, value) for value in asked))
    if len(values) < 2:
        raise ValueError(
            f"{name}={asked!r} leaves nothing to move: give low..high, or two values "
            f"at least; to fix it, use --set {name}=VALUE"
        )
    if any(isinstance(value, tuple) or value is None for value in values):
        raise ValueError(f"{name} is {declaration.legal}: a sweep moves single values")
    return Range(name, "choice", values=values)


def _asked_numbers(declaration: Declaration, asked: str) -> Range:
    name, kind = declaration.name, _number(declaration)
    bounds, _, scale = asked.partition(":")
    if scale and scale not in SCALES:
        raise ValueError(
            f"{name}={asked}: the scale {scale!r} is not one of {', '.join(SCALES)}"
        )
    if kind is None or declaration.choices:
        raise ValueError(
            f"{name} is {declaration.legal}, and has no range; list values, such as "
            f"{name}=A,B"
        )
    low, high = (
        checked(declaration, from_text(text.strip(), declaration.type))
        for text in bounds.split("..", 1)
    )
    if not low < high:
        raise ValueError(f"{name}={asked}: the low end must be less than the high one")
    log = scale == "log" or (not scale and declaration.log and low > 0)
    if log and low <= 0:
        raise ValueError(f"{name}={asked}: a logarithmic scale begins above 0")
    return Range(name, kind, low, high, log)


def _number(declaration: Declaration) -> str | None:
    """``int`` or ``float`` where the declared type is, or may be, a number."""
    kinds: tuple[Any, ...] = (declaration.type,)
    if typing.get_origin(declaration.type) in (types.UnionType, typing.Union):
        kinds = typing.get_args(declaration.type)
    if float in kinds:
        return "float"
    return "int" if int in kinds else None


def _nearest_default(entry: Range, value: Any) -> Any:
    if entry.kind == "choice":
        return value if value in entry.values else entry.values[0]
    if not isinstance(value, int | float) or not math.isfinite(value):
        value = entry.low
    clipped = min(max(value, entry.low), entry.high)
    return round(clipped) if entry.kind == "int" else float(clipped)


def _opened(found: Mapping[str, Range], values: Mapping[str, Any]) -> tuple[Range, ...]:
    """Parents before what they open; without what stays closed whatever happens."""
    ordered: dict[str, Range] = {}

    def add(entry: Range) -> bool:
        """Whether some trial may move this one."""
        if entry.name in ordered:
            return True
        if entry.when is not None:
            parent, opening = entry.when
            if parent not in found:
                if values[parent] not in opening:
                    return False
                entry = dataclasses.replace(entry, when=None)
            elif not add(found[parent]):
                return False
        ordered[entry.name] = entry
        return True

    for entry in found.values():
        add(entry)
    return tuple(ordered.values())


def declare(
    space: Sequence[Range], hyperparameters: keras_tuner.HyperParameters
) -> keras_tuner.HyperParameters:
    """Declares the ranges to KerasTuner, conditions included."""
    known = {entry.name: entry for entry in space}
    for entry in space:
        with contextlib.ExitStack() as scopes:
            for name, values in _conditions(entry, known):
                scope = hyperparameters.conditional_scope(name, list(values))
                scopes.enter_context(scope)
            _declare_one(entry, hyperparameters)
    return hyperparameters


def _conditions(entry: Range, known: Mapping[str, Range]) -> list[Condition]:
    """All that must hold for a range to be open, the outermost first."""
    if entry.when is None:
        return []
    return [*_conditions(known[entry.when[0]], known), entry.when]


def _declare_one(entry: Range, to: keras_tuner.HyperParameters) -> None:
    if entry.kind == "choice":
        if all(isinstance(value, bool) for value in entry.values):  # 0 and 1 are not
            to.Boolean(entry.name, default=entry.default)
        else:
            to.Choice(entry.name, list(entry.values), default=entry.default)
        return
    sampling = "log" if entry.log else "linear"
    if entry.kind == "int":
        low, high = int(entry.low), int(entry.high)
        to.Int(entry.name, low, high, sampling=sampling, default=entry.default)
    else:
        to.Float(
            entry.name, entry.low, entry.high, sampling=sampling, default=entry.default
        )


def is_open(entry: Range, values: Mapping[str, Any]) -> bool:
    """Whether these values open the range."""
    return entry.when is None or values.get(entry.when[0]) in entry.when[1]


def defaults(space: Iterable[Range]) -> dict[str, Any]:
    """The recipe's own values, as near as the space has them."""
    values: dict[str, Any] = {}
    for entry in space:
        if is_open(entry, values):
            values[entry.name] = entry.default
    return values
