"""``kzoo tune``: from a name to a sweep over its hyper-parameters."""

import argparse
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import add_backend, backend_name, choose
from kzoo.cli.checks import check_model, check_request
from kzoo.cli.trainers import add_assignments, settings_of, terminal_handler
from kzoo.datasets import parse_options
from kzoo.distribution.resolve import checked as checked_distribution
from kzoo.hparams import parse, split_assignments
from kzoo.training.settings import named_recipe
from kzoo.tuning.options import (
    TUNERS,
    TuneOptions,
    check_prune,
    check_trials,
    check_tuner,
)
from kzoo.tuning.pruning import PRUNERS

EXAMPLES = (
    "kzoo tune lstm --dataset names --trials 20 --out runs/sweep",
    "kzoo tune cnn --space learning_rate=1e-4..1e-1:log --space optimizer=adamw,sgd",
    "kzoo tune mlp --objective accuracy,weights --tuner tpe --retrain 5",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "model", nargs="?", help="a name; or a run or model folder, to start from it"
    )
    parser.add_argument("--dataset", metavar="D", help="default: the recipe's")
    add_assignments(parser, "--data", "its options")
    parser.add_argument("--trials", type=int, default=30, metavar="N")
    parser.add_argument(
        "--tuner",
        metavar="T",
        help="bayesian (default), random, grid, hyperband or tpe",
    )
    parser.add_argument("--prune", metavar="P", help="none, median or halving")
    parser.add_argument(
        "--objective", metavar="M[,M]", help="metrics, weights, macs, latency"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="of a trial")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    parser.add_argument(
        "--space",
        action="append",
        default=[],
        metavar="NAME=LOW..HIGH[:log]",
        help="another range, or values: optimizer=adamw,sgd",
    )
    told = "a hyper-parameter or a recipe field that does not move"
    add_assignments(parser, "--set", told)
    add_assignments(parser, "--option", "keep=5")
    parser.add_argument("--recipe", metavar="R", help="default: the model's own")
    parser.add_argument(
        "--retrain", type=int, metavar="N", help="the best trial again, over N seeds"
    )
    parser.add_argument(
        "--replay", type=int, metavar="TRIAL", help="a trial of DIR once more"
    )
    parser.add_argument("--out", metavar="DIR", help="the sweep's folder")
    parser.add_argument("--distribution", metavar="X", default="none")
    add_backend(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="move a sweep that lies there aside"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(parsed: argparse.Namespace) -> int:
    """Sweeps, under a live table, and says what is best."""
    check(parsed)
    choose(parsed.backend)
    shown = [terminal_handler()]
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=shown)
    from kzoo.training import Interrupted, SnapshotError
    from kzoo.tuning import SweepError

    try:
        return _replay(parsed) if parsed.replay is not None else _tune(parsed)
    except (SweepError, SnapshotError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (Interrupted, KeyboardInterrupt) as error:
        again = shlex.join(word for word in sys.argv[1:] if word != "--fresh")
        told = str(error) or "stopped"
        print(f"{told}; to go on: kzoo {again}", file=sys.stderr)
        return 75  # EX_TEMPFAIL: try again


def check(parsed: argparse.Namespace) -> None:
    """Raises for what is wrong with the command, before Keras is imported."""
    checked_distribution(parsed.distribution, backend_name(parsed.backend))
    if parsed.replay is not None:
        if parsed.out is None:
            raise ValueError("--replay needs --out, the sweep's folder")
        if not Path(parsed.out).is_dir():
            raise FileNotFoundError(f"there is no folder {parsed.out}")
        return
    request = _request(parsed)
    check_tuner(request.pop("tuner", TUNERS[0]))
    check_prune(request.pop("prune", PRUNERS[0]))
    check_trials(parsed.trials)
    data = request.pop("data")
    del request["space"], request["options"]
    check_request(
        parsed.model, parsed.dataset, recipe=parsed.recipe, data=data, settings=request
    )


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``kzoo.tune`` that the command line asks for."""
    if parsed.model is None:
        raise ValueError("name a model")
    name, declared = check_model(parsed.model)
    settings = settings_of(parsed, declared, short=())
    data = {}
    if parsed.data:
        dataset = parsed.dataset
        if dataset is None:
            dataset = named_recipe(name, None, parsed.recipe)[0].dataset
        data = parse_options(dataset, parsed.data)
    chosen = {"tuner": parsed.tuner, "prune": parsed.prune}
    return {
        **settings,
        **{key: value for key, value in chosen.items() if value is not None},
        "data": data,
        "space": dict(split_assignments(parsed.space)),
        "options": parse(TuneOptions, parsed.option, "tune"),
    }


def _tune(parsed: argparse.Namespace) -> int:
    from contextlib import nullcontext

    from kzoo.cli.sweep_table import SweepTable
    from kzoo.tuning.after import retrain
    from kzoo.tuning.tune import tune
    from kzoo.tuning.workers import role

    request = _request(parsed)
    worker = role() == "worker"  # of a chief that tells how the sweep goes
    table = None if parsed.json or worker else SweepTable(parsed.trials)
    with table or nullcontext():
        sweep = tune(
            parsed.model,
            parsed.dataset,
            trials=parsed.trials,
            objective=parsed.objective,
            epochs=parsed.epochs,
            seed=parsed.seed,
            workers=parsed.workers,
            out=parsed.out,
            recipe=parsed.recipe,
            existing="fresh" if parsed.fresh else "resume",
            distribution=parsed.distribution,
            watch=table.show if table else None,
            **request,
        )
    if worker:
        print("there are no more trials")
        return 0
    tested = retrain(sweep, parsed.retrain) if parsed.retrain else None
    if parsed.json:
        best = {key: sweep.best[key] for key in ("trial", "objectives", "rebuild")}
        told = {"best": best, "trials": sweep.trials, "retrain": tested}
        print(strict_json.dumps(told))
        return 0
    best = sweep.best
    scores = ", ".join(f"{k} {v:.4g}" for k, v in best["objectives"].items())
    print(f"best: trial {best['trial']}, validation {scores}")
    print(f"  {best['rebuild']}")
    start = (best["start"] or {"from": best["model"]["name"]})["from"]
    print(f"  kzoo train {start} --config {sweep.folder / 'best.json'}")
    if tested:
        spread = "" if tested["std"] is None else f" ± {tested['std']:.4f}"
        print(
            f"test {tested['metric']} {tested['mean']:.4f}{spread} of "
            f"{len(tested['test'])} seeds"
        )
    print(f"everything is in {sweep.folder}")
    return 0


def _replay(parsed: argparse.Namespace) -> int:
    from kzoo.tuning import replay

    then, now = replay(parsed.out, parsed.replay)
    if parsed.json:
        print(strict_json.dumps({"then": then, "now": now}))
        return 0
    from kzoo.cli.tables import shown

    names = [name for name in then if name != "classes"]
    for name in names:
        same = "the same" if then[name] == now[name] else "not the same"
        before, after = (shown(scores[name], ".6g") for scores in (then, now))
        print(f"{name}: {before} then, {after} now: {same}")
    return 0 if all(then[name] == now[name] for name in names) else 1
