"""Processor seconds of building networks on JAX beside TensorFlow.

    python benchmarks/building.py [--models resnet50,densenet121] [--rounds 3]

Each building is a process of its own; TensorFlow and JAX, kzoo and keras.applications
take turns. Measured is the processor's time (user and system) of the building alone,
without imports: a busy machine hardly changes it. On JAX without a compilation cache,
and with one that an earlier process filled.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

NETWORKS = {
    "mobilenet_v3_small": "MobileNetV3Small",
    "resnet50": "ResNet50",
    "efficientnet_b0": "EfficientNetB0",
    "densenet121": "DenseNet121",
}
CACHED = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # zoo:model, in its process
    parsed = parser.parse_args()
    if parsed.one:
        print(processor_seconds(*parsed.one.split(":")))
        return
    with tempfile.TemporaryDirectory() as folder:
        cached = {"JAX_COMPILATION_CACHE_DIR": folder} | CACHED
        columns = {
            "TensorFlow": ("tensorflow", {}),
            "JAX": ("jax", {}),
            "JAX, cached": ("jax", cached),
        }
        for model in parsed.models.split(","):
            for zoo in ("kzoo", "applications"):  # fill the cache
                in_a_process(zoo, model, "jax", cached)
            best: dict[tuple[str, str], float] = {}
            for _ in range(parsed.rounds):
                for column, (backend, extra) in columns.items():
                    for zoo in ("kzoo", "applications"):
                        seconds = in_a_process(zoo, model, backend, extra)
                        least = best.get((zoo, column), seconds)
                        best[zoo, column] = min(least, seconds)
            for zoo in ("kzoo", "applications"):
                cells = (f"{column} {best[zoo, column]:6.2f} s" for column in columns)
                print(f"{model:20}{zoo:14}" + "   ".join(cells), flush=True)


def in_a_process(zoo: str, model: str, backend: str, extra: dict[str, str]) -> float:
    """This command again, of one zoo and network."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    chosen = {"KERAS_BACKEND": backend, "PYTHONPATH": ":".join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, __file__, "--one", f"{zoo}:{model}"],
        env=os.environ | chosen | extra,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{zoo} {model}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.splitlines()[-1])


def processor_seconds(zoo: str, model: str) -> float:
    import keras

    from kzoo.registry import build_model

    before = resource.getrusage(resource.RUSAGE_SELF)
    if zoo == "kzoo":
        build_model(model)
    else:
        getattr(keras.applications, NETWORKS[model])(weights=None)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
