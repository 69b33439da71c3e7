"""T5 against transformers and its own closed forms."""

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
    "num_layers": 2,
    "hidden_dim": 21,
    "num_heads": 3,
    "head_dim": 5,
    "mlp_dim": 50,
    "num_buckets": 16,
    "max_distance": 20,
}


@pytest.fixture(scope="module")
def pair() -> tuple[Any, keras.Model]:
    """The peer, and kzoo's model with its weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=53,
        d_model=21,
        d_kv=5,
        d_ff=50,
        num_layers=2,
        num_heads=3,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=20,
        decoder_start_token_id=0,
    )
    peer = randomized(T5ForConditionalGeneration(config), spread=1.5)
    return peer, converted(peer, "t5_small", **SIZES)


def test_count_is_the_published_one() -> None:
    # Of transformers' T5ForConditionalGeneration.
    assert kzoo.describe("t5_small")["trainable_parameters"] == 60506624


def test_multiply_accumulates_are_the_closed_form() -> None:
    n, dim, width, mlp, vocab = 9, 21, 15, 50, 53
    model = kzoo.build_model("t5_small", sequence_length=n, **SIZES)
    attention = 4 * n * dim * width + 2 * n * n * width
    branch = 2 * n * dim * mlp
    sides = attention + branch + 2 * attention + branch
    assert kzoo.macs(model) == 2 * sides + n * dim * vocab


@pytest.mark.peers
def test_answers_as_transformers_do(pair: Any) -> None:
    """Over more steps than there are buckets, some of them padding."""
    import torch

    peer, model = pair
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 53, (3, 33), dtype="int32")
    tokens[1, 20:] = 0
    text = rng.integers(2, 53, (3, 27), dtype="int32")
    expected = peer(
        input_ids=torch.tensor(tokens).long(),
        attention_mask=torch.tensor(tokens != 0).long(),
        decoder_input_ids=torch.tensor(text).long(),
        output_hidden_states=True,
    )
    inputs = {"tokens": tokens, "decoder_tokens": text}
    taps = taps_of(model, ["stage_0_block_0", "stage_1_block_0", "logits"], inputs)
    real = tokens != 0
    read = keras.Model(model.input, model.get_layer("memory").output)(inputs)
    memory = keras.ops.convert_to_numpy(read)[real]
    assert_close(
        memory, expected.encoder_last_hidden_state[torch.tensor(real)], "memory"
    )
    block = keras.ops.convert_to_numpy(taps["stage_0_block_0"])[real]
    state = expected.encoder_hidden_states[1][torch.tensor(real)]
    assert_close(block, state, "the encoder's first block")
    state = expected.decoder_hidden_states[1]
    assert_close(taps["stage_1_block_0"], state, "the decoder's first block")
    assert_close(taps["logits"], expected.logits, "logits")
    assert_same_bits_back(model, peer)


@pytest.mark.peers
@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_writes_what_transformers_write(pair: Any, strategy: str) -> None:
    peer, model = pair
    given = prompts(20, 53)
    options = {"num_beams": 3} if strategy == "beam" else {}
    found = kzoo.generate(model, given, strategy=strategy, max_new_tokens=8, **options)
    for prompt, ids in zip(given, found, strict=True):
        expected = generated_by(peer, prompt, max_new_tokens=8, **options)[1:]
        assert ids == without_padding(expected, end=1)
    assert len(set(map(tuple, found))) > 10  # they do not all say the same
