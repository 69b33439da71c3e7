"""The scripts of the README's first screen, without what takes them minutes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"])


def bash(
    script: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(script), *arguments],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose setup.cfg requires nothing, so that an environment is cheap."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires =\n[options.extras_require]\ntest = pytest\n"
    )
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_valid_bash(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.parametrize(
    ("script", "argument"),
    [("test.sh", "--no-such-option"), ("environment.sh", "no-such-extra")],
)
def test_unknown_argument_is_one_line_and_exit_code_2(
    script: str, argument: str
) -> None:
    result = bash(ROOT / "scripts" / script, argument)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert argument in result.stderr


def test_missing_python_is_one_line() -> None:
    result = bash(ROOT / "scripts" / "environment.sh", PYTHON="no-such-python")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no-such-python" in result.stderr


def test_environment_is_named_after_what_it_holds(checkout: Path) -> None:
    script = checkout / "scripts" / "environment.sh"

    def where(*extras: str) -> str:
        result = bash(script, "--dry-run", *extras, KZOO_ENVIRONMENTS="/envs")
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    plain = where()
    assert Path(plain).parent == Path("/envs")
    assert where() == plain
    assert where("test") != plain

    setup = checkout / "setup.cfg"
    text = setup.read_text()
    setup.write_text(text.replace("install_requires =", "install_requires = six"))
    assert where() != plain
    setup.write_text(text + "[tool:pytest]\ntestpaths = tests\n")
    assert where() == plain


def test_environment_is_made_once_and_again_when_half_made(
    checkout: Path, tmp_path: Path
) -> None:
    script = checkout / "scripts" / "environment.sh"
    envs = str(tmp_path / "envs")
    made = Path(bash(script, "--dry-run", KZOO_ENVIRONMENTS=envs).stdout.strip())
    made.mkdir(parents=True)
    (made / "left_by_a_killed_install").touch()

    first = bash(script, KZOO_ENVIRONMENTS=envs)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(made)
    assert not (made / "left_by_a_killed_install").exists()

    (made / "kept").touch()
    second = bash(script, KZOO_ENVIRONMENTS=envs)
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == first.stdout
    assert (made / "kept").exists()


def test_readme_has_the_table_of_models_as_it_is_now() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "readme_tables.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
