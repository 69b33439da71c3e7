"""Typed hyper-parameters: declared once, then checked, parsed, stored and searched.

A family (and the training recipe) declares its hyper-parameters as one frozen
dataclass. Each field is written once, by :func:`hp`, with its default, its meaning in
one line, its legal values and, where a sweep may move it, the range of the sweep. The
check, ``describe``, ``--set``, the search space, the JSON of a run and the table of the
documentation all come from this one declaration.

    @dataclass(frozen=True, kw_only=True)
    class TinyHParams(HParams):
        units: int = hp(32, "hidden units", min=1, max=512, log=True, tune=(8, 128))
        activation: str = hp("relu", "of the hidden layer", choices=("relu", "tanh"))

    TinyHParams(units=64)                      # checked when it is made
    parse(TinyHParams, ["units=64"], "tiny")   # {"units": 64}
"""

import dataclasses
import difflib
import functools
import math
import numbers
import operator
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

T = TypeVar("T", bound="HParams")


@dataclass(frozen=True)
class Declaration:
    """One hyper-parameter as its class declares it.

    ``tune`` is what a sweep may try: ``(low, high)`` for a number, a tuple of values
    where ``choices`` are given or the field is not a number; of a tuple of numbers the
    ``(low, high)`` of its elements, which move together; empty where a sweep leaves it
    alone. ``when`` names another hyper-parameter and its values that give this one a
    meaning. ``min`` and ``max`` hold for each element of a tuple.
    """

    name: str
    type: Any
    default: Any
    doc: str
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] = ()
    log: bool = False
    tune: tuple[Any, ...] = ()
    when: tuple[str, tuple[Any, ...]] | None = None

    @property
    def type_name(self) -> str:
        return _type_name(self.type)

    @property
    def legal(self) -> str:
        """The legal values in words, as errors and ``describe`` print them."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        text = _type_in_words(self.type)
        if self.min is not None and self.max is not None:
            return f"{text} from {self.min:g} to {self.max:g}"
        if self.min is not None:
            return f"{text} of at least {self.min:g}"
        if self.max is not None:
            return f"{text} of at most {self.max:g}"
        return text

    def to_json(self) -> dict[str, Any]:
        """A plain dict without the empty entries."""
        entry = {"name": self.name, "type": self.type_name}
        entry |= {"default": plain(self.default), "doc": self.doc}
        for key in ("min", "max", "choices", "log", "tune", "when"):
            value = getattr(self, key)
            if value is not None and value != () and value is not False:
                entry[key] = plain(value)
        return entry

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Declaration":
        """The declaration that ``to_json`` described."""
        facts = dict(entry)
        for key in ("choices", "tune"):
            facts[key] = tuple(facts.get(key, ()))
        if "when" in facts:
            facts["when"] = (facts["when"][0], tuple(facts["when"][1]))
        return cls(**{**facts, "type": _type_of(facts["type"])})


def hp(
    default: Any,
    doc: str,
    *,
    min: float | None = None,
    max: float | None = None,
    choices: tuple[Any, ...] = (),
    log: bool = False,
    tune: tuple[Any, ...] = (),
    when: tuple[str, tuple[Any, ...]] | None = None,
) -> Any:
    """Declares a field of an :class:`HParams` dataclass; see :class:`Declaration`."""
    facts: dict[str, Any] = {"doc": doc, "min": min, "max": max}
    facts |= {"choices": choices, "log": log, "tune": tune, "when": when}
    return dataclasses.field(default=default, metadata=facts)


@dataclass(frozen=True, kw_only=True)
class HParams:
    """What every declaration of hyper-parameters extends.

    ``noun`` is what errors call one of its fields. A rule between fields sits in a
    subclass's ``__post_init__``, which calls ``super().__post_init__()`` first.
    """

    noun: ClassVar[str] = "hyper-parameter"

    def __post_init__(self) -> None:
        for declaration in declarations(type(self)).values():
            value = checked(declaration, getattr(self, declaration.name))
            object.__setattr__(self, declaration.name, value)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; ``from_json`` gives an equal object back."""
        return {name: plain(getattr(self, name)) for name in declarations(type(self))}


def declarations(cls: type[HParams]) -> Mapping[str, Declaration]:
    """The class's declarations by name, in order."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: Declaration(
            name=field.name,
            type=hints[field.name],
            default=field.default,
            **field.metadata,
        )
        for field in dataclasses.fields(cls)
    }


def replace(hparams: T, owner: str, changes: Mapping[str, Any]) -> T:
    """A copy with some values changed.

    Args:
        hparams: where to start from.
        owner: whose hyper-parameters these are; errors begin with it.
        changes: new values by name.

    Raises:
        ValueError: a name that is not declared, or a value that is not legal.
    """
    known = declarations(type(hparams))
    for name in changes:
        if name not in known:
            raise ValueError(
                f"{owner} has no {hparams.noun} {name!r}{nearest(name, known)}"
            )
    try:
        return dataclasses.replace(hparams, **changes)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from None


def from_json(cls: type[T], owner: str, values: Mapping[str, Any]) -> T:
    """The object that ``to_json`` described."""
    return replace(cls(), owner, values)


def checked(declaration: Declaration, value: Any) -> Any:
    """The value in its declared type, or a ``ValueError`` that says what is legal."""
    converted = _converted(declaration.type, value)
    if converted is _WRONG or not _in_range(declaration, converted):
        raise ValueError(f"{declaration.name}={value!r} is not {declaration.legal}")
    return converted


def parse(
    cls: "type[HParams] | Mapping[str, Declaration]",
    assignments: Iterable[str],
    owner: str,
) -> dict[str, Any]:
    """Reads ``name=value`` texts of a command line by the declarations.

    Args:
        cls: a class that declares, or declarations by name.
        assignments: the texts.
        owner: whose these are; errors begin with it.

    Raises:
        ValueError: no ``=``, an unknown name, or a value that is not legal.
    """
    known = cls if isinstance(cls, Mapping) else declarations(cls)
    noun = HParams.noun if isinstance(cls, Mapping) else cls.noun
    values = {}
    for name, text in split_assignments(assignments):
        if name not in known:
            raise ValueError(f"{owner} has no {noun} {name!r}{nearest(name, known)}")
        values[name] = checked(known[name], from_text(text, known[name].type))
    return values


def split_assignments(assignments: Iterable[str]) -> list[tuple[str, str]]:
    """``["a=1", "b=x"]`` as pairs."""
    pairs = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise ValueError(f"{assignment!r} is not of the form name=value")
        pairs.append((name.strip(), text.strip()))
    return pairs


def from_text(text: str, kind: Any) -> Any:
    """A value of a command line, read as the declared type; unchecked.

    ``none``, ``true``, ``false`` and numbers are what they look like, ``32,64`` is a
    tuple where one is declared, of which ``none`` is an empty one, and everything else
    is text.
    """
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if text.lower() == "none" and type(None) in typing.get_args(kind):
            return None
        options = [from_text(text, option) for option in typing.get_args(kind)]
        pairs = zip(typing.get_args(kind), options, strict=True)
        return next((v for k, v in pairs if _converted(k, v) is not _WRONG), text)
    if typing.get_origin(kind) is tuple:
        if text.lower() == "none":
            return []
        item_kind = typing.get_args(kind)[0]
        parts = text.strip("()[]").split(",")
        return [from_text(part.strip(), item_kind) for part in parts if part.strip()]
    if kind is str:
        return text
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """``. Did you mean 'x'?``, or what there is where nothing is near."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f". Did you mean {close[0]!r}?"
    return f". There are: {in_short(known)}" if known else ""


def in_short(names: list[str], most: int = 12) -> str:
    """The names, or the first of them and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return ", ".join(names[:most]) + f" and {len(names) - most} more"


def plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@dataclass(frozen=True)
class Identity:
    """Which model this is: all that is needed to build it again.

    ``model.kzoo`` of every model that kzoo builds. Plain JSON types throughout;
    ``parts`` holds the identities of the models inside, by their part's name;
    ``adapters``, where low-rank adapters lie on it: their rank and their layers.
    """

    name: str
    hparams: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    adapters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "hparams": dict(self.hparams),
            "parts": {part: dict(value) for part, value in self.parts.items()},
            **({"adapters": dict(self.adapters)} if self.adapters else {}),
        }


def identity(model: Any) -> Identity:
    """The model's identity.

    Raises:
        ValueError: kzoo did not build this model.
    """
    found = getattr(model, "kzoo", None)
    if not isinstance(found, Identity):
        raise ValueError(
            f"model {model.name!r} has no kzoo identity: it was not made by "
            "kzoo.build_model or kzoo.load (a .keras file: import kzoo.registry "
            "before keras.saving.load_model)"
        )
    return found


_WRONG = object()


def _converted(kind: Any, value: Any) -> Any:
    """The value as ``kind``, or ``_WRONG``. An int is a float; a bool is no number."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        # Exact members first, so that 3 stays an int where int | float is declared.
        options = [_converted(option, value) for option in typing.get_args(kind)]
        return next((option for option in options if option is not _WRONG), _WRONG)
    if kind is type(None):
        return None if value is None else _WRONG
    if origin is tuple:
        return _converted_tuple(typing.get_args(kind), value)
    is_bool = isinstance(value, bool)
    if kind is bool:
        return value if is_bool else _WRONG
    if kind is int and isinstance(value, numbers.Integral) and not is_bool:
        return int(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # JSON and the command line write 1e3
    if kind is float and isinstance(value, numbers.Real) and not is_bool:
        return float(value) if math.isfinite(value) else _WRONG
    if kind is str:
        return value if isinstance(value, str) else _WRONG
    return _WRONG


def _converted_tuple(kinds: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, tuple | list):
        return _WRONG
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        return _WRONG
    items = tuple(_converted(k, v) for k, v in zip(kinds, value, strict=True))
    return _WRONG if any(item is _WRONG for item in items) else items


def _in_range(declaration: Declaration, value: Any) -> bool:
    if declaration.choices:
        return value in declaration.choices
    items = value if isinstance(value, tuple) else (value,)
    numeric = [item for item in items if isinstance(item, int | float)]
    low, high = declaration.min, declaration.max
    return all(
        (low is None or item >= low) and (high is None or item <= high)
        for item in numeric
        if not isinstance(item, bool)
    )


def _type_name(kind: Any) -> str:
    """As ``describe`` shows it: ``int``, ``ints``, ``int or none``."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type_name(option) for option in typing.get_args(kind))
    if origin is tuple:
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            return f"{_type_name(kinds[0])}s"
        return " x ".join(_type_name(item) for item in kinds)
    return {type(None): "none", str: "text"}.get(kind, kind.__name__)


def _type_of(name: str) -> Any:
    """The type that :func:`_type_name` named."""
    single = {"int": int, "float": float, "bool": bool, "text": str}
    single["none"] = type(None)
    if " or " in name:
        return functools.reduce(operator.or_, map(_type_of, name.split(" or ")))
    if " x " in name:
        return types.GenericAlias(tuple, tuple(map(_type_of, name.split(" x "))))
    if name not in single:
        return types.GenericAlias(tuple, (_type_of(name.removesuffix("s")), ...))
    return single[name]


def _type_in_words(kind: Any) -> str:
    """As an error says it: ``an int``, ``a float or none``."""
    words = {int: "an int", float: "a float", str: "a text", bool: "true or false"}
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(_type_in_words(option) for option in typing.get_args(kind))
    return words.get(kind, _type_name(kind))
