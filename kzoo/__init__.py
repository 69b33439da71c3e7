"""kzoo: the model zoo for Keras 3.

    import kzoo
    model = kzoo.build_model("cnn", num_classes=10)
    run = kzoo.train("cnn", "digits", out="runs/cnn")

Public names load on first use, so that ``import kzoo`` costs nothing and imports no
Keras: the backend can still be chosen by ``KERAS_BACKEND`` after it.
"""

from kzoo.lazy import lazily

__version__ = "0.1.0"

# Where each public name lives.
_HOMES = {
    "build_model": "kzoo.registry",
    "register": "kzoo.registry",
    "replace_head": "kzoo.registry",
    "list_models": "kzoo.index",
    "describe": "kzoo.index",
    "features": "kzoo.features",
    "list_features": "kzoo.features",
    "macs": "kzoo.macs",
    "save": "kzoo.weights",
    "load": "kzoo.weights",
    "merge_adapters": "kzoo.weights.adapters",
    "load_adapter": "kzoo.weights.adapters",
    "load_pretrained": "kzoo.weights.pretrained",
    "load_vectors": "kzoo.weights.vectors",
    "load_dataset": "kzoo.datasets",
    "Recipe": "kzoo.training",
    "train": "kzoo.training",
    "lr_find": "kzoo.training",
    "evaluate": "kzoo.training",
    "predict": "kzoo.training",
    "generate": "kzoo.generation",
    "distill": "kzoo.distillation",
    "pretrain": "kzoo.pretraining",
    "probe": "kzoo.pretraining",
    "tune": "kzoo.tuning",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
