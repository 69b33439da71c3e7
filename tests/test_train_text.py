"""Decoders trained end to end, scored by what they write."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.training import Run
from kzoo.training.evaluate import split_answers

SMALL = {"epochs": 1, "batch_size": 32, "warmup_steps": 0}


@pytest.mark.slow
@pytest.mark.contract
def test_translation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "mlp_dim": 16}
    data = {"examples": 120}
    run = kzoo.train(
        "transformer_seq2seq", "dates", out=tmp_path / "run", data=data, seed=1,
        label_smoothing=0.1, **SMALL, **sizes,
    )  # fmt: skip
    found = run.metrics["test"]
    assert 0 <= found["exact_match"] <= 1
    assert 0 <= found["bleu"] <= 100
    assert kzoo.evaluate(run) == pytest.approx(found)

    # The scores are of what the model writes for the sources, padding and all.
    dataset = kzoo.load_dataset("dates", seed=1, **data)
    model = run.load()
    answers = split_answers(model, dataset, "test")
    split = dataset.splits["test"]
    rows = split.rows(np.arange(len(split)))["tokens"]
    sources = [row[row > 0].tolist() for row in rows]
    steps = split.labels.shape[1]
    tokenizer = dataset.preprocessing.tokenizer
    assert tokenizer is not None
    ids = kzoo.generate(model, sources, max_new_tokens=steps)
    assert list(answers.written) == tokenizer.decode(ids)
    assert all(len(text) == 10 for text in answers.references)  # 2021-04-03

    source = tokenizer.decode([sources[0]])[0]
    words = ["generate", str(run.folder), source, "--option", "max_new_tokens=3"]
    assert main(words) == 0
    written = kzoo.generate(model, [sources[0]], max_new_tokens=3)
    assert capsys.readouterr().out == tokenizer.decode(written)[0] + "\n"


@pytest.mark.slow
def test_summarization(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a table to ROUGE of what the model writes, and to a summary."""
    file, out = tmp_path / "news.csv", str(tmp_path / "run")
    towns = ("Oslo", "Rome", "Bonn")
    rows = [f"On day {i} it rains in {towns[i % 3]}.,rain {i}" for i in range(60)]
    file.write_text("\n".join(["article,highlights", *rows]), encoding="utf-8")
    words = ["train", "t5_small", "--dataset", f"csv:{file}", "--out", out, "--json"]
    words += ["--data", "task=summarization", "--data", "tokenizer=bpe"]
    words += ["--epochs", "1", "--batch-size", "32", "--set", "warmup_steps=0"]
    sizes = ("hidden_dim=16", "num_heads=2", "num_layers=1", "mlp_dim=16")
    words += [word for size in sizes for word in ("--set", size)]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)["test"]

    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="[text]")
    run = Run(Path(out))
    dataset = kzoo.load_dataset(f"csv:{file}", task="summarization", tokenizer="bpe")
    found = split_answers(run.load(), dataset, "test")
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    assert set(found.references) <= {f"rain {i}" for i in range(60)}
    scored = [
        scorer.score(text, written)
        for text, written in zip(found.references, found.written, strict=True)
    ]
    for name, theirs in (("rouge_1", "rouge1"), ("rouge_l", "rougeL")):
        expected = np.mean([score[theirs].fmeasure for score in scored])
        assert told[name] == pytest.approx(expected)

    assert main(["evaluate", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(told)
    article = "On day 7 it rains in Rome."
    assert main(["generate", out, article, "--option", "max_new_tokens=4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.contract
def test_language_modelling(tmp_path: Path) -> None:
    """A text of one line again and again is soon known by heart."""
    parts = [f"{i} the cat sat on the mat" for i in range(60)]
    (tmp_path / "all.txt").write_text("\n\n".join(parts), encoding="utf-8")
    run = kzoo.train(
        "lstm_language_model", f"text:{tmp_path}", out=tmp_path / "run",
        data={"window": 32}, **SMALL | {"epochs": 30, "batch_size": 8},
        learning_rate=0.02, units=32, num_layers=1, dropout_rate=0.0,
    )  # fmt: skip
    found = run.metrics["test"]
    # A character is a token here, and each is one bit a factor of two.
    bits = found["loss"] / math.log(2)
    assert found["bits_per_character"] == pytest.approx(bits)
    assert found["perplexity"] == pytest.approx(2**bits)
    assert bits < 1.5  # a uniform guess would be 4.5
