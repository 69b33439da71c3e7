"""``kzoo generate``: text from a run's model."""

import argparse
import sys
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import add_backend, backend_name, choose

EXAMPLES = (
    "kzoo generate runs/manual 'The for statement'",
    "kzoo generate runs/manual 'A class' --strategy sample --option temperature=0.8",
    "kzoo generate runs/dates '5 March 1990' --strategy beam --json",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="a run or model folder")
    parser.add_argument(
        "prompts",
        nargs="+",
        metavar="PROMPT",
        help="what to go on from, or to translate",
    )
    parser.add_argument("--strategy", help="greedy, beam or sample")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="such as max_new_tokens=100, temperature=0.8, top_p=0.9, seed=1",
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Prints a text for each prompt; in a terminal, one alone as it is written."""
    from kzoo import weights
    from kzoo.generation_options import Generation
    from kzoo.hparams import parse, replace

    options = parse(Generation, parsed.option, "generate")
    if parsed.strategy is not None:
        options["strategy"] = parsed.strategy
    replace(Generation(), "generate", options)
    backend_name(parsed.backend)
    weights.load_identity(parsed.run_folder)
    tokenizer = weights.load_preprocessing(parsed.run_folder).tokenizer
    if tokenizer is None:
        raise ValueError(
            f"{parsed.run_folder} has no tokenizer.json: its model takes ids, by "
            "kzoo.generate in Python"
        )
    prompts = tokenizer.encode(parsed.prompts)
    for text, ids in zip(parsed.prompts, prompts, strict=True):
        if not ids:
            raise ValueError(f"the prompt {text!r} has no tokens")
    choose(parsed.backend)
    from kzoo.generation import generate

    model = weights.load(parsed.run_folder)
    alone = len(prompts) == 1 and not parsed.json and sys.stdout.isatty()
    if alone and options.get("strategy") != "beam":
        _show(model, tokenizer, prompts[0], options)
        return 0
    texts = tokenizer.decode(generate(model, prompts, **options))
    if parsed.json:
        pairs = zip(parsed.prompts, texts, strict=True)
        answers = [{"prompt": prompt, "text": text} for prompt, text in pairs]
        print(strict_json.dumps(answers))
        return 0
    for text in texts:
        print(text)
    return 0


def _show(model: Any, tokenizer: Any, prompt: list[int], options: Any) -> None:
    """The text as it comes: what each token adds to all that was decoded."""
    from kzoo.generation import stream

    ids: list[int] = [] if hasattr(model, "encode") else list(prompt)
    told = ""
    for (token,) in stream(model, [prompt], **options):
        assert token is not None  # the only text has not ended
        ids.append(token)
        text = tokenizer.decode([ids])[0]
        if not text.endswith("\ufffd"):  # half of a character's bytes
            print(text[len(told) :], end="", flush=True)
            told = text
    print()
