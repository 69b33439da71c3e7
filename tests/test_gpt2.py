"""GPT-2 against transformers and its own closed forms."""

from typing import Any

import keras
import numpy as np
import pytest
from peers_text import (
    assert_close,
    assert_same_bits_back,
    converted,
    generated_by,
    prompts,
    randomized,
    taps_of,
    without_padding,
)

import kzoo

SIZES = {
    "vocab_size": 53,
    "sequence_length": 40,
    "end_token_id": 3,
    "num_layers": 2,
    "hidden_dim": 21,
    "num_heads": 3,
    "mlp_dim": 50,
}


@pytest.fixture(scope="module")
def pair() -> tuple[Any, keras.Model]:
    """The peer, and kzoo's model with its weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=53,
        n_positions=40,
        n_layer=2,
        n_embd=21,
        n_head=3,
        n_inner=50,
        bos_token_id=3,
        eos_token_id=3,
        pad_token_id=3,
    )
    peer = randomized(GPT2LMHeadModel(config))
    return peer, converted(peer, "gpt2", **SIZES)


@pytest.mark.parametrize(
    ("name", "count"),  # of transformers' GPT2LMHeadModel
    [("gpt2", 124439808), ("gpt2_medium", 354823168), ("gpt2_xl", 1557611200)],
)
def test_count_is_the_published_one(name: str, count: int) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == count


def test_multiply_accumulates_are_the_closed_form() -> None:
    time, dim, mlp, vocab = 40, 21, 50, 53
    block = time * (4 * dim * dim + 2 * dim * mlp) + 2 * time * time * dim
    model = kzoo.build_model("gpt2", **SIZES)
    assert kzoo.macs(model) == 2 * block + time * dim * vocab


@pytest.mark.peers
def test_answers_as_transformers_do(pair: Any) -> None:
    import torch

    peer, model = pair
    tokens = np.random.default_rng(0).integers(0, 53, (3, 13), dtype="int32")
    expected = peer(torch.tensor(tokens).long(), output_hidden_states=True)
    taps = taps_of(model, ["stem", "block_0", "logits"], tokens)
    states = expected.hidden_states
    for tap, value in (("stem", states[0]), ("block_0", states[1])):
        assert_close(taps[tap], value, tap)
    assert_close(taps["logits"], expected.logits, "logits")
    last = keras.Model(model.input, model.get_layer("norm").output)
    assert_close(last(tokens), states[2], "the last hidden state")
    assert_same_bits_back(model, peer)


@pytest.mark.peers
def test_writes_what_transformers_write(pair: Any) -> None:
    peer, model = pair
    given = prompts(20, 53)
    found = kzoo.generate(model, given, max_new_tokens=12)
    for prompt, ids in zip(given, found, strict=True):
        expected = generated_by(peer, prompt, max_new_tokens=12)
        assert ids[: len(prompt)] == prompt
        new = without_padding(expected[len(prompt) :], end=3)
        assert ids[len(prompt) :] == new
    assert len({tuple(ids[-4:]) for ids in found}) > 5  # they do not all say the same


@pytest.mark.peers
@pytest.mark.parametrize("length_penalty", [1.0, 0.0])
def test_beams_are_those_of_transformers(pair: Any, length_penalty: float) -> None:
    peer, model = pair
    given = prompts(20, 53)
    options = {"num_beams": 3, "length_penalty": length_penalty, "max_new_tokens": 9}
    found = kzoo.generate(model, given, strategy="beam", **options)
    ended = 0
    for prompt, ids in zip(given, found, strict=True):
        expected = generated_by(peer, prompt, **options)
        new = without_padding(expected[len(prompt) :], end=3)
        assert ids[len(prompt) :] == new
        ended += new[-1] == 3 and len(new) < 9
    assert 0 < ended < 20  # some texts end, others are cut


@pytest.mark.peers
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_repetition_costs_as_in_transformers(
    pair: Any, options: dict[str, int]
) -> None:
    peer, model = pair
    options = options | {"repetition_penalty": 1.7, "max_new_tokens": 9}
    given = prompts(6, 53)
    strategy = "beam" if "num_beams" in options else "greedy"
    found = kzoo.generate(model, given, strategy=strategy, **options)
    for prompt, ids in zip(given, found, strict=True):
        expected = generated_by(peer, prompt, **options)
        assert ids[len(prompt) :] == without_padding(expected[len(prompt) :], end=3)
