"""Fine-tuning at a pace that hangs on the place: layer_decay and unfreeze_epochs."""

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.training.finetune import depths
from kzoo.training.plan import plan
from kzoo.training.schedules import optimizer
from kzoo.weights import weights_by_path

PLAIN = {"schedule": "constant", "batch_size": 512, "warmup_steps": 0}


def first_names(found: dict[str, int], depth: int) -> set[str]:
    return {path.split("/")[0] for path, one in found.items() if one == depth}


@pytest.mark.contract
def test_depths_follow_the_taps() -> None:
    sizes = {"vocab_size": 9, "num_layers": 2, "hidden_dim": 8, "num_heads": 2}
    found = depths(kzoo.build_model("transformer", mlp_dim=8, **sizes))
    assert first_names(found, 0) == {"norm", "logits"}
    assert all(name.startswith("block_1_") for name in first_names(found, 1))
    assert "block_0_query" in first_names(found, 2)
    assert first_names(found, 3) == {"embedding"}
    cnn = kzoo.build_model("cnn", channels=1, filters=(4, 8), dense_units=8)
    stages = depths(cnn)
    assert stages["logits/kernel"] == 0
    assert all(stages[weight.path] >= 0 for weight in cnn.weights)
    assert stages["stage_0_block_0_conv/kernel"] == max(stages.values()) > 1


@pytest.mark.contract
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_step_is_scaled_by_depth(name: str) -> None:
    """Of the same gradients: each weight moves by its share, decay and all."""
    sizes = {"image_size": 8, "channels": 1, "units": (6, 5)}
    model = kzoo.build_model("mlp", **sizes)
    start = weights_by_path(model)
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=w.shape).astype("float32") for w in model.weights]
    moved = []
    for decay in (1.0, 0.5):
        recipe = kzoo.Recipe(
            optimizer=name, momentum=0.0, weight_decay=0.1, layer_decay=decay, **PLAIN
        )
        made = optimizer(recipe, 10, depths(model))
        for weight in model.weights:
            weight.assign(start[weight.path])
        made.apply([keras.ops.array(g) for g in gradients], model.trainable_variables)
        now = weights_by_path(model)
        moved.append({path: now[path] - start[path] for path in now})
    for path, depth in depths(model).items():
        want = moved[0][path] * 0.5**depth
        # Weights below 1 are stored to half of 1.2e-7.
        np.testing.assert_allclose(moved[1][path], want, rtol=1e-3, atol=1.2e-7)
        assert np.abs(want).max() > 1e-5


class Seen(keras.callbacks.Callback):
    """The first weight of each kernel before each epoch."""

    remembered = False

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        kernels = weights_by_path(self.model)
        self.rows.append({k: v.sum() for k, v in kernels.items() if "kernel" in k})

    on_train_end = on_epoch_begin


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="not bit-exact on PyTorch yet"
)
def test_blocks_join_from_the_head_and_a_killed_run_ends_the_same(
    tmp_path: Path,
) -> None:
    class Killed(BaseException):
        pass

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations.numpy()) == 5:
                raise Killed

    request = {**PLAIN, "units": (6, 5), "epochs": 3, "unfreeze_epochs": 1}
    request |= {"weight_decay": 0.1, "layer_decay": 0.7, "snapshot_every": "2"}
    seen = Seen()
    whole = kzoo.train(
        "mlp", "digits", out=tmp_path / "whole", callbacks=[seen], **request
    )
    names = ("logits/kernel", "block_1/kernel", "block_0/kernel")
    for first, name in enumerate(names):
        values = [row[name] for row in seen.rows[:4]]
        same = [one == two for one, two in itertools.pairwise(values)]
        assert same == [True] * first + [False] * (3 - first), name
    out = tmp_path / "run"
    with pytest.raises(Killed):
        kzoo.train("mlp", "digits", out=out, callbacks=[Kill()], **request)
    again = kzoo.train("mlp", "digits", out=out, **request)
    assert "from step 4" in (out / "log.txt").read_text()
    files = [run.folder / "model" / "model.safetensors" for run in (whole, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(ValueError, match=r"another run: 'recipe\.layer_decay'"):
        kzoo.train("mlp", "digits", out=out, **{**request, "layer_decay": 0.8})


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", "digits", "--epochs", "2", "--json"]
    assert main([*words, "--set", "layer_decay=0.8", "--out", str(out)]) == 0
    assert kzoo.training.Run(out).config["recipe"]["layer_decay"] == 0.8
    assert main([*words, "--set", "unfreeze_epochs=1", "--out", f"{out}_2"]) == 2
    told = capsys.readouterr().err
    assert "the first of 2 blocks learn after 2 epochs; epochs=2 is too few" in told
    assert not (tmp_path / "run_2").exists()


def test_blocks_of_a_frozen_model_keep_their_depth() -> None:
    settings = {"freeze": "block_0", "layer_decay": 0.5, "units": (6, 5)}
    model = plan("mlp", "digits", settings=settings).build()
    assert depths(model)["block_0/kernel"] == 2
