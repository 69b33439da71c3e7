"""Running text, of which a model guesses the next token."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.embedded import Options
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.splits import SPLITS, split_of
from kzoo.hparams import hp
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import PAD, UNKNOWN, Tokenizer, train_tokenizer

# How the files of a split are called; Penn Treebank's are ptb.train.txt and so on.
SPLIT_WORDS = {"train": "train", "valid": "validation", "dev": "validation"}
SPLIT_WORDS |= {"validation": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class LanguageOptions(Options):
    """Options of running text."""

    tokenizer: str = hp(
        "character",
        "what a token is: words are what stands between spaces",
        choices=("character", "word", "bpe"),
    )
    max_vocab_size: int = hp(8000, "tokens at most", min=3, max=10_000_000)
    window: int = hp(128, "tokens that are read at a time", min=1, max=1_000_000)


def reference_manual(options: LanguageOptions) -> Dataset:
    """The Python reference manual, as CPython's ``pydoc_data.topics`` has it.

    Its 79 topics share paragraphs: each is taken once, and is in one split alone.
    """
    from pydoc_data.topics import topics

    texts = (topics[name] for name in sorted(topics))
    return from_paragraphs("reference_manual", options, paragraphs(texts))


def paragraphs(texts: Iterable[str]) -> list[str]:
    """The paragraphs of all texts, each once and in order, as they stand there."""
    found = (part.strip("\n") for text in texts for part in text.split("\n\n"))
    return list(dict.fromkeys(part for part in found if part.strip()))


def existing_texts(path: str) -> list[Path]:
    """The file, or the text files of a folder; a ``ValueError`` where there is none."""
    root = Path(path)
    files = sorted(root.rglob("*.txt")) if root.is_dir() else [root]
    if not files or not files[0].exists():
        raise ValueError(
            f"text:{path}: there is no such file, or no .txt file in the folder"
        )
    return files


def text_files(path: str, options: LanguageOptions) -> Dataset:
    """Text files, or a folder of them, in UTF-8.

    Files that are called after splits (``train.txt``, ``valid.txt`` and ``test.txt``,
    or ``ptb.train.txt`` and so on, as Penn Treebank's are) are the splits. Otherwise
    the paragraphs of all files are, each taken once.

    Raises:
        ValueError: nothing there, no text in it, or a split without a file.
    """
    name = f"text:{path}"
    files = existing_texts(path)
    by_split: dict[str, list[str]] = {}
    for file in files:
        words = file.stem.lower().replace("-", ".").replace("_", ".").split(".")
        split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")
        by_split.setdefault(split, []).append(_read(file))
    if "" in by_split:
        texts = [text for parts in by_split.values() for text in parts]
        return from_paragraphs(name, options, paragraphs(texts))
    missing = [split for split in SPLITS if split not in by_split]
    if missing:
        raise ValueError(f"{name}: no file is called after the split {missing[0]!r}")
    joined = {split: "\n".join(by_split[split]) for split in SPLITS}
    return from_texts(name, options, joined)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: {error}") from None


def from_paragraphs(
    name: str, options: LanguageOptions, parts: Sequence[str]
) -> Dataset:
    """A dataset of paragraphs, split by a hash of each."""
    split: dict[str, list[str]] = {name: [] for name in SPLITS}
    for part in parts:
        split[split_of(part.encode(), options.seed)].append(part)
    return from_texts(name, options, {k: "\n\n".join(v) for k, v in split.items()})


def from_texts(name: str, options: Any, texts: Mapping[str, str]) -> Dataset:
    """A dataset of one text a split, cut into windows.

    Args:
        name: as ``load_dataset`` knows it.
        options: the tokeniser, its size and the window; see :class:`LanguageOptions`.
        texts: by split.

    Raises:
        ValueError: a text that is shorter than two tokens.
    """
    lines = texts["train"].splitlines(keepends=True)
    if options.tokenizer == "word":
        made = words_and_lines(lines, options.max_vocab_size)
    else:
        kind, size = options.tokenizer, options.max_vocab_size
        made = train_tokenizer(kind, lines, size, (PAD, UNKNOWN))
    splits = {}
    for split, text in texts.items():
        rows = made.encode(text.splitlines(keepends=True))
        ids = np.array([i for row in rows for i in row], "int32")
        if len(ids) < 2:
            raise ValueError(f"{name}: there is too little text for a {split} split")
        splits[split] = windows(ids, options.window)
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=splits,
        spec=Spec(
            task="language-modeling",
            inputs="tokens",
            hparams={"vocab_size": made.vocab_size, "end_token_id": None},
            classes=(),
            fingerprint=fingerprint(splits),
        ),
        preprocessing=Preprocessing(tokenizer=made),
    )


def words_and_lines(lines: Iterable[str], vocab_size: int) -> Tokenizer:
    """A token for each word between spaces and one for each end of a line.

    As Penn Treebank is read since Mikolov et al. 2010: its words are cut already, and
    its rare ones are ``<unk>``.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    made = Library(models.WordLevel(unk_token="<unk>"))
    made.normalizer = normalizers.Replace("\n", " <eos> ")
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, "<unk>"], show_progress=False
    )
    made.train_from_iterator(lines, trainer)
    return Tokenizer(made.to_str())


def windows(ids: np.ndarray, length: int) -> Split:
    """A text as windows (examples, length), and each token's next one as its label.

    Every token but the first is a label once. Past the end of the text inputs are 0
    and labels are -1.

    Example:
        >>> found = windows(np.arange(1, 7), 3)
        >>> found.inputs.tolist(), found.labels.tolist()
        ([[1, 2, 3], [4, 5, 0]], [[2, 3, 4], [5, 6, -1]])
    """
    count = -(-(len(ids) - 1) // length)
    inputs = np.zeros(count * length, "int32")
    labels = np.full(count * length, -1, "int32")
    inputs[: len(ids) - 1], labels[: len(ids) - 1] = ids[:-1], ids[1:]
    return Split(inputs.reshape(count, length), labels.reshape(count, length))
