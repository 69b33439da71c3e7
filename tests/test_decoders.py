"""What every decoder keeps: the contract by which ``kzoo.generate`` writes."""

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import registry
from kzoo.hparams import identity
from kzoo.models.family import DecoderHParams, EncoderDecoderHParams, Family

DECODERS = [f for f in registry.FAMILIES if isinstance(f.smallest, DecoderHParams)]
VARIED = [
    *((family, {}) for family in DECODERS),
    *(
        (family, changes)
        for family in DECODERS
        for changes in {
            "transformer_seq2seq": [{"norm": "post", "num_layers": 2}],
            "seq2seq_lstm": [{"attention": "bahdanau", "num_layers": 2}],
            "recurrent_language_model": [{"num_layers": 2}],
        }.get(family.name, [])
    ),
]
each_decoder = pytest.mark.parametrize(
    ("family", "changes"),
    VARIED,
    ids=["-".join([f.name, *map(str, c.values())]) for f, c in VARIED],
)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(3, 17, (3, 8), dtype="int32")
SOURCES = np.array([[5, 6, 7, 8], [9, 4, 0, 0], [3, 0, 0, 0]], "int32")


def built(family: Family, changes: dict[str, Any]) -> keras.Model:
    """The smallest, with weights as training leaves them, biases too."""
    keras.utils.set_random_seed(0)
    values = family.smallest.to_json() | changes
    model = registry.build_model(next(iter(family.variants)), **values)
    rng = np.random.default_rng(1)
    for weight in model.trainable_weights:
        noise = rng.normal(scale=0.2, size=weight.shape)
        weight.assign_add(noise.astype("float32"))
    return model


def encodes(family: Family) -> bool:
    return isinstance(family.smallest, EncoderDecoderHParams)


def array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def whole(model: keras.Model, tokens: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Logits of the whole text at once."""
    inputs: Any = tokens
    if isinstance(model.input, dict):
        inputs = {"tokens": sources, "decoder_tokens": tokens}
    return array(model(inputs, training=False))


def fresh_cache(model: keras.Model, length: int, sources: np.ndarray) -> dict[str, Any]:
    cache = model.initial_cache(len(sources), length)
    return cache | (model.encode(sources) if hasattr(model, "encode") else {})


@pytest.mark.contract
@each_decoder
def test_cached_is_uncached_at_every_step(
    family: Family, changes: dict[str, Any]
) -> None:
    model = built(family, changes)
    expected = whole(model, TOKENS, SOURCES)
    cache = fresh_cache(model, 10, SOURCES)
    for i in range(TOKENS.shape[1]):
        logits, cache = model.decode_step(TOKENS[:, i : i + 1], cache, i)
        np.testing.assert_allclose(array(logits)[:, 0], expected[:, i], atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.contract
@pytest.mark.parametrize(
    "family", [f for f in DECODERS if not encodes(f)], ids=lambda f: f.name
)
def test_rows_go_on_from_their_own_step(family: Family) -> None:
    """Texts of unequal length are read at once; what pads them is never seen."""
    model = built(family, {})
    lengths = np.array([5, 1, 3], "int32")
    padded = np.where(np.arange(5) < lengths[:, None], TOKENS[:, :5], 16)
    expected = whole(model, TOKENS, SOURCES)
    logits, cache = model.decode_step(
        padded.astype("int32"), fresh_cache(model, 9, SOURCES), 0
    )
    for row, length in enumerate(lengths):
        found = array(logits)[row, :length]
        np.testing.assert_allclose(found, expected[row, :length], atol=1e-5)
    for more in range(3):
        at = lengths + more
        tokens = np.take_along_axis(TOKENS, at[:, None], axis=1)
        logits, cache = model.decode_step(tokens, cache, at.astype("int32"))
        picked = expected[np.arange(3), at]
        np.testing.assert_allclose(array(logits)[:, 0], picked, atol=1e-5)


@pytest.mark.contract
@each_decoder
def test_appended_padding_changes_nothing(
    family: Family, changes: dict[str, Any]
) -> None:
    """Neither of the source nor of the text; and no step sees a later one."""
    model = built(family, changes)
    expected = whole(model, TOKENS, SOURCES)
    sources = np.pad(SOURCES, ((0, 0), (0, 5)))
    for more in (np.zeros((3, 4), "int32"), np.full((3, 4), 16, "int32")):
        found = whole(model, np.concatenate([TOKENS, more], axis=1), sources)
        np.testing.assert_allclose(found[:, :8], expected, atol=1e-5)
    alone = whole(model, TOKENS[1:2], SOURCES[1:2, :2])  # without its padding
    np.testing.assert_allclose(alone[0], expected[1], atol=1e-5)
    nothing = whole(model, np.zeros_like(TOKENS[1:2]), np.zeros_like(SOURCES[1:2, :2]))
    assert np.isfinite(nothing).all()


@pytest.mark.contract
@pytest.mark.parametrize("family", DECODERS, ids=lambda f: f.name)
def test_writes_what_the_whole_text_says(family: Family) -> None:
    """Greedy, by the model's own logits of all that stands there, from scratch."""
    model = built(family, {})
    prompts = [[5, 6, 7, 8], [9, 4], [3]]
    found = kzoo.generate(model, prompts, max_new_tokens=6)
    known = identity(model).hparams
    begin = [[known["start_token_id"]] if encodes(family) else p for p in prompts]
    texts = [list(text) for text in begin]
    for _ in range(6):
        padded = np.zeros((3, 10), "int32")  # what follows a text does not matter
        for row, text in zip(padded, texts, strict=True):
            row[: len(text)] = text
        logits = whole(model, padded, SOURCES)
        for text, row in zip(texts, logits, strict=True):
            text.append(int(row[len(text) - 1].argmax()))
    for ids, text, first in zip(found, texts, begin, strict=True):
        new = text[len(first) :]
        if known["end_token_id"] in new:
            new = new[: new.index(known["end_token_id"]) + 1]
        assert ids == (new if encodes(family) else [*first, *new])


def test_count_is_that_of_the_paper() -> None:
    # 37,000 shared tokens, biases everywhere, no last normalisation.
    assert kzoo.describe("transformer_base")["trainable_parameters"] == 63082496


def test_multiply_accumulates_are_the_closed_forms() -> None:
    n, dim, mlp, vocab = 7, 8, 20, 17
    sizes = {"vocab_size": vocab, "sequence_length": n}
    model = kzoo.build_model(
        "transformer_seq2seq", hidden_dim=dim, num_heads=2, mlp_dim=mlp, num_layers=3,
        **sizes,
    )  # fmt: skip
    attention = 4 * n * dim * dim + 2 * n * n * dim
    branch = 2 * n * dim * mlp
    encoder, decoder = attention + branch, 2 * attention + branch
    assert kzoo.macs(model) == 3 * (encoder + decoder) + n * dim * vocab

    embedding, units = 5, 6
    recurrent = n * 4 * units * (embedding + units)
    model = kzoo.build_model(
        "lstm_language_model", embedding_dim=embedding, units=units, num_layers=1,
        **sizes,
    )  # fmt: skip
    assert kzoo.macs(model) == recurrent + n * units * vocab

    for kind, own in (("luong", 0), ("bahdanau", units * units + n * units)):
        model = kzoo.build_model(
            "seq2seq_lstm", embedding_dim=embedding, units=units, attention=kind,
            **sizes,
        )  # fmt: skip
        width = 2 * units  # of what the encoder gives
        fed = width if kind == "bahdanau" else units
        look = n * width + (n * units if kind == "luong" else 0)
        step = 4 * units * (embedding + fed + units) + look + own
        step += (units + width) * units
        bridge = 2 * width * units
        total = 2 * recurrent + bridge + n * width * units + n * step
        assert kzoo.macs(model) == total + n * units * vocab
