"""Pairs of texts and a class each word, from arrays and CSV files to scores."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.datasets.labeling import tokens_of_words
from kzoo.preprocessing.text import train_tokenizer
from kzoo.tasks import get_task
from kzoo.training.metrics import Answers, scores
from kzoo.training.plan import plan
from kzoo.weights import load_preprocessing

TINY = {"embedding_dim": 8, "units": 8, "dense_units": 8}
TINY_BERT = {"hidden_dim": 16, "mlp_dim": 16, "num_layers": 1}
NOUNS = ["cat", "dog", "cow", "hen"]


def pairs(count: int = 120) -> tuple[dict[str, list[str]], np.ndarray]:
    """Is the second text about the first one's animal?"""
    rng = np.random.default_rng(0)
    first = [str(rng.choice(NOUNS)) for _ in range(count)]
    same = rng.random(count) < 0.5
    second = [
        one if alike else str(rng.choice([noun for noun in NOUNS if noun != one]))
        for one, alike in zip(first, same, strict=True)
    ]
    texts = {
        "first": [f"a {noun} {i}" for i, noun in enumerate(first)],
        "second": [f"the {noun}" for noun in second],
    }
    return texts, same.astype("int32")


def test_pairs_go_in_as_each_model_takes_them() -> None:
    taken = {}
    for name in ("two_stream_lstm", "bert_tiny", "roberta_base", "text_cnn"):
        dataset = plan(name, pairs(), data={"max_length": 16}).dataset
        taken[name] = dataset.eval_batches("test", 4)[0]["inputs"]
    apart, segmented = taken["two_stream_lstm"], taken["bert_tiny"]
    assert sorted(apart) == ["first", "second"]
    assert sorted(segmented) == ["segment_ids", "tokens"]
    tokenizer = dataset.preprocessing.tokenizer
    assert tokenizer is not None
    separator = tokenizer.library.token_to_id("[SEP]")
    for row in range(4):
        first, second = (x[row][x[row] != 0] for x in apart.values())
        tokens = segmented["tokens"][row]
        whole = [*first, separator, *second]
        np.testing.assert_array_equal(tokens[tokens != 0], whole)
        segments = segmented["segment_ids"][row][: len(whole)]
        np.testing.assert_array_equal(
            segments, [0] * (len(first) + 1) + [1] * len(second)
        )
    for name in ("roberta_base", "text_cnn"):
        np.testing.assert_array_equal(taken[name], segmented["tokens"])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("two_stream_lstm", TINY), ("bert_tiny", TINY_BERT)],
    ids=["two_stream_lstm", "bert_tiny"],
)
def test_pairs_are_trained_and_scored(
    name: str, sizes: dict[str, Any], tmp_path: Path
) -> None:
    recipe = kzoo.Recipe(epochs=2, batch_size=16)
    data = {"max_length": 16}
    run = kzoo.train(
        name, pairs(), out=tmp_path / "run", recipe=recipe, data=data, **sizes
    )
    again = kzoo.evaluate(run, pairs())
    assert again["accuracy"] == run.metrics["test"]["accuracy"]
    kept = load_preprocessing(tmp_path / "run").pairs
    assert kept == ("separate" if name == "two_stream_lstm" else "segments")


def test_pairs_of_a_csv_file(tmp_path: Path) -> None:
    texts, labels = pairs()
    with (tmp_path / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["one", "two", "alike"])
        writer.writerows(zip(texts["first"], texts["second"], labels, strict=True))
    source = f"csv:{tmp_path / 'pairs.csv'}"
    command = ["train", "two_stream_lstm", "--dataset", source, "--epochs", "1"]
    command += [f"--set={key}={value}" for key, value in TINY.items()]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    with pytest.raises(ValueError, match="lstm does not serve arrays"):
        tokens = np.ones((40, 3), "int32"), np.arange(40, dtype="int32") % 2
        plan("two_stream_lstm", tokens)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"first": ["a"]}, "a dict of inputs has the texts first and second; got fi"),
        ({"first": ["a"], "second": ["b", "c"]}, "first and second must be as many"),
        ({"first": ["a"], "second": [1]}, "first and second must be as many texts"),
    ],
)
def test_pairs_that_are_none(inputs: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kzoo.load_dataset((inputs, np.array([0])))


def test_a_pair_is_cut_only_when_asked() -> None:
    texts, labels = pairs()
    texts["second"][7] = "the cow " * 20
    with pytest.raises(ValueError, match="tokens, more than max_length=16; truncate="):
        kzoo.load_dataset((texts, labels), max_length=16)
    data = kzoo.load_dataset((texts, labels), max_length=16, truncate=True)
    assert data.preprocessing.inputs({"first": ["a cat"], "second": ["the cow " * 20]}
    ).shape == (1, 16)  # fmt: skip


# A class each word


def sentences(count: int = 90) -> tuple[list[str], list[str]]:
    """Names after "in" are places, all others are persons."""
    rng = np.random.default_rng(1)
    names = ["york", "paris", "anna", "ben"]
    texts, tags = [], []
    for i in range(count):
        one, two = rng.choice(names, 2)
        texts.append(f"{one} {i} lives in {two} city")
        tags.append("B-PER O O O B-LOC I-LOC")
    return texts, tags


def test_words_of_a_csv_file_are_labelled(tmp_path: Path) -> None:
    with (tmp_path / "words.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["words", "tags"])
        writer.writerows(zip(*sentences(), strict=True))
    source = f"csv:{tmp_path / 'words.csv'}"
    command = ["train", "bert_tiny", "--dataset", source, "--epochs", "8"]
    command += ["--data", "task=sequence-labeling", "--data", "max_length=16"]
    command += [f"--set={key}={value}" for key, value in TINY_BERT.items()]
    command += ["--set", "learning_rate=0.01"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    run = kzoo.train(tmp_path / "run", source, out=tmp_path / "more", epochs=1,
                     data={"task": "sequence-labeling", "max_length": 16})  # fmt: skip
    found = run.metrics["test"]
    assert found["f1"] > 0.9 and found["accuracy"] > 0.9
    assert run.load().kzoo.hparams["per_step"] is True


def test_the_first_token_of_a_word_has_its_class() -> None:
    tokenizer = train_tokenizer("bpe", ["low lower"], vocab_size=260)
    ids, labels = tokens_of_words(
        tokenizer, [["low", "xy"]], [["O", "B-X"]], ["B-X", "O"]
    )
    pieces = [tokenizer.library.id_to_token(i) for i in ids[0]]
    assert labels == [[1, *[-1] * (pieces.index("x") - 1), 0, -1]]
    with pytest.raises(ValueError, match="1 words and 2 classes: 'low' is 'O O'"):
        tokens_of_words(tokenizer, [["low"]], [["O", "O"]], ["O"])
    with pytest.raises(ValueError, match="class 'Z' has no training example"):
        tokens_of_words(tokenizer, [["low"]], [["Z"]], ["O"])


def test_tokens_with_a_class_each_step_train_an_lstm(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(1, 9, (80, 6), dtype="int32")
    labels = tokens % 2
    labels[:, 4:] = -1
    run = kzoo.train(
        "lstm",
        (tokens, labels),
        out=tmp_path / "run",
        recipe=kzoo.Recipe(epochs=30, batch_size=16, learning_rate=0.02),
        embedding_dim=8,
        units=8,
    )
    assert run.metrics["test"]["accuracy"] == 1.0
    assert run.metrics["test"]["f1"] == 1.0
    with pytest.raises(ValueError, match="text_cnn does not serve arrays"):
        plan("text_cnn", (tokens, labels))
    with pytest.raises(ValueError, match="neither one-hot nor a class for each step"):
        plan("lstm", (tokens, labels[:, :5]))


def test_f1_of_spans_is_seqevals_published_example() -> None:
    """The example of its README: 0.50 for one span of two, one of them off."""
    pytest.importorskip("seqeval", reason="needs the extra text")
    classes = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER")
    true = ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    said = ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"]

    def numbers(rows: list[str]) -> np.ndarray:
        found = np.full((2, 7), -1)
        for row, text in zip(found, rows, strict=True):
            tags = [classes.index(tag) for tag in text.split()]
            row[: len(tags)] = tags
        return found

    labels = numbers(true)
    answers = Answers(
        labels, np.maximum(numbers(said), 0), np.zeros(labels.shape), classes=classes
    )
    found = scores(get_task("sequence-labeling"), answers)
    assert found["f1"] == pytest.approx(0.5)
    assert found["accuracy"] == pytest.approx(0.8)
