"""A student of texts: what the teacher writes by beam search is what it learns."""

import json

import keras
import numpy as np
import pytest

import kzoo
from kzoo.distillation import sequences
from kzoo.distillation.sequences import TAUGHT, taught_dataset

TINY = {"hidden_dim": 16, "num_heads": 2, "mlp_dim": 16, "num_layers": 1}
SHORT = {**TINY, "epochs": 1, "batch_size": 32, "warmup_steps": 0, "seed": 3}


def dates(**options):
    return kzoo.load_dataset("dates", **{"examples": 100, **options})


def author(dataset, name="transformer_seq2seq"):
    keras.utils.set_random_seed(0)
    return kzoo.build_model(name, **TINY, **dataset.spec.hparams)


def test_the_training_texts_are_the_teachers_beam():
    data = dates()
    teacher = author(data)
    taught = taught_dataset(teacher, data, num_beams=3)
    before, after = data.splits["train"], taught.splits["train"]
    assert taught.splits["test"] is data.splits["test"]
    assert taught.spec == data.spec
    rows = np.arange(len(before))
    sources = before.rows(rows)["tokens"]
    np.testing.assert_array_equal(after.rows(rows)["tokens"], sources)
    assert not np.array_equal(after.labels, before.labels)
    start, end = (data.spec.hparams[f"{n}_token_id"] for n in ("start", "end"))
    steps = before.labels.shape[1]
    for row in (0, 41):  # each alone, with the public function
        (ids,) = kzoo.generate(
            teacher,
            [[token for token in sources[row].tolist() if token]],
            strategy="beam",
            num_beams=3,
            max_new_tokens=steps,
            end_token_id=end,
        )
        text = [token for token in ids if token != end][: steps - 1]
        labels = after.labels[row]
        assert labels[labels >= 0].tolist() == [*text, end]
        decoder = after.rows(np.array([row]))["decoder_tokens"][0]
        assert decoder[: len(text) + 1].tolist() == [start, *text]
        assert not decoder[len(text) + 1 :].any()


@pytest.mark.slow
def test_distil_by_sequences_and_go_on(tmp_path, monkeypatch):
    data = {"examples": 100}
    teacher = kzoo.train(
        "transformer_seq2seq", "dates", data=data, out=tmp_path / "teacher", **SHORT
    )

    class Crash(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise MemoryError("killed")

    request = {
        "method": "sequence",
        "out": tmp_path / "student",
        "options": {"num_beams": 2},
        "data": data,
        **SHORT,
        "hidden_dim": 8,
    }

    def distilled(**changes):
        keras.utils.clear_session()
        return kzoo.distill(
            teacher.folder, "transformer_seq2seq", "dates", **{**request, **changes}
        )

    with pytest.raises(MemoryError):
        distilled(callbacks=[Crash()])
    kept = (tmp_path / "student" / TAUGHT).read_bytes()

    def never(*args, **kwargs):
        raise AssertionError("the teacher writes once")

    monkeypatch.setattr(sequences, "taught_dataset", never)
    run = distilled()
    assert run.finished
    assert (run.folder / TAUGHT).read_bytes() == kept
    assert run.config["distillation"]["options"]["num_beams"] == 2
    again = kzoo.evaluate(run)  # on the real texts, whose fingerprint the run keeps
    assert again["loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-5)
    report = json.loads((run.folder / "compression.json").read_text())
    assert report["student"]["weights"] < report["teacher"]["weights"]


def test_mistakes_are_one_clear_line(tmp_path):
    def distil(teacher, student, dataset, **rest):
        kzoo.distill(teacher, student, dataset, out=tmp_path / "run", **rest)

    with pytest.raises(ValueError, match="'sequence' teaches texts, and digits is"):
        distil("cnn", "cnn_tiny", "digits", method="sequence")
    with pytest.raises(ValueError, match="goes alone"):
        distil("cnn", "cnn_tiny", "digits", method="sequence+kd")
    student = "transformer_seq2seq"
    with pytest.raises(ValueError, match="has one teacher"):
        distil("self", student, dates(), method="sequence")
    encoder = kzoo.build_model("mlp", num_features=4)
    with pytest.raises(ValueError, match="mlp reads no source"):
        taught_dataset(encoder, dates())
    with pytest.raises(ValueError, match=r"kzoo\.distill has the teacher write"):
        model = author(dates())
        kzoo.build_model("distiller", teacher=model, student=model, method="sequence")
    assert not (tmp_path / "run").exists()
