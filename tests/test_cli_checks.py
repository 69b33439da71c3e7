"""What a user got wrong is said before Keras is imported, and no file is written."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kzoo
from kzoo import index
from kzoo.cli.main import COMMANDS, epilog, module_of, parser_of
from kzoo.hparams import Declaration, declarations
from kzoo.pretraining.names import NAMES
from kzoo.pretraining.objectives import OBJECTIVES
from kzoo.registry import find_family
from kzoo.tuning.options import TUNERS
from kzoo.tuning.oracles import ORACLES

# Runs each command of standard input, where importing Keras fails.
RUNNER = """
import contextlib, io, json, sys
sys.modules["keras"] = None
from kzoo.cli.main import main
answers = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as exit:
            code = exit.code
        except BaseException as error:
            code = repr(error)
    seen = [name for name in ("tensorflow", "jax", "torch") if name in sys.modules]
    answers.append([code, out.getvalue(), err.getvalue(), seen])
json.dump(answers, sys.stdout)
"""

# command -> what its one line says
WRONG = {
    "list --task translating": "unknown task 'translating'",
    "describe transfomer": "unknown model 'transfomer'. Did you mean 'transformer'?",
    "describe mlp --set unit=5": "mlp has no hyper-parameter 'unit'",
    "describe mlp --set units=none,x": "units=",
    "train mpl": "unknown model 'mpl'",
    "train": "name a model",
    "train missing/": "there is no folder missing",
    "train file.txt": "there is no folder file.txt",
    "train mlp --dataset digit": "unknown dataset 'digit'. Did you mean 'digits'?",
    "train mlp --dataset nosuchset": "unknown dataset 'nosuchset'",
    "train mlp --dataset csv:missing.csv": "there is no file missing.csv",
    "train cnn --dataset folder:missing": "folder:missing: there is no folder missing",
    "train gpt2 --dataset text:missing.txt": "there is no such file",
    "train word2vec --dataset skip_gram:missing": "there is no such file",
    "train mlp --dataset digits --data sed=1": "digits has no option 'sed'",
    "train mlp --recipe cnn_digit": "unknown recipe 'cnn_digit'. Did you mean",
    "train mlp --set unit=5": "mlp has no hyper-parameter 'unit', nor has the recipe",
    "train mlp --set units=0": "mlp: units=[0] is not ints of at least 1",
    "train mlp --set learning_rate=-1": "recipe: learning_rate=-1 is not a float",
    "train mlp --set learning_rate=fast": "recipe: learning_rate='fast' is not a float",
    "train mlp --set schedule=step": "schedule='step' needs decay_epochs",
    "train mlp --set snapshot_every=often": "snapshot_every='often' is neither",
    "train mlp --set epochs": "'epochs' is not of the form name=value",
    "train mlp --epochs 0": "epochs=0 is not an int of at least 1",
    "train mlp --precision mixed": "precision='mixed' is not one of",
    "train mlp --distribution mirored": "unknown distribution 'mirored'",
    "train mlp --distribution ps": "ParameterServer",
    "train mlp --distribution tpu --backend torch": "is tensorflow's",
    "train mlp --track mlfow": "unknown tracker 'mlfow'. Did you mean 'mlflow'?",
    "train mlp --track trackio": "not installed: pip install 'kzoo[trackio]'",
    "train mlp --backend tensorfow": "unknown backend 'tensorfow'",
    "train mlp --fresh --extend": "--fresh and --extend exclude each other",
    "train mlp --out file.txt": "file.txt is a file",
    "train mlp --out file.txt/run": "file.txt/run cannot be made: file.txt is a file",
    "train mlp --out photos": "photos is not empty and holds no run",
    "train --config missing.json": "missing.json is missing",
    "train mlp --plugin missing.py": "there is no plug-in file missing.py",
    "lr-find mpl": "unknown model 'mpl'. Did you mean 'mlp'?",
    "lr-find missing/": "there is no folder missing",
    "lr-find mlp --dataset digit": "unknown dataset 'digit'. Did you mean 'digits'?",
    "lr-find mlp --data sed=1": "has no option 'sed'",
    "lr-find mlp --recipe cnn_digit": "unknown recipe 'cnn_digit'. Did you mean",
    "lr-find mlp --set units=0": "mlp: units=[0] is not",
    "lr-find mlp --batch-size 0": "batch_size=0 is not an int of at least 1",
    "lr-find mlp --steps 19": "steps=19: 20 at least",
    "lr-find mlp --steps many": "invalid int value: 'many'",
    "lr-find mlp --min 0": "min_rate=0 and max_rate=10: the lowest rate must be above",
    "lr-find mlp --min 2 --max 1": "min_rate=2 and max_rate=1",
    "lr-find mlp --min nan": "min_rate=nan and max_rate=10",
    "lr-find mlp --max inf": "the highest, which must be finite",
    "lr-find mlp --out x.txt": "x.txt ends in none of .png, .pdf, .svg",
    "lr-find mlp --out missing/x.png": "there is no folder missing",
    "lr-find mlp --out ''": "--out '' names no file",
    "lr-find mlp --backend tensorfow": "unknown backend 'tensorfow'",
    "tune mpl": "unknown model 'mpl'",
    "tune mlp --tuner baesian": "tuner='baesian' is not one of",
    "tune mlp --prune half": "prune='half' is not one of",
    "tune mlp --trials 0": "trials=0: one at least",
    "tune mlp --option kep=1": "tune has no hyper-parameter 'kep'",
    "tune mlp --set units=0": "mlp: units=[0] is not",
    "tune mlp --distribution mirored": "unknown distribution",
    "tune mlp --dataset csv:missing.csv": "there is no file missing.csv",
    "tune --replay 1 --out missing": "there is no folder missing",
    "evaluate missing": "there is no folder missing",
    "evaluate photos": "photos/config.json is missing",
    "evaluate unfinished": "unfinished has no model: the run has not finished",
    "evaluate run --split tset": "unknown split 'tset'. Did you mean 'test'?",
    "evaluate run --batch-size 0": "--batch-size 0 is not at least 1",
    "evaluate run --distribution mirored": "unknown distribution",
    "predict missing 1,2": "there is no folder missing",
    "predict photos 1,2": "photos holds no model.safetensors",
    "predict run nothere.jpg": "there is no file nothere.jpg",
    "predict run nothere.csv": "there is no file nothere.csv",
    "predict run photos --out missing/x.csv": "there is no folder missing",
    "predict run photos --top 0": "--top and --batch-size must be at least 1",
    "predict run photos": "there are no images in photos",
    "generate missing text": "there is no folder missing",
    "generate run text": "run has no tokenizer.json",
    "generate run text --option top_q=1": "generate has no option 'top_q'",
    "generate run text --strategy greed": "strategy='greed' is not one of",
    "generate run text --option top_k=5": "top_k=5 goes with strategy='sample'",
    "convert missing.pth --name vgg16 --out x": "there is no file missing.pth",
    "convert photos --name vgg16 --out x": "no checkpoint",
    "convert file.txt --name vgg16 --out x": "file.txt is none of .safetensors",
    "convert w.pth --name vgg --out x": "unknown model 'vgg'",
    "convert w.pth --name vgg16 --from tim --out x": "unknown zoo 'tim'. Did you mean",
    "convert w.pth --name vgg16 --set n=1 --out x": "vgg16 has no hyper-parameter 'n'",
    "convert w.pth --out x": "--name is missing",
    "convert missing --to timm --out x.pth": "there is no folder missing",
    "convert run --to tim --out x.pth": "unknown zoo 'tim'",
    "convert run --to timm --out x.txt": "x.txt ends neither in .safetensors nor",
    "distill --teacher missing --student mlp": "unknown model 'missing'",
    "distill --teacher run --student mpl": "unknown model 'mpl'",
    "distill --teacher run --student mlp --method dk": "unknown method 'dk'",
    "distill --teacher run --student mlp --option temp=2": "distill has no",
    "distill --teacher run --student mlp --set units=0": "mlp: units=[0] is not",
    "distill --teacher run --student mlp --out file.txt": "file.txt is a file",
    "distill --teacher run --teacher cnn --student mlp --study kd": "one teacher",
    "distill --teacher run --student mlp --track wandbb": "unknown tracker 'wandbb'",
    "distill --teacher run --student mlp --study kd --track mlflow": "takes no --track",
    "pretrain mlp --objective denoising --track ml": "unknown tracker 'ml'",
    "pretrain mpl --objective contrastive": "unknown model 'mpl'",
    "pretrain mlp --objective contrast": "unknown objective 'contrast'",
    "pretrain mlp --objective denoising --set units=0": "mlp: units=[0] is not",
    "pretrain mlp --objective denoising --data seed=1": "--data needs --dataset",
    "pretrain mlp --objective denoising --dataset csv:missing.csv": "no file",
    "launch --workers 2 -- train mpl --distribution multi_worker --out x": "'mpl'",
    "launch --workers 2 -- train missing/ --distribution multi_worker --out x": "no",
    "launch --workers 2 -- tune mlp --tuner x --out x": "tuner='x' is not one of",
    "doctor --backend tensorfow": "unknown backend 'tensorfow'",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images, one that has not finished, a file, a folder without a run."""
    folder = tmp_path_factory.mktemp("checks")
    kzoo.train("mlp", "digits", out=folder / "run", units=(8,), epochs=1)
    shutil.copytree(folder / "run", folder / "unfinished")
    shutil.rmtree(folder / "unfinished" / "model")
    (folder / "file.txt").write_text("text")
    (folder / "w.pth").write_bytes(b"")
    (folder / "photos").mkdir()
    (folder / "photos" / "notes.txt").write_text("text")
    return folder


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, list[object]]:
    before = listing(folder)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([shlex.split(command) for command in WRONG]),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, "KERAS_BACKEND": "tensorflow"},
        check=True,
    )
    assert listing(folder) == before, "a refused command wrote something"
    return dict(zip(WRONG, json.loads(done.stdout), strict=True))


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.parametrize("command", WRONG)
def test_mistake_is_one_line_before_keras(
    command: str, answers: dict[str, list[object]]
) -> None:
    code, out, err, backends = answers[command]
    assert (code, out, backends) == (2, "", []), err
    assert str(err).startswith("error: ")
    assert str(err).count("\n") == 1
    assert WRONG[command] in str(err)


def test_every_command_has_mistakes_above() -> None:
    assert {command.split()[0] for command in WRONG} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_three_examples_that_parse(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = parser_of(name)
    with pytest.raises(SystemExit):
        parser.parse_args([name, "--help"])
    page = capsys.readouterr().out
    examples = sys.modules[module_of(name)].EXAMPLES
    assert len(examples) == 3
    assert page.endswith(f"{epilog(examples)}\n")
    for example in examples:
        program, *words = shlex.split(example)
        parsed = parser.parse_args(words)
        assert (program, parsed.command) == ("kzoo", name)
        if name == "launch":
            inner = parsed.words[1:]
            assert parser_of(inner[0]).parse_args(inner).command == inner[0]


def test_names_that_are_checked_are_those_that_there_are() -> None:
    assert set(NAMES) == set(OBJECTIVES)
    assert set(TUNERS) == set(ORACLES)


@pytest.mark.parametrize("name", index.entries())
def test_index_declares_what_the_family_does(name: str) -> None:
    declared = declarations(type(find_family(name).smallest))
    stored = index.declared(name)
    assert list(stored) == list(declared)
    for key, declaration in declared.items():
        read = Declaration.from_json(declaration.to_json())
        assert read.to_json() == declaration.to_json()
        assert (stored[key].type, stored[key].legal) == (read.type, declaration.legal)
        assert read.type == declaration.type
