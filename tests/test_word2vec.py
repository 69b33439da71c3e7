"""Word vectors: a step worked out by hand, and twins that find each other."""

import re
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import keras
import numpy as np
import pytest

import kzoo
from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import Split as Windows
from kzoo.datasets.skip_gram import keep_probability, skip_gram
from kzoo.losses.task import TaskLoss, cross_entropy
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import train_tokenizer
from kzoo.training.plan import plan
from kzoo.weights.vectors import load_vectors


def text_of(words: list[str], seed: int = 0) -> Dataset:
    """Running text, a word a token, in three parts."""
    tokenizer = train_tokenizer("word", words, vocab_size=1500)
    ids = np.concatenate([np.array(one, "int32") for one in tokenizer.encode(words)])
    ends = [int(len(ids) * share) for share in (0.8, 0.9)]
    parts = dict(zip(("train", "validation", "test"), np.split(ids, ends), strict=True))
    return Dataset(
        name="text",
        options={"seed": seed},
        splits={name: Windows(x[None, :-1], x[None, 1:]) for name, x in parts.items()},
        spec=Spec(
            "language-modeling", "tokens", {"vocab_size": tokenizer.vocab_size}, (), ""
        ),
        preprocessing=Preprocessing(tokenizer=tokenizer, lengths=(1,)),
    )


def word2vec(dataset: Dataset, dim: int) -> keras.Model:
    return kzoo.build_model("word2vec", embedding_dim=dim, **dataset.spec.hparams)


@pytest.mark.contract
def test_a_step_is_the_papers_by_hand() -> None:
    """Equation 4 of 1310.4546, for one word with its neighbour and two drawn words."""
    model = kzoo.build_model(
        "word2vec", vocab_size=6, embedding_dim=3, pad_token_id=None
    )
    words, contexts = np.random.default_rng(0).normal(size=(2, 6, 3))
    model.get_layer("embedding").set_weights([words])
    model.get_layer("contexts").set_weights([contexts])
    model.compile(keras.optimizers.SGD(0.3), loss=TaskLoss(cross_entropy))
    inputs = {
        "first": np.full((3, 1), 2, "int32"),
        "second": np.array([[5], [0], [3]], "int32"),
    }
    loss = model.train_on_batch(inputs, np.array([1, 0, 0], "int32"))

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    word, near = words[2].copy(), contexts[[5, 0, 3]]
    signs = np.array([1, -1, -1])
    expected = -np.log(sigmoid(signs * (near @ word))).sum()
    assert float(loss) * 3 == pytest.approx(expected, rel=1e-5)
    slope = (sigmoid(near @ word) - [1, 0, 0]) / 3  # Keras takes the mean
    words[2] -= 0.3 * slope @ near
    contexts[[5, 0, 3]] -= 0.3 * slope[:, None] * word
    for name, table in (("embedding", words), ("contexts", contexts)):
        found = model.get_layer(name).get_weights()[0]
        np.testing.assert_allclose(found, table, rtol=1e-5, atol=1e-6)


def test_batches_hold_neighbours_and_drawn_words() -> None:
    text = text_of([f"w{i % 40}" for i in range(3000)])  # each word has one next one
    pairs = skip_gram(text, window=2, negatives=3, threshold=0)
    batches = pairs.train_batches(512, seed=1)
    assert len(pairs.splits["train"]) == 4 * 2400
    first, second, labels = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (b["inputs"]["first"][:, 0], b["inputs"]["second"][:, 0], b["labels"])
                for b in (batches[i] for i in range(40))
            ),
            strict=True,
        )
    )
    assert labels.mean() == pytest.approx(0.25, abs=0.01)
    names = text.preprocessing.tokenizer.library.id_to_token  # type: ignore[union-attr]
    gap = np.array(
        [
            int(names(int(b))[1:]) - int(names(int(a))[1:])
            for a, b in zip(first, second, strict=True)
        ]
    )
    gap = (gap + 20) % 40 - 20
    true = Counter(gap[labels == 1].tolist())
    assert set(true) == {-2, -1, 1, 2}
    # A reach of 1 or 2 is as likely: the next word in 1/2 + 1/4 of all.
    near = (true[-1] + true[1]) / sum(true.values())
    assert near == pytest.approx(0.75, abs=0.03)
    drawn = np.bincount(second[labels == 0], minlength=42)[2:]
    assert drawn.min() > 0.7 * drawn.mean()  # all words are as frequent
    again = pairs.train_batches(512, seed=1)[7]["inputs"]["second"]
    np.testing.assert_array_equal(again, batches[7]["inputs"]["second"])


def test_frequent_words_are_thinned_out() -> None:
    counts = np.array([900, 90, 10])
    np.testing.assert_allclose(keep_probability(counts, 0.09), [np.sqrt(0.1), 1.0, 1.0])
    words = ["often"] * 9000 + ["rarely"] * 1000
    rng = np.random.default_rng(0)
    text = text_of([words[i] for i in rng.permutation(10000)])
    stream = skip_gram(text, threshold=0.09).splits["train"].stream  # type: ignore[attr-defined]
    share = 900 * np.sqrt(0.1) / (900 * np.sqrt(0.1) + 100)
    assert (stream == stream.min()).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.slow
def test_planted_twins_are_nearest_neighbours(tmp_path: Path) -> None:
    """Of 20 words in the reference manual each occurrence is renamed by a coin."""
    text = " ".join(dict.fromkeys(p for t in topics.values() for p in t.split("\n\n")))
    words = re.findall(r"[a-z_]+|[^\sa-z_]", text.lower())
    counts = Counter(word for word in words if word.isalpha())
    chosen = [word for word, _ in counts.most_common(20)]
    coin = np.random.default_rng(0).random(len(words)) < 0.5
    words = [
        word + "twin" if heads and word in chosen else word
        for word, heads in zip(words, coin, strict=True)
    ]
    pairs = skip_gram(text_of(words), window=3, negatives=2, threshold=0)
    keras.utils.set_random_seed(0)
    model = word2vec(pairs, 64)
    model.compile(keras.optimizers.Adam(0.02), loss=TaskLoss(cross_entropy))
    for batch, _ in zip(pairs.train_batches(8192, seed=0), range(300), strict=False):
        model.train_on_batch(batch["inputs"], batch["labels"])
    vectors = model.get_layer("embedding").get_weights()[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tokenizer = pairs.preprocessing.tokenizer
    assert tokenizer is not None
    ids = tokenizer.library.token_to_id
    for word in chosen:
        twins = ids(word), ids(word + "twin")
        for one, other in (twins, twins[::-1]):
            likeness = vectors @ vectors[one]
            likeness[one] = -2
            assert likeness.argmax() == other, word
    # The vectors go to another family, by the words.
    kzoo.save(model, tmp_path / "vectors", preprocessing=pairs.preprocessing)
    own = train_tokenizer("word", ["the class of objects", "unheardofword"])
    reader = kzoo.build_model("text_cnn", vocab_size=own.vocab_size, embedding_dim=64)
    before = reader.get_layer("embedding").get_weights()[0]
    found = load_vectors(reader, tmp_path / "vectors", own)
    after = reader.get_layer("embedding").get_weights()[0]
    assert found == own.vocab_size - 1
    number = own.library.token_to_id
    theirs = model.get_layer("embedding").get_weights()[0]
    np.testing.assert_array_equal(after[number("class")], theirs[ids("class")])
    row = number("unheardofword")
    np.testing.assert_array_equal(after[row], before[row])
    narrow = kzoo.build_model("lstm", vocab_size=own.vocab_size, embedding_dim=8)
    with pytest.raises(ValueError, match="build it with embedding_dim=64"):
        load_vectors(narrow, tmp_path / "vectors", own)


def test_running_text_is_asked_for() -> None:
    with pytest.raises(ValueError, match="digits is no running text but image-class"):
        skip_gram(kzoo.load_dataset("digits"))


def test_a_running_text_by_its_name_gives_pairs_for_word2vec() -> None:
    name = "skip_gram:reference_manual"
    planned = plan("word2vec", name, data={"max_vocab_size": 500, "reach": 3})
    assert planned.hparams.to_json()["vocab_size"] == 500
    batch = planned.dataset.train_batches(32, seed=0)[0]
    assert batch["inputs"]["first"].shape == batch["inputs"]["second"].shape == (32, 1)
    with pytest.raises(ValueError, match="lstm does not serve skip_gram:reference_man"):
        plan("lstm", name)
