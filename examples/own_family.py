"""A family of one's own, of plain Keras layers; nothing in kzoo mentions it.

    kzoo train mobilenet_gated --dataset digits --plugin examples/own_family.py
    kzoo describe mobilenet_gated --plugin examples/own_family.py

A separable convolution brings the images to three channels, the first blocks of
``keras.applications.MobileNet`` follow as a nested model, and a layer written here
weighs their channels.
"""

from dataclasses import dataclass

import keras

from kzoo.extend import Family, ImageHParams, hp, image_input, logits_head, register


@dataclass(frozen=True, kw_only=True)
class GatedHParams(ImageHParams):
    """Each field is declared once; checks, ``--set`` and sweeps come from it."""

    num_blocks: int = hp(5, "depthwise blocks of MobileNet", min=1, max=13, tune=(2, 5))
    alpha: float = hp(0.25, "width of MobileNet", choices=(0.25, 0.5, 0.75, 1.0))
    dropout_rate: float = hp(0.1, "dropout before the head", min=0.0, max=0.9)


class ChannelGate(keras.layers.Layer):
    """Weighs each channel by a sigmoid of all channels' means."""

    def build(self, input_shape):
        channels = input_shape[-1]
        self.kernel = self.add_weight(shape=(channels, channels), name="kernel")

    def call(self, x):
        means = keras.ops.mean(x, axis=(1, 2), keepdims=True)
        return x * keras.ops.sigmoid(keras.ops.matmul(means, self.kernel))


def build(hparams):
    """Images (batch, height, width, channels) -> logits (batch, num_classes)."""
    inputs = image_input(hparams)
    x = keras.layers.SeparableConv2D(3, 3, padding="same", name="stem")(inputs)
    whole = keras.applications.MobileNet(
        input_shape=(None, None, 3),
        alpha=hparams.alpha,
        include_top=False,
        weights=None,
    )
    last = whole.get_layer(f"conv_pw_{hparams.num_blocks}_relu").output
    x = keras.Model(whole.input, last, name="stage_0")(x)
    x = ChannelGate(name="stage_1")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, channels)
    x = keras.layers.Dropout(hparams.dropout_rate)(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


FAMILY = Family(
    build,
    variants={"mobilenet_gated": GatedHParams()},
    smallest=GatedHParams(num_blocks=1),
    tasks=("image-classification",),
    paper="this example",
)
register(FAMILY)
