"""The cost model behind docs/scaling.md."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "distribution_benchmark", ROOT / "benchmarks" / "distribution.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_ring_by_hand(benchmark: ModuleType) -> None:
    # Two chips exchange halves twice: 10 bytes at 5 bytes/s, and two hops of 1 s.
    assert benchmark.ring_seconds(10, 2, 5, 1) == 4
    # A long ring sends all bytes twice.
    assert benchmark.ring_seconds(1e6, 10**6, 1.0, 0.0) == pytest.approx(2e6, rel=1e-5)
    assert benchmark.ring_seconds(10, 1, 5, 1) == 0


def test_compute_by_hand(benchmark: ModuleType) -> None:
    # 3 passes of 2 * 100 operations for 2 examples, at half of 1200 a second.
    assert benchmark.compute_seconds(100, 2, 1200, 0.5) == 2


def test_the_page_shows_what_the_model_predicts(benchmark: ModuleType) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert "\n".join(benchmark.table()) in page
