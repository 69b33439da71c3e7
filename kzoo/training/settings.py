"""What a request sets: which recipe, and which of its fields and hyper-parameters.

Without Keras, so that a typo gets its error at once.
"""

from collections.abc import Mapping
from typing import Any

from kzoo import hparams, index
from kzoo.datasets import Dataset, find_dataset
from kzoo.hparams import Declaration, declarations, nearest
from kzoo.training.recipe import Recipe
from kzoo.training.recipes import NamedRecipe, get_recipe, recipe_for

# Where a model came from that was handed over, not named.
IN_MEMORY = "a model in memory"


def named_recipe(
    name: str, dataset: Any, recipe: str | Recipe | None
) -> tuple[NamedRecipe, str]:
    """The recipe that was asked for, or the one that fits best, and its name.

    Raises:
        ValueError: an unknown recipe or dataset, or no dataset and no recipe to tell.
    """
    if isinstance(dataset, Dataset):
        data_name: str | None = dataset.name
    elif isinstance(dataset, str):
        find_dataset(dataset)
        data_name = dataset
    else:
        data_name = None if dataset is None else "arrays"
    if isinstance(recipe, str):
        return get_recipe(recipe), recipe
    # A plain Keras model has none.
    family = str(index.entries()[name]["family"]) if name else ""
    found = recipe_for(name, family, data_name)
    if isinstance(recipe, Recipe) or found is None:
        if data_name is None and found is None:
            whose = name or "a plain Keras model"
            raise ValueError(f"{whose} has no recipe of its own: name a dataset")
        data = data_name or get_recipe(str(found)).dataset
        return NamedRecipe((name,), data, recipe or Recipe()), ""
    return get_recipe(found), found


def sorted_settings(
    name: str,
    declared: Mapping[str, Declaration],
    settings: Mapping[str, Any],
    recipe: Recipe,
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with the settings that are its own, and those of the model."""
    fields = declarations(Recipe)
    for key in settings:
        if key not in fields and key not in declared:
            raise ValueError(
                f"{name} has no hyper-parameter {key!r}, nor has the recipe such a "
                f"field{nearest(key, [*fields, *declared])}"
            )
    ours = {key: value for key, value in settings.items() if key in fields}
    theirs = {key: value for key, value in settings.items() if key in declared}
    return hparams.replace(recipe, "recipe", ours), theirs
