"""From raw data to a model's input, and from its output back; numpy only.

A preprocessing is a frozen dataclass in plain JSON types. It is fitted on the training
split, stored beside the weights as ``preprocessing.json`` and applied to whatever comes
later, so that a model always sees what it was trained on.
"""

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.hparams import Declaration, checked, nearest, plain
from kzoo.preprocessing.images import resized_crop
from kzoo.preprocessing.text import Tokenizer, check_length, padded

# Pillow's, which checkpoints of other zoos name.
RESAMPLINGS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@dataclass(frozen=True)
class Preprocessing:
    """Scales inputs, and the targets of a regression.

    Attributes:
        input_mean, input_scale: a number, or one a column (the last axis): inputs
            become ``(x - mean) / scale`` in float32. Integer tokens are left alone
            where both are None.
        input_shape: the shape of one example after it, where that differs from before.
        target_mean, target_scale: the same for a regression's targets; None where
            labels are classes.
        classes: names of the classes, in the order of the logits.
        image_size: height and width that images are brought to first; None = as they
            are.
        crop_rate: share of a resampled image's side that is cut out of its middle.
        interpolation: how images are resampled, bilinear or bicubic.
        reversed_channels: colours go in last first: red, green, blue as BGR.
        white: what full brightness is in raw images; 255 in files.
        background: the colour that transparent image files are composited on.
        lengths: the numbers of steps, rising, to the least of which that fits a batch
            of sequences is padded. Few of them, so that few shapes are compiled.
        tokenizer: of texts; it lies beside preprocessing.json as tokenizer.json.
        truncate: texts of more tokens than the last of ``lengths`` are cut there; else
            they are refused.
        pairs: how texts ``first`` and ``second`` go in: ``separate``, under these
            names; ``joined``, as the tokens of one row; ``segments``, the same and
            ``segment_ids``.
        columns: names of a table's columns that go in, in their order; empty where the
            data had none.
    """

    input_mean: tuple[float, ...] | None = None
    input_scale: tuple[float, ...] | None = None
    input_shape: tuple[int, ...] | None = None
    target_mean: float | None = None
    target_scale: float | None = None
    classes: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    crop_rate: float = 1.0
    interpolation: str = "bilinear"
    reversed_channels: bool = False
    white: float = 255.0
    background: str = "white"
    lengths: tuple[int, ...] = ()
    tokenizer: Tokenizer | None = None
    truncate: bool = False
    pairs: str | None = None
    columns: tuple[str, ...] = ()

    def inputs(self, raw: Any) -> Any:
        """Raw examples (batch, ...), or a dict of such -> what the model takes."""
        if isinstance(raw, dict):
            if self.pairs in ("joined", "segments"):
                return self.joined(raw)
            return {name: self.inputs(array) for name, array in raw.items()}
        if self.tokenizer is not None and raw.dtype == object:
            return self.tokens(raw)
        if self.image_size is not None:
            raw = resized_crop(raw, self.image_size, self.crop_rate, self.interpolation)
        if self.reversed_channels:
            raw = raw[..., ::-1]
        if self.input_mean is None or self.input_scale is None:
            x = raw if raw.dtype == bool else raw.astype("int32")
        else:
            # In float64 where the data are: years in seconds have ten digits.
            precise = "float64" if raw.dtype == np.float64 else "float32"
            mean = np.asarray(self.input_mean, precise)
            scale = np.asarray(self.input_scale, precise)
            x = np.subtract(raw, mean, dtype=precise)
            x /= scale
            x = x.astype("float32", copy=False)
        if self.input_shape is not None:
            x = x.reshape(len(x), *self.input_shape)
        return x

    def tokens(self, texts: Any) -> np.ndarray:
        """Texts (batch,) -> token ids (batch, time), at one of ``lengths``.

        Raises:
            ValueError: a text is too long, and is not to be cut.
        """
        assert self.tokenizer is not None
        most = self.lengths[-1] if self.truncate else None
        ids = self.tokenizer.encode(texts, most)
        check_length(texts, ids, self.lengths[-1])
        return padded(ids, self.lengths, self.tokenizer.pad_token_id or 0)

    def joined(self, raw: dict[str, Any]) -> Any:
        """Texts ``first`` and ``second`` -> tokens (batch, time), and segment_ids.

        Raises:
            ValueError: a pair is too long, and is not to be cut.
        """
        assert self.tokenizer is not None
        most = self.lengths[-1] if self.truncate else None
        ids, segments = self.tokenizer.encode_pairs(raw["first"], raw["second"], most)
        check_length(raw["first"], ids, self.lengths[-1])
        tokens = padded(ids, self.lengths, self.tokenizer.pad_token_id or 0)
        if self.pairs == "joined":
            return tokens
        return {"tokens": tokens, "segment_ids": padded(segments, self.lengths)}

    def labels(self, raw: np.ndarray) -> np.ndarray:
        """Classes as int32, or targets in units of their spread as float32."""
        if self.target_mean is None or self.target_scale is None:
            return raw.astype("int32")
        return ((raw - self.target_mean) / self.target_scale).astype("float32")

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """A regression's outputs in the units of the raw targets."""
        if self.target_mean is None or self.target_scale is None:
            return outputs
        return outputs.astype("float64") * self.target_scale + self.target_mean

    def to_json(self) -> dict[str, Any]:
        """Everything but the tokenizer, which has a file of its own."""
        values = dataclasses.asdict(dataclasses.replace(self, tokenizer=None))
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name != "tokenizer"
        }

    @classmethod
    def from_json(
        cls, values: dict[str, Any], tokenizer: Tokenizer | None = None
    ) -> "Preprocessing":
        """What ``to_json`` described, with its tokenizer.

        Raises:
            ValueError: a key that there is not, or a value of another type.
        """
        hints = typing.get_type_hints(cls)
        fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "tokenizer"}
        for name in values:
            if name not in fields:
                raise ValueError(
                    f"preprocessing has no {name!r}{nearest(name, fields)}"
                )
        read: dict[str, Any] = {
            name: checked(
                Declaration(name, hints[name], fields[name].default, ""), value
            )
            for name, value in values.items()
        }
        found = cls(**read, tokenizer=tokenizer)
        found.check()
        return found

    def check(self) -> None:
        """Raises a ``ValueError`` for values that no data could be prepared by."""
        choices = {
            "interpolation": RESAMPLINGS,
            "pairs": (None, "separate", "joined", "segments"),
        }
        for name, legal in choices.items():
            if getattr(self, name) not in legal:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not one of "
                    f"{', '.join(map(repr, legal))}"
                )
        steps = self.lengths
        legal_values = {
            "crop_rate": 0 < self.crop_rate <= 1,
            "white": self.white > 0,
            "image_size": self.image_size is None or min(self.image_size) > 0,
            "input_scale": self.input_scale is None or all(self.input_scale),
            "target_scale": self.target_scale is None or self.target_scale != 0,
            "lengths": all(a < b for a, b in zip((0, *steps), steps, strict=False)),
        }
        for name, is_legal in legal_values.items():
            if not is_legal:
                value = plain(getattr(self, name))
                raise ValueError(f"{name}={value!r} is not a size that there is")
        mean, scale = self.input_mean, self.input_scale
        if mean is None or scale is None:
            return
        if len(mean) != len(scale) and min(len(mean), len(scale)) != 1:
            raise ValueError(
                f"input_mean has {len(mean)} numbers, input_scale {len(scale)}"
            )


def standardized(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column; a constant column keeps scale 1."""
    columns = x.reshape(-1, x.shape[-1]).astype("float64")
    scale = columns.std(axis=0)
    rounding = 1e-12 * np.abs(columns).max(axis=0)  # what is left of a constant's
    scale = np.where(scale > rounding, scale, 1.0)
    return tuple(columns.mean(axis=0).tolist()), tuple(scale.tolist())


def imagenet(
    size: int = 224,
    crop_rate: float = 0.875,
    interpolation: str = "bilinear",
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    spread: tuple[float, ...] = (0.229, 0.224, 0.225),
) -> Preprocessing:
    """For pixels from 0 to 255, by the mean and spread of ImageNet's, from 0 to 1."""
    return Preprocessing(
        input_mean=tuple(255 * value for value in mean),
        input_scale=tuple(255 * value for value in spread),
        image_size=(size, size),
        crop_rate=crop_rate,
        interpolation=interpolation,
    )
