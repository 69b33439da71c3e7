"""Whether each network of images learns eight digits by heart, in 20 steps.

    python benchmarks/overfit.py                 all with fewer than 30 M weights
    python benchmarks/overfit.py resnet50 b0     those whose name has one of these in it

The loss has to fall under a fifth, with nothing that drops at random, at the first of
four learning rates of Adam that does it. A process for each network; each of the 8x8
pixels stands four times side by side and below each other, and the stem is the small
one but for three.
"""

import subprocess
import sys
import time
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

import kzoo

MOST = 30e6
RATES = (2e-3, 5e-4, 1e-4, 1e-2)
ENLARGED = 4
# Made for 32x32 pixels; or with patches of 32x32, which after the small stem would have
# more weights than all the rest.
OWN_STEM = ("lenet5", "mlp_mixer_small_32", "vit_small_32")


def losses(name: str) -> None:
    """Prints the first and the last loss of one network, and the learning rate."""
    images, labels = load_digits(return_X_y=True)
    images = images[:8].reshape(8, 8, 8, 1).astype("float32") / 8 - 1
    images = images.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    known = [one["name"] for one in kzoo.describe(name)["hparams"]]
    words: dict[str, Any] = {key: 0.0 for key in known if "drop" in key}
    if "stem" in known and name not in OWN_STEM:
        words["stem"] = "small"
    words |= {"channels": 1, "num_classes": 10, "image_size": images.shape[1]}
    for rate in RATES:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        model = kzoo.build_model(name, **words)
        model.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        done = model.fit(
            images, labels[:8], batch_size=8, epochs=20, shuffle=False, verbose=0
        )
        first, last = done.history["loss"][0], done.history["loss"][-1]
        if last < first / 5:
            break
    verdict = "yes" if last < first / 5 else "**no**"
    print(f"| `{name}` | {first:.2f} | {last:.4f} | {rate:g} | {verdict} |", end="")


def main(words: list[str]) -> None:
    """A row a network."""
    names = [
        name
        for name in kzoo.list_models(task="image-classification")
        if kzoo.describe(name)["trainable_parameters"] < MOST
        and kzoo.describe(name)["family"] != "mlp"
        and (not words or any(word in name for word in words))
    ]
    print("| | first loss | after 20 steps | learning rate | under a fifth | s |")
    print("|---|---|---|---|---|---|", flush=True)
    took = []
    for name in names:
        started = time.perf_counter()
        command = [sys.executable, __file__, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took.append(time.perf_counter() - started)
        why = (done.stderr.splitlines() or [f"exit {done.returncode}"])[-1]
        row = done.stdout or f"| `{name}` | **{why}** |||| |"
        print(f"{row} {took[-1]:.0f} |", flush=True)
    print(f"\n{len(names)} networks, {np.sum(took):.0f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        losses(sys.argv[2])
    else:
        main(sys.argv[1:])
