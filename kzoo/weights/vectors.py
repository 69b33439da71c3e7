"""Tokens' vectors from one model into another, whatever their vocabularies."""

import os
from typing import Any

import keras

from kzoo.preprocessing.text import Tokenizer
from kzoo.weights import WEIGHTS, load_preprocessing, model_folder
from kzoo.weights.tensors import read_tensors

PATH = "embedding/embeddings"


def load_vectors(
    model: keras.Model, source: str | os.PathLike[str], tokenizer: Tokenizer
) -> int:
    """Gives a model's embedding the vectors that another model has learned.

    Tokens are the same where their texts are. The others keep the vectors that were
    drawn for them.

    Args:
        model: with a layer ``embedding``, as every family of texts has.
        source: the run or model folder of another such model, say of ``word2vec``.
        tokenizer: of the model's own texts: ``dataset.preprocessing.tokenizer``.

    Returns:
        How many of the model's tokens got a vector.

    Raises:
        FileNotFoundError: there is no model, or it has no tokeniser.
        ValueError: vectors of another width, a model without an embedding, or not one
            token in common.

    Example:
        >>> import kzoo, tempfile
        >>> from kzoo.preprocessing import Preprocessing
        >>> from kzoo.preprocessing.text import train_tokenizer
        >>> tokenizer = train_tokenizer("character", ["vectors"], 100)
        >>> sizes = {"vocab_size": tokenizer.vocab_size, "embedding_dim": 8}
        >>> learned = kzoo.build_model("text_cnn", **sizes)
        >>> folder = tempfile.mkdtemp() + "/learned"
        >>> read = Preprocessing(tokenizer=tokenizer)
        >>> folder = kzoo.save(learned, folder, preprocessing=read)
        >>> model = kzoo.build_model("text_cnn", **sizes)
        >>> kzoo.load_vectors(model, folder, tokenizer) == tokenizer.vocab_size
        True
    """
    weights = {weight.path: weight for weight in model.weights}
    theirs = read_tensors(model_folder(source) / WEIGHTS).get(PATH)
    if PATH not in weights or theirs is None:
        lacking = model.name if PATH not in weights else source
        raise ValueError(f"{lacking} has no embedding of tokens")
    ours = keras.ops.convert_to_numpy(weights[PATH].value).copy()
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"the vectors of {source} are {theirs.shape[1]} wide, those of "
            f"{model.name} {ours.shape[1]}: build it with embedding_dim="
            f"{theirs.shape[1]}"
        )
    their_tokenizer = load_preprocessing(source).tokenizer
    if their_tokenizer is None:
        raise FileNotFoundError(f"{source} has no tokenizer.json")
    known: dict[str, Any] = their_tokenizer.library.get_vocab()
    vocabulary = tokenizer.library.get_vocab()
    common = [(row, known[text]) for text, row in vocabulary.items() if text in known]
    if not common:
        raise ValueError(f"{source} and {model.name} have no token in common")
    rows, sources = zip(*common, strict=True)
    ours[list(rows)] = theirs[list(sources)]
    weights[PATH].assign(ours)
    return len(common)
