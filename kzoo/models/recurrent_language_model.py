"""A recurrent language model: the family ``lstm`` with one answer a step.

Mikolov et al., "Recurrent neural network based language model", 2010, with the LSTMs
of Zaremba et al., "Recurrent neural network regularization", 2014 (1409.2329).
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers import decoding
from kzoo.models import recurrent
from kzoo.models.family import DecoderHParams, Family


@dataclass(frozen=True, kw_only=True)
class RecurrentLanguageModelHParams(DecoderHParams):
    """Tokens (batch, time)."""

    embedding_dim: int = hp(64, "of a token", min=1, max=4096, log=True, tune=(16, 256))
    units: int = hp(
        256, "hidden size of each layer", min=1, max=8192, log=True, tune=(64, 1024)
    )
    num_layers: int = hp(2, "stacked LSTM layers", min=1, max=64, tune=(1, 3))
    dropout_rate: float = hp(
        0.1, "between layers and before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )


@keras.saving.register_keras_serializable("kzoo")
class RecurrentLanguageModel(keras.Model):
    """A functional model that can also go on from where it was."""

    @property
    def _lstms(self) -> list[keras.layers.LSTM]:
        return [layer for layer in self.layers if isinstance(layer, keras.layers.LSTM)]

    def initial_cache(self, batch: int, length: int) -> dict[str, Any]:
        """Room for the states after each of ``length`` steps of ``batch`` texts.

        The state alone would do for one text. Texts of unequal length are read side by
        side, and each goes on from its own last step.

        Returns:
            ``{"block_0_hidden": (batch, length + 1, units), ...}``, zero at the first.
        """
        first = self._lstms[0]
        names = [f"{x.name}_{part}" for x in self._lstms for part in ("hidden", "cell")]
        dtype = first.compute_dtype
        return decoding.empty(names, batch, length + 1, first.units, dtype)

    def decode_step(
        self, tokens: Any, cache: dict[str, Any], index: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Logits of new tokens, and the cache with them.

        Args:
            tokens: (batch, steps), which stand at ``index``, ``index + 1``, ...
            cache: of ``initial_cache``, or of an earlier step.
            index: a number, or one a row (batch,). What the cache holds of later steps
                is not looked at.

        Returns:
            (batch, steps, vocab_size) in float32, and the cache.
        """
        positions = decoding.positions_from(index, tokens)  # (batch, steps)
        x = self.get_layer("embedding")(tokens)
        for lstm in self._lstms:
            names = [f"{lstm.name}_{part}" for part in ("hidden", "cell")]
            state = [decoding.read(cache[name], positions[:, 0]) for name in names]
            states = _unrolled(lstm.cell, x, state)
            for name, after in zip(names, states, strict=True):
                new = decoding.written(cache[name], after, positions + 1)
                cache = cache | {name: new}
            x = states[0]  # (batch, steps, units)
        return self.get_layer("logits")(x), cache


def _unrolled(cell: Any, x: Any, state: list[Any]) -> tuple[Any, Any]:
    """Hidden and cell state after each step, (batch, steps, units) each."""

    def step(state: tuple[Any, Any], x: Any) -> tuple[Any, Any]:
        _, after = cell(x, list(state))
        return tuple(after), tuple(after)

    if x.shape[1] == 1:
        hidden, memory = step((state[0], state[1]), x[:, 0])[0]
        return hidden[:, None], memory[:, None]
    _, states = ops.scan(step, tuple(state), ops.swapaxes(x, 0, 1))
    hidden, memory = (ops.swapaxes(part, 0, 1) for part in states)
    return hidden, memory


def build(hparams: RecurrentLanguageModelHParams) -> keras.Model:
    """(batch, time) -> (batch, time, vocab_size)."""
    plain = recurrent.RecurrentHParams(
        vocab_size=hparams.vocab_size,
        num_classes=hparams.vocab_size,
        pad_token_id=None,  # what follows a text changes no step of it
        per_step=True,
        embedding_dim=hparams.embedding_dim,
        units=hparams.units,
        num_layers=hparams.num_layers,
        dropout_rate=hparams.dropout_rate,
    )
    model = recurrent.build(plain, keras.layers.LSTM)
    return RecurrentLanguageModel(model.input, model.output)


VARIANTS = {"lstm_language_model": RecurrentLanguageModelHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=RecurrentLanguageModelHParams(
        vocab_size=17, embedding_dim=8, units=8, num_layers=1
    ),
    tasks=("language-modeling",),
    paper="1409.2329",
)
