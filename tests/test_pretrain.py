"""kzoo.pretrain, what fine-tuning takes from it, and the probe: small models."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.datasets.views import Corrupted, two_views
from kzoo.losses.contrastive import nt_xent
from kzoo.training import Run
from kzoo.training.finetune import freeze

SHORT = {"epochs": 2, "units": (16,), "batch_size": 256, "warmup_steps": 0}
NAMES = {"dataset": "names"}
VIEWS = ("shift", "rotation:20")


@pytest.fixture(scope="module")
def pre(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pre") / "run"
    return kzoo.pretrain("mlp", "digits", "contrastive", folder, **SHORT)


# --- losses and batches -----------------------------------------------------------


def by_hand(first: list[list[float]], second: list[list[float]], heat: float) -> Any:
    """Equation 1 of the paper, written out over the 2N views."""
    views = [np.array(v) / np.linalg.norm(v) for v in (*first, *second)]
    count = len(first)

    def one(i: int, j: int) -> float:
        scores = [math.exp(views[i] @ views[k] / heat) for k in range(2 * count)]
        return -math.log(scores[j] / (sum(scores) - scores[i]))

    return [(one(k, k + count) + one(k + count, k)) / 2 for k in range(count)]


@pytest.mark.contract
def test_nt_xent_is_that_of_the_paper() -> None:
    # Two examples, all views equal: each of the three others is as likely.
    same = keras.ops.ones((2, 3))
    loss = keras.ops.convert_to_numpy(nt_xent(same, same, 0.7))
    np.testing.assert_allclose(loss, math.log(3), rtol=1e-6)
    first = [[1.0, 0.0], [0.5, 2.0], [-1.0, 0.3]]
    second = [[1.0, 0.2], [0.1, 1.0], [-3.0, -1.0]]
    loss = nt_xent(keras.ops.array(first), keras.ops.array(second), 0.5)
    want = by_hand(first, second, 0.5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), want, rtol=1e-5)
    # Rows 1 and 2 on a replica of their own say the same of themselves.
    whole = keras.ops.array(first), keras.ops.array(second)
    part = nt_xent(whole[0][1:], whole[1][1:], 0.5, whole, 1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(part), want[1:], rtol=1e-5)
    # The first two, in a batch that one row fills up.
    real = keras.ops.array([1.0, 1.0, 0.0])
    filled = nt_xent(whole[0][:2], whole[1][:2], 0.5, whole, 0, real)
    want = by_hand(first[:2], second[:2], 0.5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(filled), want, rtol=1e-5)


def test_views_differ_and_hang_on_seed_and_step_alone() -> None:
    digits = kzoo.load_dataset("digits").augmented(*VIEWS)
    data = dataclasses.replace(digits, transform=two_views)
    batch = data.train_batches(8, seed=1)[3]
    views = batch["inputs"]["views"]
    assert views.shape == (8, 2, 8, 8, 1)
    assert (views[:, 0] != views[:, 1]).any(axis=(1, 2, 3)).all()
    assert not batch["labels"].any()
    halves = [data.train_batches(8, seed=1, shard=(i, 2))[3] for i in (0, 1)]
    joined = np.concatenate([half["inputs"]["views"] for half in halves])
    np.testing.assert_array_equal(joined, views)
    other = data.train_batches(8, seed=2)[3]
    assert (other["inputs"]["views"] != views).any()
    # Rows that fill a batch up change no draw, and say that they are none.
    count = len(data.split("test"))
    whole, filled = (data.eval_batches("test", size)[0] for size in (count, count + 3))
    for key, value in whole["inputs"].items():
        np.testing.assert_array_equal(filled["inputs"][key][:count], value)
    assert filled["inputs"]["real"].sum() == count


def test_corruption_has_its_statistics() -> None:
    digits = kzoo.load_dataset("digits")
    data = dataclasses.replace(digits, transform=Corrupted(noise=0.3, dropped=0.25))
    inputs = data.train_batches(512, seed=0)[0]["inputs"]
    gone = inputs["inputs"] == 0
    assert abs(gone.mean() - 0.25) < 0.01  # 32,768 numbers: 4 standard errors
    left = (inputs["inputs"] - inputs["targets"])[~gone]
    assert abs(left.std() - 0.3) < 0.01 and abs(left.mean()) < 0.01
    same = dataclasses.replace(digits, transform=Corrupted())
    inputs = same.train_batches(8, seed=0)[0]["inputs"]
    np.testing.assert_array_equal(inputs["inputs"], inputs["targets"])


@pytest.mark.contract
def test_reconstruction_costs_the_mean_squared_error() -> None:
    sizes = {"image_size": 5, "channels": 1, "num_classes": 0}
    encoder = kzoo.build_model("mlp", units=(6,), **sizes)
    model = kzoo.build_model(
        "reconstruction", encoder=encoder, target_shape=(5, 5, 1), decoder_units=3
    )
    images = np.random.default_rng(0).random((4, 5, 5, 1), "float32")
    shown = images * 0.5
    made = keras.ops.convert_to_numpy(model.reconstructed(shown))
    loss = model.predict_on_batch({"inputs": shown, "targets": images})
    np.testing.assert_allclose(
        loss, ((made - images) ** 2).mean(axis=(1, 2, 3)), rtol=1e-5
    )
    # What it costs hangs on the targets; what it says, on the inputs alone.
    assert (loss != model.predict_on_batch({"inputs": shown, "targets": shown})).all()


# --- runs -------------------------------------------------------------------------


@pytest.mark.contract
def test_leaves_a_run_of_an_encoder(pre: Run) -> None:
    encoder = pre.load()
    assert encoder.output_shape == (None, 16)
    assert encoder.kzoo.hparams["num_classes"] == 0
    assert pre.config["pretraining"]["objective"] == "contrastive"
    assert pre.config["task"] == "pretraining"
    names = {"validation", "best_epoch", "monitor", "seconds"}  # no test
    assert set(pre.metrics) == names
    losses = [row["val_loss"] for row in pre.history]
    assert losses[1] < losses[0]
    assert (pre.folder / "plots" / "curves.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="without a head: train it on labels first"):
        kzoo.evaluate(pre)
    again = kzoo.pretrain("mlp", "digits", "contrastive", pre.folder, **SHORT)
    assert again.metrics == pre.metrics
    with pytest.raises(ValueError, match=r"another run: 'pretraining\.objective'"):
        kzoo.pretrain("mlp", "digits", "denoising", pre.folder, **SHORT)


def test_labels_do_not_matter(tmp_path: Path) -> None:
    digits = kzoo.load_dataset("digits")
    wrong = {
        name: (one.rows(np.arange(len(one))), (one.labels + i) % 10)
        for i, (name, one) in enumerate(digits.splits.items())
    }
    right = {k: (pair[0], digits.splits[k].labels) for k, pair in wrong.items()}
    files = []
    for name, arrays in (("right", right), ("wrong", wrong)):
        run = kzoo.pretrain("mlp", arrays, "autoencoder", tmp_path / name, **SHORT)
        files.append((run.folder / "model" / "model.safetensors").read_bytes())
        assert (run.folder / "plots" / "reconstructions.png").stat().st_size > 5_000
    assert files[0] == files[1]


def test_killed_and_resumed_ends_the_same(pre: Run, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations.numpy()) == 7:
                raise Killed

    request = {**SHORT, "snapshot_every": "3"}
    out = tmp_path / "run"
    with pytest.raises(Killed):
        kzoo.pretrain("mlp", "digits", out=out, callbacks=[Kill()], **request)
    run = kzoo.pretrain("mlp", "digits", out=out, **request)
    assert "from step" in (out / "log.txt").read_text()
    bits = [(r.folder / "model" / "model.safetensors").read_bytes() for r in (pre, run)]
    assert bits[0] == bits[1]


# --- fine-tuning ------------------------------------------------------------------


@pytest.mark.contract
def test_fine_tuning_with_few_labels_and_frozen_layers(
    pre: Run, tmp_path: Path
) -> None:
    run = kzoo.train(
        pre.folder,
        "digits",
        out=tmp_path / "run",
        epochs=2,
        labels_per_class=3,
        freeze="block_0",
    )
    encoder = kzoo.load(pre.folder).get_layer("block_0").get_weights()
    tuned = run.load().get_layer("block_0").get_weights()
    assert all((a == b).all() for a, b in zip(encoder, tuned, strict=True))
    log = (run.folder / "log.txt").read_text()
    assert "2 loaded" in log and "fresh: logits/bias, logits/kernel" in log
    assert "frozen: block_0" in log
    assert run.config["start"]["from"] == str(pre.folder)
    known = kzoo.evaluate(run, split="validation")["classes"]
    assert [row["examples"] for row in known] == [3] * 10
    assert kzoo.evaluate(run)["accuracy"] == run.metrics["test"]["accuracy"]


def test_other_channels_are_listed_as_fresh(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cnn = kzoo.build_model("cnn", channels=1, filters=(4, 8), dense_units=8)
    folder = kzoo.save(cnn, tmp_path / "cnn")
    images = np.random.default_rng(0).random((120, 8, 8, 3), "float32")
    from kzoo.training.plan import plan

    with caplog.at_level("INFO", "kzoo"):
        plan(folder, (images, np.arange(120) % 10)).build()
    assert "fresh: stage_0_block_0_conv/kernel" in caplog.text
    assert "ignored: stage_0_block_0_conv/kernel" in caplog.text


def learning(model: keras.Model) -> set[str]:
    return {weight.path.split("/")[0] for weight in model.trainable_weights}


TRANSFORMER = {"vocab_size": 9, "num_layers": 2, "hidden_dim": 8, "num_heads": 2}


def test_freeze_reaches_from_tap_to_tap() -> None:
    model = kzoo.build_model("transformer", mlp_dim=8, **TRANSFORMER)
    freeze(model, "stem..block_0")
    left = learning(model)
    assert left and all(name.startswith(("block_1", "norm", "logits")) for name in left)
    model = kzoo.build_model("transformer", mlp_dim=8, **TRANSFORMER)
    freeze(model, "block_1..block_1")
    assert not any(name.startswith("block_1") for name in learning(model))
    assert {"embedding", "block_0_query"} <= learning(model)
    with pytest.raises(ValueError, match=r"no tap 'block_9'. Did you mean 'block_"):
        freeze(model, "stem..block_9")
    with pytest.raises(ValueError, match=r"has no tap ''\. There are: "):
        freeze(model, "stem..")
    with pytest.raises(ValueError, match="block_1 comes after stem"):
        freeze(model, "block_1..stem")


def test_freeze_reaches_up_to_and_with_one_tap() -> None:
    """All that the tap hangs on, embeddings and stems too, and nothing after it."""
    sizes = {"mlp_dim": 8, **TRANSFORMER}
    frozen = freeze(kzoo.build_model("transformer", **sizes), "block_0")
    assert "embedding" in frozen
    model = kzoo.build_model("transformer", **sizes)
    before = learning(model)
    freeze(model, "block_0")
    later = {name for name in before if name.startswith(("block_1", "norm", "logits"))}
    assert learning(model) == later
    images = {"image_size": 32, "num_classes": 3}
    for name, tap, gone in (
        ("resnet20", "stage_0", ("stem", "stage_0")),
        ("vit_lite_2", "block_0", ("stem", "positions", "block_0", "patch")),
        ("cnn", "stage_0", ("stage_0",)),
    ):
        model = kzoo.build_model(name, **images)
        before = learning(model)
        freeze(model, tap)
        assert not any(path.startswith(gone) for path in learning(model)), name
        assert before - learning(model), name
        for layer in model.layers:
            if layer.name not in {*learning(model)} and layer.weights:
                assert not layer.trainable


def test_probe_scores_frozen_features(pre: Run) -> None:
    found = kzoo.probe(pre, "digits", labels_per_class=5)
    pixels = kzoo.probe(None, "digits", labels_per_class=5)
    assert set(found) == {"linear", "neighbours"}
    # Labels of the test split are all that these scores are made of.
    assert 0.5 < pixels["neighbours"] < 1 and 0.5 < pixels["linear"] < 1
    assert found != pixels
    with pytest.raises(ValueError, match="diabetes has no classes"):
        kzoo.probe(None, "diabetes")


# --- the command, and mistakes ----------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    words = ["pretrain", "mlp", "--dataset", "digits", "--epochs", "1", "--out", out]
    words += ["--set", "units=8", "--option", "decoder_units=4", "--json"]
    assert main([*words, "--objective", "denoising"]) == 0
    assert '"validation"' in capsys.readouterr().out
    assert main(["train", out, "--dataset", "digits", "--epochs", "1", "--json",
                 "--labels-per-class", "2", "--out", out + "_tuned"]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"objective": "contrastiv"}, "Did you mean 'contrastive'?"),
        ({"options": {"temperatur": 1.0}}, "no option 'temperatur'. Did you mean"),
        (
            {**NAMES, "objective": "denoising"},
            "is for images, features and vectors; names has texts",
        ),
        ({"augmentation": ()}, "needs an augmentation, which its two views differ by"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    request = {"dataset": "digits", "objective": "contrastive", **changes}
    model = "transformer" if changes.get("dataset") else "mlp"
    with pytest.raises(ValueError) as error:
        kzoo.pretrain(model, out=tmp_path / "run", **request)
    assert text in str(error.value)
    assert not (tmp_path / "run").exists()
