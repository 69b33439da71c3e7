"""The batches as Keras's ``fit`` takes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter_utils import (
    convert_to_tf_tensor_spec,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from kzoo import distribution as distributions
from kzoo.datasets import Dataset
from kzoo.datasets.loading import Prefetched
from kzoo.training.recipe import Recipe


class TrainingSequence(keras.utils.PyDataset):
    """The endless training batches, this process's rows of them."""

    def __init__(self, dataset: Dataset, recipe: Recipe, start_step: int = 0) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.batches = Prefetched(
            dataset.train_batches(
                recipe.batch_size,
                recipe.seed,
                start_step=start_step,
                shard=distributions.current().shard,
            )
        )

    def close(self) -> None:
        """Ends the threads that make batches ahead."""
        self.batches.close()

    @property
    def num_batches(self) -> None:
        return None  # endless

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        try:
            batch = self.batches[index]
        except Exception as error:
            self.failure = error
            raise
        return batch["inputs"], batch["labels"], batch["weights"]


@contextmanager
def training_batches(
    dataset: Dataset, recipe: Recipe, start_step: int = 0
) -> Iterator[TrainingSequence]:
    """The training batches, as long as they are needed.

    A batch that could not be made raises its own exception, which TensorFlow would put
    into one of its kind, traceback and all.
    """
    batches = TrainingSequence(dataset, recipe, start_step)
    try:
        yield batches
    except Exception as error:
        if batches.failure and type(error).__module__.startswith("tensorflow."):
            raise batches.failure from None
        raise
    finally:
        batches.close()


class VaryingLengths(PyDatasetAdapter):
    """Batches whose sequences differ in length from one to the next.

    On TensorFlow, Keras takes the shapes of the first two batches for those of all.
    """

    def get_tf_dataset(self) -> Any:
        def of_any_length(array: np.ndarray) -> Any:
            shape = [None, None, *array.shape[2:]][: array.ndim]
            return keras.KerasTensor(shape, dtype=str(array.dtype))

        specs = keras.tree.map_structure(of_any_length, self.py_dataset[0])
        self._output_signature = keras.tree.map_structure(
            convert_to_tf_tensor_spec, specs
        )
        return super().get_tf_dataset()
