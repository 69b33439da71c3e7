"""How fast batches come, beside tf.data and Grain; needs the extra ``benchmarks``.

    python benchmarks/input_pipeline.py                    # everything, about 8 minutes
    python benchmarks/input_pipeline.py --only arrays,files --rounds 3

arrays   20,000 images of 32x32 in memory, shuffled, shifted by up to 4 pixels and
         flipped, scaled to [0, 1], in batches of 256
files    10,000 JPEG files of 200 to 300 pixels, which are written first; decoded,
         brought to 128x128 with the same filter, shuffled, flipped, in batches of 64
memory   ten passes over an array_record set that is larger than what may stay in memory
step     a training step of cnn on digits, beside one on the same batch all along

Pipelines take turns, each turn a process of its own: none makes batches ahead while
another is timed. Beside the rate stands the processor time that an example takes, of
all threads, which hangs less on what else the machine does. tf.data maps examples in
parallel with AUTOTUNE and prefetches; Grain runs with threads and with processes, and
its faster one counts. "tf.data, aliased" leaves out the filter before images are made
smaller; it shows what that costs, and is compared with nobody.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import kzoo
from kzoo.datasets.loading import Prefetched, num_cores

Pipeline = Callable[[], Iterator[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="arrays,files,memory,step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="each turn")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # case:pipeline
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.one:
        print(json.dumps(turn(parsed.one, parsed.root, parsed.seconds)))
        return
    chosen = parsed.only.split(",")
    print(f"{num_cores()} cores")
    if "arrays" in chosen:
        race("arrays", ARRAYS, Path(), parsed.rounds, parsed.seconds)
    with tempfile.TemporaryDirectory() as folder:
        if "files" in chosen:
            root = Path(folder) / "photographs"
            write_photographs(root, parsed.files)
            race("files", FILES, root, parsed.rounds, parsed.seconds)
        if "memory" in chosen:
            memory(Path(folder))
    if "step" in chosen:
        step(parsed.rounds)


ARRAYS = ("kzoo", "tf.data", "grain, threads", "grain, processes")
FILES = (*ARRAYS, "tf.data, aliased")
WARM_UP = 3.0  # seconds of each turn
BATCH_SIZE = {"arrays": 256, "files": 64}


def race(
    title: str, names: Sequence[str], root: Path, rounds: int, seconds: float
) -> None:
    """Prints examples a second of each, in turns, and kzoo's against the best other."""
    found: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--one", f"{title}:{name}"]
            command += ["--root", str(root), "--seconds", str(seconds)]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            )
            rate, cost = json.loads(done.stdout.splitlines()[-1])
            found[name].append(rate)
            costs[name].append(cost)
    print(f"\n{title}: examples a second, the median of {rounds} turns")
    medians = {name: float(np.median(rates)) for name, rates in found.items()}
    for name, rate in medians.items():
        cost = f"{np.median(costs[name]):7,.1f} us of processor"
        cost = "" if "processes" in name else cost  # those of others are not seen
        print(f"  {name:22} {rate:10,.0f} {cost}")
    apart = ("kzoo", "tf.data, aliased")
    others = {name: rate for name, rate in medians.items() if name not in apart}
    best = max(others, key=lambda name: others[name])
    print(f"  kzoo / {best}: {medians['kzoo'] / others[best]:.2f}", flush=True)


def turn(one: str, root: Path, seconds: float) -> tuple[float, float]:
    """Examples a second of one pipeline, and microseconds of processor for each."""
    title, _, name = one.partition(":")
    made = arrays_pipelines() if title == "arrays" else files_pipelines(root)
    iterator = made[name]()
    ready = time.perf_counter() + WARM_UP
    while time.perf_counter() < ready:  # AUTOTUNE settles, workers start
        next(iterator)
    started, batches, before = time.perf_counter(), 0, time.process_time()
    while time.perf_counter() - started < seconds:
        next(iterator)
        batches += 1
    examples = batches * BATCH_SIZE[title]
    rate = examples / (time.perf_counter() - started)
    return rate, (time.process_time() - before) / examples * 1e6


# --- arrays -----------------------------------------------------------------------


def arrays_pipelines() -> dict[str, Pipeline]:
    """The same work by each library."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20_000, 32, 32, 3)).astype("uint8")
    labels = rng.integers(0, 10, 20_000).astype("int32")

    def ours() -> Iterator[Any]:
        splits = {"train": (images, labels)}
        splits |= dict.fromkeys(("validation", "test"), (images[:99], labels[:99]))
        data = kzoo.load_dataset(splits).augmented("shift", "flip")
        return iter(Prefetched(data.train_batches(256, 0)))

    def tensorflow() -> Iterator[Any]:
        import tensorflow as tf

        def augmented(image: Any, label: Any) -> Any:
            image = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
            image = tf.image.random_crop(image, (32, 32, 3))
            image = tf.image.random_flip_left_right(image)
            return tf.cast(image, "float32") / 255, label

        data = tf.data.Dataset.from_tensor_slices((images, labels))
        data = data.shuffle(20_000).repeat()
        data = data.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
        data = data.batch(256, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
        return iter(data.as_numpy_iterator())

    def augmented(i: int, rng: np.random.Generator) -> Any:
        image = np.pad(images[i], ((4, 4), (4, 4), (0, 0)))
        top, left = rng.integers(0, 9, 2)
        image = image[top : top + 32, left : left + 32]
        if rng.random() < 0.5:
            image = image[:, ::-1]
        return image.astype("float32") / np.float32(255), labels[i]

    return {
        "kzoo": ours,
        "tf.data": tensorflow,
        **grain_pipelines(20_000, augmented, BATCH_SIZE["arrays"]),
    }


def grain_pipelines(
    examples: int, made: Callable[..., Any], batch_size: int
) -> dict[str, Pipeline]:
    """Grain with threads, and with a process a core."""
    import grain
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # Grain's processes read one

    def source() -> Any:
        data = grain.MapDataset.range(examples).shuffle(seed=0).repeat()
        return data.seed(0).random_map(made).batch(batch_size, drop_remainder=True)

    def threads() -> Iterator[Any]:
        options = grain.ReadOptions(num_threads=num_cores(), prefetch_buffer_size=8)
        return iter(source().to_iter_dataset(options))

    def processes() -> Iterator[Any]:
        options = grain.MultiprocessingOptions(num_workers=num_cores())
        return iter(source().to_iter_dataset().mp_prefetch(options))

    return {"grain, threads": threads, "grain, processes": processes}


# --- files ------------------------------------------------------------------------


def write_photographs(root: Path, count: int) -> None:
    """JPEG files in ten folders, of smooth colours with some noise."""
    rng = np.random.default_rng(0)
    for name in range(10):
        (root / str(name)).mkdir(parents=True)
    for i in range(count):
        height, width = rng.integers(200, 301, 2)
        small = rng.integers(0, 256, (12, 12, 3)).astype("uint8")
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        noise = rng.integers(-6, 7, (height, width, 1))
        pixels = (np.asarray(image, "int16") + noise).clip(0, 255).astype("uint8")
        Image.fromarray(pixels).save(root / str(i % 10) / f"{i}.jpg", quality=90)


def files_pipelines(root: Path) -> dict[str, Pipeline]:
    """The same work by each library; nothing that was decoded stays in memory."""
    files = sorted(root.glob("*/*.jpg"))
    labels = np.array([int(file.parent.name) for file in files], "int32")

    def ours() -> Iterator[Any]:
        data = kzoo.load_dataset(f"folder:{root}", image_size=128, memory=0)
        return iter(Prefetched(data.augmented("flip").train_batches(64, 0)))

    def tensorflow(antialias: bool) -> Pipeline:
        def made() -> Iterator[Any]:
            import tensorflow as tf

            def read(path: Any, label: Any) -> Any:
                image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
                shape = tf.shape(image)
                side = tf.minimum(shape[0], shape[1])
                top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
                image = image[top : top + side, left : left + side]
                image = tf.image.resize(image, (128, 128), antialias=antialias)
                image = tf.image.random_flip_left_right(image)
                return image / 255, label

            names = [str(file) for file in files]
            data = tf.data.Dataset.from_tensor_slices((names, labels))
            data = data.shuffle(len(files)).repeat()
            data = data.map(read, num_parallel_calls=tf.data.AUTOTUNE)
            data = data.batch(64, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
            return iter(data.as_numpy_iterator())

        return made

    def read(i: int, rng: np.random.Generator) -> Any:
        with Image.open(files[i]) as image:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.convert("RGB").resize(
                (128, 128),
                Image.Resampling.BILINEAR,
                (left, top, left + side, top + side),
            )
        pixels = np.asarray(image)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return pixels.astype("float32") / np.float32(255), labels[i]

    return {
        "kzoo": ours,
        "tf.data": tensorflow(True),
        **grain_pipelines(len(files), read, BATCH_SIZE["files"]),
        "tf.data, aliased": tensorflow(False),
    }


# --- memory -----------------------------------------------------------------------

WRITER = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class Noise(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(96, 96, 3)),
                    "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(2500),
                "test": self._generate_examples(100)}

    def _generate_examples(self, count):
        rng = np.random.default_rng(count)
        for i in range(count):
            file = io.BytesIO()
            noise = rng.integers(0, 256, (96, 96, 3)).astype("uint8")
            Image.fromarray(noise).save(file, "JPEG", quality=90)
            yield i, {"image": file.getvalue(), "label": i % 10}

Noise(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
"""


def memory(folder: Path) -> None:
    """Prints the memory in use after each of ten passes over a streamed set."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    cap = 32
    data = kzoo.load_dataset("noise", data_dir=str(folder), memory=cap)
    data = data.augmented("flip")
    steps, used = data.steps_per_epoch(64), []
    with Prefetched(data.train_batches(64, 0)) as batches:
        for i in range(10 * steps):
            _ = batches[i]
            if (i + 1) % steps == 0:
                used.append(resident())
    size = len(data.splits["train"]) * 96 * 96 * 3 / 2**20
    print(f"\nmemory: {size:.0f} MiB of images, of which {cap} may stay")
    print("  MiB after each pass  ", "  ".join(f"{one:.0f}" for one in used))
    growth = used[-1] - used[0]
    print(f"  from the first to the last pass: {growth:+.1f} MiB", flush=True)


def resident() -> float:
    """MiB of memory that this process has now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


# --- a training step --------------------------------------------------------------


def step(rounds: int) -> None:
    """Prints what making batches adds to a training step of cnn on digits."""
    import keras

    from kzoo.training import plan
    from kzoo.training.compiling import compiled
    from kzoo.training.feeding import TrainingSequence

    planned = plan("cnn", "digits", settings={"ema": 0.0})
    model = compiled(planned)

    class Same(keras.utils.PyDataset):
        def __init__(self, batch: Any) -> None:
            super().__init__()
            self.batch = batch

        @property
        def num_batches(self) -> None:
            return None

        def __getitem__(self, i: int) -> Any:
            return self.batch

    def timed(batches: Any, steps: int = 100) -> float:
        started = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        return (time.perf_counter() - started) / steps

    def sequence() -> Any:
        return TrainingSequence(planned.dataset, planned.recipe)

    first = sequence()
    same = Same(first[0])
    first.close()
    timed(same)
    pairs = []
    for i in range(2 * rounds):
        batches = sequence()
        if i % 2:
            pairs.append((timed(same), timed(batches)))
        else:
            pairs.append((timed(batches), timed(same))[::-1])
        batches.close()
    bare, made = (np.median(one) * 1e3 for one in zip(*pairs, strict=True))
    ratio = np.median([made / bare for bare, made in pairs])
    print(
        f"\nstep of cnn on digits, {keras.config.backend()}: the same batch all along"
    )
    print(f"  {bare:.2f} ms, batches made {made:.2f} ms; median ratio {ratio:.3f}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
