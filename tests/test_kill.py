"""Real SIGKILLs, in processes of their own: the short form of the benchmark."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kill_test.py"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_ten_kills_lose_nothing(backend):
    command = [sys.executable, str(SCRIPT), "--kills", "10", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--backend", backend], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "10 kills" in done.stdout
    assert "runs that were lost or ended otherwise: 0" in done.stdout
