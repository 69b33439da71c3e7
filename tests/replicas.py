"""Trains on one device and on many, and prints how far apart the weights end.

    python tests/replicas.py BACKEND REPLICAS CASE ...

One process for many cases, since device settings are a process's own. Each line that it
prints is the JSON of one case; ``tests/test_distribution.py`` says what they must be.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

BACKEND, REPLICAS, MANY = "", 1, ""  # of this process, by main
OFF = 0  # a seed of rounding noise in the data; 0 = none
UNIT = 2.0**-24  # float32's unit round-off
BAR = 1e-5  # how far apart weights end by rounding, where training does not magnify it

MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"filters": (4, 8), "num_convs": 1, "dense_units": 8, "dropout_rate": 0.0},
    "cnn_1d": {"filters": (4,), "num_convs": 1, "dense_units": 0, "dropout_rate": 0.0},
    "lstm": {"units": 8, "num_layers": 1, "dropout_rate": 0.0},
    "mlp": {"units": (8,)},
    "transformer": {
        "hidden_dim": 8,
        "num_heads": 2,
        "mlp_dim": 16,
        "num_layers": 1,
        "dropout_rate": 0.0,
    },
}
SGD = {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "constant"}
ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.01}


def prepare() -> None:
    """Virtual devices, before the backend starts."""
    os.environ["KERAS_BACKEND"] = BACKEND
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if BACKEND == "jax":
        # Devices wait for one another; on a busy machine longer than XLA's 40 seconds.
        flag = (
            f"--xla_force_host_platform_device_count={REPLICAS} "
            "--xla_cpu_collective_call_terminate_timeout_seconds=600"
        )
        # Beside what the machine or the caller asks of XLA.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
        return
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    tf.config.set_logical_device_configuration(cpu, parts)


def data(model: str, examples: int) -> dict[str, Any]:
    """Splits of noise; tokens of cnn_1d end in padding of several lengths."""
    rng = np.random.RandomState(0)
    noise = np.random.RandomState(OFF)
    shape = {"cnn": (8, 8, 1), "mlp": (8,), "cnn_1d": (7,)}.get(model, (6, 3))
    splits = {}
    for split, n in (("train", examples), ("validation", 9), ("test", 27)):
        if model == "cnn_1d":
            inputs = rng.randint(1, 11, (n, *shape)).astype("int32")
            for i, row in enumerate(inputs):
                row[7 - i % 5 :] = 0
        else:
            inputs = rng.standard_normal((n, *shape)).astype("float32")
            if OFF:
                inputs *= 1 + noise.uniform(-UNIT, UNIT, inputs.shape)
        splits[split] = (inputs, rng.randint(0, 4, n))
    return splits


def trained(
    distribution: str,
    model: str,
    settings: dict[str, Any],
    examples: int,
    steps: int,
    change: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """Weights, the loss of the run and the outputs of the test split."""
    import keras

    from kzoo import distribution as distributions
    from kzoo.training import compiling, feeding, fit, plan
    from kzoo.training.evaluate import split_answers
    from kzoo.weights import weights_by_path

    keras.utils.clear_session()
    where = distributions.resolve(distribution)
    planned = plan(model, data(model, examples), settings={**MODELS[model], **settings})
    where.check(planned.recipe.batch_size, planned.recipe.batch_norm)
    with fit.seeded(0), where.scope(planned.layout):
        made = compiling.compiled(planned)
        where.adapt(made, planned.recipe.batch_norm)
        if change is not None:
            change(made)
        history = made.fit(
            where.fed(feeding.TrainingSequence(planned.dataset, planned.recipe)),
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
        )
        with where.settled(made):
            weights = weights_by_path(made)
            found = split_answers(made, planned.dataset, "test", batch_size=10)
    return {
        "weights": weights,
        "loss": history.history["loss"][0],
        "outputs": found.outputs,
    }


def apart(one: dict[str, Any], many: dict[str, Any]) -> dict[str, Any]:
    """‖a - b‖ / ‖b‖ of the worst tensor, and what else the two runs differ in.

    The bias of a key has no gradient: softmax ignores it. What an optimizer makes of
    that is rounding, so it is left out.
    """
    a, b = one["weights"], many["weights"]
    distances = {
        name: float(np.linalg.norm(a[name] - b[name]) / np.linalg.norm(a[name]))
        for name in a
        if not name.endswith("_key/bias")
    }
    worst = max(distances, key=distances.__getitem__)
    return {
        "worst": worst,
        "distance": distances[worst],
        "loss": abs(one["loss"] - many["loss"]),
        "outputs": float(np.abs(one["outputs"] - many["outputs"]).max()),
        "rows": len(many["outputs"]),
    }


def compared(
    model: str, settings: dict[str, Any], examples: int = 240, steps: int = 30
) -> dict[str, Any]:
    return apart(
        trained("none", model, settings, examples, steps),
        trained(MANY, model, settings, examples, steps),
    )


def unscaled() -> dict[str, Any]:
    """A loss that each replica takes the mean of, as if it were alone."""
    import keras

    class Unscaled(keras.losses.Loss):
        def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            from kzoo.losses.task import cross_entropy

            return keras.ops.mean(cross_entropy(y_true, y_pred))

    def change(model: Any) -> None:
        model.compile(optimizer=model.optimizer, loss=Unscaled())

    settings = {**SGD, "batch_size": 16}
    return apart(
        trained("none", "mlp", settings, 240, 30, change),
        trained(MANY, "mlp", settings, 240, 30, change),
    )


def local() -> dict[str, Any]:
    """Statistics of each replica's own rows, against numpy.

    With a learning rate of 0 the first normalisation sees the same convolution at every
    step: its variance is the mean of the variances of the halves.
    """
    settings = {**SGD, "learning_rate": 0.0, "batch_size": 16, "batch_norm": "local"}
    momenta = []

    def note(model: Any) -> None:  # a short run has less of it than Keras's 0.99
        momenta.append(model.get_layer("stage_0_block_0_norm").momentum)

    weights = trained(MANY, "cnn", settings, 16, 1, note)["weights"]
    kernel = weights["stage_0_block_0_conv/kernel"]  # (3, 3, 1, 4)
    images = data("cnn", 16)["train"][0]
    order = index_of_first_step(16)
    padded = np.pad(images[order], ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    outputs = np.einsum("bhwcij,ijcf->bhwf", windows, kernel)
    shares = np.split(outputs, REPLICAS)
    (momentum,) = momenta
    expected = momentum + (1 - momentum) * np.mean(
        [share.var(axis=(0, 1, 2)) for share in shares], axis=0
    )
    whole = momentum + (1 - momentum) * outputs.var(axis=(0, 1, 2))
    found = weights["stage_0_block_0_norm/moving_variance"]
    return {
        "distance": float(np.abs(found - expected).max()),
        "from_synchronized": float(np.abs(found - whole).max()),
    }


def index_of_first_step(batch_size: int) -> np.ndarray:
    from kzoo.training import plan

    planned = plan("cnn", data("cnn", batch_size), settings=MODELS["cnn"])
    batches = planned.dataset.train_batches(batch_size, seed=0)
    return batches.indices(0)


def whole_runs(name: str, kind: str) -> dict[str, Any]:
    """How far apart a trainer's runs end, on one device and on many."""
    with tempfile.TemporaryDirectory() as folder:
        one, many = (
            TRAINERS[name](each, Path(folder) / each) for each in ("none", kind)
        )
        return runs_apart(one, many) | magnified(name, one, many, Path(folder))


def magnified(name: str, one: Path, many: Path, folder: Path) -> dict[str, float]:
    """How far a trainer carries a rounding of its data, if two runs are past ``BAR``.

    The same run on one device three times more, each number of its data off by up to
    ``UNIT`` of itself; the farthest. Relations between examples magnify rounding.
    """
    global OFF
    if runs_apart(one, many)["distance"] <= BAR:
        return {}
    farthest = 0.0
    try:
        for OFF in (1, 2, 3):
            off = TRAINERS[name]("none", folder / f"off-{OFF}")
            farthest = max(farthest, runs_apart(one, off)["distance"])
    finally:
        OFF = 0
    return {"rounding": farthest}


def runs_apart(one: Path, many: Path) -> dict[str, Any]:
    """‖a - b‖ / ‖b‖ of the worst tensor that two runs left."""
    a, b = (load_file(run / "model" / "model.safetensors") for run in (one, many))
    distances = {
        path: float(np.linalg.norm(a[path] - b[path]) / np.linalg.norm(a[path]))
        for path in a
        if not path.endswith("_key/bias")  # as in apart
    }
    worst = max(distances, key=distances.__getitem__)
    return {"worst": worst, "distance": distances[worst]}


def sharded() -> dict[str, Any]:
    """The transformer on two rows of four devices: its bytes, and the same losses."""
    import keras

    from kzoo import distribution as distributions
    from kzoo.distribution.layouts import bytes_by_device
    from kzoo.training import compiling, plan

    wide = {**MODELS["transformer"], "hidden_dim": 16, "num_heads": 4, "mlp_dim": 32}
    settings = {**SGD, "batch_size": 16}
    one = trained("none", "transformer", {**settings, **wide}, 240, 30)
    many = trained("model_parallel:4", "transformer", {**settings, **wide}, 240, 30)
    keras.utils.clear_session()
    where = distributions.resolve("model_parallel:4")
    planned = plan("transformer", data("transformer", 240), settings=wide)
    with where.scope(planned.layout):
        model = compiling.compiled(planned)
        model.optimizer.build(model.trainable_variables)
        cut = [w for w in model.weights if "kernel" in w.path and w.path[0] == "b"]
        held = {
            "kernels": (sum(w.value.nbytes for w in cut), bytes_by_device(cut)),
            "all": (
                sum(w.value.nbytes for w in model.weights),
                bytes_by_device(model.weights),
            ),
        }
    errors = []
    for layout in ({r"block_0_qery/kernel": (None, "model")}, {}):
        try:
            with where.scope(layout):
                where.adapt(model, "synchronized")
        except ValueError as error:
            errors.append(str(error))
    return {**apart(one, many), "held": held, "errors": errors}


WHOLE: dict[str, Any] = {
    **MODELS["mlp"],
    **SGD,
    "batch_size": 16,
    "epochs": 2,
    "ema": 0.9,
}


def run_train(kind: str, folder: Path) -> Path:
    """Stopped in the middle of an epoch; the same call goes on."""
    import keras

    import kzoo

    class Stop(keras.callbacks.Callback):
        remembered = False

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if self.model.optimizer.iterations == 11:
                raise KeyboardInterrupt

    def go(out: Path, *callbacks: Any) -> Path:
        keras.utils.clear_session()
        run = kzoo.train(
            "mlp",
            data("mlp", 117),
            out=out,
            distribution=kind,
            callbacks=callbacks,
            snapshot_every="3",
            **WHOLE,
        )
        return run.folder

    whole = go(folder / "whole")
    with suppress(KeyboardInterrupt):
        go(folder / "stopped", Stop())
    assert list((folder / "stopped" / "snapshots").glob("step-*"))
    stopped = go(folder / "stopped")
    files = [path / "model" / "model.safetensors" for path in (whole, stopped)]
    if files[0].read_bytes() != files[1].read_bytes():
        raise ValueError(f"a stopped run ends otherwise under {kind}")
    alone = kzoo.evaluate(whole, data("mlp", 117))
    shared = kzoo.evaluate(whole, data("mlp", 117), batch_size=10, distribution=kind)
    if abs(alone["loss"] - shared["loss"]) > 1e-6:
        raise ValueError(f"scores under {kind}: {shared}, alone: {alone}")
    return whole


def teacher_in(folder: Path) -> Path:
    """A model folder: what a run leaves beside its model, nobody needs."""
    import kzoo

    run = kzoo.train("mlp", data("mlp", 117), out=folder, epochs=1, units=(16,))
    return run.folder / "model"


def run_distill(kind: str, folder: Path, method: str = "kd") -> Path:
    import keras

    import kzoo

    teacher = folder.parent / "teacher" / "model"
    if not teacher.exists():
        teacher_in(teacher.parent)
    keras.utils.clear_session()
    run = kzoo.distill(
        teacher,
        "mlp",
        data("mlp", 117),
        method,
        out=folder,
        distribution=kind,
        **WHOLE,
    )
    return run.folder


def run_relations(kind: str, folder: Path) -> Path:
    """How examples stand to one another, on whichever replica they are."""
    return run_distill(kind, folder, "dist+pkt")


def run_mutual(kind: str, folder: Path) -> Path:
    import kzoo

    run = kzoo.distill(
        "self", "mlp", data("mlp", 117), "mutual", folder, distribution=kind, **WHOLE
    )
    return run.folder


def run_tune(kind: str, folder: Path) -> Path:
    import kzoo

    sweep = kzoo.tune(
        "mlp",
        data("mlp", 117),
        trials=1,  # the recipe as it is
        prune="none",
        out=folder,
        distribution=kind,
        **WHOLE,
    )
    return sweep.best_run.folder


def run_denoising(kind: str, folder: Path) -> Path:
    import kzoo

    settings = {**SGD, **MODELS["cnn"], "batch_size": 16, "epochs": 2}
    run = kzoo.pretrain(
        "cnn", data("cnn", 61), "denoising", folder, distribution=kind, **settings
    )
    return run.folder


def run_contrastive(kind: str, folder: Path) -> Path:
    """What an example is told from are all others of the batch, on any replica."""
    import kzoo

    settings = {**SGD, **MODELS["mlp"], "batch_size": 16, "epochs": 2}
    settings |= {"augmentation": ("shift", "flip")}
    run = kzoo.pretrain(
        "mlp", data("cnn", 61), "contrastive", folder, distribution=kind, **settings
    )
    return run.folder


def run_masked_image(kind: str, folder: Path) -> Path:
    import kzoo

    settings = {**SGD, "batch_size": 16, "epochs": 2, "dropout_rate": 0.0}
    settings |= {"patch_size": 2, "num_layers": 1, "hidden_dim": 8, "num_heads": 2}
    run = kzoo.pretrain(
        "vit_lite_2",
        data("cnn", 61),
        "masked_image",
        folder,
        options={"decoder_dim": 8, "decoder_layers": 1, "decoder_heads": 2},
        distribution=kind,
        **{**settings, "mlp_dim": 8, "augmentation": ()},
    )
    return run.folder


def texts() -> Any:
    """As many tokens are hidden as a text is long: replicas hide unequal numbers."""
    import kzoo

    rng = np.random.RandomState(0)
    splits = {}
    for split, n in (("train", 61), ("validation", 9), ("test", 9)):
        lengths = rng.randint(3, 25, n)
        rows = ["".join(rng.choice(list("abcde"), length)) for length in lengths]
        splits[split] = np.array(rows, object), rng.randint(0, 2, n)
    return kzoo.load_dataset(splits, tokenizer="character", max_length=24)


def run_masked_tokens(kind: str, folder: Path, **changes: Any) -> Path:
    import kzoo

    settings = {**SGD, **MODELS["transformer"], "batch_size": 16, "epochs": 2}
    settings |= {"clip": 0.0}  # see docs/scaling.md
    changes = {"objective": "masked_tokens", **changes}
    run = kzoo.pretrain(
        "transformer",
        texts(),
        out=folder,
        distribution=kind,
        **{**settings, **changes},
    )
    return run.folder


def run_replaced_token(kind: str, folder: Path) -> Path:
    """The generator's draws are the batch's, not each replica's own."""
    sizes = {"generator_dim": 8, "generator_heads": 2}
    return run_masked_tokens(
        kind, folder, objective="replaced_token", options=sizes, learning_rate=0.005
    )


def run_fixmatch(kind: str, folder: Path) -> Path:
    import kzoo

    settings = {**MODELS["mlp"], **SGD, "batch_size": 64, "epochs": 1}
    settings |= {"labels_per_class": 3, "unlabelled": "fixmatch", "confidence": 0.15}
    settings |= {"dropout_rate": 0.0}
    run = kzoo.train("mlp", "digits", out=folder, distribution=kind, **settings)
    return run.folder


def run_translation(kind: str, folder: Path) -> Path:
    """What is scored is what the model writes, step by step, on every process."""
    import kzoo

    dates = kzoo.load_dataset("dates", examples=100)
    sizes = {"hidden_dim": 8, "num_heads": 2, "mlp_dim": 8, "num_layers": 1}
    run = kzoo.train(
        "transformer_seq2seq",
        dates,
        out=folder,
        distribution=kind,
        **{**sizes, **SGD, "dropout_rate": 0.0, "batch_size": 16, "epochs": 1},
        warmup_steps=0,
        clip=0.0,  # see docs/scaling.md
    )
    return run.folder


# A new trainer adds a line.
TRAINERS: dict[str, Callable[[str, Path], Path]] = {
    "train": run_train,
    "distill": run_distill,
    "relations": run_relations,
    "mutual": run_mutual,
    "tune": run_tune,
    "denoising": run_denoising,
    "contrastive": run_contrastive,
    "masked_image": run_masked_image,
    "masked_tokens": run_masked_tokens,
    "replaced_token": run_replaced_token,
    "fixmatch": run_fixmatch,
    "translation": run_translation,
}

CASES: dict[str, Callable[[], dict[str, Any]]] = {
    f"{model}-{name}": lambda m=model, o=optimizer: compared(m, {**o, "batch_size": 16})
    for model in MODELS
    for name, optimizer in (("sgd", SGD), ("adamw", ADAMW))
}
CASES |= {
    f"{model}-{examples}-at-{size}": lambda m=model, e=examples, s=size: compared(
        m, {**SGD, "batch_size": s}, e, 2 * -(-e // s)
    )
    for model in MODELS
    for examples, size in ((61, 56), (117, 16))
}
CASES |= {f"trainer-{n}": lambda n=n: whole_runs(n, MANY) for n in TRAINERS}
CASES |= {
    f"trainer-{n}-sharded": lambda n=n: whole_runs(n, "model_parallel:4")
    for n in TRAINERS
}
CASES |= {
    "clip": lambda: compared("mlp", {**SGD, "batch_size": 16, "clip": 0.05}),
    "accumulation": lambda: compared(
        "mlp", {**SGD, "batch_size": 16, "gradient_accumulation": 2, "clip": 0.05}
    ),
    "float16": lambda: compared(
        "mlp", {**SGD, "batch_size": 16, "precision": "mixed_float16"}
    ),
    "local": local,
    "sharded": sharded,
    "dropout": lambda: compared("mlp", {**SGD, "batch_size": 16, "dropout_rate": 0.5}),
    "unscaled": unscaled,
}


def main() -> None:
    global BACKEND, REPLICAS, MANY
    BACKEND, REPLICAS = sys.argv[1], int(sys.argv[2])
    MANY = "mirrored" if BACKEND == "tensorflow" else "data_parallel"
    prepare()
    for name in sys.argv[3:]:
        try:
            found = CASES[name]()
        except ValueError as error:
            found = {"error": str(error)}
        print(json.dumps({"case": name, **found}), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
