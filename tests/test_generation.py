"""Strategies against transformers' and against counting all texts."""

import gc
import weakref
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import generation
from kzoo.generation import Generation, stream

SIZES = {
    "vocab_size": 11,
    "sequence_length": 40,
    "end_token_id": 3,
    "num_layers": 1,
    "hidden_dim": 8,
    "num_heads": 2,
    "mlp_dim": 16,
}
PROMPTS = [[5, 6, 7], [9], [4, 4, 8, 10, 1]]
LOGITS = np.random.default_rng(0).normal(scale=2, size=(4, 11)).astype("float32")


def array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    made = kzoo.build_model("gpt2", **SIZES)
    rng = np.random.default_rng(2)
    for weight in made.weights:
        weight.assign_add(rng.normal(scale=0.6, size=weight.shape).astype("float32"))
    return made


def text_score(model: keras.Model, prompt: list[int], new: list[int]) -> float:
    """The log-probability of the text, from the logits of all of it at once."""
    logits = array(model(np.array([[*prompt, *new]]), training=False))[0]
    logits = logits[len(prompt) - 1 : -1].astype("float64")
    chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(chances[np.arange(len(new)), new].sum())


@pytest.mark.contract
def test_beams_find_likelier_texts_than_greed(model: keras.Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 4, "end_token_id": 10}
    greedy = kzoo.generate(model, PROMPTS, **options)
    options |= {"strategy": "beam", "num_beams": 5, "length_penalty": 0.0}
    found = kzoo.generate(model, PROMPTS, **options)
    for prompt, likely, ids in zip(PROMPTS, greedy, found, strict=True):
        scores = [text_score(model, prompt, x[len(prompt) :]) for x in (ids, likely)]
        assert scores[0] >= scores[1] - 1e-5


@pytest.mark.contract
def test_same_seed_same_tokens(model: keras.Model) -> None:
    options: dict[str, Any] = {"strategy": "sample", "max_new_tokens": 12}
    first, again, other = (
        kzoo.generate(model, PROMPTS, seed=seed, **options) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert kzoo.generate(model, PROMPTS[:1], seed=1, **options) == first[:1]


@pytest.mark.contract
def test_stream_gives_the_tokens_one_by_one(model: keras.Model) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "end_token_id": 7}
    whole = kzoo.generate(model, PROMPTS, **options)
    told: list[list[int]] = [list(prompt) for prompt in PROMPTS]
    for tokens in stream(model, PROMPTS, **options):
        for text, token in zip(told, tokens, strict=True):
            if token is not None:
                text.append(token)
    assert told == whole
    for prompt, text in zip(PROMPTS, whole, strict=True):
        new = text[len(prompt) :]
        assert 7 not in new[:-1]  # nothing after the end


@pytest.mark.contract
def test_draws_are_as_often_as_they_are_likely() -> None:
    options = Generation(strategy="sample", temperature=0.7, top_k=5)
    uniform = (np.arange(2000, dtype="float32") + 0.5) / 2000
    row = np.repeat(LOGITS[:1], len(uniform), axis=0)
    tokens = array(generation.drawn(row, uniform, options))
    chances = np.exp(LOGITS[0].astype("float64") / 0.7)
    chances[np.argsort(-LOGITS[0])[5:]] = 0
    expected = chances / chances.sum()
    found = np.bincount(tokens, minlength=11) / len(uniform)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.contract
def test_extreme_numbers_draw_tokens_that_may_be_drawn() -> None:
    options = Generation(strategy="sample", top_k=3)
    uniform = np.array([0.0, 1.0, 0.99999994, 0.5], "float32")
    tokens = array(generation.drawn(LOGITS, uniform, options))
    for row, token in zip(LOGITS, tokens, strict=True):
        assert token in np.argsort(-row)[:3]


@pytest.mark.peers
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"top_k": 4},
        {"top_p": 0.6},
        {"top_p": 0.0},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.8},
    ],
    ids=str,
)
def test_what_may_be_drawn_is_what_transformers_keeps(options: dict[str, Any]) -> None:
    import torch
    from transformers import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    scores = torch.tensor(LOGITS)
    if "temperature" in options:
        scores = TemperatureLogitsWarper(options["temperature"])(None, scores)
    if "top_k" in options:
        scores = TopKLogitsWarper(options["top_k"])(None, scores)
    if "top_p" in options:
        scores = TopPLogitsWarper(options["top_p"])(None, scores)
    expected = torch.softmax(scores, dim=-1).numpy()
    chosen = Generation(strategy="sample", **options)
    found, tokens = map(array, generation.kept_probabilities(LOGITS, chosen))
    by_token = np.zeros_like(expected)
    np.put_along_axis(by_token, tokens.astype("int64"), found, axis=-1)
    np.testing.assert_allclose(by_token, expected, atol=1e-6)


def test_shapes_that_were_seen_are_not_compiled_again(
    model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = []
    inner = type(model).decode_step

    def counting(self: Any, tokens: Any, cache: Any, index: Any) -> Any:
        traced.append(tokens.shape)
        return inner(self, tokens, cache, index)

    monkeypatch.setattr(type(model), "decode_step", counting)
    for seed in range(3):
        for prompts in (PROMPTS, [[1], [2], [6, 8]]):
            kzoo.generate(
                model, prompts, strategy="sample", top_k=2, max_new_tokens=2, seed=seed
            )
    # One trace for the prompts, one for the tokens after them.
    assert len(traced) == 2


def test_training_between_two_calls_is_seen(model: keras.Model) -> None:
    before = kzoo.generate(model, [[5]], max_new_tokens=3)
    position = model.get_layer("norm").beta
    kept = position.numpy() if hasattr(position, "numpy") else array(position)
    embedding = array(model.get_layer("embedding").embeddings)
    position.assign(kept + 1000 * embedding[2])
    favourite = int((embedding @ embedding[2]).argmax())
    try:
        after = kzoo.generate(model, [[5]], max_new_tokens=3)
        assert after == [[5, *3 * [favourite]]] != before
    finally:
        position.assign(kept)


def test_compiled_functions_let_their_model_go() -> None:
    own = kzoo.build_model("gpt2", **SIZES)
    kzoo.generate(own, PROMPTS, max_new_tokens=2)
    gone = weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "there are no prompts"),
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1, 11]], {}, "token 11 is out of range: a vocabulary of 11 is 0 to 10"),
        ([[1]], {"max_tokens": 3}, "generate has no option 'max_tokens'. Did you mean"),
        ([[1]], {"strategy": "beams"}, "strategy='beams' is not one of 'greedy', 'be"),
        ([[1]], {"top_k": 3}, "top_k=3 goes with strategy='sample', not with 'greedy'"),
        (
            [[1, 2]],
            {"max_new_tokens": 39},
            "2 tokens and max_new_tokens=39 are more th",
        ),
        (
            [[1]],
            {"strategy": "beam", "num_beams": 6, "max_new_tokens": 5},
            "num_beams=6 is too many for 11 tokens: at most 5",
        ),
    ],
)
def test_bad_request(
    model: keras.Model, prompts: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        kzoo.generate(model, prompts, **options)
    assert message in str(error.value)


def test_model_that_does_not_write() -> None:
    with pytest.raises(ValueError, match="mlp does not write: generate takes a decode"):
        kzoo.generate(kzoo.build_model("mlp"), [[1]])


def test_beams_do_not_stream(model: keras.Model) -> None:
    with pytest.raises(ValueError, match="knows its text at the end only"):
        stream(model, [[1]], strategy="beam")
