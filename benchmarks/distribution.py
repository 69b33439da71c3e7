"""Step time of one and of two processes on one machine, and the bytes they exchange.

    python benchmarks/distribution.py [--backend jax] [--steps 60] [--rounds 3]
    python benchmarks/distribution.py --models mlp --batch-size 16 --steps 2 --rounds 1

The same global batch, with one process (which has all cores) and with two over
loopback, in turn. A step is timed after 10 warm-up steps, from its begin to the next
one's; the bytes are what the loopback device counted meanwhile, divided by the steps.
Beside it stands what a ring all-reduce of the gradients sends: 2 (N - 1) / N times the
weights' bytes from each of N processes. Other programs that talk over loopback are
counted too.

    python benchmarks/distribution.py --predict     # the table of docs/scaling.md
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"units": (512, 512)},
    "cnn": {"filters": (32, 64), "dropout_rate": 0.0},
}
KINDS = {"tensorflow": "multi_worker", "jax": "data_parallel"}
WARM_UP = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="tensorflow", choices=sorted(KINDS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch-size", type=int, default=256, help="global")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--predict", action="store_true", help="measure nothing")
    parser.add_argument("--worker", metavar="MODEL", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.worker:
        measure(parsed)
        return 0
    if parsed.predict:
        print("\n".join(table()))
        return 0
    rows = []
    for model in parsed.models.split(","):
        found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(parsed.rounds):
            for processes in found:
                found[processes].append(launched(parsed, model, processes))
        for processes, runs in found.items():
            rows.append(
                {
                    "model": model,
                    "processes": processes,
                    "step_ms": statistics.median(run["step_ms"] for run in runs),
                    "bytes": statistics.median(run["bytes"] for run in runs),
                    "ring_bytes": runs[0]["ring_bytes"],
                }
            )
    print(f"{parsed.backend}, median of {parsed.rounds} rounds of {parsed.steps} steps")
    print("model  processes  ms a step  bytes a step  of a ring")
    for row in rows:
        print(
            f"{row['model']:6} {row['processes']:9} {row['step_ms']:10.1f} "
            f"{row['bytes']:13,.0f} {row['ring_bytes']:10,.0f}"
        )
    return 0


def compute_seconds(macs: float, examples: float, peak: float, used: float) -> float:
    """A training step of one chip: a forward pass and twice that backward.

    Args:
        macs: multiply-accumulates of an example, of two operations each.
        examples: of a chip's share of the batch.
        peak: operations a second.
        used: share of them that a training reaches.
    """
    return 3 * 2 * macs * examples / (peak * used)


def ring_seconds(size: float, chips: int, bandwidth: float, latency: float) -> float:
    """A ring all-reduce: chips - 1 hops that add up, as many that hand on the sum.

    Args:
        size: bytes that each chip has to add.
        chips: in the ring.
        bandwidth: bytes a second that a chip sends to the next.
        latency: seconds of a hop.
    """
    hops = 2 * (chips - 1)
    return hops * (size / chips / bandwidth + latency)


# Of a TPU v5e in bfloat16, and the share of it that a good training reaches.
PEAK, USED = 197e12, 0.4
LINKS = {"interconnect": (100e9, 1e-6), "network": (25e9, 10e-6)}
SHARES = {"resnet50": 128, "bert_base": 32}  # examples of a chip


def table() -> list[str]:
    """The predictions, as lines of Markdown."""
    import kzoo

    lines = [
        "| model | link | chips | global batch | compute, ms | all-reduce, ms | "
        "efficiency, none hidden | all that can be hidden |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for model, examples in SHARES.items():
        known = kzoo.describe(model)
        work = compute_seconds(known["macs"], examples, PEAK, USED)
        for link, (bandwidth, latency) in LINKS.items():
            for chips in (8, 64, 1024):
                size = 4 * known["trainable_parameters"]
                sent = ring_seconds(size, chips, bandwidth, latency)
                # The backward pass is two thirds of the work.
                seen = max(0.0, sent - 2 / 3 * work)
                lines.append(
                    f"| {model} | {link} | {chips:,} | {examples * chips:,} | "
                    f"{1000 * work:.1f} | {1000 * sent:.1f} | "
                    f"{work / (work + sent):.0%} | {work / (work + seen):.0%} |"
                )
    return lines


def launched(
    parsed: argparse.Namespace, model: str, processes: int
) -> dict[str, float]:
    """What the first of so many processes measures."""
    from kzoo.distribution.launcher import Job, launch

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, __file__, "--worker", model, "--out", str(out)]
        command += ["--backend", parsed.backend, "--steps", str(parsed.steps)]
        command += ["--batch-size", str(parsed.batch_size)]
        job = Job(tuple(command), processes, parsed.backend, Path(folder) / "logs")
        if launch(job):
            raise SystemExit(f"{processes} processes of {model} failed")
        found: dict[str, float] = json.loads(out.read_text())
        return found


def measure(parsed: argparse.Namespace) -> None:
    import keras

    from kzoo import distribution
    from kzoo.distribution.cluster import find_cluster
    from kzoo.training import compiling, feeding, fit, plan

    kind = KINDS[parsed.backend] if find_cluster() else "none"
    where = distribution.resolve(kind)
    settings = {**MODELS[parsed.worker], "batch_size": parsed.batch_size}
    planned = plan(parsed.worker, "digits", settings=settings)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == WARM_UP:
                self.started, self.sent = time.perf_counter(), loopback_bytes()

    clock = Clock()
    with fit.seeded(0), where.scope(planned.layout):
        model = compiling.compiled(planned)
        where.adapt(model, "synchronized")
        batches = where.fed(feeding.TrainingSequence(planned.dataset, planned.recipe))
        model.fit(
            batches,
            steps_per_epoch=WARM_UP + parsed.steps,
            callbacks=[clock],
            shuffle=False,
            verbose=0,
        )
        seconds = time.perf_counter() - clock.started
        sent = loopback_bytes() - clock.sent
    processes = where.shard[1]
    weights = 4 * sum(math.prod(weight.shape) for weight in model.trainable_weights)
    found = {
        "step_ms": 1000 * seconds / parsed.steps,
        "bytes": sent / parsed.steps,
        "ring_bytes": processes * 2 * (processes - 1) / processes * weights,
    }
    if where.is_chief:
        parsed.out.write_text(json.dumps(found))


def loopback_bytes() -> int:
    """What went over the loopback device since the machine started."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    raise SystemExit("there is no loopback device")


if __name__ == "__main__":
    sys.exit(main())
