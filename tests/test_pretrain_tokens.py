"""masked_tokens and next_token: what is hidden, what may be seen, what comes of it."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.datasets import Dataset
from kzoo.datasets.masks import MaskedTokens, NextTokens
from kzoo.training import Run

BERT = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 8}
OPTIONS = {"tokenizer": "character", "max_length": 24}


def texts(count: int = 200) -> dict[str, Any]:
    """Texts of 10 to 20 letters that run through the alphabet from two ends."""
    rng = np.random.default_rng(0)
    splits = {}
    for name in ("train", "validation", "test"):
        kinds = rng.integers(0, 2, count)
        rows = []
        for kind in kinds:
            start, length = rng.integers(0, 20), rng.integers(10, 21)
            letters = (start + np.arange(length)) % 20
            letters = letters[::-1] if kind else letters
            rows.append("".join(chr(97 + i) for i in letters))
        splits[name] = np.array(rows, object), kinds
    return splits


@pytest.fixture(scope="module")
def data() -> Dataset:
    return kzoo.load_dataset(texts(), **OPTIONS)


def masked(data: Dataset, **changes: Any) -> Dataset:
    """The unknown token, 1, is the mask; 2 and above are letters."""
    vocab_size = data.spec.hparams["vocab_size"]
    transform = MaskedTokens(1, tuple(range(2, vocab_size)), **changes)
    return dataclasses.replace(data, transform=transform)


def test_masks_are_those_of_the_paper(data: Dataset) -> None:
    batch = masked(data).train_batches(2000, seed=0)[0]
    plain = data.train_batches(2000, seed=0)[0]["inputs"]
    chosen = batch["weights"] > 0
    lengths = (plain != 0).sum(axis=1)
    want = np.maximum(1, np.rint(0.15 * lengths))
    np.testing.assert_array_equal(chosen.sum(axis=1), want)
    assert not (chosen & (plain == 0)).any()  # padding is never asked for
    np.testing.assert_array_equal(batch["labels"][chosen], plain[chosen])
    shown = batch["inputs"]
    np.testing.assert_array_equal(shown[~chosen], plain[~chosen])
    count = chosen.sum()
    spread = 3 / np.sqrt(count)
    assert abs((shown[chosen] == 1).mean() - 0.8) < spread
    other = (shown[chosen] != 1) & (shown[chosen] != plain[chosen])
    assert abs(other.mean() - 0.1 * 19 / 20) < spread  # 1 in 20 is drawn by chance
    # On the average of the batch a label counts 1, as Keras's mean wants it.
    assert batch["weights"].mean() == pytest.approx(1.0, rel=1e-5)


def test_what_is_masked_leaks_nowhere(data: Dataset) -> None:
    bare = dataclasses.replace(data.preprocessing, tokenizer=None)
    every = dataclasses.replace(
        masked(data, masked=1.0, random=0.0), preprocessing=bare
    )
    plain = data.train_batches(8, seed=0)[0]["inputs"]

    def batch(tokens: np.ndarray) -> dict[str, Any]:
        raw = {"inputs": tokens, "weights": np.ones(8, "float32"), "labels": None}
        return every.transform(every, raw, np.random.default_rng(0), True)

    one = batch(plain)
    hidden = one["weights"] > 0
    two = batch(np.where(hidden, (plain - 1) % 20 + 2, plain))  # other letters there
    assert (one["labels"] != two["labels"])[hidden].all()
    np.testing.assert_array_equal(one["inputs"], two["inputs"])


@pytest.mark.contract
def test_loss_is_the_cross_entropy_of_the_hidden_tokens(data: Dataset) -> None:
    """By hand, in numpy, from the logits and the labels of one batch."""
    from kzoo.tasks import get_task
    from kzoo.training.compiling import task_loss

    batch = masked(data).train_batches(16, seed=0)[0]
    vocab_size = data.spec.hparams["vocab_size"]
    logits = np.random.default_rng(0).normal(size=(*batch["labels"].shape, vocab_size))
    logits = logits.astype("float32")
    loss = task_loss(get_task("language-modeling"), kzoo.Recipe())
    found = loss(batch["labels"], logits, sample_weight=batch["weights"])
    total = np.exp(logits).sum(axis=-1)
    picked = np.take_along_axis(logits, batch["labels"][..., None], -1)[..., 0]
    costs = (np.log(total) - picked)[batch["weights"] > 0]
    assert float(found) == pytest.approx(costs.mean(), rel=1e-4)


def test_next_tokens(data: Dataset) -> None:
    made = dataclasses.replace(data, transform=NextTokens(0))
    batch = made.train_batches(8, seed=0)[0]
    tokens, labels, weights = batch["inputs"], batch["labels"], batch["weights"]
    for row in range(8):
        length = (tokens[row] != 0).sum()
        np.testing.assert_array_equal(labels[row, : length - 1], tokens[row, 1:length])
        assert (weights[row, : length - 1] > 0).all()
        assert not weights[row, length - 1 :].any()


def test_what_has_no_part_in_it_is_not_trained() -> None:
    sizes = {"vocab_size": 9, "sequence_length": 8, **BERT}
    encoder = kzoo.build_model("bert_tiny", num_classes=0, **sizes)
    model = kzoo.build_model("token_prediction", encoder=encoder, vocab_size=9)
    names = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert {"embedding", "block_0_query", "tokens"} <= names
    assert "pooled" in {weight.path.split("/")[0] for weight in encoder.weights}
    assert "pooled" not in names


@pytest.mark.contract
def test_no_step_sees_a_later_one() -> None:
    encoder = kzoo.build_model(
        "lstm", vocab_size=9, embedding_dim=4, units=4, num_layers=1, num_classes=0
    )
    model = kzoo.build_model(
        "token_prediction", encoder=encoder, vocab_size=9, causal=True
    )
    tokens = np.array([[2, 3, 4, 5]], "int32")
    changed = np.array([[2, 3, 8, 5]], "int32")
    one, two = (model.predict_on_batch(x) for x in (tokens, changed))
    assert one.shape == (1, 4, 9)
    np.testing.assert_allclose(one[:, :2], two[:, :2], atol=1e-6)
    assert (np.abs(one[:, 2:] - two[:, 2:]) > 1e-6).any()


@pytest.fixture(scope="module")
def pre(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tokens") / "pre"
    sizes = {"units": 16, "num_layers": 1, "embedding_dim": 8, "bidirectional": True}
    request = {"epochs": 40, "batch_size": 50, "learning_rate": 3e-2, **sizes}
    return kzoo.pretrain(
        "lstm", texts(), "masked_tokens", folder, data=OPTIONS, **request
    )


def test_masked_tokens_are_learned_and_fine_tuned(pre: Run, tmp_path: Path) -> None:
    history = pre.history
    # What stands at a place follows from its neighbours; chance is a perplexity of 20.
    assert min(row["val_perplexity"] for row in history) < 8
    run = kzoo.train(pre.folder, texts(), data=OPTIONS, out=tmp_path / "run", epochs=1)
    log = (run.folder / "log.txt").read_text()
    assert "fresh: logits/bias, logits/kernel" in log and "ignored" not in log
    assert run.load().output_shape == (None, 2)


def test_texts_are_read_by_the_tokeniser_that_was_learned_with(
    pre: Run, tmp_path: Path
) -> None:
    from kzoo.training.plan import plan

    found = plan(pre.folder, "names", settings={"labels_per_class": 2})
    tokenizer = found.dataset.preprocessing.tokenizer
    assert tokenizer is not None and tokenizer.vocab_size == 22
    assert found.dataset.options["tokenizer"].endswith("tokenizer.json")


@pytest.mark.parametrize(
    ("model", "objective", "settings", "text"),
    [
        ("transformer", "next_token", BERT, "transformer looks at later tokens"),
        (
            "cnn_1d",
            "masked_tokens",
            {"filters": (4, 4)},
            "cnn_1d has no vector for each token",
        ),
    ],
)
def test_models_that_cannot(
    model: str, objective: str, settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        kzoo.pretrain(
            model, texts(), objective, tmp_path / "run", data=OPTIONS, **settings
        )
    assert not (tmp_path / "run").exists()


def test_objectives_of_tokens_want_texts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="next_token is for texts; digits has images"):
        kzoo.pretrain("cnn", "digits", "next_token", tmp_path / "run")
    with pytest.raises(ValueError, match="are more than 1 together"):
        options = {"mask_share": 0.9, "random_share": 0.2}
        kzoo.pretrain(
            "bert_tiny", texts(), "masked_tokens", tmp_path / "run", options=options
        )


def test_decoders_learn_the_next_token_themselves(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 8}
    run = kzoo.pretrain(
        "gpt2_tiny",
        texts(50),
        "next_token",
        tmp_path / "run",
        data=OPTIONS,
        epochs=1,
        **sizes,
    )
    assert run.load().output_shape[-1] == 22
    assert run.metrics["validation"]["perplexity"] < 30
