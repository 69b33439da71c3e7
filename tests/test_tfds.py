"""Sets of TensorFlow Datasets: prepared, read, mocked; and what keeps them away."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kzoo
from kzoo.datasets import UnavailableError, tfds
from kzoo.datasets.loading import Kept

SPLITS = ("train", "validation", "test")

# In a process of its own, where TensorFlow cannot be imported; images go in encoded,
# since TensorFlow Datasets would ask TensorFlow to encode them.
WITHOUT_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec.__func__
PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None
    if name.split(".")[0] == "tensorflow"
    else find(cls, name, path, target)
)
"""
WRITER = """
import io
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class Greys(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")
    shape = (5, 4, 1)
    label = tfds.features.ClassLabel(names=["a", "b", "c"])

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=self.shape),
                "label": self.label,
                "id": tfds.features.Text(),
            }),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(0, 90),
                "test": self._generate_examples(90, 120)}

    def _generate_examples(self, start, end):
        for i in range(start, end):
            shape = [side or 6 + i % 3 for side in self.shape]
            file = io.BytesIO()
            Image.fromarray(np.full(shape, i, "uint8").squeeze()).save(file, "PNG")
            yield i, {"image": file.getvalue(), "label": i % 3, "id": f"number {i}"}

class Colours(Greys):
    VERSION = tfds.core.Version("1.0.0")
    shape = (None, None, 3)

class Sentences(Greys):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"label": self.label, "id": tfds.features.Text()}
            ),
            supervised_keys=("id", "label"),
        )

    def _generate_examples(self, start, end):
        for i in range(start, end):
            yield i, {"label": i % 3, "id": f"häuser {i}"}

class Glue(Greys):  # as the set of this name: no classes in its test split
    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="mnli")]

    def _info(self):
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"premise": text, "hypothesis": text, "label": self.label}
            ),
        )

    def _split_generators(self, manager):
        parts = {"train": (0, 90, 1), "validation_matched": (90, 120, 1)}
        parts |= {"validation_mismatched": (120, 130, 1), "test_matched": (0, 9, 0)}
        return {k: self._generate_examples(*v) for k, v in parts.items()}

    def _generate_examples(self, start, end, known):
        for i in range(start, end):
            yield i, {"premise": f"first {i}", "hypothesis": f"second {i}",
                      "label": i % 3 if known else -1}

class News(Greys):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        names = ("article", "highlights", "publisher", "id")
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in names}
            ),
            supervised_keys=("article", "highlights"),
        )

    def _generate_examples(self, start, end):
        for i in range(start, end):
            yield i, {"article": f"Day {i}. It rains.", "highlights": f"rain {i}",
                      "publisher": "us", "id": str(i)}

class Rain(Greys):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="de-en")]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.Translation(languages=("de", "en")),
            supervised_keys=("de", "en"),
        )

    def _generate_examples(self, start, end):
        for i in range(start, end):
            yield i, {"en": f"{i} drops", "de": f"{i} Tröpfchen"}

class Plays(Greys):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
        )

    def _split_generators(self, manager):
        return {name: self._generate_examples(name)
                for name in ("train", "validation", "test")}

    def _generate_examples(self, name):
        yield name, {"text": f"Enter {name}.\\n\\nExit."}

class Numbered(Greys):
    VERSION = tfds.core.Version("1.0.0")
    label = tfds.features.Scalar(np.int64)

for builder in (Greys, Colours, Sentences, Glue, News, Rain, Plays, Numbered):
    builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with these sets."""
    folder = tmp_path_factory.mktemp("tfds")
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW + WRITER, folder],
        check=True,
        capture_output=True,
    )
    return str(folder)


def all_rows(data: Any, name: str) -> np.ndarray:
    return data.splits[name].rows(np.arange(len(data.splits[name])))


def test_pairs_of_glue_have_their_test_in_the_validation_split(prepared: str) -> None:
    data = kzoo.load_dataset("glue/mnli", data_dir=prepared)
    assert data.spec.inputs == "pairs of texts"
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes["test"] == 30 and sizes["train"] + sizes["validation"] == 90
    rows = all_rows(data, "test")
    assert sorted(rows) == ["first", "second"]
    numbers = np.array([int(text.removeprefix("first ")) for text in rows["first"]])
    assert sorted(numbers) == list(range(90, 120))
    assert list(rows["second"]) == [f"second {number}" for number in numbers]
    np.testing.assert_array_equal(data.splits["test"].labels, numbers % 3)


# --- from the disk ----------------------------------------------------------------


def test_set_on_the_disk_is_read_whole(prepared: str) -> None:
    data = kzoo.load_dataset("greys", data_dir=prepared)
    assert data.spec.task == "image-classification"
    assert data.spec.classes == ("a", "b", "c")
    assert data.spec.hparams == {
        "image_size": (5, 4),
        "channels": 1,
        "num_classes": 3,
    }
    found = {}
    for name in SPLITS:
        rows = all_rows(data, name)
        assert (rows.shape[1:], rows.dtype) == ((5, 4, 1), np.uint8)
        assert (rows == rows[:, :1, :1]).all()
        found[name] = rows[:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(data.splits[name].labels, found[name] % 3)
    assert sorted(found["test"]) == list(range(90, 120))
    assert sorted([*found["train"], *found["validation"]]) == list(range(90))
    assert 4 <= len(found["validation"]) <= 20  # an eighth of 90
    again = kzoo.load_dataset("greys", data_dir=prepared)
    assert again.spec == data.spec
    other = kzoo.load_dataset("greys", data_dir=prepared, seed=1)
    assert other.spec.fingerprint != data.spec.fingerprint
    batch = data.train_batches(4, 0)[0]
    raw = data.splits["train"].rows(batch["index"])
    np.testing.assert_array_equal(batch["inputs"], raw / np.float32(255))


def test_images_of_any_size_are_brought_to_one(prepared: str) -> None:
    data = kzoo.load_dataset("colours", data_dir=prepared)
    assert data.spec.hparams["image_size"] == 224
    data = kzoo.load_dataset("colours:1.0.0", data_dir=prepared, image_size=8)
    batch = data.eval_batches("test", 30)[0]
    assert batch["inputs"].shape == (30, 8, 8, 3)
    shown = np.rint(batch["inputs"][:, 4, 4, 0] * 255)
    assert sorted(shown) == list(range(90, 120))
    streamed = kzoo.load_dataset("colours", data_dir=prepared, image_size=8, memory=0)
    assert not isinstance(streamed.splits["train"], Kept)
    for _ in range(2):
        rows = (
            one.splits["train"].rows(np.array([5, 1, 5])) for one in (data, streamed)
        )
        np.testing.assert_array_equal(*rows)


def test_texts_come_with_a_tokenizer_of_their_training_split(prepared: str) -> None:
    data = kzoo.load_dataset("sentences", data_dir=prepared, tokenizer="character")
    assert (data.spec.task, data.spec.inputs) == ("text-classification", "texts")
    assert data.spec.hparams["num_classes"] == 3
    found = {}
    for name in SPLITS:
        texts, labels = all_rows(data, name), data.splits[name].labels
        numbers = [int(text.removeprefix("häuser ")) for text in texts]
        np.testing.assert_array_equal(labels, np.array(numbers) % 3)
        found[name] = numbers
    assert sorted(found["test"]) == list(range(90, 120))
    assert sorted([*found["train"], *found["validation"]]) == list(range(90))
    batch = data.train_batches(4, 0)[0]
    assert batch["inputs"].dtype == np.int32


def decoded(data: Any, rows: np.ndarray, without: int = 0) -> list[str]:
    return data.preprocessing.tokenizer.decode(
        [row[row > without].tolist() for row in rows]
    )


@pytest.mark.parametrize(
    ("name", "task", "source", "text"),
    [
        ("news", "summarization", "Day {}. It rains.", "rain {}"),
        ("rain/de-en", "translation", "{} Tröpfchen", "{} drops"),
    ],
)
def test_texts_to_write(
    prepared: str, name: str, task: str, source: str, text: str
) -> None:
    options = {"data_dir": prepared, "tokenizer": "bpe", "max_vocab_size": 300}
    data = kzoo.load_dataset(name, **options)
    assert (data.spec.task, data.spec.inputs) == (task, "pairs")
    found = {}
    for split in SPLITS:
        rows, labels = all_rows(data, split), data.splits[split].labels
        assert (labels[np.arange(len(labels)), (labels >= 0).sum(1) - 1] == 2).all()
        texts = decoded(data, np.where(labels == 2, -1, labels))
        numbers = [int("".join(filter(str.isdigit, one))) for one in texts]
        assert texts == [text.format(number) for number in numbers]
        sources = decoded(data, rows["tokens"])
        assert sources == [source.format(number) for number in numbers]
        found[split] = numbers
    assert sorted(found["test"]) == list(range(90, 120))
    assert sorted([*found["train"], *found["validation"]]) == list(range(90))
    with pytest.raises(ValueError, match="more than max_length=3; truncate=true cuts"):
        kzoo.load_dataset(name, **options, max_length=3)
    cut = kzoo.load_dataset(name, **options, max_length=3, truncate=True)
    assert cut.splits["train"].labels.shape[1] == 4  # and the end token


def test_running_text_has_its_own_splits(prepared: str) -> None:
    options = {"tokenizer": "character", "window": 8}
    data = kzoo.load_dataset("plays", data_dir=prepared, **options)
    assert data.spec.task == "language-modeling"
    assert data.splits["train"].labels.shape[1] == 8
    labels = data.splits["train"].labels.reshape(1, -1)
    # All but the first character are to be guessed.
    assert decoded(data, labels) == ["nter train.\n\nExit."]
    assert len(data.splits["validation"]) == 3  # 23 of its 24 characters


def test_labels_are_read_once_and_then_from_their_file(
    prepared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tfds"
    shutil.copytree(prepared, folder)
    for cache in folder.rglob("kzoo-labels-*"):
        cache.unlink()
    first = kzoo.load_dataset("greys", data_dir=str(folder)).splits["train"].labels
    assert len(list(folder.rglob("kzoo-labels-train.npy"))) == 1
    assert len(list(folder.rglob("tmp*"))) == 0
    monkeypatch.setattr(tfds.Records, "rows", None)
    again = kzoo.load_dataset("greys", data_dir=str(folder)).splits["train"]
    monkeypatch.setattr(again.examples.source, "__getitems__", None, raising=False)
    np.testing.assert_array_equal(again.labels, first)


READER = """
import kzoo
data = kzoo.load_dataset("greys", data_dir=sys.argv[1])
print(data.spec.fingerprint, float(data.train_batches(8, 0)[2]["inputs"].sum()))
assert "tensorflow" not in sys.modules
try:
    kzoo.load_dataset("zzz")
except ValueError as error:
    print(error)
"""


def test_what_is_prepared_needs_no_tensorflow(prepared: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW + READER, prepared],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    data = kzoo.load_dataset("greys", data_dir=prepared)
    total = float(data.train_batches(8, 0)[2]["inputs"].sum())
    assert found[0] == f"{data.spec.fingerprint} {total}"
    assert found[1].startswith("unknown dataset 'zzz'")


def test_run_on_a_set_is_scored_on_the_same_split(
    prepared: str, tmp_path: Path
) -> None:
    run = kzoo.train(
        "mlp",
        "greys",
        out=tmp_path / "run",
        data={"data_dir": prepared},
        epochs=1,
        units=(4,),
    )
    test = kzoo.evaluate(run)
    assert test["accuracy"] == run.metrics["test"]["accuracy"]


# --- mocked -----------------------------------------------------------------------


def mocked(folder: Path, name: str, **counts: int) -> Any:
    """The package's mock of a set that has so many examples in its splits."""
    package = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")
    builder = package.builder(name, data_dir=folder, file_format="array_record")
    parts = [
        package.core.splits.SplitInfo(
            name=split,
            shard_lengths=[count],
            num_bytes=1,
            filename_template=package.core.ShardedFileTemplate(
                dataset_name=builder.name,
                data_dir=builder.data_dir,
                split=split,
                filetype_suffix="array_record",
            ),
        )
        for split, count in counts.items()
    ]
    builder.info.set_splits(package.core.splits.SplitDict(parts))
    Path(builder.data_dir).mkdir(parents=True)
    builder.info.write_to_directory(builder.data_dir)
    most = max(counts.values())
    return package.testing.mock_data(num_examples=most, data_dir=folder)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("mnist", (28, 28, 1), 10), ("cifar10", (32, 32, 3), 10)],
)
def test_shapes_of_mocked_sets(
    tmp_path: Path, name: str, shape: tuple[int, ...], classes: int
) -> None:
    with mocked(tmp_path, name, train=40, test=12):
        data = kzoo.load_dataset(name, data_dir=str(tmp_path))
        side = shape[0]
        assert data.spec.hparams == {
            "image_size": side,
            "channels": shape[2],
            "num_classes": classes,
        }
        assert len(data.spec.classes) == classes
        batch = data.train_batches(6, 0)[0]
        assert batch["inputs"].shape == (6, *shape)
        assert (batch["labels"] < classes).all()
        assert len(data.splits["train"]) + len(data.splits["validation"]) == 40
        assert len(data.splits["test"]) == 12


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("tiny_shakespeare", "language-modeling"),
        ("wmt14_translate/de-en", "translation"),
        ("cnn_dailymail", "summarization"),
    ],
)
def test_tasks_of_mocked_texts(tmp_path: Path, name: str, task: str) -> None:
    with mocked(tmp_path, name, train=9, validation=4, test=5):
        options = {"tokenizer": "character", "max_length": 1000}
        data = kzoo.load_dataset(name, data_dir=str(tmp_path), **options)
        assert data.spec.task == task
        batch = data.train_batches(6, 0)[0]
        if task == "language-modeling":
            assert batch["inputs"].shape == batch["labels"].shape == (6, 128)
            return
        assert [len(data.splits[split]) for split in SPLITS] == [9, 4, 5]
        read = batch["inputs"]["decoder_tokens"]
        assert read.shape == batch["labels"].shape
        assert (read[:, 0] == data.spec.hparams["start_token_id"]).all()


# --- what keeps them away ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("mnist", "3.0.1"),
        ("tiny_shakespeare", "1.0.0"),
        ("cnn_dailymail", "3.4.0"),
        ("wmt14_translate/de-en", "1.0.0"),
    ],
)
def test_without_a_network_one_error_says_what_to_run(
    name: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow_datasets")
    # A proxy where nobody listens: the same error with a network and without one.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UnavailableError) as error:
        kzoo.load_dataset(name, data_dir=str(tmp_path))
    message = str(error.value)
    assert "\n" not in message
    where = f"{tmp_path}/{name}/{version}"
    assert f"{name} is not in {where}, and there is no network (" in message
    assert "refused" in message
    call = f"kzoo.load_dataset('{name}', data_dir='{tmp_path}')"
    assert message.endswith(
        f'on a machine with a network run: python -c "import kzoo; {call}"'
    )
    assert not list(tmp_path.rglob("*.*"))


def test_failed_preparation_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds, "_no_network", lambda: "")

    def fail(self: Any, **options: Any) -> None:
        assert options == {"file_format": "array_record"}
        raise AssertionError("Manual directory does not exist.\nCreate it.")

    monkeypatch.setattr(package.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(
        UnavailableError, match=r"\(Manual directory does not exist\.\)"
    ):
        kzoo.load_dataset("mnist", data_dir=str(tmp_path))


def test_tfrecord_alone_says_how_to_prepare_it_again(
    tmp_path: Path, prepared: str
) -> None:
    shutil.copytree(Path(prepared) / "greys", tmp_path / "greys")
    about = tmp_path / "greys" / "1.2.0" / "dataset_info.json"
    about.write_text(about.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UnavailableError) as error:
        kzoo.load_dataset("greys", data_dir=str(tmp_path))
    message = str(error.value)
    assert f"greys lies in {tmp_path}/greys/1.2.0 as tfrecord alone" in message
    assert f"kzoo.load_dataset('greys', data_dir='{tmp_path}/array_record')" in message
    assert message.endswith(f"then pass data_dir={tmp_path}/array_record")


def test_set_that_is_being_prepared_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    (tmp_path / "mnist" / "incomplete.ABC123_3.0.1").mkdir(parents=True)
    with pytest.raises(
        UnavailableError, match=r"is being prepared in .*ABC123_3\.0\.1"
    ):
        kzoo.load_dataset("mnist", data_dir=str(tmp_path))


def test_set_of_another_kind_is_told(prepared: str) -> None:
    message = (
        r"^numbered has id \(Text\), image \(Image\), label \(Scalar\); kzoo reads "
        "sets of one image, one text or two, with one class; of running text; and of a "
        "text to write from another one$"
    )
    with pytest.raises(ValueError, match=message):
        kzoo.load_dataset("numbered", data_dir=prepared)


def test_typo_of_a_set_of_theirs_gets_the_nearest() -> None:
    pytest.importorskip("tensorflow")
    with pytest.raises(ValueError, match=r"^unknown dataset 'minst'\. Did you mean"):
        kzoo.load_dataset("minst")


@pytest.mark.parametrize("name", ["digit", "digts", "diabets"])
def test_typo_of_an_embedded_set_asks_nobody(name: str) -> None:
    code = (
        "import sys, kzoo\ntry:\n    kzoo.load_dataset(sys.argv[1])\nexcept ValueError "
        "as error:\n    print(error)\nassert 'tensorflow_datasets' not in sys.modules"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
    )
    assert "Did you mean 'di" in found.stdout
