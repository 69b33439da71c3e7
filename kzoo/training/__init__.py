"""Recipes, ``train``, ``evaluate``, ``predict``, and the run folder that they leave."""

from kzoo.training.evaluate import evaluate
from kzoo.training.fit import train
from kzoo.training.plan import plan
from kzoo.training.predict import Prediction, predict
from kzoo.training.recipe import Recipe
from kzoo.training.recipes import RECIPES, NamedRecipe
from kzoo.training.resume import Interrupted, NonFiniteLossError
from kzoo.training.run import Run, open_run
from kzoo.training.snapshots import SnapshotError

__all__ = [
    "RECIPES",
    "Interrupted",
    "NamedRecipe",
    "NonFiniteLossError",
    "Prediction",
    "Recipe",
    "Run",
    "SnapshotError",
    "evaluate",
    "open_run",
    "plan",
    "predict",
    "train",
]
