"""kzoo.distill, its study and report, and the command: run folders on small models."""

import csv
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.datasets import Dataset
from kzoo.distillation import few_labels, study
from kzoo.distillation.distill import same_data
from kzoo.distillation.study import ALONE, candidates, paired, summary
from kzoo.distillation.teachers import Found, adaptation, fingerprint_of
from kzoo.preprocessing import Preprocessing
from kzoo.training import Run, open_run

SHORT = {"epochs": 2, "units": (8,), "dropout_rate": 0.0}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    return kzoo.train("mlp", "digits", out=folder, epochs=3, units=(32,), seed=3)


def weights_of(run: Run) -> bytes:
    return (run.folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.contract
def test_leaves_an_ordinary_run_of_the_student(teacher: Run, tmp_path: Path) -> None:
    before = weights_of(teacher)
    run = kzoo.distill(teacher.folder, "mlp", out=tmp_path / "run", **SHORT)
    assert weights_of(teacher) == before
    found = kzoo.evaluate(run.folder)
    assert found["accuracy"] == run.metrics["test"]["accuracy"]
    assert [w.shape[-1] for w in run.load().trainable_weights] == [8, 8, 10, 10]
    facts = run.config["distillation"]
    assert facts["method"] == "kd"
    assert facts["teachers"][0]["same_split"] is True
    assert facts["teachers"][0]["sha256"] == fingerprint_of(teacher.load())
    assert run.config["dataset"] == teacher.config["dataset"]  # its split, not seed 0's
    assert {"kd_loss", "val_accuracy"} <= set(run.history[0])
    report = json.loads((run.folder / "compression.json").read_text())
    assert report["student"]["weights"] == 64 * 8 + 8 + 8 * 10 + 10
    assert report["teacher"]["macs"] == 64 * 32 + 32 * 10
    assert report["student"]["accuracy"] == found["accuracy"]
    assert 0 <= report["agreement"] <= 1
    assert report["teacher_saw"] == [teacher.config["dataset"]]
    assert min(report["student"]["latency_ms"].values()) > 0
    assert len(report["student"]["accuracy_by_class"]) == 10
    assert (run.folder / "plots" / "compression.png").stat().st_size > 5_000
    # The same again is the same; another request is told what differs.
    assert kzoo.distill(teacher, "mlp", out=run.folder, **SHORT).folder == run.folder
    with pytest.raises(ValueError, match=r"holds another run: .distillation\.method"):
        kzoo.distill(teacher, "mlp", method="dkd", out=run.folder, **SHORT)


@pytest.mark.contract
def test_the_same_seed_gives_the_same_student(teacher: Run, tmp_path: Path) -> None:
    options = {"options": {"report": False}, "method": "kd+sp", **SHORT}
    runs = [
        kzoo.distill(teacher, "mlp", out=tmp_path / name, **options)
        for name in ("one", "two")
    ]
    other = kzoo.distill(teacher, "mlp", out=tmp_path / "other", seed=1, **options)
    assert weights_of(runs[0]) == weights_of(runs[1]) != weights_of(other)


def test_killed_and_resumed_ends_the_same(teacher: Run, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations.numpy()) == 33:
                raise Killed

    options = {"options": {"report": False}, "method": "kd+fitnet", **SHORT}
    options |= {"snapshot_every": "5", "ema": 0.9, "epochs": 3}
    taps = {"teacher_taps": ("block_0",), "student_taps": ("block_0",)}
    options["options"] = {**options["options"], **taps}
    straight = kzoo.distill(teacher, "mlp", out=tmp_path / "straight", **options)
    with pytest.raises(Killed):
        kzoo.distill(
            teacher, "mlp", out=tmp_path / "run", callbacks=[Kill()], **options
        )
    resumed = kzoo.distill(teacher, "mlp", out=tmp_path / "run", **options)
    assert weights_of(resumed) == weights_of(straight)
    assert "from step" in (resumed.folder / "log.txt").read_text()


def test_the_average_of_the_student_teaches_it(tmp_path: Path) -> None:
    run = kzoo.distill("self", "mlp", "digits", out=tmp_path / "run", **SHORT)
    assert run.config["distillation"]["teachers"] == []
    assert all(np.isfinite(row["kd_loss"]) for row in run.history)


def test_generations(teacher: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = {"generations": 3, "report": False}
    run = kzoo.distill(teacher, "mlp", out=out, options=options, **SHORT)
    first, second = (open_run(f"{out}_generation_{i}") for i in (1, 2))
    taught_by = [
        one.config["distillation"]["teachers"][0]["source"]
        for one in (first, second, run)
    ]
    assert taught_by == [str(x.folder) for x in (teacher, first, second)]
    assert [one.config["recipe"]["seed"] for one in (first, second, run)] == [1, 2, 0]


def test_without_labels_they_do_not_matter(teacher: Run, tmp_path: Path) -> None:
    digits = kzoo.load_dataset("digits", seed=3)
    runs = []
    for name, labels in (("right", 0), ("wrong", 5)):
        train = digits.splits["train"]
        moved = type(train)(train.inputs, (train.labels + labels) % 10)
        data = Dataset(**{**vars(digits), "splits": {**digits.splits, "train": moved}})
        runs.append(
            kzoo.distill(
                teacher,
                "mlp",
                data,
                out=tmp_path / name,
                options={"unlabelled": True, "report": False},
                **SHORT,
            )
        )
    assert weights_of(runs[0]) == weights_of(runs[1])


def test_a_registry_name_is_trained_first(tmp_path: Path, monkeypatch: Any) -> None:
    from kzoo.distillation import teachers

    seen: list[Any] = []
    real = teachers.train

    def short(*args: Any, **options: Any) -> Run:
        seen.append(args[0])
        return real(*args, epochs=1, **options)

    monkeypatch.setattr(teachers, "train", short)
    run = kzoo.distill("mlp", "mlp", "digits", out=tmp_path / "run", seed=2, **SHORT)
    beside = open_run(tmp_path / "run_teacher")
    assert seen == ["mlp"]
    assert beside.config["dataset"] == run.config["dataset"]
    assert run.config["distillation"]["teachers"][0]["source"] == str(beside.folder)


def test_another_split_is_warned_of(teacher: Run, tmp_path: Path, caplog: Any) -> None:
    options = {"data": {"seed": 0}, "options": {"report": False}}
    run = kzoo.distill(
        teacher, "mlp", "digits", out=tmp_path / "run", **options, **SHORT
    )
    assert "may have seen the test examples" in caplog.text
    assert run.config["distillation"]["teachers"][0]["same_split"] is False


def test_data_come_from_the_teacher(teacher: Run) -> None:
    name, options = same_data([teacher.folder], None, None)
    assert (name, options["seed"]) == ("digits", 3)
    assert same_data([teacher], "digits", {"seed": 5}) == ("digits", {"seed": 5})
    assert same_data([teacher], "diabetes", None) == ("diabetes", {})
    assert same_data(["cnn"], None, None) == (None, {})


def test_preprocessing_and_classes_are_adapted() -> None:
    digits = kzoo.load_dataset("digits")
    model = kzoo.build_model("mlp")
    theirs = Preprocessing(
        (8.0,), (4.0,), input_shape=(8, 8), classes=("x", *digits.spec.classes)
    )
    found = adaptation([Found("there", model, theirs)], digits, True)
    raw = digits.splits["train"].inputs[:3]
    ours = digits.preprocessing.inputs(raw)
    scale, offset = found["teacher_input_scale"][0], found["teacher_input_offset"][0]
    again = ours.reshape(3, *found["teacher_input_shape"]) * scale + offset
    np.testing.assert_allclose(again, theirs.inputs(raw), rtol=1e-6)
    assert found["teacher_classes"] == tuple(range(1, 11))
    alone = Preprocessing((0.0,), (16.0,), classes=("0", "1"))
    with pytest.raises(ValueError, match="does not know the class '2'"):
        adaptation([Found("there", model, alone)], digits, True)
    assert adaptation([Found("there", model, alone)], digits, False) == {}
    tokens = Preprocessing(classes=digits.spec.classes)
    with pytest.raises(ValueError, match="different kinds of input"):
        adaptation([Found("there", model, tokens)], digits, True)
    with pytest.raises(ValueError, match="different preprocessing"):
        adaptation([Found("there", model, theirs), Found("here", model)], digits, True)


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "run"
    model = kzoo.build_model("mlp", num_features=10, num_classes=1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"method": "kdd"}, "unknown method 'kdd'"),
        ({"options": {"temprature": 2}}, "has no option 'temprature'"),
        ({"teacher": "runs/none"}, "there is no folder runs/none"),
        ({"student": "cnn_tny"}, "Did you mean 'cnn_tiny'"),
        ({"options": {"unlabelled": True, "label_weight": 1.0}}, "no use for"),
        ({"dataset": "diabetes", "teacher": model}, "methods on features are"),
    ]
    for changes, message in cases:
        request = {"teacher": "mlp", "student": "mlp", "dataset": "digits", **changes}
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            kzoo.distill(**request, out=out)
    assert not any(tmp_path.iterdir())


def test_features_teach_a_regression(tmp_path: Path) -> None:
    options = {"epochs": 1, "units": (8,)}
    teacher = kzoo.train("mlp", "diabetes", out=tmp_path / "teacher", **options)
    run = kzoo.distill(teacher, "mlp", method="rkd", out=tmp_path / "run", **options)
    assert np.isfinite(run.metrics["test"]["r2"])
    report = json.loads((run.folder / "compression.json").read_text())
    assert "agreement" not in report


def test_few_labels() -> None:
    digits = kzoo.load_dataset("digits", seed=1)
    labelled, partly = few_labels(digits, 5, seed=0)
    train, all_of_it = labelled.splits["train"], partly.splits["train"]
    assert np.bincount(train.labels).tolist() == [5] * 10
    assert np.bincount(labelled.splits["validation"].labels).tolist() == [5] * 10
    assert (all_of_it.labels >= 0).sum() == 50
    known = all_of_it.labels >= 0
    assert (all_of_it.labels[known] == digits.splits["train"].labels[known]).all()
    assert (all_of_it.inputs == digits.splits["train"].inputs).all()
    assert len(partly.splits["validation"]) == 50
    assert partly.splits["test"] is digits.splits["test"]
    again, _ = few_labels(digits, 5, seed=0)
    other, _ = few_labels(digits, 5, seed=1)
    assert again.spec.fingerprint == labelled.spec.fingerprint
    assert other.spec.fingerprint != labelled.spec.fingerprint
    with pytest.raises(ValueError, match="no classes"):
        few_labels(kzoo.load_dataset("diabetes"), 5)


def test_paired_and_summary() -> None:
    from scipy import stats

    a, b = np.array([0.9, 0.95, 0.93, 0.96]), np.array([0.88, 0.94, 0.94, 0.93])
    gain, p = paired(a, b)
    assert gain == pytest.approx(0.0125)
    assert p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired(a, a) == (0.0, 1.0)
    rows = [
        {"method": name, "seed": i, "validation": 0.5, "test": value}
        for name, values in ((ALONE, b), ("kd", a))
        for i, value in enumerate(values)
    ]
    alone, kd = summary(rows)
    assert kd["test"] == pytest.approx(a.mean())
    assert kd["test_std"] == pytest.approx(a.std(ddof=1))
    assert (kd["against_alone"], kd["p_alone"]) == (gain, p)
    assert (alone["against_alone"], alone["p_alone"]) == (0.0, 1.0)


def test_every_contestant_has_as_many_tries() -> None:
    for name in (ALONE, "kd", "dkd", "at", "kd+at"):
        for tries in (1, 3, 5):
            tried = candidates(name, tries)
            assert len({str(one) for one in tried}) == tries
    assert candidates("kd", 2)[1].options == {"temperature": 2.0}
    assert candidates("at", 2)[1].options == {"weights": (300.0,)}
    assert candidates(ALONE, 2)[1].settings == {"label_smoothing": 0.1}
    with pytest.raises(ValueError, match="tries=9"):
        candidates("kd", 9)


def test_study(teacher: Run, tmp_path: Path) -> None:
    settings = {**SHORT, "epochs": 1}
    table = study(
        teacher.folder, "mlp", None, ("sp",), tmp_path, seeds=2, tries=2, **settings
    )
    assert [row["method"] for row in table] == ["alone", "kd", "sp"]
    with open(tmp_path / "study.csv", newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["alone", "kd", "sp"]
    with open(tmp_path / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        run = open_run(row["folder"])
        assert run.metrics["test"]["accuracy"] == float(row["test"])
        assert run.config["dataset"] == teacher.config["dataset"]
        assert run.config["recipe"]["seed"] == int(row["seed"])
    tried = [
        open_run(tmp_path / "kd" / "tries" / f"try_{i}").metrics["validation"]
        for i in (0, 1)
    ]
    chosen = int(tried[1]["accuracy"] > tried[0]["accuracy"])
    expected = str(candidates("kd", 2)[chosen].options["temperature"])
    assert rows[2]["settings"] == f"temperature={expected}"
    assert rows[0]["teacher_saw"] == "nothing"
    assert rows[2]["teacher_saw"] == "digits"


def test_command(teacher: Run, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "run")
    words = ["distill", "--teacher", str(teacher.folder), "--student", "mlp"]
    words += ["--dataset", "digits", "--method", "dkd", "--epochs", "1", "--out", out]
    words += ["--set", "units=8", "--seed", "4", "--option", "temperature=2"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "everything is in" in told
    assert "the teacher saw" in told
    run = open_run(out)
    assert run.config["distillation"]["options"]["temperature"] == 2.0
    assert run.config["recipe"]["seed"] == 4
    assert run.config["dataset"]["options"]["seed"] == 3
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compression"]["agreement"] >= 0
    assert main(["evaluate", out, "--json"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--student", "mpl"], "Did you mean 'mlp'"),
        (["--teacher", "cn"], "Did you mean 'cnn'"),
        (["--method", "dkdd"], "Did you mean 'dkd'"),
        (["--study", "kd,att"], "unknown method 'att'"),
        (["--option", "temperatur=2"], "Did you mean 'temperature'"),
        (["--option", "temperature=cold"], "temperature='cold' is not a float"),
        (["--study", "kd", "--seed", "1"], "--seeds"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys: Any) -> None:
    given = {"--teacher": "mlp", "--student": "mlp", "--dataset": "digits"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    flat = [word for pair in given.items() for word in pair]
    assert main(["distill", *flat]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
