"""The rules that a table of names is made of."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kzoo.preprocessing import Preprocessing, imagenet


@dataclass(frozen=True)
class Rule:
    """The names of one kind of layer, or of one weight.

    Attributes:
        layer: kzoo's name of the layer, a template; or a weight's whole path, such as
            ``class_token/token``.
        source: the source's module; of a weight, its tensor.
        part: of weights that the source keeps in one tensor, side by side along what
            comes out: the number of this one.
        axes: of the kernel, or of the weight that is named: which of kzoo's axes each
            of the source's is, None for one of size 1; by default as the framework
            lays a kernel out, and as kzoo does all else.
        grid: of a dense layer on a flattened image, the image's height and width, or
            the hyper-parameter that is; PyTorch flattens channels first.
        convolution: the source holds this dense layer as a convolution.
        bias_into: of a convolution that has a bias in the source and none in kzoo,
            kzoo's normalisation after it: its running mean takes the bias up.
        when: hyper-parameters of the models that the rule is for.
    """

    layer: str
    source: str
    part: int | None = None
    axes: tuple[int | None, ...] = ()
    grid: int | str = 1
    convolution: bool = False
    bias_into: str = ""
    when: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Buffer:
    """A tensor of the source's state dict that is no weight: it follows from a layer.

    Attributes:
        layer: kzoo's name of the layer, a template.
        source: the source's tensor.
        value: the layer -> what the source holds there.
    """

    layer: str
    source: str
    value: Callable[[Any], np.ndarray]


def _nothing(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Configuration:
    """What the config.json of a source's checkpoints says of the network.

    Attributes:
        names: its key -> kzoo's hyper-parameter of the same value.
        defaults: what the source takes where the file is silent.
        fixed: what must stand there for kzoo to have the network; the rest is refused.
        read: all entries -> further hyper-parameters, such as the head's.
        write: all hyper-parameters -> further entries.
    """

    names: Mapping[str, str]
    defaults: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _nothing
    write: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _nothing

    def hparams(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """What a checkpoint says, as hyper-parameters of kzoo.

        Raises:
            ValueError: another network than kzoo's; says which entry.
        """
        for key, ours in self.fixed.items():
            if entries.get(key, ours) != ours:
                raise ValueError(
                    f"config.json says {key}={entries[key]!r}; kzoo has {ours!r} alone"
                )
        known = {**self.defaults, **entries}
        same = {ours: known[key] for key, ours in self.names.items() if key in known}
        return {**same, **self.read(known)}

    def entries(self, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """The other way: what config.json says of a model of kzoo's."""
        same = {key: hparams[ours] for key, ours in self.names.items()}
        return {**self.fixed, **same, **self.write(hparams)}


@dataclass(frozen=True)
class Table:
    """How one source writes one family.

    Attributes:
        rules: the first that fits a layer names it.
        base: the module that holds all but the head; the weights of a model without
            one stand at the top.
        configuration: how its config.json says the sizes.
        framework: torch or keras: how a layer's weights are called and laid out.
        hparams: what the source's network has other than kzoo's variant.
        aside: regular expressions of the source's tensors that kzoo's model may lack,
            such as auxiliary heads; told, not refused.
        optional: regular expressions of tensors that a file may lack; kzoo's weights
            stay as they were drawn, which is told.
        copies: the source's second name of a tensor -> the first, as of tied weights.
        buffers: what its state dict holds beside weights.
        renamed: pairs for ``re.sub`` that bring older spellings of the source's names
            up to date.
        numbered: layers that Keras names by a number, counted on from whatever stood
            before in the same process; here the first has none.
        ones: regular expressions of factors that kzoo has and the source has not: one
            here, and left out there as long as they are.
        preprocessing: what the source's networks expect, unless the weights say more;
            the image's size is that of kzoo's variant.
        preprocessing_of: the same by the hyper-parameter ``design``, where designs
            differ.
    """

    rules: tuple[Rule, ...]
    base: str = ""
    configuration: Configuration | None = None
    framework: str = "torch"
    hparams: Mapping[str, Any] = field(default_factory=dict)
    aside: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    buffers: tuple[Buffer, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    numbered: tuple[str, ...] = ()
    ones: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=imagenet)
    preprocessing_of: Mapping[str, Preprocessing] = field(default_factory=dict)

    def expected(self, hparams: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing of a model of these hyper-parameters."""
        design = hparams.get("design")
        return self.preprocessing_of.get(str(design), self.preprocessing)

    def renumbered(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays, layers that are only numbered counted from the first."""
        found = {}
        for stem in self.numbered:
            own = re.compile(rf"{stem}(?:_(\d+))?\.(.*)")
            numbers = {
                name: (int(match[1] or 0), match[2])
                for name in arrays
                if (match := own.fullmatch(name))
            }
            first = min((number for number, _ in numbers.values()), default=0)
            for name, (number, kind) in numbers.items():
                end = f"_{number - first}" if number > first else ""
                found[name] = f"{stem}{end}.{kind}"
        return {found.get(name, name): array for name, array in arrays.items()}

    def today(self, name: str) -> str:
        """A tensor's name without its older spellings."""
        for old, new in self.renamed:
            name = re.sub(old, new, name)
        return name

    def written(self, name: str, hparams: Mapping[str, Any]) -> str:
        """A tensor's name in the state dict of a model with or without a head."""
        if self.base and hparams.get("num_classes") == 0:
            return name.removeprefix(f"{self.base}.")
        return name


# Of the networks that keras.applications has from Caffe: blue, green, red from 0 to
# 255, less their mean.
KERAS_CAFFE = Preprocessing(
    input_mean=(103.939, 116.779, 123.68),
    input_scale=(1.0, 1.0, 1.0),
    image_size=(224, 224),
    crop_rate=0.875,
    reversed_channels=True,
)
