"""A call of ``tune``: what was asked for, checked, and what it means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kzoo import hparams, plugins
from kzoo.datasets import Dataset
from kzoo.distribution import resolve
from kzoo.training.fit import config_of
from kzoo.training.plan import Plan, plan
from kzoo.training.recipe import Recipe
from kzoo.tuning.objectives import COSTS, objectives_of
from kzoo.tuning.options import TuneOptions, check_prune, check_trials, check_tuner
from kzoo.tuning.oracle import Search
from kzoo.tuning.oracles import import_optuna
from kzoo.tuning.space import search_space


@dataclass(frozen=True)
class Request:
    """What a sweep is asked to do; the words of ``tune``.

    Raises:
        ValueError: a word that is not one of those that are legal.
    """

    model: Any
    dataset: Any = None
    recipe: str | Recipe | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 30
    tuner: str = "bayesian"
    prune: str | None = None
    objective: str | None = None
    seed: int = 0
    space: Mapping[str, Any] = field(default_factory=dict)
    options: TuneOptions = field(default_factory=TuneOptions)
    distribution: str = "none"

    def __post_init__(self) -> None:
        check_tuner(self.tuner)
        if self.prune is None:
            # The others learn from scores, or halve by themselves; and a cost has no
            # curve to stop a trial by.
            cost = (self.objective or "").split(",")[0].strip() in COSTS
            halved = self.tuner in ("bayesian", "random") and not cost
            usual = "halving" if halved else "none"
            object.__setattr__(self, "prune", usual)
        check_prune(str(self.prune))
        check_trials(self.trials)
        if "seed" in self.settings:
            raise ValueError("seed is the sweep's: each trial gets its own from it")
        if self.tuner == "tpe":
            import_optuna()

    def base(self) -> Plan:
        """The run that the recipe's own values make, on the sweep's split."""
        given = isinstance(self.dataset, Dataset)
        return plan(
            self.model,
            self.dataset,
            recipe=self.recipe,
            data=self.data if given else {"seed": self.seed, **self.data},
            settings={**self.settings, "seed": self.seed},
        )

    def search(self, base: Plan, folder: Path) -> Search:
        """What the oracle is asked to do.

        Raises:
            ValueError: objectives, ranges or a pruning that do not go together.
        """
        objectives = objectives_of(base, self.objective)
        first = objectives[0]
        if first.is_cost and (self.prune != "none" or self.tuner == "hyperband"):
            raise ValueError(
                f"{first.name} is no learning curve to stop a trial by: put a metric "
                "first, or take --prune none and another tuner"
            )
        return Search(
            ranges=search_space(base, self.settings, self.space),
            objectives=objectives,
            trials=self.trials,
            epochs=base.recipe.epochs,
            seed=self.seed,
            prune=str(self.prune),
            failures=self.options.failures,
            folder=folder / "trials",
        )

    def config(self, base: Plan, search: Search) -> dict[str, Any]:
        """``sweep.json``: everything that decides the sweep."""
        return {
            **config_of(base, resolve(self.distribution)),
            "tuner": self.tuner,
            "prune": self.prune,
            "objectives": {one.name: one.direction for one in search.objectives},
            "seed": self.seed,
            "trials": self.trials,
            "space": {entry.name: entry.to_json() for entry in search.ranges},
            "options": self.options.to_json(),
        }

    def to_json(self) -> dict[str, Any]:
        """For a process of its own; ``from_json`` gives an equal request back.

        Raises:
            ValueError: a model or a dataset in memory.
        """
        for name, value in (("model", self.model), ("dataset", self.dataset)):
            if not isinstance(value, str | Path | None):
                raise ValueError(
                    f"workers are processes of their own, and the {name} is in this "
                    "one's memory: name it, or take one worker"
                )
        recipe = self.recipe
        return {
            **vars(self),
            "model": str(self.model),
            "recipe": recipe.to_json() if isinstance(recipe, Recipe) else recipe,
            "options": self.options.to_json(),
            "plugins": plugins.sources(str(self.model)),
        }


def from_json(values: Mapping[str, Any]) -> Request:
    """The request that ``to_json`` described."""
    values = dict(values)
    plugins.note(values.pop("plugins", ()))
    recipe = values["recipe"]
    if isinstance(recipe, Mapping):
        recipe = hparams.from_json(Recipe, "recipe", recipe)
    options = hparams.from_json(TuneOptions, "tune", values["options"])
    return Request(**{**values, "recipe": recipe, "options": options})
