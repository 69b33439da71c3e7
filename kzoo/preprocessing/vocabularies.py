"""Tokenisers of checkpoints, from their tokenizer.json or their vocabulary files.

What transformers publishes beside weights, as tokenisers of the ``tokenizers``
library, with the special tokens that their models were trained on.
"""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.processors import RobertaProcessing, TemplateProcessing

JSON = "tokenizer.json"
WORD_PIECES = "vocab.txt"
BYTE_PAIRS = ("vocab.json", "merges.txt")
SENTENCE_PIECES = "spiece.model"

# Sentinels of T5 at the end of its vocabulary, the last first.
NUM_SENTINELS = 100


def read_tokenizer(folder: str | os.PathLike[str]) -> Tokenizer:
    """The tokeniser of a checkpoint's folder.

    From ``tokenizer.json``; else from ``vocab.txt`` (word pieces, BERT), from
    ``vocab.json`` and ``merges.txt`` (pairs of bytes, RoBERTa's where there is ``<s>``,
    else GPT-2's), or from ``spiece.model`` (unigrams, T5). ``tokenizer_config.json``
    says whether BERT's texts are lowered.

    Args:
        folder: of the checkpoint.

    Raises:
        FileNotFoundError: the folder has none of them.
        ValueError: a file is damaged.
    """
    path = Path(folder)
    files = (JSON, WORD_PIECES, BYTE_PAIRS[0], SENTENCE_PIECES)
    found = next((path / name for name in files if (path / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path} has no tokeniser: none of {', '.join(files)}")
    config_file = path / "tokenizer_config.json"
    try:
        config = json.loads(config_file.read_text()) if config_file.is_file() else {}
        if found.name == JSON:
            return Tokenizer.from_file(str(found))
        if found.name == WORD_PIECES:
            return word_pieces(found, config)
        if found.name == SENTENCE_PIECES:
            return sentence_pieces(found)
        return byte_pairs(found, path / BYTE_PAIRS[1])
    except FileNotFoundError:
        raise
    except Exception as error:  # the library raises bare ones
        raise ValueError(f"{found} is no vocabulary: {error}") from None


def word_pieces(file: Path, config: dict[str, Any]) -> Tokenizer:
    """BERT's, of a file with one piece a line: [CLS] text [SEP], or two texts."""
    # Only line feeds end a line: a piece may be any other character.
    pieces = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    _add_special(tokenizer, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def byte_pairs(vocabulary: Path, merges: Path) -> Tokenizer:
    """RoBERTa's, <s> text </s>, where the vocabulary has these; else GPT-2's."""
    ids = json.loads(vocabulary.read_text(encoding="utf-8"))
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [
        (left, right)
        for left, _, right in (line.partition(" ") for line in lines)
        if right and left != "#version:"
    ]
    tokenizer = Tokenizer(BPE(ids, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if "<s>" not in ids:
        _add_special(tokenizer, "<|endoftext|>")
        return tokenizer
    _add_special(tokenizer, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer.post_processor = RobertaProcessing(
        ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), add_prefix_space=False
    )
    return tokenizer


def sentence_pieces(file: Path) -> Tokenizer:
    """T5's, text </s>, of SentencePiece's own file, with 100 sentinels behind it."""
    pieces, unknown, characters = _sentence_piece_model(file.read_bytes())
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(NUM_SENTINELS))]
    tokenizer = Tokenizer(
        Unigram([*pieces, *((name, 0.0) for name in sentinels)], unk_id=unknown)
    )
    if characters:
        tokenizer.normalizer = normalizers.Precompiled(characters)
    metaspace: dict[str, Any] = {
        "replacement": "▁",
        "prepend_scheme": "always",
        "split": True,
    }
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**metaspace)]
    )
    tokenizer.decoder = decoders.Metaspace(**metaspace)
    _add_special(tokenizer, "<pad>", "</s>", "<unk>", *sentinels)
    end = tokenizer.token_to_id("</s>")
    tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
    )
    return tokenizer


def _add_special(tokenizer: Tokenizer, *names: str) -> None:
    """Makes them one token each wherever they stand; those that there are."""
    known = [name for name in names if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in known]
    )


def _sentence_piece_model(
    data: bytes,
) -> tuple[list[tuple[str, float]], int, bytes]:
    """Pieces with their scores, the unknown piece's number, the map of characters.

    Fields of sentencepiece_model.proto: ModelProto has pieces (1) of a text (1), a
    score (2) and a type (3, of which 2 is unknown), and a normalizer_spec (3) with
    precompiled_charsmap (2).
    """
    pieces: list[tuple[str, float]] = []
    unknown, characters = 0, b""
    for number, value in _fields(data):
        if number == 1:
            fields = dict(_fields(value))
            if fields.get(3) == 2:
                unknown = len(pieces)
            (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
            pieces.append((fields[1].decode("utf-8"), score))
        elif number == 3:
            characters = dict(_fields(value)).get(2, b"")
    if not pieces:
        raise ValueError("it holds no pieces")
    return pieces, unknown, characters


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message in Protocol Buffers' wire format."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"byte {at} begins no field")
        size = {1: 8, 5: 4}.get(kind) or varint()
        if at + size > len(data):
            raise ValueError("it is cut off")
        yield key >> 3, data[at : at + size]
        at += size
