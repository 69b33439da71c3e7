"""The zoo on one screen, and the one call that builds any of it."""

import difflib
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
from keras.src.backend.common import global_state

from kzoo import hparams, index, plugins
from kzoo.hparams import Identity, identity
from kzoo.initial_weights import drawn_in_few_sizes
from kzoo.keras_files import keep_identity, read_identities
from kzoo.macs import counted, input_shapes, shapes_only
from kzoo.macs.counting import NotCountedError
from kzoo.models import (
    alexnet,
    autoencoder,
    autoencoding,
    bert,
    cnn,
    contrastive,
    convnext,
    deit,
    densenet,
    distilbert,
    distiller,
    efficientnet,
    gpt2,
    inception,
    lenet,
    masked_image,
    mlp,
    mlp_mixer,
    mobilenet,
    reconstruction,
    recurrent,
    recurrent_language_model,
    replaced_token,
    resnet,
    roberta,
    self_training,
    seq2seq_lstm,
    shufflenet_v2,
    squeezenet,
    swin,
    t5,
    text_cnn,
    token_prediction,
    transformer,
    transformer_seq2seq,
    two_stream_lstm,
    variational_autoencoder,
    vgg,
    vit,
    wide_resnet,
    word2vec,
)
from kzoo.models.family import Family, any_image_size

FAMILIES: tuple[Family, ...] = (
    mlp.FAMILY,
    cnn.FAMILY,
    cnn.FAMILY_1D,
    *recurrent.FAMILIES,
    transformer.FAMILY,
    text_cnn.FAMILY,
    two_stream_lstm.FAMILY,
    word2vec.FAMILY,
    bert.FAMILY,
    distilbert.FAMILY,
    roberta.FAMILY,
    lenet.FAMILY,
    alexnet.FAMILY,
    vgg.FAMILY,
    *inception.FAMILIES,
    resnet.FAMILY,
    wide_resnet.FAMILY,
    densenet.FAMILY,
    squeezenet.FAMILY,
    mobilenet.FAMILY,
    shufflenet_v2.FAMILY,
    efficientnet.FAMILY,
    gpt2.FAMILY,
    recurrent_language_model.FAMILY,
    transformer_seq2seq.FAMILY,
    seq2seq_lstm.FAMILY,
    t5.FAMILY,
    convnext.FAMILY,
    vit.FAMILY,
    deit.FAMILY,
    swin.FAMILY,
    mlp_mixer.FAMILY,
    autoencoder.FAMILY,
    variational_autoencoder.FAMILY,
)
# Models that train others: no architectures, so they have no line in the index.
TRAINERS: tuple[Family, ...] = (
    distiller.FAMILY,
    contrastive.FAMILY,
    reconstruction.FAMILY,
    token_prediction.FAMILY,
    masked_image.FAMILY,
    replaced_token.FAMILY,
    self_training.FAMILY,
    autoencoding.FAMILY,
)

read_identities()

_by_name: dict[str, Family] = {
    name: family for family in (*FAMILIES, *TRAINERS) for name in family.variants
}


def find_family(name: str) -> Family:
    """The family that has this model.

    Raises:
        ValueError: an unknown name, with the nearest.
    """
    if not is_registered(name):
        near = difflib.get_close_matches(name, _by_name, n=1)
        # A list of architectures is what helps; trainers are named where one is near.
        raise ValueError(index.unknown_model(name, near or index.entries()))
    return _by_name[name]


def is_registered(name: str) -> bool:
    """Whether there is a model of this name, in kzoo or in a plug-in."""
    if name not in _by_name:
        plugins.load()
    return name in _by_name


def build_model(name: str, /, **values: Any) -> keras.Model:
    """Builds a model of the zoo.

    Weights are drawn anew, by the seed of ``keras.utils.set_random_seed``.

    Args:
        name: one of ``kzoo.list_models()``.
        **values: hyper-parameters to change from the variant's, see
            ``kzoo.describe(name)``; and the parts of a family that wraps other models,
            each a ``keras.Model``, a registry name or, where several may be, a list.

    Returns:
        A functional ``keras.Model`` that gives float32 logits (batch, num_classes), or
        pooled features where ``num_classes=0``. ``model.kzoo`` is its identity. A
        convolutional model takes images of any size, unless ``image_size`` is given.

    Raises:
        ValueError: an unknown name or hyper-parameter, or a value that is not legal.

    Example:
        >>> import kzoo
        >>> model = kzoo.build_model("cnn", channels=1, num_classes=10)
        >>> model.input_shape, model.output_shape
        ((None, None, None, 1), (None, 10))
        >>> kzoo.build_model("cnn", image_size=32).input_shape
        (None, 32, 32, 3)
    """
    family = find_family(name)
    parts = {part: _part(name, part, values.pop(part, None)) for part in family.parts}
    chosen = hparams.replace(family.variants[name], name, values)
    try:
        plain = _names_from_zero() if plugins.origin_of(name) else nullcontext()
        size = any_image_size(not _asks_for_size(name, values))
        with plain, size, drawn_in_few_sizes():
            model = family.build(chosen, **parts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    model.name = name
    model.kzoo = Identity(
        name,
        chosen.to_json(),
        {part: _part_identity(inner) for part, inner in parts.items()},
    )
    keep_identity(model)
    return model


def _asks_for_size(name: str, values: Mapping[str, Any]) -> bool:
    """Whether the caller wants images of one size, not the variant's published one.

    A stored identity gives all hyper-parameters, asked for or not: there the published
    size leaves the input open again.
    """
    variant = find_family(name).variants[name]
    if hparams.declarations(type(variant)).keys() <= values.keys():
        return hparams.plain(values.get("image_size")) != hparams.plain(
            getattr(variant, "image_size", None)
        )
    return "image_size" in values


@contextmanager
def _names_from_zero() -> Iterator[None]:
    """Layers without a name are ``dense``, ``dense_1``, whatever was built before.

    So weights have the same paths each time in a family of plain Keras layers.
    """
    counters = "object_name_uids"
    before = global_state.get_global_attribute(counters)
    global_state.set_global_attribute(counters, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(counters, before)


def _part(name: str, part: str, value: Any) -> Any:
    if isinstance(value, list | tuple) and value:
        return [_part(name, part, one) for one in value]
    if isinstance(value, str):
        return build_model(value)
    if isinstance(value, keras.Model):
        return value
    raise ValueError(
        f"{name} needs {part}=, a keras.Model or the name of a model; got {value!r}"
    )


def _part_identity(part: Any) -> dict[str, Any]:
    """The identity of a part; the name alone of a model that kzoo did not build."""
    if isinstance(part, list):
        return {"together": [_part_identity(one) for one in part]}
    found = getattr(part, "kzoo", None)
    return found.to_json() if found is not None else {"name": part.name}


def register(family: Family) -> Family:
    """Adds a family of the caller's own to the zoo, for this process.

    Raises:
        ValueError: one of its names is taken.

    Example:
        >>> import kzoo
        >>> from kzoo.models import mlp
        >>> from kzoo.models.family import Family, any_image_size
        >>> wide = mlp.MLPHParams(units=(1024,))
        >>> family = Family(
        ...     mlp.build, {"mlp_wide": wide}, smallest=wide, tasks=mlp.FAMILY.tasks,
        ...     paper="mine", name="mlp_wide")
        >>> _ = kzoo.register(family)
        >>> kzoo.build_model("mlp_wide").count_params()
        19466
    """
    for name in family.variants:
        if name in _by_name:
            origin = plugins.origin_of(name)
            whose = f", of {plugins.in_words(origin)}" if origin else ""
            raise ValueError(f"there is a model {name!r} already{whose}")
    _by_name.update(dict.fromkeys(family.variants, family))
    plugins.record(family.variants, sys._getframe(1).f_globals)
    try:
        entries = [index_entry(name) for name in family.variants]
    except Exception:
        for name in family.variants:  # all of its names, or none
            del _by_name[name]
        plugins.forget(family.variants)
        raise
    for entry in entries:
        origin = plugins.origin_of(entry["name"])
        index.add({**entry, "plugin": dict(origin or {})})
    return family


def index_entry(name: str, /, **values: Any) -> dict[str, Any]:
    """The model's line of ``models/index.json``, derived anew."""
    family = find_family(name)
    chosen = hparams.replace(family.variants[name], name, values)
    with shapes_only():
        model = build_model(name, **values)
        _check_paths(model)
        try:
            known: dict[str, Any] = {"macs": counted(model)}
        except NotCountedError as error:
            known = {"macs": None, "macs_unknown": error.layer}
    return {
        "name": name,
        "family": family.name,
        "tasks": list(family.tasks),
        "trainable_parameters": trainable_parameters(model),
        **known,
        "macs_input": input_shapes(model),
        "paper": family.paper_of(name),
        "hparams": [
            entry.to_json() | {"default": hparams.plain(getattr(chosen, entry.name))}
            for entry in hparams.declarations(type(chosen)).values()
        ],
    }


def _check_paths(model: keras.Model) -> None:
    """Raises a ``ValueError`` where two weights share the path they are saved by."""
    paths = [weight.path for weight in model.weights]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"{model.name} has several weights {twice[0]!r}, which a file would hold "
            "once: give the layers, or the models that they are nested in, a name each"
        )


def trainable_parameters(model: keras.Model) -> int:
    """Weights that training moves, as papers count them: no BatchNorm statistics."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def replace_head(model: keras.Model, num_classes: int) -> keras.Model:
    """The model with a fresh head for another number of classes.

    All other weights are copied; the given model is left as it is.

    Args:
        model: a model of kzoo's.
        num_classes: logits of the new head; 0 = pooled features.

    Raises:
        ValueError: a model that kzoo did not build.

    Example:
        >>> import kzoo
        >>> model = kzoo.build_model("mlp", num_classes=10)
        >>> kzoo.replace_head(model, 3).output_shape
        (None, 3)
    """
    known = identity(model)
    if known.adapters:
        raise ValueError(f"{model.name} has adapters: kzoo.merge_adapters first")
    changed = build_model(known.name, **{**known.hparams, "num_classes": num_classes})
    old = {weight.path: weight for weight in model.weights}
    for weight in changed.weights:
        if not weight.path.startswith("logits"):
            weight.assign(old[weight.path])
    return changed
