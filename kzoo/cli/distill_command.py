"""``kzoo distill``: from a teacher to a run folder of its student, or to a study."""

import argparse
from typing import Any

from kzoo import strict_json
from kzoo.cli.backend import choose
from kzoo.cli.checks import check_model, check_place, check_request
from kzoo.cli.trainers import (
    add_assignments,
    add_training,
    ended,
    existing,
    settings_of,
    told_to,
    where_it_is,
)
from kzoo.datasets import parse_options
from kzoo.distillation.options import DistillOptions, same_data
from kzoo.hparams import parse
from kzoo.models.distiller_options import DistillerHParams

EXAMPLES = (
    "kzoo distill --teacher runs/cnn_digits --student mlp",
    "kzoo distill --teacher runs/cnn_digits --student cnn_tiny "
    "--method dkd --option temperature=2",
    "kzoo distill --teacher runs/cnn_digits --student mlp --study kd,dkd --seeds 3",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--teacher",
        action="append",
        required=True,
        metavar="RUN_OR_NAME",
        help="a run folder; a name, trained first; 'self'; several = their mean",
    )
    parser.add_argument(
        "--student", required=True, metavar="NAME", help="a name, or a folder to start"
    )
    parser.add_argument(
        "--method", default="kd", metavar="M", help="or several, joined by +"
    )
    add_assignments(parser, "--option", "of the method, such as temperature=2")
    add_training(
        parser,
        dataset="the teacher's",
        recipe="the student's own",
        of=" of the student",
    )
    parser.add_argument(
        "--study", metavar="M,M", help="compare these methods and the student alone"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="of a study")
    parser.add_argument(
        "--tries", type=int, default=1, metavar="N", help="settings tried of each"
    )


def run(parsed: argparse.Namespace) -> int:
    """Distils, with a progress line, and prints scores and what was saved."""
    check(parsed)
    choose(parsed.backend)
    told_to(parsed)
    return ended(lambda: _study(parsed) if parsed.study else _distill(parsed))


def check(parsed: argparse.Namespace) -> None:
    """Raises for what is wrong with the command, before Keras is imported."""
    if parsed.student == "self":
        raise ValueError("the student is a model's name; 'self' is for --teacher")
    for name in parsed.teacher:
        if name != "self":
            check_model(name)
    for method in (parsed.study or parsed.method).split(","):
        DistillerHParams(method=method)
    check_place(parsed, existing(parsed))
    if parsed.study:
        _check_study(parsed)
    request = _request(parsed)
    dataset, data = same_data(parsed.teacher, parsed.dataset, request.pop("data"))
    del request["options"]
    recipe = request.pop("recipe")
    check_request(parsed.student, dataset, recipe=recipe, data=data, settings=request)


def _check_study(parsed: argparse.Namespace) -> None:
    if len(parsed.teacher) > 1:
        raise ValueError("a study takes one teacher")
    if parsed.track is not None:
        raise ValueError("a study takes no --track")
    if parsed.seed is not None:
        raise ValueError("a study takes --seeds, the number of them, instead of --seed")


def _request(parsed: argparse.Namespace) -> dict[str, Any]:
    """What ``distill`` and ``study`` both take by name."""
    settings = settings_of(parsed, check_model(parsed.student)[1])
    data = {}
    if parsed.data:
        if parsed.dataset is None:
            raise ValueError("--data needs --dataset")
        data = parse_options(parsed.dataset, parsed.data)
    options = parse(DistillOptions, parsed.option, "distill")
    return {"options": options, "recipe": parsed.recipe, "data": data, **settings}


def _distill(parsed: argparse.Namespace) -> int:
    from kzoo.cli.progress import ProgressLine
    from kzoo.distillation.distill import distill
    from kzoo.distillation.report import REPORT
    from kzoo.weights import read_json

    done = distill(
        parsed.teacher if len(parsed.teacher) > 1 else parsed.teacher[0],
        parsed.student,
        parsed.dataset,
        parsed.method,
        parsed.out,
        existing=existing(parsed),
        distribution=parsed.distribution,
        callbacks=() if parsed.json else (ProgressLine(),),
        track=parsed.track,
        **_request(parsed),
    )
    path = done.folder / REPORT
    report = read_json(path) if path.exists() else None
    if parsed.json:
        print(strict_json.dumps({**done.metrics, "compression": report}))
        return 0

    from kzoo.cli.tables import scores_table

    scores_table({split: done.metrics[split] for split in ("validation", "test")})
    if report:
        _compression_table(report, done.monitor)
    print(where_it_is(done))
    return 0


def _compression_table(report: dict[str, Any], metric: str) -> None:
    """Teacher and student side by side: their sizes, and the monitored metric."""
    from rich.console import Console
    from rich.table import Table

    teacher, student = report["teacher"], report["student"]
    table = Table("", "teacher", "student", "share")
    counts = [(name, teacher[name], student[name]) for name in ("weights", "macs")]
    counts.append(("file, bytes", teacher["file_bytes"], student["file_bytes"]))
    for batch_size, time in teacher["latency_ms"].items():
        own = student["latency_ms"][batch_size]
        counts.append((f"ms for {batch_size}", time, own))
    for name in dict.fromkeys(("accuracy", metric)):
        if name in teacher:
            counts.append((name, teacher[name], student[name]))
    for name, left, right in counts:
        if left and right is not None:
            shown = (
                f"{x:,}" if isinstance(x, int) else f"{x:.4g}" for x in (left, right)
            )
            table.add_row(name, *shown, f"{right / left:.1%}")
    told = f"agreement {report['agreement']:.1%}" if "agreement" in report else None
    Console().print(table)
    saw = [one and f"{one['name']} {one['options']}" for one in report["teacher_saw"]]
    print("; ".join(filter(None, [told, f"the teacher saw {saw or 'unknown data'}"])))


def _study(parsed: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from kzoo.distillation.study import study

    rows = study(
        parsed.teacher[0],
        parsed.student,
        parsed.dataset,
        parsed.study.split(","),
        parsed.out or "runs/study",
        seeds=parsed.seeds,
        tries=parsed.tries,
        distribution=parsed.distribution,
        **_request(parsed),
    )
    if parsed.json:
        print(strict_json.dumps(rows))
        return 0
    table = Table("method", "validation", "test", "against alone", "against kd", "saw")
    for row in rows:
        table.add_row(
            row["method"],
            f"{row['validation']:.4f}",
            f"{row['test']:.4f} ± {row['test_std']:.4f}",
            f"{row['against_alone']:+.4f} (p {row['p_alone']:.3f})",
            f"{row['against_kd']:+.4f} (p {row['p_kd']:.3f})",
            row["teacher_saw"],
        )
    Console().print(table)
    print(f"everything is in {parsed.out or 'runs/study'}")
    return 0
