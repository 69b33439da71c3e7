"""Scaling: each channel by a number that is learned, or all by one that is fixed."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("kzoo")
class LayerScale(keras.layers.Layer):
    """x * gamma by channel (Touvron et al. 2021, 2103.17239).

    Args:
        value: gamma at the start.
    """

    def __init__(self, value: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = value

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.value),
            name="gamma",
        )

    def call(self, x: Any) -> Any:
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "value": self.value}


@keras.saving.register_keras_serializable("kzoo")
class Scaled(keras.layers.Layer):
    """x * factor, a number; Keras's Rescaling asks for TensorFlow on any backend."""

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def layer_scale(x: Any, value: float, name: str) -> Any:
    """``x``, scaled by the layer ``name``; no layer where the value is 0."""
    return x if value == 0 else LayerScale(value, name=name)(x)
