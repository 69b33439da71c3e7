"""Running text, pairs of texts and dates, and what is scored of them."""

import datetime
import math
from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo.datasets import Dataset, dates, language, pairs
from kzoo.datasets.language import LanguageOptions
from kzoo.tasks import get_task
from kzoo.training.metrics import METRICS, Answers, scores


def text_of(data: Dataset, split: str) -> str:
    """What the windows spell, from the second token on."""
    labels = data.splits[split].labels
    tokenizer = data.preprocessing.tokenizer
    assert tokenizer is not None
    return tokenizer.decode([labels[labels >= 0].tolist()])[0]


@pytest.fixture(scope="module")
def manual() -> Dataset:
    return kzoo.load_dataset("reference_manual")


def test_no_paragraph_of_the_manual_is_in_two_splits(manual: Dataset) -> None:
    parts = {split: text_of(manual, split).split("\n\n") for split in manual.splits}
    # A window may cut the first character, and a paragraph may hold an unknown one.
    found = {split: {p for p in texts if len(p) > 80} for split, texts in parts.items()}
    assert all(len(found[split]) == sum(len(p) > 80 for p in parts[split])
               for split in found)  # fmt: skip
    assert len(found["train"]) > 500 < 6 * len(found["validation"])
    assert not found["train"] & (found["validation"] | found["test"])
    assert not found["validation"] & found["test"]


def test_windows_hold_every_token_once(manual: Dataset) -> None:
    for split in manual.splits.values():
        inputs, labels = split.rows(np.arange(len(split))), split.labels
        real = labels.reshape(-1) >= 0
        assert not real[np.argmin(real) :].any() or real.all()  # padding at the end
        following = inputs.reshape(-1)[1:]
        np.testing.assert_array_equal(
            following[real[1:]], labels.reshape(-1)[:-1][real[1:]]
        )


def test_same_seed_same_text(manual: Dataset) -> None:
    again = kzoo.load_dataset("reference_manual", seed=0)
    assert again.spec.fingerprint == manual.spec.fingerprint
    other = kzoo.load_dataset("reference_manual", seed=1)
    assert other.spec.fingerprint != manual.spec.fingerprint


def test_penn_treebank(tmp_path: Path) -> None:
    """A word is what stands between spaces; the end of a line is one more token."""
    texts = {
        "train": " no it was n't black <unk> \n but while N stocks fell \n",
        "valid": " black stocks fell \n",
        "test": " it was gold \n",
    }
    for split, text in texts.items():
        (tmp_path / f"ptb.{split}.txt").write_text(text, encoding="utf-8")
    data = language.text_files(str(tmp_path), LanguageOptions(tokenizer="word"))
    words = set(texts["train"].split()) | {"<eos>", "[PAD]"}
    assert data.spec.hparams["vocab_size"] == len(words)
    tokenizer = data.preprocessing.tokenizer
    assert tokenizer is not None

    def names(split: str) -> list[str]:
        labels = data.splits[split].labels
        return [tokenizer.library.id_to_token(i) for i in labels[labels >= 0]]

    assert names("validation") == ["stocks", "fell", "<eos>"]
    assert names("test") == ["was", "<unk>", "<eos>"]  # gold was never seen


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no such file, or no .txt file in the folder"),
        ({"train.txt": "a b c"}, "no file is called after the split 'validation'"),
        ({"all.txt": "a"}, "there is too little text for a"),
        ({"all.txt": b"\xff\xfe\xfa"}, "is not UTF-8"),
    ],
    ids=str,
)
def test_bad_text_files(
    files: dict[str, str | bytes], message: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        language.text_files(str(tmp_path), LanguageOptions())


def test_each_writing_of_a_date_has_one_reading() -> None:
    readings: dict[str, str] = {}
    for day in range(0, 3 * 366):
        date = datetime.date(1999, 1, 1) + datetime.timedelta(days=day)
        for locale in dates.LOCALES:
            for form in dates.FORMATS:
                text = dates.written(date, locale, form)
                assert readings.setdefault(text, date.isoformat()) == date.isoformat()
    assert len(readings) > 50_000


def test_dates_of_a_split_are_its_own() -> None:
    data = kzoo.load_dataset("dates", examples=500)
    tokenizer = data.preprocessing.tokenizer
    assert tokenizer is not None
    seen: dict[str, set[str]] = {}
    for name, split in data.splits.items():
        labels = [row[row >= 0][:-1].tolist() for row in split.labels]
        seen[name] = set(tokenizer.decode(labels))
        read = split.rows(np.arange(len(split)))["decoder_tokens"]
        assert (read[:, 0] == pairs.SPECIALS.index("[START]")).all()
        np.testing.assert_array_equal(read[:, 1:], split.labels[:, :-1])
    for text in seen["test"]:
        assert datetime.date.fromisoformat(text).isoformat() == text
    assert not seen["test"] & (seen["train"] | seen["validation"])


# Scores


def answers(**facts: object) -> Answers:
    labels = np.array([[1, 2, -1], [3, -1, -1]])
    losses = np.array([[0.5, 1.5, 9.0], [1.0, 9.0, 9.0]])
    return Answers(labels, labels, losses, **facts)  # type: ignore[arg-type]


def test_bits_per_character_are_the_closed_form() -> None:
    """Three nats for a text of six characters, in whatever tokens."""
    found = scores(get_task("language-modeling"), answers(characters=6))
    assert found["bits_per_character"] == pytest.approx(3 / math.log(2) / 6)
    assert found["perplexity"] == pytest.approx(math.e)
    assert found["loss"] == pytest.approx(1.0)  # padding counts nowhere
    untold = scores(get_task("language-modeling"), answers())
    assert "bits_per_character" not in untold  # words do not spell a text


def test_texts_are_scored_as_their_libraries_do() -> None:
    written = ("the cat sat on the mat", "a dog")
    references = ("the cat sat on a mat", "a dog")
    found = answers(written=written, references=references)
    assert METRICS["exact_match"](found) == 0.5
    rouge = pytest.importorskip("rouge_score.rouge_scorer", reason="needs [text]")
    sacrebleu = pytest.importorskip("sacrebleu", reason="needs the extra text")
    expected = sacrebleu.corpus_bleu(list(written), [list(references)]).score
    assert METRICS["bleu"](found) == pytest.approx(expected)
    scorer = rouge.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, theirs in (("1", "rouge1"), ("2", "rouge2"), ("l", "rougeL")):
        values = [
            scorer.score(r, w)[theirs].fmeasure
            for r, w in zip(references, written, strict=True)
        ]
        assert METRICS[f"rouge_{name}"](found) == pytest.approx(np.mean(values))
    # By hand: five of six words of each text are the other's, in order.
    assert METRICS["rouge_1"](found) == pytest.approx((5 / 6 + 1) / 2)
