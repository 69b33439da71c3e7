"""Texts whose words have a class each: names in a sentence, parts of speech."""

from collections.abc import Mapping, Sequence
from typing import Any

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.text import find_tokenizer
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import Tokenizer, padded, static_lengths

Words = Sequence[Sequence[str]]


def labelled_words(
    name: str, options: Any, splits: Mapping[str, tuple[Words, Words]]
) -> Dataset:
    """A dataset of words and their classes, with a tokeniser of its training split.

    A word may be several tokens: the first of them has its class, the others none.

    Args:
        name: as ``load_dataset`` knows it.
        options: which tokeniser, and its sizes; see ``TextOptions``.
        splits: of each, the words and the classes of every example.

    Raises:
        ValueError: as many words as classes are not there, an example is too long and
            is not to be cut, or a class has no training example.
    """
    train_words, train_tags = splits["train"]
    texts = [" ".join(words) for words in train_words]
    tokenizer = find_tokenizer(options.tokenizer, options.max_vocab_size, texts)
    classes = tuple(sorted({tag for tags in train_tags for tag in tags}))
    arrays = {}
    for split, (words, tags) in splits.items():
        ids, labels = tokens_of_words(tokenizer, words, tags, classes)
        longest = max(len(row) for row in ids)
        if longest > options.max_length and not options.truncate:
            raise ValueError(
                f"{name}: an example has {longest} tokens, more than "
                f"max_length={options.max_length}; truncate=true cuts it"
            )
        # Shapes that are few: a multiple of 8.
        width = (min(-(-longest // 8) * 8, options.max_length),)
        pad = tokenizer.pad_token_id or 0
        arrays[split] = Split(padded(ids, width, pad), padded(labels, width, -1))
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=arrays,
        spec=Spec(
            task="sequence-labeling",
            inputs="tokens",
            hparams={
                "vocab_size": tokenizer.vocab_size,
                "sequence_length": options.max_length,
                "pad_token_id": tokenizer.pad_token_id,
                "num_classes": len(classes),
                "per_step": True,
            },
            classes=classes,
            fingerprint=fingerprint(arrays),
        ),
        preprocessing=Preprocessing(
            tokenizer=tokenizer,
            lengths=static_lengths(options.max_length),
            truncate=options.truncate,
            classes=classes,
        ),
    )


def tokens_of_words(
    tokenizer: Tokenizer, words: Words, tags: Words, classes: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of every example, and each token's class, -1 where it has none.

    Raises:
        ValueError: another number of words than of classes, or an unknown class.
    """
    number = {name: i for i, name in enumerate(classes)}
    for one, two in zip(words, tags, strict=True):
        if len(one) != len(two):
            raise ValueError(
                f"{len(one)} words and {len(two)} classes: {' '.join(one)!r} is "
                f"{' '.join(two)!r}"
            )
        for tag in two:
            if tag not in number:
                raise ValueError(f"the class {tag!r} has no training example")
    tokenizer.library.no_truncation()
    ids, labels = [], []
    batch = [list(one) for one in words]
    encoded = tokenizer.library.encode_batch(batch, is_pretokenized=True)
    for found, own in zip(encoded, tags, strict=True):
        row, before = [], None
        for word in found.word_ids:
            first = word is not None and word != before
            row.append(number[own[word]] if first else -1)
            before = word
        ids.append(list(found.ids))
        labels.append(row)
    return ids, labels
