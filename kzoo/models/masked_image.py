"""A vision transformer learns to draw the patches that it was not shown.

He et al., "Masked autoencoders are scalable vision learners", 2021 (2111.06377). Its
blocks read the visible patches alone, a quarter of an image; a light decoder reads
those and, in place of each hidden one, a learned token. A trainer: it says of each
image what it costs, ``.encoder`` is what is kept, and the decoder is thrown away.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp, identity
from kzoo.layers.convolution import small_normal
from kzoo.layers.encoder import encoder_block
from kzoo.layers.patches import GridPositions, images_of, patches_of
from kzoo.losses.masked import masked_patches, picked
from kzoo.models.family import Family, check_heads, height_and_width
from kzoo.models.vit import EPSILON, apart


@dataclass(frozen=True, kw_only=True)
class MaskedImageHParams(HParams):
    """The decoder."""

    noun = "option"

    decoder_layers: int = hp(1, "encoder blocks of the decoder", min=1, max=64)
    decoder_dim: int = hp(64, "width of a token in the decoder", min=1, max=65536)
    decoder_heads: int = hp(4, "attention heads; they divide decoder_dim", min=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.decoder_dim, self.decoder_heads)


@dataclass(frozen=True)
class DecoderSizes:
    """What the decoder's blocks are made from."""

    num_heads: int
    mlp_dim: int
    activation: str = "gelu"
    dropout_rate: float = 0.0
    attention_dropout_rate: float = 0.0


def decoder(
    hparams: MaskedImageHParams, grid: tuple[int, int], leading: int, pixels: int
) -> keras.Model:
    """(batch, leading + patches, decoder_dim) -> (batch, patches, pixels)."""
    time = leading + grid[0] * grid[1]
    inputs = keras.Input((time, hparams.decoder_dim), name="all_tokens")
    # Learned ones, where the paper has fixed ones: on small grids those of neighbours
    # are nearly the same.
    x = GridPositions(grid, leading, name="decoder_positions")(inputs)
    sizes = DecoderSizes(hparams.decoder_heads, 4 * hparams.decoder_dim)
    for i in range(hparams.decoder_layers):
        x = encoder_block(
            x, None, sizes, f"decoder_block_{i}", norm="pre", epsilon=EPSILON
        )
    x = keras.layers.LayerNormalization(epsilon=EPSILON, name="decoder_norm")(x)
    x = keras.layers.Cropping1D((leading, 0), name="decoder_patches")(x)
    x = keras.layers.Dense(pixels, dtype="float32", name="decoder_out")(x)
    return keras.Model(inputs, x, name="decoder")


@keras.saving.register_keras_serializable("kzoo")
class MaskedImage(keras.Model):
    """``inputs, targets, visible, masked`` -> what each image costs (batch,).

    Images are (batch, height, width, channels), and patches are numbered row by row:
    (batch, some) of those that the encoder sees, and of those that it does not.
    """

    def __init__(self, hparams: MaskedImageHParams, encoder: keras.Model) -> None:
        super().__init__(name="masked_image")
        self.hparams = hparams
        self._kept = _Untracked(encoder)  # its layers are tracked by the two parts
        self.embedding, self.blocks = apart(encoder)
        known = identity(encoder).hparams
        self.patch_size = known["patch_size"]
        height, width = height_and_width(
            size if isinstance(size := known["image_size"], int) else tuple(size)
        )
        self.grid = height // self.patch_size, width // self.patch_size
        time, hidden_dim = self.embedding.output_shape[1:]
        self.leading = time - self.grid[0] * self.grid[1]
        pixels = self.patch_size**2 * known["channels"]
        self.narrowed = keras.layers.Dense(hparams.decoder_dim, name="decoder_in")
        self.narrowed.build((None, None, hidden_dim))
        self.mask_token = self.add_weight(
            shape=(hparams.decoder_dim,), initializer=small_normal(), name="mask_token"
        )
        self.decoder = decoder(hparams, self.grid, self.leading, pixels)
        self.built = True

    @property
    def encoder(self) -> keras.Model:
        """The model that learns."""
        return self._kept.encoder

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        patches = patches_of(inputs["targets"], self.patch_size)
        predicted = self.predicted(inputs, training)
        return masked_patches(patches, predicted, inputs["masked"])

    def predicted(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """The normalised pixels of every patch: (batch, patches, pixels)."""
        visible, masked = inputs["visible"], inputs["masked"]
        x = self.embedding(inputs["inputs"], training=training)
        first, x = x[:, : self.leading], picked(x[:, self.leading :], visible)
        x = self.blocks(ops.concatenate([first, x], axis=1), training=training)
        x = self.narrowed(x)  # (batch, leading + visible, decoder_dim)
        first, x = x[:, : self.leading], x[:, self.leading :]
        batch, _, dim = ops.shape(x)
        token = ops.cast(self.mask_token, x.dtype)
        hidden = ops.broadcast_to(token, (batch, masked.shape[1], dim))
        order = ops.argsort(ops.concatenate([visible, masked], axis=1), axis=1)
        x = picked(ops.concatenate([x, hidden], axis=1), order)  # each at its place
        return self.decoder(ops.concatenate([first, x], axis=1), training=training)

    def reconstructed(self, inputs: dict[str, Any]) -> Any:
        """Images as shown, with what is predicted of the hidden patches.

        The brightness and the contrast of each, which nobody learns, are the true ones.
        """
        patches = ops.cast(patches_of(inputs["targets"], self.patch_size), "float32")
        mean = ops.mean(patches, axis=-1, keepdims=True)
        spread = ops.std(patches, axis=-1, keepdims=True)
        made = self.predicted(inputs) * spread + mean
        numbers = ops.arange(patches.shape[1])[:, None]
        shown = ops.any(ops.equal(numbers, inputs["visible"][:, None]), axis=-1)
        x = ops.where(shown[..., None], patches, made)
        return images_of(x, self.grid, self.patch_size)


@dataclass(frozen=True)
class _Untracked:
    """The encoder with its pooling."""

    encoder: keras.Model


def build(hparams: MaskedImageHParams, encoder: keras.Model) -> keras.Model:
    """``{"inputs", "targets", "visible", "masked"}`` -> (batch,)."""
    return MaskedImage(hparams, encoder)


VARIANTS = {"masked_image": MaskedImageHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=MaskedImageHParams(decoder_dim=8, decoder_heads=2),
    tasks=("pretraining",),
    paper="2111.06377",
    parts=("encoder",),
)
