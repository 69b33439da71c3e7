"""One of several real processes: what it trains, on which examples, to which end.

    python tests/workers.py BACKEND FOLDER MODEL_OR_TRAINER ... [--kill]

Run under ``kzoo.distribution.launcher``, N times. Each rank leaves ``rank-R.json``;
the first also trains on its own, and says how far apart the two end. With ``--kill``
the last one kills itself in the middle of a run, once.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import replicas  # noqa: E402

BACKEND, FOLDER = sys.argv[1], Path(sys.argv[2])
KINDS = {"tensorflow": "multi_worker", "jax": "data_parallel"}
SETTINGS = {**replicas.SGD, "batch_size": 16}
EXAMPLES, STEPS = 117, 30


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    models = [word for word in sys.argv[3:] if word in replicas.MODELS]
    trainers = [word for word in sys.argv[3:] if word in replicas.TRAINERS]
    from kzoo import distribution

    where = distribution.resolve(KINDS[BACKEND])
    marker = FOLDER / "killed-once"
    if not marker.exists():
        found = {model: together(where, model) for model in models}
        told = {"shard": where.shard, "models": found, "keras": keras_alone(where)}
        told["trainers"] = {name: whole_run(where, name) for name in trainers}
        path = FOLDER / f"rank-{where.shard[0]}.json"
        path.write_text(json.dumps(told))
    if "--kill" in sys.argv:
        run(models[0], "undisturbed", [])
        run(models[0], "killed", [KillOnce(where, marker)], snapshot_every="4")


def together(where: Any, model: str) -> dict[str, Any]:
    """Trains with the others; the first compares with what it trains alone."""
    ids: list[list[int]] = []
    rows = {}  # bytes of an input -> its example

    def record(change: Any) -> None:
        examples = change_inputs(model)
        rows.update({row.tobytes(): i for i, row in enumerate(examples)})
        watch(change, lambda x: ids.append([rows[row.tobytes()] for row in x]))

    many = replicas.trained(
        KINDS[BACKEND], model, SETTINGS, EXAMPLES, STEPS, change=record
    )
    found = {
        "ids": ids,
        "loss": many["loss"],
        "outputs": many["outputs"].tolist(),
        "weights": {k: v.astype("float64").sum() for k, v in many["weights"].items()},
    }
    if where.is_chief:
        one = replicas.trained("none", model, SETTINGS, EXAMPLES, STEPS)
        found["apart"] = replicas.apart(one, many)
        found["expected"] = expected_ids(model)
    return found


def whole_run(where: Any, name: str) -> dict[str, Any]:
    """A trainer's run with the others; the first also does it alone, and compares."""
    train = replicas.TRAINERS[name]
    if name in ("distill", "relations") and where.is_chief:
        replicas.teacher_in(FOLDER / "teacher")
    with where.scope():
        where.from_chief(str)  # until the teacher is there
    many = train(KINDS[BACKEND], FOLDER / name)
    if not where.is_chief:
        return {}
    one = train("none", FOLDER / f"{name}-alone")
    return replicas.runs_apart(one, many) | replicas.magnified(name, one, many, FOLDER)


def keras_alone(where: Any) -> str:
    """How Keras's ``fit`` ends under this strategy without our mend."""
    if BACKEND != "tensorflow":
        return ""
    import keras

    batch = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")

    class Same(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index: int) -> Any:
            return batch

    with where.strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        try:
            model.fit(where.fed(Same()), steps_per_epoch=2, verbose=0)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "it works"


def change_inputs(model: str) -> np.ndarray:
    """The training inputs as a model sees them."""
    planned = planned_as(model)
    inputs = planned.dataset.splits["train"].inputs
    return np.asarray(planned.dataset.preprocessing.inputs(inputs))


def expected_ids(model: str) -> list[list[int]]:
    """The global batch of each step, which one process would train."""
    planned = planned_as(model)
    batches = planned.dataset.train_batches(SETTINGS["batch_size"], seed=0)
    return [batches.indices(step).tolist() for step in range(STEPS)]


def planned_as(model: str) -> Any:
    from kzoo.training import plan

    settings = {**replicas.MODELS[model], **SETTINGS}
    return plan(model, replicas.data(model, EXAMPLES), settings=settings)


def watch(model: Any, told: Any) -> None:
    """Hands the rows that enter this process's training steps to ``told``."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        step = model.train_step

        def watched(data: Any) -> Any:
            noted = tf.numpy_function(lambda x: (told(x), 0)[1], [data[0]], tf.int64)
            with tf.control_dependencies([noted]):
                return step(data)

        model.train_step = watched
        return
    make = model.make_train_function

    def made(force: bool = False) -> None:
        make(force)
        function = model.train_function

        def watched_function(state: Any, batches: Any) -> Any:
            data = next(batches)
            shards = sorted(data[0].addressable_shards, key=lambda s: s.index[0].start)
            told(np.concatenate([np.asarray(shard.data) for shard in shards]))
            return function(state, iter([data]))

        model.train_function = watched_function

    model.make_train_function = made


def run(model: str, name: str, callbacks: list[Any], **settings: Any) -> None:
    """A whole run, with dropout and EMA."""
    import kzoo

    kzoo.train(
        model,
        replicas.data(model, EXAMPLES),
        out=FOLDER / name,
        distribution=KINDS[BACKEND],
        callbacks=callbacks,
        **{**replicas.MODELS[model], "dropout_rate": 0.3},
        batch_size=16,
        epochs=3,
        ema=0.9,
        **settings,
    )


def KillOnce(where: Any, marker: Path) -> Any:  # noqa: N802 - a class, made late
    import keras

    class Kill(keras.callbacks.Callback):
        remembered = False
        steps = 0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            last = where.shard[0] == where.shard[1] - 1
            # The 14th of 24 steps: inside the second epoch, two after a snapshot.
            if last and self.steps == 14 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    return Kill()


if __name__ == "__main__":
    main()
