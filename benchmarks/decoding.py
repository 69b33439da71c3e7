"""Tokens a second of GPT-2: kzoo with its cache and without it, and other libraries.

    python benchmarks/decoding.py                              # 124 M weights
    python benchmarks/decoding.py --backend jax --rounds 5
    python benchmarks/decoding.py --model gpt2_tiny --new-tokens 8 --rounds 1

Random weights of the same sizes in each, one prompt, greedy, float32. Each contestant
is a process of its own, which builds, compiles and writes once before it is timed; then
they take turns, so that a busy machine slows them alike. KerasHub runs on kzoo's
backend (the extra `benchmarks`), transformers on PyTorch (the extras `peers` and
`test`, which makes it importable); what is not installed is left out. Recomputation
reads the whole text for every token, padded to a multiple of 32; two tokens of each
such length are timed, and stand for all of it.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

BUCKET = 32

Timed = Callable[[], float]  # writes all new tokens; the seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.one:
        serve(CONTESTANTS[parsed.one](parsed))
        return
    names = [name for name in CONTESTANTS if available(name)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        processes = {}
        for name in names:  # one builds and compiles at a time
            processes[name] = stack.enter_context(started(name, parsed.backend))
            asked(processes[name])
        for _ in range(parsed.rounds):
            for name, process in processes.items():
                seconds[name].append(asked(process))
    print(json.dumps(report(parsed, seconds), indent=2))


def report(
    parsed: argparse.Namespace, seconds: dict[str, list[float]]
) -> dict[str, object]:
    """Medians in tokens a second, and how much the cache saves, round by round."""
    pairs = zip(seconds["kzoo, recomputed"], seconds["kzoo, cache"], strict=True)
    return {
        **{key: value for key, value in vars(parsed).items() if key != "one"},
        "tokens a second": {
            name: round(parsed.new_tokens / statistics.median(times), 2)
            for name, times in seconds.items()
        },
        "cache / recomputation": [round(slow / fast, 1) for slow, fast in pairs],
    }


# Processes that take turns.


def available(name: str) -> bool:
    """Whether what the contestant needs is installed."""
    needs = {
        "KerasHub, cache": ("keras_hub",),
        "transformers, cache": ("transformers", "pytest"),
    }
    return all(map(importlib.util.find_spec, needs.get(name, ())))


def started(name: str, backend: str) -> "subprocess.Popen[str]":
    """This script once more, as one contestant."""
    known = {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "--one", name],
        env=os.environ | known,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(process: "subprocess.Popen[str]") -> float:
    """The seconds that a contestant takes now, while the others wait."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("seconds "):
            return float(line.split()[1])
    raise SystemExit(f"{process.args[-1]} failed; see above")  # type: ignore[index]


def serve(timed: Timed) -> None:
    """Times it once for each line that comes; the first time compiles."""
    for _ in sys.stdin:
        print(f"seconds {timed()}", flush=True)


# The contestants.


def prompt_of(parsed: argparse.Namespace) -> np.ndarray:
    from kzoo.models.gpt2 import VARIANTS

    vocab_size = VARIANTS[parsed.model].vocab_size
    return np.random.default_rng(0).integers(0, vocab_size, parsed.prompt_tokens)


def cached(parsed: argparse.Namespace) -> Timed:
    import kzoo

    model = kzoo.build_model(parsed.model, end_token_id=None)
    prompt = prompt_of(parsed).tolist()

    def timed() -> float:
        begin = time.perf_counter()
        kzoo.generate(model, [prompt], max_new_tokens=parsed.new_tokens)
        return time.perf_counter() - begin

    return timed


def recomputed(parsed: argparse.Namespace) -> Timed:
    import keras

    import kzoo
    from kzoo.distribution.compiled import compiled

    model = kzoo.build_model(parsed.model, end_token_id=None)
    prompt = prompt_of(parsed)
    step = compiled(
        model, lambda tokens: keras.ops.argmax(model(tokens, training=False)[:, -1], -1)
    )
    texts = np.arange(len(prompt), len(prompt) + parsed.new_tokens)
    lengths = Counter((-(-texts // BUCKET) * BUCKET).tolist())

    def timed() -> float:
        total = 0.0
        for length, count in lengths.items():
            tokens = np.resize(prompt, (1, length)).astype("int32")
            begin = time.perf_counter()
            for _ in range(2):
                keras.ops.convert_to_numpy(step(tokens))
            total += (time.perf_counter() - begin) / 2 * count
        return total

    return timed


def by_keras_hub(parsed: argparse.Namespace) -> Timed:
    import keras_hub

    from kzoo.models.gpt2 import VARIANTS

    sizes, prompt = VARIANTS[parsed.model], prompt_of(parsed)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=sizes.vocab_size,
        num_layers=sizes.num_layers,
        num_heads=sizes.num_heads,
        hidden_dim=sizes.hidden_dim,
        intermediate_dim=sizes.mlp_dim,
        max_sequence_length=sizes.sequence_length,
    )
    model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    model.compile(sampler="greedy")
    tokens = np.zeros((1, len(prompt) + parsed.new_tokens), "int32")
    tokens[0, : len(prompt)] = prompt
    given = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    given["padding_mask"][0, len(prompt) :] = 0

    def timed() -> float:
        begin = time.perf_counter()
        model.generate(given, stop_token_ids=None)
        return time.perf_counter() - begin

    return timed


def by_transformers(parsed: argparse.Namespace) -> Timed:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from conftest import import_torchvision

    if importlib.util.find_spec("torchvision"):
        import_torchvision()  # which transformers imports
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from kzoo.models.gpt2 import VARIANTS

    sizes = VARIANTS[parsed.model]
    config = GPT2Config(
        vocab_size=sizes.vocab_size,
        n_positions=sizes.sequence_length,
        n_embd=sizes.hidden_dim,
        n_layer=sizes.num_layers,
        n_head=sizes.num_heads,
        n_inner=sizes.mlp_dim,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()
    ids = torch.tensor(prompt_of(parsed)[None])

    def timed() -> float:
        begin = time.perf_counter()
        with torch.no_grad():
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=parsed.new_tokens,
                max_new_tokens=parsed.new_tokens,
                pad_token_id=0,
            )
        return time.perf_counter() - begin

    return timed


CONTESTANTS: dict[str, Callable[[argparse.Namespace], Timed]] = {
    "kzoo, cache": cached,
    "kzoo, recomputed": recomputed,
    "KerasHub, cache": by_keras_hub,
    "transformers, cache": by_transformers,
}


if __name__ == "__main__":
    main()
