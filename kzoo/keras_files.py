"""The identity of a model in the file that Keras's own ``model.save`` writes."""

import json
from typing import Any

import keras
from keras.src.models.functional import Functional

from kzoo.hparams import Identity

KEY = "kzoo"


_read_back: set[type] = {Functional}


class _Reader:
    """Reads Keras's functional models, and the identity where there is one."""

    @classmethod
    def from_config(cls, config: dict[str, Any], **options: Any) -> keras.Model:
        return _restored(Functional.from_config, config, options)


def _restored(read: Any, config: dict[str, Any], options: dict[str, Any]) -> Any:
    config = dict(config)
    text = config.pop(KEY, None)
    model = read(config, **options)
    if text is not None:
        model.kzoo = Identity(**json.loads(text))
        keep_identity(model)
    return model


def _reading(of_keras: Any) -> Any:
    def from_config(cls: Any, /, config: dict[str, Any], **options: Any) -> Any:
        return _restored(of_keras.__get__(None, cls), config, options)

    return classmethod(from_config)


def keep_identity(model: keras.Model) -> None:
    """Has ``model.save`` write ``model.kzoo``, where it can be read back.

    Keras itself ignores the entry in a functional model's file, so the file loads
    where kzoo is not imported, too.
    """
    if type(model) not in _read_back or not isinstance(model, Functional):
        return
    of_keras = model.get_config
    model.get_config = lambda: {**of_keras(), KEY: json.dumps(model.kzoo.to_json())}


def read_identities() -> None:
    """Has ``keras.saving.load_model`` set ``model.kzoo`` again, in this process."""
    known = keras.saving.get_custom_objects()
    for name, kind in list(known.items()):
        own = name.startswith("kzoo>") and isinstance(kind, type)
        if own and issubclass(kind, keras.Model) and kind not in _read_back:
            kind.from_config = _reading(_raw(kind))
            _read_back.add(kind)
    known[keras.saving.get_registered_name(Functional)] = _Reader


def _raw(kind: type) -> Any:
    """The class's ``from_config`` before it is bound to a class."""
    return next(
        vars(base)["from_config"]
        for base in kind.__mro__
        if "from_config" in vars(base)
    )


def without_identity(config: Any) -> Any:
    """A model's config as Keras itself gives it, nested models included."""
    if isinstance(config, dict):
        skipped = KEY if "input_layers" in config else None
        return {k: without_identity(v) for k, v in config.items() if k != skipped}
    if isinstance(config, list | tuple):
        return type(config)(without_identity(item) for item in config)
    return config
