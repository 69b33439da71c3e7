"""What ``model.save("t.keras")`` wrote, read again by another process."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo.registry import find_family

READ = """
import sys
from pathlib import Path
import kzoo.registry
import keras, numpy as np
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    model = keras.saving.load_model(path)
    given = dict(np.load(path.with_suffix(".npz")))
    answer = given.pop("answer")
    found = model(given if len(given) > 1 else next(iter(given.values())))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found), answer, atol=1e-5, rtol=1e-5
    )
    print(path.stem)
"""
NAMES = ("bert_base", "lstm", "transformer", "vit_tiny_16")


@pytest.mark.slow
def test_files_need_kzoos_layers_and_nothing_else(tmp_path: Path) -> None:
    for name in NAMES:
        model = kzoo.build_model(name, **find_family(name).smallest.to_json())
        rng = np.random.default_rng(0)
        given = {
            tensor.name: rng.integers(
                1, 2, (2, *(size or 5 for size in tensor.shape[1:]))
            ).astype(tensor.dtype)
            for tensor in model.inputs
        }
        answer = model(given if len(given) > 1 else next(iter(given.values())))
        answer = keras.ops.convert_to_numpy(answer)
        np.savez(tmp_path / f"{name}.npz", answer=answer, **given)
        model.save(tmp_path / f"{name}.keras")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(NAMES)
