"""Typed hyper-parameters: what is legal, what errors say, how texts are read."""

import json
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import numpy as np
import pytest

from kzoo.hparams import (
    HParams,
    Identity,
    declarations,
    from_json,
    hp,
    identity,
    nearest,
    parse,
    replace,
)


@dataclass(frozen=True, kw_only=True)
class Sample(HParams):
    units: int = hp(32, "hidden units", min=1, max=512, log=True, tune=(8, 128))
    rate: float = hp(0.5, "of dropout", min=0.0, max=0.9)
    activation: str = hp("relu", "of the layer", choices=("relu", "tanh"))
    filters: tuple[int, ...] = hp((4, 8), "channels of each stage", min=1)
    size: int | tuple[int, int] | None = hp(None, "in pixels", min=1)
    length: int | None = hp(None, "longest sequence", min=1)
    masked: bool = hp(False, "take a mask")
    label: str = hp("", "free text")


@dataclass(frozen=True, kw_only=True)
class Paired(HParams):
    low: int = hp(1, "the lower")
    high: int = hp(2, "the higher")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("units", 1, 1),
        ("units", 512, 512),
        ("units", np.int64(7), 7),
        ("units", 1e2, 100),  # as JSON and the command line write it
        ("rate", 0, 0.0),
        ("rate", np.float32(0.25), 0.25),
        ("activation", "tanh", "tanh"),
        ("filters", [1, 2, 3], (1, 2, 3)),
        ("filters", (), ()),
        ("size", None, None),
        ("size", 8, 8),
        ("size", [8, 16], (8, 16)),
        ("length", 5, 5),
        ("masked", True, True),
        ("label", "none", "none"),
    ],
)
def test_legal_value_is_kept_in_its_declared_type(
    name: str, given: Any, kept: Any
) -> None:
    value = getattr(Sample(**{name: given}), name)
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("units", 0, "units=0 is not an int from 1 to 512"),
        ("units", 513, "units=513 is not an int from 1 to 512"),
        ("units", 1.5, "units=1.5 is not an int from 1 to 512"),
        ("units", True, "units=True is not an int from 1 to 512"),
        ("units", "8", "units='8' is not an int from 1 to 512"),
        ("units", None, "units=None is not an int from 1 to 512"),
        ("rate", 0.91, "rate=0.91 is not a float from 0 to 0.9"),
        ("rate", float("nan"), "rate=nan is not a float from 0 to 0.9"),
        ("rate", False, "rate=False is not a float from 0 to 0.9"),
        ("activation", "gelu", "activation='gelu' is not one of 'relu', 'tanh'"),
        ("filters", (4, 0), "filters=(4, 0) is not ints of at least 1"),
        ("filters", 4, "filters=4 is not ints of at least 1"),
        ("filters", "48", "filters='48' is not ints of at least 1"),
        ("size", 0, "size=0 is not an int or int x int or none of at least 1"),
        ("size", (8, 8, 8), "size=(8, 8, 8) is not an int or int x int or none"),
        ("size", (8, 0), "size=(8, 0) is not an int or int x int or none"),
        ("length", 0, "length=0 is not an int or none of at least 1"),
        ("masked", 1, "masked=1 is not true or false"),
        ("label", 3, "label=3 is not a text"),
    ],
)
def test_illegal_value_gets_what_is_legal(name: str, given: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        Sample(**{name: given})
    assert str(error.value).startswith(message)


def test_rule_between_fields_holds_for_changed_copies_too() -> None:
    with pytest.raises(ValueError) as error:
        replace(Paired(), "sample", {"low": 3})
    assert str(error.value) == "sample: low=3 is above high=2"
    assert replace(Paired(), "sample", {"low": 3, "high": 4}).low == 3


def test_object_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Sample().units = 3  # type: ignore[misc]


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError) as error:
        replace(Sample(), "sample", {"unit": 3})
    assert str(error.value) == (
        "sample has no hyper-parameter 'unit'. Did you mean 'units'?"
    )
    with pytest.raises(ValueError, match="sample has no hyper-parameter 'ratte'"):
        parse(Sample, ["ratte=1"], "sample")


def test_nothing_near_lists_what_there_is() -> None:
    assert nearest("zzz", ["b", "a"]) == ". There are: a, b"
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("units=64", 64),
        ("units=1e2", 100),
        ("rate=1e-3", 1e-3),
        ("rate=0", 0.0),
        ("activation=tanh", "tanh"),
        ("filters=16,32", (16, 32)),
        ("filters=(16, 32)", (16, 32)),
        ("filters=[16,32,]", (16, 32)),
        ("filters=16", (16,)),
        ("filters=none", ()),
        ("size=none", None),
        ("size=28", 28),
        ("size=28,56", (28, 56)),
        ("length=None", None),
        ("masked=true", True),
        ("masked=False", False),
        ("label=none", "none"),
        ("label=a=b", "a=b"),
        (" units = 64 ", 64),
    ],
)
def test_text_is_read_by_the_declared_type(text: str, value: Any) -> None:
    parsed = parse(Sample, [text], "sample")
    assert parsed == {text.partition("=")[0].strip(): value}
    assert type(next(iter(parsed.values()))) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("units", "'units' is not of the form name=value"),
        ("=3", "'=3' is not of the form name=value"),
        ("units=ten", "units='ten' is not an int from 1 to 512"),
        ("units=", "units='' is not an int from 1 to 512"),
        ("units=none", "units=None is not an int from 1 to 512"),
        ("units=0", "units=0 is not an int from 1 to 512"),
        ("rate=nan", "rate=nan is not a float from 0 to 0.9"),
        ("size=28,56,3", "size='28,56,3' is not an int or int x int or none"),
        ("masked=yes", "masked='yes' is not true or false"),
    ],
)
def test_text_that_is_not_legal_gets_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(Sample, [text], "sample")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_json_gives_an_equal_object_back() -> None:
    sample = Sample(units=3, filters=(1,), size=(4, 5), length=9, masked=True)
    stored = json.loads(json.dumps(sample.to_json()))
    assert stored["size"] == [4, 5]
    assert from_json(Sample, "sample", stored) == sample


def test_declaration_says_all_that_was_declared() -> None:
    declared = declarations(Sample)
    assert list(declared) == list(Sample().to_json())
    assert declared["units"].to_json() == {
        "name": "units",
        "type": "int",
        "default": 32,
        "doc": "hidden units",
        "min": 1,
        "max": 512,
        "log": True,
        "tune": [8, 128],
    }
    assert declared["rate"].to_json()["min"] == 0.0  # zero is a bound too
    types = {name: declaration.type_name for name, declaration in declared.items()}
    assert types == {
        "units": "int",
        "rate": "float",
        "activation": "text",
        "filters": "ints",
        "size": "int or int x int or none",
        "length": "int or none",
        "masked": "bool",
        "label": "text",
    }


def test_identity_is_asked_for_in_words() -> None:
    class Model:
        name = "stranger"

    with pytest.raises(ValueError, match="model 'stranger' has no kzoo identity"):
        identity(Model())
    model: Any = Model()
    model.kzoo = Identity("mlp", {"units": [3]})
    assert identity(model).to_json() == {
        "name": "mlp",
        "hparams": {"units": [3]},
        "parts": {},
    }
