"""What a distribution is, and the one that runs on a single device.

Training asks for the one whose scope it runs in, :func:`current`, and for nothing else:
which rows of a batch are this process's, what a model says of a batch, what a variable
holds. The others extend the single device by what many replicas need.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

Layout = Mapping[str, tuple[str | None, ...]]


@dataclass(frozen=True, eq=False)
class Distribution:
    """How the work is shared.

    Attributes:
        kind: what :func:`resolve` would give the same for.
        num_replicas: shares that a batch is cut into.
        shard: this process's rank and the number of processes.
        why: what it runs on, in words.
    """

    kind: str = "none"
    num_replicas: int = 1
    shard: tuple[int, int] = (0, 1)
    why: str = "one device"

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.shard[0] == 0

    def check(self, batch_size: int, batch_norm: str) -> None:
        """Raises a ``ValueError`` where a recipe cannot be shared like this."""
        if batch_size % self.num_replicas:
            near = max(1, round(batch_size / self.num_replicas)) * self.num_replicas
            raise ValueError(
                f"batch_size={batch_size} is of all replicas together, and the "
                f"{self.num_replicas} of {self.kind!r} do not divide it; the nearest "
                f"that they divide is {near}"
            )

    @contextmanager
    def scope(self, layout: Layout | None = None) -> Iterator[None]:
        """Variables made inside live where this distribution wants them.

        Args:
            layout: of the model's variables, for ``model_parallel`` alone; see
                ``kzoo.distribution.layouts``.
        """
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def adapt(self, model: Any, batch_norm: str) -> None:
        """Makes a compiled model train as it would on one device."""

    def fed(self, batches: Any) -> Any:
        """What ``fit`` takes of an endless ``PyDataset`` of this process's rows."""
        return batches

    def outputs(self, model: Any, inputs: Any) -> np.ndarray:
        """A model's outputs for a batch.

        Args:
            model: a functional model of one output.
            inputs: this process's rows of the batch, as many on each process.

        Returns:
            The outputs of the whole batch, in its order, on every process.
        """
        return np.asarray(model.predict_on_batch(inputs))

    @contextmanager
    def settled(self, model: Any) -> Iterator[None]:
        """The model with one set of weights, where its replicas hold different ones."""
        yield

    def value(self, variable: Any) -> np.ndarray:
        """A copy of a variable's value: all of it, and the first replica's."""
        return np.array(self.read(variable))

    def read(self, variable: Any) -> np.ndarray:
        """All that a variable holds, as :meth:`write` takes it; all processes call it.

        Where replicas hold values of their own, it has one row a replica. It may be the
        memory of the variable itself, which the next step changes.
        """
        import keras

        value = keras.ops.stop_gradient(variable.value)
        if keras.backend.backend() == "torch":
            return keras.ops.convert_to_numpy(value)
        return np.asarray(value)  # copies nothing, where convert_to_numpy would

    def shape(self, variable: Any) -> tuple[int, ...]:
        """The shape of what :meth:`read` gives."""
        return tuple(variable.shape)

    def write(self, variable: Any, array: np.ndarray) -> None:
        """Puts back what :meth:`read` gave."""
        variable.assign(array)

    def gather(self, array: np.ndarray) -> np.ndarray:
        """Every process's array: (processes, ...). All processes call it together."""
        return array[None]

    def gathered(self, x: Any) -> tuple[Any, Any]:
        """Inside a step: a tensor's rows of all replicas, and where our own begin."""
        return x, 0

    def from_chief(self, decide: Callable[[], str]) -> str:
        """What the chief decides, on every process; or its error, on every process."""
        if self.shard[1] == 1:
            return decide()
        told, error = "", None
        if self.is_chief:
            try:
                told = "=" + decide()
            except (ValueError, OSError) as raised:
                told, error = f"!{raised}", raised
        letters = np.frombuffer(told.encode(), "uint8").astype("int32")
        length = int(self.gather(np.array(len(letters), "int32"))[0])
        letters = np.resize(letters, length) if self.is_chief else np.zeros(length)
        told = bytes(self.gather(letters.astype("int32"))[0].astype("uint8")).decode()
        if error is not None:
            raise error
        if told.startswith("!"):
            raise ValueError(told[1:])
        return told[1:]


NONE = Distribution()
_CURRENT: ContextVar[Distribution] = ContextVar("distribution", default=NONE)


def current() -> Distribution:
    """The distribution whose scope this is; one device outside of any."""
    return _CURRENT.get()
