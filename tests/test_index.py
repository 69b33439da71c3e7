"""Every name of the zoo, and the file that lists them."""

import json
import math
import re
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import hparams, index, registry
from kzoo.macs import shapes_only
from kzoo.models.family import DecoderHParams
from kzoo.tasks import TASKS

TAP = re.compile(
    r"stem|stage_\d+|(stage_\d+_)?block_\d+(_query|_key|_value)?|pooled|logits"
)

each_name = pytest.mark.parametrize("name", sorted(index._stored()))
one_a_family = pytest.mark.parametrize(
    "name",
    [
        min(family.variants, key=lambda n: index._stored()[n]["trainable_parameters"])
        for family in registry.FAMILIES
    ],
)


def tap_order(name: str) -> tuple[int, ...]:
    """Sorts taps from the input to the output; what leaves comes after its inside."""
    ends = {"stem": (0,), "pooled": (2,), "logits": (3,)}
    if name in ends:
        return ends[name]
    match = re.fullmatch(r"(?:stage_(\d+)_?)?(?:block_(\d+)_?)?(\w+)?", name)
    assert match is not None
    last = 10**6
    parts = {"query": 0, "key": 1, "value": 2, None: last}
    block = last if match[2] is None else int(match[2])
    return 1, int(match[1] or 0), block, parts[match[3]]


def built_without_memory(name: str) -> keras.Model:
    with shapes_only():
        return registry.build_model(name)


@each_name
def test_line_is_what_the_declarations_give(name: str) -> None:
    derived = json.loads(json.dumps(registry.index_entry(name)))
    assert derived == index._stored()[name], "run python scripts/derive_index.py"


def test_file_has_one_line_a_name_sorted() -> None:
    declared = [name for family in registry.FAMILIES for name in family.variants]
    first, *lines, last = index.INDEX.read_text(encoding="utf-8").splitlines()
    assert (first, last) == ("[", "]")
    names = [json.loads(line.removesuffix(","))["name"] for line in lines]
    assert names == sorted(declared)
    assert len(set(names)) == len(names)


@each_name
def test_hyper_parameters_are_legal_and_survive_json(name: str) -> None:
    chosen = registry.find_family(name).variants[name]
    stored = json.loads(json.dumps(chosen.to_json()))
    assert hparams.from_json(type(chosen), name, stored) == chosen
    for declaration in hparams.declarations(type(chosen)).values():
        assert re.fullmatch("[a-z][a-z0-9_]*", declaration.name)
        assert declaration.doc and not declaration.doc.endswith(".")
        for value in declaration.tune:  # what a sweep may try is legal
            # Of a tuple of numbers it is what an element may be.
            one = declaration.type_name in ("ints", "floats")
            hparams.checked(declaration, (value,) if one else value)


@each_name
def test_family_serves_known_tasks(name: str) -> None:
    family = registry.find_family(name)
    assert family.tasks and set(family.tasks) <= set(TASKS)
    assert family.paper_of(name)


@one_a_family
def test_taps_are_legal_and_in_order(name: str) -> None:
    model = built_without_memory(name)
    taps = kzoo.list_features(model)
    assert all(TAP.fullmatch(tap) for tap in taps)
    decodes = isinstance(registry.find_family(name).smallest, DecoderHParams)
    stages = sorted(taps, key=lambda tap: tap_order(tap)[:2])
    # A decoder may begin beside the encoder's end: each stage is in order then.
    assert (stages if decodes else taps) == sorted(taps, key=tap_order)
    assert taps[-2:] == ["pooled", "logits"] or (decodes and taps[-1] == "logits")
    with shapes_only():
        outputs = kzoo.features(model, taps).output
    assert list(outputs) == taps
    assert outputs["logits"].shape == model.output_shape


@one_a_family  # the count is taken without memory; here are the arrays
def test_trainable_count_is_that_of_the_arrays(name: str) -> None:
    model = registry.build_model(name)
    sizes = [math.prod(np.shape(weight)) for weight in model.trainable_weights]
    assert kzoo.describe(name)["trainable_parameters"] == sum(sizes)


@pytest.mark.contract
def test_a_model_too_large_for_any_memory_is_counted() -> None:
    dim = 65536
    entry = kzoo.describe(
        "transformer",
        num_layers=3,
        hidden_dim=dim,
        mlp_dim=2 * dim,
        vocab_size=100_000,
    )
    block = 4 * (dim * dim + dim) + 2 * (dim * 2 * dim) + 3 * dim + 4 * dim
    head = 2 * dim + 10 * dim + 10
    assert entry["trainable_parameters"] == 100_000 * dim + 3 * block + head
    kzoo.build_model("transformer")  # allocates its own weights and no others


def test_listing_by_pattern_task_and_size() -> None:
    assert kzoo.list_models("cnn*") == ["cnn", "cnn_1d", "cnn_tiny"]
    assert kzoo.list_models("cnn*", max_parameters=1e5) == ["cnn_tiny"]
    small = {"task": "image-classification", "max_parameters": 2e4}
    assert kzoo.list_models("[cm]*", **small) == [
        "cnn_tiny",
        "mlp",
        "mlp_xor",
    ]
    assert kzoo.list_models("CNN") == []
    assert kzoo.list_models() == sorted(index._stored())
    with pytest.raises(ValueError, match="unknown task 'image-clasification'"):
        kzoo.list_models(task="image-clasification")


def test_description_has_what_a_user_asks_for() -> None:
    entry = kzoo.describe("cnn")
    assert entry["name"] == entry["family"] == "cnn"
    assert json.loads(json.dumps(entry)) == entry
    declared = {declaration["name"]: declaration for declaration in entry["hparams"]}
    assert declared["kernel_size"] == {
        "name": "kernel_size",
        "type": "int",
        "default": 3,
        "doc": "of each convolution",
        "min": 1,
        "max": 31,
        "tune": [2, 5],
    }
    assert entry["results"] == [] or entry["results"][0]["model"] == "cnn"


def test_default_is_the_variants_own() -> None:
    def default(name: str, **values: Any) -> Any:
        entries = kzoo.describe(name, **values)["hparams"]
        return next(e["default"] for e in entries if e["name"] == "filters")

    assert default("cnn") == [64, 128]
    assert default("cnn_tiny") == [12, 24]
    assert default("cnn_tiny", filters=(2, 3)) == [2, 3]


def test_description_with_hyper_parameters_is_counted_anew() -> None:
    entry = kzoo.describe("mlp", num_features=5, units=(7,), num_classes=2)
    assert entry["trainable_parameters"] == 5 * 7 + 7 + 7 * 2 + 2
    assert entry["macs"] == 5 * 7 + 7 * 2
    assert entry["macs_input"] == [5]


def test_description_is_the_callers_to_change() -> None:
    kzoo.describe("cnn")["hparams"].clear()
    assert kzoo.describe("cnn")["hparams"]


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError) as error:
        kzoo.describe("transfomer")
    assert str(error.value) == (
        "unknown model 'transfomer'. Did you mean 'transformer'?"
    )
