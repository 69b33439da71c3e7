"""From texts to tokens: character, word and byte-pair tokenisers.

The ``tokenizers`` library does the work; a tokeniser is the JSON that it writes, which
lies beside the weights as ``tokenizer.json``. Foreign ones, of the Hugging Face hub,
are taken as they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

KINDS = ("character", "word", "bpe")
PAD, UNKNOWN = "[PAD]", "[UNK]"
SEPARATOR = "[SEP]"  # between two texts
# What other libraries call padding and unknown tokens.
_PADS, _UNKNOWNS = (PAD, "<pad>"), (UNKNOWN, "<unk>")


@dataclass(frozen=True)
class Tokenizer:
    """Texts to token ids and back.

    Attributes:
        json: what the ``tokenizers`` library writes, and reads.

    Example:
        >>> tokenizer = train_tokenizer("character", ["abba"])
        >>> tokenizer.encode(["bab", "c"])          # 0 is padding, 1 unknown
        [[3, 2, 3], [1]]
    """

    json: str = field(repr=False)

    @cached_property
    def library(self) -> Any:
        """The ``tokenizers.Tokenizer``."""
        import tokenizers

        try:
            made = tokenizers.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"not a tokenizer.json: {error}") from None
        made.no_padding()
        return made

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return int(self.library.get_vocab_size())

    @property
    def pad_token_id(self) -> int | None:
        """The token that fills a sequence up; None where there is none."""
        return self._first_of(_PADS)

    @property
    def unknown_token_id(self) -> int | None:
        """What stands for the unseen; None where nothing is unseen, as with bytes."""
        return self._first_of(_UNKNOWNS)

    @property
    def spells(self) -> bool:
        """Whether the tokens make up the text, spaces and all; words do not."""
        return self.library.decoder is not None

    def encode(
        self, texts: Iterable[str], max_length: int | None = None
    ) -> list[list[int]]:
        """The token ids of each text, cut to ``max_length`` tokens where it is given.

        Tokens that the tokeniser puts at the end stay there.
        """
        if max_length is None:
            self.library.no_truncation()
        else:
            self.library.enable_truncation(max_length)
        return [found.ids for found in self.library.encode_batch_fast(list(texts))]

    def encode_pairs(
        self,
        firsts: Iterable[str],
        seconds: Iterable[str],
        max_length: int | None = None,
    ) -> tuple[list[list[int]], list[list[int]]]:
        """The token ids of each pair in one row, and which text each token is of.

        The longer text of a pair is cut first.
        """
        if max_length is None:
            self.library.no_truncation()
        else:
            self.library.enable_truncation(max_length)
        pairs = list(zip(firsts, seconds, strict=True))
        found = self.library.encode_batch_fast(pairs)
        return [one.ids for one in found], [one.type_ids for one in found]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """The texts of token ids, without special tokens."""
        decoded: list[str] = self.library.decode_batch([list(one) for one in ids])
        return decoded

    def _first_of(self, names: Sequence[str]) -> int | None:
        found = [self.library.token_to_id(name) for name in names]
        return next((number for number in found if number is not None), None)


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    vocab_size: int = 8000,
    specials: Sequence[str] = (PAD, UNKNOWN),
) -> Tokenizer:
    """Makes a tokeniser of these texts, which should be the training split's alone.

    Args:
        kind: ``character``: a token a character; ``word``: lower-case words and marks;
            ``bpe``: byte-pair encoding (Sennrich et al. 2016, 1508.07909) of bytes, to
            which no text is unseen.
        texts: to learn from.
        vocab_size: tokens at most, the most frequent ones.
        specials: tokens that no text has; the first of them is padding, 0.

    Raises:
        ValueError: an unknown kind.
    """
    from tokenizers import Regex, decoders, models, normalizers, trainers
    from tokenizers import Tokenizer as Library
    from tokenizers import pre_tokenizers as cuts

    from kzoo.hparams import nearest

    if kind not in KINDS:
        raise ValueError(f"unknown tokenizer {kind!r}{nearest(kind, KINDS)}")
    options: dict[str, Any] = {
        "vocab_size": max(vocab_size, len(specials) + 1),
        "special_tokens": list(specials),
        "show_progress": False,
    }
    if kind == "bpe":
        made = Library(models.BPE())
        made.pre_tokenizer = cuts.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = sorted(cuts.ByteLevel.alphabet())
        options["vocab_size"] = max(vocab_size, len(specials) + len(alphabet))
        trainer: Any = trainers.BpeTrainer(initial_alphabet=alphabet, **options)
    else:
        made = Library(models.WordLevel(unk_token=UNKNOWN))
        made.normalizer = normalizers.NFC()
        if kind == "character":
            made.pre_tokenizer = cuts.Split(Regex(r"[\s\S]"), "isolated")
            made.decoder = decoders.Fuse()
        else:
            made.normalizer = normalizers.Sequence(
                [normalizers.NFC(), normalizers.Lowercase()]
            )
            made.pre_tokenizer = cuts.Whitespace()
        trainer = trainers.WordLevelTrainer(**options)
    made.train_from_iterator(texts, trainer)
    return Tokenizer(made.to_str())


def train_pair_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int = 8000
) -> Tokenizer:
    """The same for pairs of texts, with a token between the two."""
    from tokenizers.processors import TemplateProcessing

    specials = (PAD, UNKNOWN, SEPARATOR)
    made = train_tokenizer(kind, texts, vocab_size, specials).library
    made.post_processor = TemplateProcessing(
        single="$A",
        pair=f"$A:0 {SEPARATOR}:0 $B:1",
        special_tokens=[(SEPARATOR, made.token_to_id(SEPARATOR))],
    )
    return Tokenizer(made.to_str())


def static_lengths(max_length: int) -> tuple[int, ...]:
    """The few lengths that sequences are padded to: doubling, up to the last one.

    >>> static_lengths(50)
    (8, 16, 32, 50)
    """
    lengths, step = [], 8
    while step < max_length:
        lengths.append(step)
        step *= 2
    return (*lengths, max_length)


def padded(
    sequences: Sequence[Sequence[int]], lengths: Sequence[int], fill: int = 0
) -> np.ndarray:
    """Token ids as (batch, time): the least of the lengths that fits the longest."""
    longest = max((len(one) for one in sequences), default=0)
    steps = next((length for length in lengths if length >= longest), lengths[-1])
    array = np.full((len(sequences), steps), fill, "int32")
    for row, ids in zip(array, sequences, strict=True):
        row[: len(ids)] = ids[:steps]
    return array


def check_length(
    texts: Iterable[str], ids: Iterable[Sequence[int]], max_length: int
) -> None:
    """Raises a ``ValueError`` that shows the first text of too many tokens."""
    for text, tokens in zip(texts, ids, strict=True):
        if len(tokens) > max_length:
            raise ValueError(
                f"the text {in_short(text)} has {len(tokens)} tokens, more than "
                f"max_length={max_length}; truncate=true cuts it"
            )


def in_short(text: str, most: int = 40) -> str:
    """A text as an error shows it, by its beginning."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")
