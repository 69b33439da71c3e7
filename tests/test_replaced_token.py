"""replaced_token: what the generator draws, what both cost, what comes of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.datasets import Dataset
from kzoo.datasets.masks import MaskedTokens, ReplacedTokens
from kzoo.losses.masked import drawn_tokens

BERT = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 8}
SMALL = {"generator_dim": 8, "generator_heads": 2}
VOCAB = 22  # padding, unknown and 20 letters


def rows(count: int, seed: int) -> list[str]:
    """Texts of 10 to 20 letters, each the one after the last."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, 20, count), rng.integers(10, 21, count)
    return [
        "".join(chr(97 + (start + i) % 20) for i in range(length))
        for start, length in zip(starts, lengths, strict=True)
    ]


@pytest.fixture(scope="module")
def data() -> Dataset:
    splits = {
        name: (np.array(rows(200, i), object), np.arange(200) % 2)
        for i, name in enumerate(("train", "validation", "test"))
    }
    plain = kzoo.load_dataset(splits, tokenizer="character", max_length=24)
    hidden = MaskedTokens(1, tuple(range(2, VOCAB)), masked=1.0, random=0.0)
    return dataclasses.replace(plain, transform=ReplacedTokens(hidden, 0))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    encoder = kzoo.build_model(
        "bert_tiny", num_classes=0, vocab_size=VOCAB, sequence_length=24, **BERT
    )
    return kzoo.build_model(
        "replaced_token", encoder=encoder, vocab_size=VOCAB, **SMALL
    )


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_generator_drops_what_the_encoder_drops(rate: float) -> None:
    encoder = kzoo.build_model(
        "transformer", vocab_size=VOCAB, dropout_rate=rate, num_layers=1
    )
    made = kzoo.build_model(
        "replaced_token", encoder=encoder, vocab_size=VOCAB, **SMALL
    )
    tokens = np.arange(2, 18, dtype="int32")[None]
    one, two = (numpy_of(made.generator(tokens, training=True)) for _ in range(2))
    assert np.array_equal(one, two) == (rate == 0.0)


def numpy_of(tensors: Any) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tensors)


@pytest.mark.contract
def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    chances = np.random.default_rng(0).random(20_000, "float32")
    odds = np.array([0.5, 0.0, 0.2, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(odds).clip(-50), (len(chances), 1)).astype("float32")
    drawn = numpy_of(drawn_tokens(logits, chances))
    shares = np.bincount(drawn, minlength=4) / len(chances)
    assert shares[1] == 0
    assert (np.abs(shares - odds) <= 4 * np.sqrt(odds * (1 - odds) / 20_000)).all()
    edge = np.array([0.0, np.nextafter(np.float32(1), np.float32(0))], "float32")
    assert numpy_of(drawn_tokens(logits[:2], edge)).tolist() == [0, 3]


def test_masks_are_those_of_the_paper(data: Dataset) -> None:
    batch = data.train_batches(1000, seed=0)[0]["inputs"]
    hidden, real = batch["hidden_weights"] > 0, batch["token_weights"] > 0
    np.testing.assert_array_equal(real, batch["originals"] != 0)
    np.testing.assert_array_equal(batch["tokens"][hidden], 1)  # the mask, always
    np.testing.assert_array_equal(batch["tokens"][~hidden], batch["originals"][~hidden])
    want = np.maximum(1, np.rint(0.15 * real.sum(axis=1)))
    np.testing.assert_array_equal(hidden.sum(axis=1), want)
    for name in ("hidden_weights", "token_weights"):
        assert batch[name].mean() == pytest.approx(1, rel=1e-5)
    assert abs(batch["chances"].mean() - 0.5) < 0.01
    again = data.train_batches(1000, seed=0)[0]["inputs"]
    later = data.train_batches(1000, seed=0)[1]["inputs"]
    np.testing.assert_array_equal(again["chances"], batch["chances"])
    assert (later["chances"] != batch["chances"]).any()
    last = data.eval_batches("validation", 150)[1]["inputs"]  # 50 rows and 100 of none
    assert last["token_weights"][:50].mean() == pytest.approx(1, rel=1e-5)
    assert not last["token_weights"][50:].any()


@pytest.mark.contract
def test_loss_is_that_of_the_paper(data: Dataset, model: keras.Model) -> None:
    """By hand, in float64, from what generator and encoder say."""
    inputs = data.train_batches(32, seed=0)[0]["inputs"]
    guesses, tokens, logits = numpy_of(model.played(inputs))
    guesses, logits = guesses.astype("float64"), logits[..., 0].astype("float64")
    hidden, real = inputs["hidden_weights"] > 0, inputs["token_weights"] > 0
    np.testing.assert_array_equal(tokens[~hidden], inputs["originals"][~hidden])
    assert (tokens[hidden] > 0).all()
    likely = np.exp(guesses) / np.exp(guesses).sum(axis=-1, keepdims=True)
    right = np.take_along_axis(likely, inputs["originals"][..., None], -1)[..., 0]
    masked = -np.log(right[hidden]).mean()
    replaced = tokens != inputs["originals"]
    said = 1 / (1 + np.exp(-logits))
    found = -np.log(np.where(replaced, said, 1 - said))[real].mean()
    costs = model.predict_on_batch(inputs)
    assert costs.mean() == pytest.approx(masked + 50 * found, rel=1e-5)
    # A drawn token that is the text's own is none that was replaced.
    assert 0 < replaced.sum() <= hidden.sum()
    np.testing.assert_array_equal(numpy_of(model.played(inputs))[1], tokens)


def test_hidden_tokens_and_padding_leak_nowhere(
    data: Dataset, model: keras.Model
) -> None:
    inputs = data.train_batches(8, seed=0)[0]["inputs"]
    guesses, tokens, logits = numpy_of(model.played(inputs))
    hidden = inputs["hidden_weights"] > 0
    others = np.where(hidden, (inputs["originals"] - 1) % 20 + 2, inputs["originals"])
    found = numpy_of(model.played({**inputs, "originals": others.astype("int32")}))
    for one, two in zip((guesses, tokens, logits), found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_weights_have_names_of_their_own(model: keras.Model) -> None:
    """Snapshots tell them apart by these; pooling has no part in it."""
    paths = [weight.path for weight in model.weights]
    assert len(set(paths)) == len(paths)
    assert {"embedding/embeddings", "generator/embedding/embeddings"} <= set(paths)
    assert not any(path.startswith("pooled") for path in paths)


def test_command_leaves_an_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "texts.csv"
    lines = [f"{text},{i % 2}" for i, text in enumerate(rows(60, 0))]
    table.write_text("text,label\n" + "\n".join(lines))
    out = tmp_path / "run"
    settings = {**BERT, "sequence_length": 24, "batch_size": 48}
    words = ["pretrain", "bert_tiny", "--objective", "replaced_token", "--json"]
    words += ["--dataset", f"csv:{table}", "--epochs", "2", "--out", str(out)]
    words += ["--data", "tokenizer=character", "--data", "max_length=24"]
    words += [word for k, v in settings.items() for word in ("--set", f"{k}={v}")]
    words += [word for k, v in SMALL.items() for word in ("--option", f"{k}={v}")]
    assert main(words) == 0
    assert "validation" in json.loads(capsys.readouterr().out)
    paths = [weight.path for weight in kzoo.load(out).weights]
    assert not any(path.startswith(("generator", "replaced")) for path in paths)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="replaced_token is for encoders"):
        kzoo.pretrain("gpt2_tiny", "names", "replaced_token", tmp_path / "run", **BERT)
    with pytest.raises(ValueError, match="replaced_token is for texts; digits has"):
        kzoo.pretrain("bert_tiny", "digits", "replaced_token", tmp_path / "run")
    assert not (tmp_path / "run").exists()
