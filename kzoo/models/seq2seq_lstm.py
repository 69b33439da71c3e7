"""A recurrent encoder and decoder with attention between them.

Bahdanau et al., "Neural machine translation by jointly learning to align and
translate", 2015 (1409.0473), and Luong et al., "Effective approaches to
attention-based neural machine translation", 2015 (1508.04025), with LSTMs on both
sides.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.recurrent import AttentionLSTM
from kzoo.layers.sequence import LastStep, NonEmptyMask, PaddingMask
from kzoo.models.family import EncoderDecoderHParams, Family, logits_head

DECODER = "stage_1_block_0"


@dataclass(frozen=True, kw_only=True)
class Seq2SeqLSTMHParams(EncoderDecoderHParams):
    """``tokens`` (batch, time) and ``decoder_tokens`` (batch, steps)."""

    embedding_dim: int = hp(64, "of a token", min=1, max=4096, log=True, tune=(16, 256))
    units: int = hp(
        128,
        "hidden size of the decoder, and of each way of the encoder",
        min=1,
        max=8192,
        log=True,
        tune=(32, 512),
    )
    num_layers: int = hp(1, "layers of the encoder", min=1, max=64, tune=(1, 3))
    attention: str = hp(
        "luong",
        "how the decoder looks at the source",
        choices=("bahdanau", "luong"),
        tune=("bahdanau", "luong"),
    )
    dropout_rate: float = hp(
        0.1, "of embeddings and before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )


@keras.saving.register_keras_serializable("kzoo")
class Seq2SeqLSTM(keras.Model):
    """A functional model that can also write step by step."""

    def initial_cache(self, batch: int, length: int) -> dict[str, Any]:
        """The answer before the first step; all else comes from :meth:`encode`.

        An LSTM keeps one state, however long the text.
        """
        decoder = self.get_layer(DECODER)
        return {"answer": ops.zeros((batch, decoder.units), decoder.compute_dtype)}

    def encode(self, tokens: Any) -> dict[str, Any]:
        """What the decoder begins with and looks at of a source (batch, time)."""
        layer = self.get_layer
        names = ("memory", "steps", "hidden", "cell")
        outputs = {name: layer(name).output for name in names}
        read = keras.Model(layer("tokens").output, outputs)(tokens, training=False)
        return {**read, "keys": layer(DECODER).keys(read["memory"])}

    def decode_step(
        self, tokens: Any, cache: dict[str, Any], index: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Logits of new tokens, and the cache with them.

        Args:
            tokens: (batch, steps) of the text, all of them real.
            cache: of ``initial_cache`` and ``encode``, or of an earlier step.
            index: not looked at: the state knows where it is.

        Returns:
            (batch, steps, vocab_size) in float32, and the cache.
        """
        decoder = self.get_layer(DECODER)
        x = self.get_layer("embedding")(tokens)
        source = cache["memory"], cache["keys"], cache["steps"]
        state = cache["hidden"], cache["cell"], cache["answer"]
        answers = []
        for i in range(tokens.shape[1]):
            state = decoder.step(x[:, i], state, *source)
            answers.append(state[2])
        logits = self.get_layer("logits")(ops.stack(answers, axis=1))
        names = ("hidden", "cell", "answer")
        return logits, cache | dict(zip(names, state, strict=True))


def build(hparams: Seq2SeqLSTMHParams) -> keras.Model:
    """(batch, time) and (batch, steps) -> (batch, steps, vocab_size)."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    decoder_tokens = keras.Input((None,), dtype="int32", name="decoder_tokens")
    embedding = keras.layers.Embedding(
        hparams.vocab_size, hparams.embedding_dim, name="embedding"
    )
    drop = keras.layers.Dropout(hparams.dropout_rate, name="stem")
    mask = PaddingMask(hparams.pad_token_id, name="mask")(tokens)
    steps = NonEmptyMask(name="steps")(mask)

    x = drop(embedding(tokens))  # (batch, time, embedding_dim)
    for i in range(hparams.num_layers):
        cell = keras.layers.LSTM(hparams.units, return_sequences=True, name="rnn")
        both = keras.layers.Bidirectional(cell, name=f"stage_0_block_{i}")
        x = both(x, mask=steps)  # (batch, time, 2 * units)
    memory = keras.layers.Identity(name="memory")(x)
    summary = LastStep(bidirectional=True, name="summary")(x, mask=steps)
    hidden, cell = (
        keras.layers.Dense(hparams.units, activation="tanh", name=name)(summary)
        for name in ("hidden", "cell")
    )
    y = drop(embedding(decoder_tokens))  # (batch, steps, embedding_dim)
    decoder = AttentionLSTM(hparams.units, hparams.attention, name=DECODER)
    y = decoder(y, memory, hidden, cell, mask=steps)  # (batch, steps, units)
    y = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(y)
    inputs = {"tokens": tokens, "decoder_tokens": decoder_tokens}
    return Seq2SeqLSTM(inputs, logits_head(y, hparams.vocab_size))


VARIANTS = {"seq2seq_lstm": Seq2SeqLSTMHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=Seq2SeqLSTMHParams(vocab_size=17, embedding_dim=8, units=8),
    tasks=("translation", "summarization"),
    paper="1409.0473",
)
