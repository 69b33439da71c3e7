"""Tokens a second of GPT-2: with its cache, without it, and beside transformers.

    KERAS_BACKEND=jax python benchmarks/decoding.py [--rounds 3]

124 M random weights, the same in both libraries, one prompt of 32 tokens, 128 new ones,
greedy, float32. The contestants take turns, so that a busy machine slows them alike.
Recomputation reads the whole text for every token, padded to a multiple of 32; two
tokens of each such length are timed, and stand for the 32 of it.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import kzoo
from kzoo.distribution.compiled import compiled

PROMPT, NEW = 32, 128
LENGTHS = range(2 * PROMPT, PROMPT + NEW + 1, PROMPT)  # 64, 96, 128, 160


def cached(model: keras.Model, prompt: np.ndarray) -> float:
    begin = time.perf_counter()
    kzoo.generate(model, [prompt.tolist()], max_new_tokens=NEW)
    return time.perf_counter() - begin


def recomputed(step: Callable[..., Any], prompt: np.ndarray) -> float:
    total = 0.0
    for length in LENGTHS:
        tokens = np.resize(prompt, (1, length)).astype("int32")
        begin = time.perf_counter()
        for _ in range(2):
            keras.ops.convert_to_numpy(step(tokens))
        total += (time.perf_counter() - begin) / 2 * (NEW / len(LENGTHS))
    return total


def by_transformers(peer: Any, prompt: np.ndarray) -> float:
    import torch

    ids = torch.tensor(prompt[None])
    begin = time.perf_counter()
    with torch.no_grad():
        peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=NEW,
            max_new_tokens=NEW,
            pad_token_id=0,
        )
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    keras.utils.set_random_seed(0)
    model = kzoo.build_model("gpt2", end_token_id=None)
    prompt = np.random.default_rng(0).integers(0, 50257, PROMPT)
    step = compiled(
        model, lambda tokens: keras.ops.argmax(model(tokens, training=False)[:, -1], -1)
    )
    contestants: dict[str, Callable[[], float]] = {
        "kzoo, cache": lambda: cached(model, prompt),
        "kzoo, recomputed": lambda: recomputed(step, prompt),
    }
    if importlib.util.find_spec("transformers"):
        from transformers import GPT2Config, GPT2LMHeadModel

        peer = GPT2LMHeadModel(GPT2Config()).eval()
        contestants["transformers, cache"] = lambda: by_transformers(peer, prompt)
    for contestant in contestants.values():
        contestant()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant())
    ratios = [
        slow / fast
        for slow, fast in zip(
            seconds["kzoo, recomputed"], seconds["kzoo, cache"], strict=True
        )
    ]
    told = {
        "backend": keras.backend.backend(),
        "tokens a second": {
            name: round(NEW / statistics.median(times), 2)
            for name, times in seconds.items()
        },
        "cache / recomputation": [round(ratio, 1) for ratio in ratios],
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
