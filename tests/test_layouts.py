"""Layouts of variables: what does not fit is told before anything is trained."""

import dataclasses

import pytest

from kzoo.distribution.layouts import check_layout
from kzoo.models.family import Family
from kzoo.registry import FAMILIES


@dataclasses.dataclass
class Variable:
    path: str
    shape: tuple[int, ...]


VARIABLES = [
    Variable("block_0_query/kernel", (8, 12)),
    Variable("block_0_query/bias", (12,)),
    Variable("logits/kernel", (12, 3)),
]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({r"block_0_qery/kernel": (None, "model")}, "'block_0_qery/kernel' matches no"),
        ({r"query/kernel": (None, "model")}, "matches no variable"),  # as a whole
        (
            {r".*query/kernel": (None, "model"), r"block_0.*l": ("model", None)},
            "both match block_0_query/kernel",
        ),
        ({r".*query/bias": (None, "model")}, r"has 2 axes, .* shape \(12,\)"),
        ({r"logits/kernel": (None, "model")}, "dimension of 3; the nearest size is 4"),
    ],
)
def test_a_layout_that_does_not_fit(
    layout: dict[str, tuple[str | None, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_layout(layout, VARIABLES, devices=4)


def test_a_layout_that_fits() -> None:
    layout = {r".*query/kernel": (None, "model"), r".*/bias": ("model",)}
    check_layout(layout, VARIABLES, devices=4)
    check_layout({}, VARIABLES, devices=4)


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one.layout], ids=lambda one: one.name
)
def test_the_layout_of_a_family_fits_its_smallest(family: Family) -> None:
    check_layout(family.layout, family.build(family.smallest).variables, devices=2)
