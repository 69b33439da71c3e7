"""Tokenisers of checkpoints: published ids, and transformers on the same files."""

import itertools
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from kzoo.preprocessing.vocabularies import read_tokenizer

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


# Ids that the documentation of transformers prints, by vocabularies that have no more
# than the pieces in question, each at its published place.


def test_ids_of_bert_base_uncased(tmp_path: Path) -> None:
    places = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    places |= {",": 1010, "is": 2003, "my": 2026, "dog": 3899, "hello": 7592}
    places |= {"cute": 10140}
    pieces = [f"[unused{i}]" for i in range(max(places.values()) + 1)]
    for piece, i in places.items():
        pieces[i] = piece
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    encoded = read_tokenizer(tmp_path).encode("Hello, my dog is cute")
    assert encoded.ids == [101, 7592, 1010, 2026, 3899, 2003, 10140, 102]
    pair = read_tokenizer(tmp_path).encode("my dog", "is [MASK]")
    assert pair.ids == [101, 2026, 3899, 102, 2003, 103, 102]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1]


def merges_of(word: str) -> list[str]:
    """Merges that build a word from the left."""
    return [f"{word[:i]} {word[i]}" for i in range(1, len(word))]


def write_byte_pairs(folder: Path, places: dict[str, int], words: list[str]) -> None:
    merges = list(dict.fromkeys(merge for word in words for merge in merges_of(word)))
    letters = {letter for word in words for letter in word}
    parts = {merge.replace(" ", "") for merge in merges} | letters
    spare = iter(range(60000, 70000))
    ids = places | {part: next(spare) for part in sorted(parts - set(places))}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("special", "hello", "ids"),
    [
        (
            dict(zip(ROBERTA_SPECIAL, range(5), strict=True)),
            (31414, 20920, 232),
            (0, 2),
        ),
        ({"<|endoftext|>": 50256}, (15496, 18435, 995), ()),
    ],
    ids=["roberta-base", "gpt2"],
)
def test_ids_of_byte_pairs(
    special: dict[str, int],
    hello: tuple[int, ...],
    ids: tuple[int, ...],
    tmp_path: Path,
) -> None:
    words = ["Hello", "ĠHello", "Ġworld"]
    places = special | dict(zip(words, hello, strict=True))
    write_byte_pairs(tmp_path, places, words[::-1])  # those with a space rank first
    tokenizer = read_tokenizer(tmp_path)
    before, after = list(ids[:1]), list(ids[1:])
    first, spaced, world = hello
    assert tokenizer.encode("Hello world").ids == [*before, first, world, *after]
    assert tokenizer.encode(" Hello world").ids == [*before, spaced, world, *after]
    assert tokenizer.decode(tokenizer.encode("Hello world").ids) == "Hello world"


# Beside transformers, on vocabularies of 600 to 900 pieces and 1,000 strings


def trained(kind: str) -> Tokenizer:
    texts = [text for topic in topics.values() for text in topic.split("\n\n")][:1000]
    texts += ["Straße naïve café 東京 大阪 مرحبا 😀 👩‍👩‍👧 Привет"] * 20
    options: dict[str, Any] = {"vocab_size": 900, "show_progress": False}
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(special_tokens=BERT_SPECIAL, **options)
    elif kind == "t5":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        special = ["<pad>", "</s>", "<unk>"]
        options |= {"unk_token": "<unk>", "vocab_size": 600}
        trainer = trainers.UnigramTrainer(special_tokens=special, **options)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        special = ROBERTA_SPECIAL if kind == "roberta" else ["<|endoftext|>"]
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=special, **options)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_vocabulary(kind: str, folder: Path) -> Any:
    """Files of a checkpoint, and transformers' tokeniser of them."""
    import transformers

    tokenizer = trained(kind)
    if kind == "t5":
        from transformers.utils import sentencepiece_model_pb2_new as definition

        pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
        message = definition.ModelProto()
        for i, (piece, score) in enumerate(pieces):
            # Control, control, unknown, then normal ones.
            kind_of_piece = {0: 3, 1: 3, 2: 2}.get(i, 1)
            message.pieces.add(piece=piece, score=score, type=kind_of_piece)
        (folder / "spiece.model").write_bytes(message.SerializeToString())
        sentinels = [(f"<extra_id_{i}>", 0.0) for i in reversed(range(100))]
        vocabulary = [*map(tuple, pieces), *sentinels]
        return transformers.T5Tokenizer(vocab=vocabulary)
    if kind == "bert":
        ids = tokenizer.get_vocab()
        lines = "\n".join(sorted(ids, key=lambda piece: ids[piece]))
        (folder / "vocab.txt").write_text(lines + "\n", encoding="utf-8")
    else:
        tokenizer.model.save(str(folder))
    classes = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer"}
    found = getattr(transformers, classes.get(kind, "GPT2Tokenizer"))
    return found.from_pretrained(str(folder))


def varied_strings(count: int) -> list[str]:
    """Accents, CJK, emoji, control characters, other scripts, special tokens."""
    pools: list[list[str]] = [
        list("abcdefgh ,.!'"),
        ["the", " of", " Hello", " WORLD", " don't", " 's", " 3.14", "  "],
        [*"éàüñçßøÅ ", "e\u0301", "a\u0308"],
        list("東京大阪日本語中文한국어 "),
        ["😀", "👩‍👩‍👧", "🇩🇪", "👍🏽"],
        list("\x00\x01\x1f\x7f\u200b\ufeff\t\n\r \u00a0\u3000"),
        ["مرحبا", "Привет", "Ωδ", " "],
        [*BERT_SPECIAL, *ROBERTA_SPECIAL, "<|endoftext|>", "<extra_id_3>"],
    ]
    rng = np.random.default_rng(0)
    strings = ["", " ", "\n", "Hello world", " Hello  world "]
    while len(strings) < count:
        parts = [
            "".join(rng.choice(pools[pool], rng.integers(1, 8 if pool < 7 else 2)))
            for pool in rng.integers(0, len(pools), rng.integers(1, 6))
        ]
        strings.append("".join(parts))
    return strings


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "t5"])
def test_ids_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    theirs = write_vocabulary(kind, tmp_path)
    strings = varied_strings(1000)
    ours = read_tokenizer(tmp_path)
    for text in strings:
        assert ours.encode(text).ids == theirs(text)["input_ids"], repr(text)
    for first, second in itertools.pairwise(strings[:100]):
        assert ours.encode(first, second).ids == theirs(first, second)["input_ids"]
    ours.save(str(tmp_path / "tokenizer.json"))  # which comes before the others
    again = read_tokenizer(tmp_path)
    assert all(again.encode(s).ids == ours.encode(s).ids for s in strings[:100])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "other.txt",
            b"",
            "no tokeniser: none of tokenizer",
        ),
        ("vocab.txt", b"hello\n", "vocab.txt is no vocabulary"),
        ("vocab.json", b"{", "vocab.json is no vocabulary"),
        ("spiece.model", b"\x0a\x05ab", "it is cut off"),
        ("spiece.model", b"", "it holds no pieces"),
        ("tokenizer.json", b"{}", "tokenizer.json is no vocabulary"),
    ],
)
def test_what_is_no_vocabulary_is_refused(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        read_tokenizer(tmp_path)
