"""The sets that come with the packages kzoo needs anyway; no download."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.splits import hashed_splits, stratified_splits
from kzoo.hparams import HParams, hp
from kzoo.preprocessing import Preprocessing, standardized


@dataclass(frozen=True, kw_only=True)
class Options(HParams):
    """What every set takes."""

    noun: ClassVar[str] = "option"

    seed: int = hp(0, "of the splits", min=0, max=2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class DigitsOptions(Options):
    """Options of ``digits``."""

    as_sequence: bool = hp(False, "8 steps of 8 pixels instead of an image")


@dataclass(frozen=True, kw_only=True)
class DiabetesOptions(Options):
    """Options of ``diabetes``."""


@dataclass(frozen=True, kw_only=True)
class XorOptions(Options):
    """Options of ``xor``."""


def digits(options: DigitsOptions) -> Dataset:
    """1,797 scanned digits of 8x8 pixels in 17 greys (UCI, by scikit-learn).

    Split 70/10/20, stratified, by the seed.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    images = source.images[..., None].astype("uint8")  # (1797, 8, 8, 1), 0 to 16
    splits = stratified_splits(images, source.target.astype("int32"), options.seed)
    fixed = {"num_classes": 10}
    if options.as_sequence:
        fixed |= {"vocab_size": 0, "num_features": 8, "sequence_length": 8}
    else:
        fixed |= {"image_size": 8, "channels": 1}
    classes = tuple(str(digit) for digit in range(10))
    return Dataset(
        name="digits",
        options=options.to_json(),
        splits=splits,
        spec=Spec(
            task="sequence-classification"
            if options.as_sequence
            else "image-classification",
            inputs="features" if options.as_sequence else "images",
            hparams=fixed,
            classes=classes,
            fingerprint=fingerprint(splits),
        ),
        preprocessing=Preprocessing(
            input_mean=(0.0,),
            input_scale=(16.0,),
            input_shape=(8, 8) if options.as_sequence else None,
            white=16.0,
            classes=classes,
        ),
    )


def diabetes(options: DiabetesOptions) -> Dataset:
    """442 patients, 10 measurements, progression after a year (by scikit-learn).

    Efron et al., "Least angle regression", 2004. Split by a hash of each row.
    """
    from sklearn.datasets import load_diabetes

    source = load_diabetes(scaled=False)
    inputs = source.data.astype("float32")
    labels = source.target.astype("float32")
    keys = [row.tobytes() for row in inputs]
    splits = hashed_splits(inputs, labels, keys, options.seed)
    return tabular_regression("diabetes", options, splits)


def xor(options: XorOptions) -> Dataset:
    """The four points; every split is all of them."""
    inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    everything = Split(inputs, np.array([0, 1, 1, 0], "int32"))
    splits = dict.fromkeys(("train", "validation", "test"), everything)
    return Dataset(
        name="xor",
        options=options.to_json(),
        splits=splits,
        spec=Spec(
            task="tabular-classification",
            inputs="vectors",
            hparams={"num_features": 2, "image_size": None, "num_classes": 1},
            classes=("0", "1"),
            fingerprint=fingerprint(splits),
        ),
        # Centred: from 0 and 1, small networks end in local minima more often.
        preprocessing=Preprocessing((0.5,), (0.5,), classes=("0", "1")),
    )


def tabular_regression(
    name: str, options: HParams, splits: Mapping[str, Split]
) -> Dataset:
    """Rows of numbers with a number to predict, both scaled by the training split."""
    train = splits["train"]
    mean, scale = standardized(train.inputs)
    target_mean, target_scale = standardized(train.labels[:, None])
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=splits,
        spec=Spec(
            task="regression",
            inputs="vectors",
            hparams={
                "num_features": train.inputs.shape[-1],
                "image_size": None,
                "num_classes": 1,
            },
            classes=(),
            fingerprint=fingerprint(splits),
        ),
        preprocessing=Preprocessing(
            input_mean=mean,
            input_scale=scale,
            target_mean=target_mean[0],
            target_scale=target_scale[0],
        ),
    )
