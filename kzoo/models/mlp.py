"""Multi-layer perceptron of vectors, or of images read as vectors.

Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors",
Nature 323, 1986. ``mlp_xor`` is the network of that story: two inputs, four hidden
sigmoid units and one logit, enough for the function that no single unit can draw.
"""

from dataclasses import dataclass

import keras

from kzoo.hparams import hp
from kzoo.models.family import (
    Family,
    ImageHParams,
    VectorHParams,
    height_and_width,
    logits_head,
    vector_input,
)


@dataclass(frozen=True, kw_only=True)
class MLPHParams(VectorHParams, ImageHParams):
    """Vectors (batch, num_features), or images where ``image_size`` is given."""

    num_features: int = hp(8, "numbers an example, where no images come in", min=1)
    units: tuple[int, ...] = hp(
        (128, 128),
        "width of each hidden layer; a sweep keeps them alike",
        min=1,
        log=True,
        tune=(16, 512),
    )
    activation: str = hp(
        "relu",
        "of the hidden layers",
        choices=("relu", "gelu", "silu", "tanh", "sigmoid"),
        tune=("relu", "gelu", "silu"),
    )
    initial_scale: float = hp(
        1.0, "spread of the initial kernels, in units of Glorot's", min=0.01, max=100
    )
    dropout_rate: float = hp(
        0.0, "after each hidden layer", min=0.0, max=0.9, tune=(0.0, 0.5)
    )


def build(hparams: MLPHParams) -> keras.Model:
    """(batch, num_features) or (batch, height, width, channels) -> logits."""
    if hparams.image_size is None:
        inputs = x = vector_input(hparams)
    else:
        size = height_and_width(hparams.image_size)
        inputs = keras.Input((*size, hparams.channels), name="images")
        x = keras.layers.Flatten(name="flatten")(inputs)
    # Variance goes with the square of the spread.
    initializer = {"scale": hparams.initial_scale**2, "mode": "fan_avg"}
    for i, units in enumerate(hparams.units):
        x = keras.layers.Dense(
            units,
            activation=hparams.activation,
            kernel_initializer=keras.initializers.VarianceScaling(
                **initializer, distribution="uniform"
            ),
            name=f"block_{i}",
        )(x)
        x = keras.layers.Dropout(hparams.dropout_rate, name=f"block_{i}_dropout")(x)
    x = keras.layers.Identity(name="pooled")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


VARIANTS = {
    "mlp": MLPHParams(),
    "mlp_xor": MLPHParams(
        num_features=2, units=(4,), activation="sigmoid", num_classes=1
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=MLPHParams(num_features=4, units=(8,), num_classes=3),
    tasks=("tabular-classification", "regression", "image-classification"),
    paper="10.1038/323533a0",
    layout={r"block_\d+/kernel": (None, "model"), r"block_\d+/bias": ("model",)},
)
