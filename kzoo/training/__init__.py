"""Recipes, ``train``, ``evaluate``, ``predict``, and the run folder that they leave."""

from kzoo.lazy import lazily

# Where each public name lives.
_HOMES = {
    "Interrupted": "kzoo.training.resume",
    "NamedRecipe": "kzoo.training.recipes",
    "NonFiniteLossError": "kzoo.training.resume",
    "Prediction": "kzoo.training.predict",
    "RECIPES": "kzoo.training.recipes",
    "Recipe": "kzoo.training.recipe",
    "Run": "kzoo.training.run",
    "SnapshotError": "kzoo.training.snapshots",
    "evaluate": "kzoo.training.evaluate",
    "lr_find": "kzoo.training.lr_find",
    "open_run": "kzoo.training.run",
    "plan": "kzoo.training.plan",
    "predict": "kzoo.training.predict",
    "train": "kzoo.training.fit",
}

__all__ = sorted(_HOMES)

__getattr__ = lazily(__name__, _HOMES)
