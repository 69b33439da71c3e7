"""A recurrent layer that looks at a source at each step."""

from typing import Any

import keras
from keras import ops

from kzoo.layers.sequence import MaskedLayer, masked_fill

State = tuple[Any, Any, Any]


@keras.saving.register_keras_serializable("kzoo")
class AttentionLSTM(MaskedLayer):
    """An LSTM whose steps each look at a memory, and answer from both.

    ``bahdanau`` (Bahdanau et al. 2015, 1409.0473) looks before the step, by
    v . tanh(W state + U memory), and the step reads what was seen; ``luong`` (Luong et
    al. 2015, 1508.04025) looks after it, by state . U memory, and the next step reads
    the answer. Either way the answer is tanh(C [state; what was seen]).

    Args:
        units: of the state and of the answer.
        attention: ``bahdanau`` or ``luong``.

    ``layer(x, memory, hidden, cell, mask)``: x (batch, steps, features), memory
    (batch, time, width), hidden and cell (batch, units) to begin with, mask (batch,
    time) true at the real places of the memory -> (batch, steps, units).
    """

    def __init__(self, units: int, attention: str = "luong", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.attention = attention
        self.cell = keras.layers.LSTMCell(units, name="cell")
        self.keys = keras.layers.Dense(units, use_bias=False, name="keys")
        self.answer = keras.layers.Dense(units, activation="tanh", name="answer")
        if attention == "bahdanau":
            self.query = keras.layers.Dense(units, name="query")
            self.score = keras.layers.Dense(1, use_bias=False, name="score")

    def build(
        self, x_shape: Any, memory_shape: Any, hidden_shape: Any, cell_shape: Any
    ) -> None:
        width = memory_shape[-1]
        early = self.attention == "bahdanau"
        self.cell.build((None, x_shape[-1] + (width if early else self.units)))
        self.keys.build(memory_shape)
        self.answer.build((None, self.units + width))
        if early:
            self.query.build((None, self.units))
            self.score.build((None, None, self.units))

    def call(
        self, x: Any, memory: Any, hidden: Any, cell: Any, mask: Any = None
    ) -> Any:
        keys = self.keys(memory)
        begin = (hidden, cell, ops.zeros_like(hidden))

        def step(state: State, x: Any) -> tuple[State, State]:
            state = self.step(x, state, memory, keys, mask)
            return state, state

        _, (_, _, answers) = ops.scan(step, begin, ops.swapaxes(x, 0, 1))
        return ops.swapaxes(answers, 0, 1)  # (batch, steps, units)

    def step(self, x: Any, state: State, memory: Any, keys: Any, mask: Any) -> State:
        """One step: x (batch, features) -> hidden, cell and answer, (batch, units)."""
        hidden, cell, answer = state
        if self.attention == "bahdanau":
            seen = self.look(hidden, memory, keys, mask)
            x = ops.concatenate([x, seen], axis=-1)
            _, (hidden, cell) = self.cell(x, [hidden, cell])
        else:
            x = ops.concatenate([x, answer], axis=-1)
            _, (hidden, cell) = self.cell(x, [hidden, cell])
            seen = self.look(hidden, memory, keys, mask)
        return hidden, cell, self.answer(ops.concatenate([hidden, seen], axis=-1))

    def look(self, hidden: Any, memory: Any, keys: Any, mask: Any) -> Any:
        """The mean of the memory by the scores of its places: (batch, width)."""
        if self.attention == "bahdanau":
            scores = self.score(ops.tanh(self.query(hidden)[:, None] + keys))
        else:
            scores = ops.matmul(keys, hidden[..., None])  # (batch, time, 1)
        if mask is not None:
            scores = masked_fill(scores, mask)
        weights = ops.exp(scores - ops.logsumexp(scores, axis=1, keepdims=True))
        return ops.sum(weights * memory, axis=1)

    def compute_output_shape(
        self, x_shape: Any, memory_shape: Any, hidden_shape: Any, cell_shape: Any
    ) -> Any:
        return (*x_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        config = {"units": self.units, "attention": self.attention}
        return {**super().get_config(), **config}
