"""What a sweep keeps up to date while it runs: its table, its best, its disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kzoo import weights
from kzoo.hparams import plain
from kzoo.registry import find_family
from kzoo.training.run import Run
from kzoo.tuning import disk, plots
from kzoo.tuning.objectives import pareto_front
from kzoo.tuning.options import TuneOptions
from kzoo.tuning.oracle import Search, SweepOracle
from kzoo.tuning.records import TABLE, Record, ranked, table, write_table

BEST = "best.json"


class Reporter:
    """Keeps the sweep's files up to date.

    Args:
        folder: of the sweep.
        options: how much may stay on disk.
        watch: called with the table's rows after each change.
    """

    def __init__(
        self,
        folder: Path,
        oracle: SweepOracle,
        options: TuneOptions,
        watch: Callable[[list[dict[str, Any]]], None] | None,
    ) -> None:
        self.folder = folder
        self.oracle = oracle
        self.options = options
        self.watch = watch

    def update(self) -> None:
        """After each change of a record."""
        search, found = self.oracle.search, list(self.oracle.records.values())
        if not found:
            return
        rows = sweep_table(search, found)
        write_table(self.folder / TABLE, rows)
        best = ranked(found, search.objectives[0])
        front = pareto(search, best)
        if best:
            write_best(self.folder / BEST, search, best[0], front)
        kept = [*best[: self.options.keep], *front[1:]]
        disk.tidy(search.folder, found, kept)
        while len(kept) > 1 and disk.size(self.folder) > self.options.disk_gb * 1e9:
            kept.pop()
            disk.tidy(search.folder, found, kept)
        if self.watch is not None:
            self.watch(rows)

    def draw(self) -> None:
        """The sweep's plots/, once it is over."""
        search, found = self.oracle.search, list(self.oracle.records.values())
        objective, folder = search.objectives[0], self.folder / "plots"
        scored = ranked(found, objective)
        if not scored:
            return
        folder.mkdir(exist_ok=True)
        plots.history(folder / "history.png", found, objective)
        plots.parallel(folder / "parallel.png", search.ranges, found, objective)
        if len(scored) >= plots.FEWEST_SCORES:
            shares = plots.importances(search.ranges, found, objective)
            plots.importance_bars(folder / "importances.png", shares, len(scored))
        if len(search.objectives) > 1:
            front = pareto(search, scored)
            plots.pareto(folder / "pareto.png", found, front, search.objectives)


def sweep_table(search: Search, found: list[Record]) -> list[dict[str, Any]]:
    """The rows of ``trials.csv``."""
    names = [entry.name for entry in search.ranges]
    return table(found, names, [one.name for one in search.objectives])


def pareto(search: Search, scored: list[Record]) -> list[Record]:
    """The trials that no other beats in all objectives, in the given order."""
    if not scored:
        return []
    names = [one.name for one in search.objectives]
    points = [[record.objectives[name] for name in names] for record in scored]
    directions = [one.direction for one in search.objectives]
    return [scored[i] for i in pareto_front(points, directions)]


def write_best(path: Path, search: Search, best: Record, front: list[Record]) -> None:
    """The best trial's ``config.json``, and where it comes from."""
    config = Run(search.folder / best.id).config
    told = {
        **config,
        "trial": best.number,
        "objectives": best.objectives,
        "rebuild": rebuild_line(config["model"]),
    }
    if len(search.objectives) > 1:
        told["front"] = [
            {"trial": r.number, **r.objectives, "values": r.values} for r in front
        ]
    weights.write_json(path, told)


def rebuild_line(model: Mapping[str, Any]) -> str:
    """The line of Python that builds the model of a run's config.

    >>> import kzoo
    >>> rebuild_line(kzoo.build_model("mlp", units=(8,)).kzoo.to_json())
    "kzoo.build_model('mlp', units=(8,))"
    """
    name = model["name"]
    usual = find_family(name).variants[name].to_json()
    words = [repr(name)]
    for key, value in sorted(model["hparams"].items()):
        if plain(value) != plain(usual[key]):
            shown = tuple(value) if isinstance(value, list) else value
            words.append(f"{key}={shown!r}")
    return f"kzoo.build_model({', '.join(words)})"
