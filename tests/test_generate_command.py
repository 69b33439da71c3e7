"""``kzoo generate`` on a small model with a tokeniser."""

import json
from pathlib import Path
from typing import Any

import keras
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import train_tokenizer

TOKENIZER = train_tokenizer("character", ["abcdefgh "])
SIZES = {"vocab_size": TOKENIZER.vocab_size, "embedding_dim": 4, "units": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(0)
    model = kzoo.build_model("lstm_language_model", num_layers=1, **SIZES)
    path = tmp_path_factory.mktemp("model") / "model"
    preprocessing = Preprocessing(tokenizer=TOKENIZER)
    return kzoo.save(model, path, preprocessing=preprocessing)


def written(folder: Path, prompts: list[str], **options: Any) -> list[str]:
    ids = kzoo.generate(kzoo.load(folder), TOKENIZER.encode(prompts), **options)
    return TOKENIZER.decode(ids)


def test_texts_are_those_of_the_library(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", str(folder), "abc", "h g", "--option", "max_new_tokens=7"]
    assert main(words) == 0
    expected = written(folder, ["abc", "h g"], max_new_tokens=7)
    assert capsys.readouterr().out.splitlines() == expected

    more = ["--strategy", "sample", "--option", "seed=3", "--json"]
    assert main([*words, *more]) == 0
    expected = written(
        folder, ["abc", "h g"], max_new_tokens=7, strategy="sample", seed=3
    )
    told = json.loads(capsys.readouterr().out)
    assert [line["prompt"] for line in told] == ["abc", "h g"]
    assert [line["text"] for line in told] == expected


def test_in_a_terminal_the_text_comes_token_by_token(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    flushed = []
    inner = print

    def noting(*words: Any, **options: Any) -> None:
        flushed.append(options.get("flush", False))
        inner(*words, **options)

    monkeypatch.setattr("builtins.print", noting)
    assert main(["generate", str(folder), "abc", "--option", "max_new_tokens=7"]) == 0
    expected = written(folder, ["abc"], max_new_tokens=7)
    assert capsys.readouterr().out == expected[0] + "\n"
    assert sum(flushed) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--strategy", "beams"], "generate: strategy='beams' is not one of 'greedy'"),
        (
            ["--option", "topk=3"],
            "generate has no option 'topk'. Did you mean 'top",
        ),
        (["--option", "top_p=2"], "top_p=2 is not a float from 0 to 1"),
        (["--option", "top_p=0.5"], "top_p=0.5 goes with strategy='sample'"),
    ],
)
def test_mistake_is_one_line(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(folder), "abc", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_folder_without_a_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = kzoo.build_model("lstm_language_model", num_layers=1, **SIZES)
    kzoo.save(model, tmp_path / "model", preprocessing=Preprocessing())
    assert main(["generate", str(tmp_path / "model"), "abc"]) == 2
    assert "has no tokenizer.json: its model takes ids" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "nothing"), "abc"]) == 2
    assert "there is no folder" in capsys.readouterr().err
