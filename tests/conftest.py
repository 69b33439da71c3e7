"""What every test has: a backend, its share of the cores, a clean Keras, no window."""

import functools
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Workers that each start a thread a core stand in one another's way; and a
    # container counts the cores of its host, not those that it may use.
    for pool in ("OMP_NUM", "OPENBLAS_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP"):
        os.environ.setdefault(f"{pool}_THREADS", "1")

# The same examples each time, however busy the machine.
settings.register_profile(
    "kzoo",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("kzoo")

PEERS = ("torch", "torchvision", "timm", "transformers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if missing:
        skip = pytest.mark.skip(reason=f"needs {', '.join(missing)} (test.sh --peers)")
        for item in items:
            if item.get_closest_marker("peers"):
                item.add_marker(skip)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("peers"):
        import_torchvision()
    if item.get_closest_marker("bfloat16") and bfloat16_ends_the_process():
        pytest.skip("TensorFlow crashes: oneDNN may use less than the processor has")


@functools.cache
def bfloat16_ends_the_process() -> bool:
    """Whether a product in bfloat16 kills the process, whoever asks for it.

    TensorFlow 2.21 gives it to oneDNN if the processor has AVX-512, though
    ``ONEDNN_MAX_CPU_ISA`` may forbid oneDNN all that has bfloat16. Where the processor
    has no AVX-512, TensorFlow multiplies by itself, and nothing is skipped.
    """
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        return False
    if "ONEDNN_MAX_CPU_ISA" not in os.environ:
        return False
    product = "import tensorflow as tf; x = tf.ones((8, 8), 'bfloat16'); print(x @ x)"
    done = subprocess.run(
        [sys.executable, "-c", product], capture_output=True, check=False
    )
    return done.returncode < 0  # by a signal


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Escapes file names in logs that are not UTF-8: xdist could not send them."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode())
        for name, text in report.sections
    ]
    return report


@functools.cache
def import_torchvision() -> object:
    """Makes ``import torchvision`` work beside a CPU build of PyTorch.

    Its compiled operators ask for CUDA there, and its Python code stumbles over two
    that are then unknown. No model calls them: their signatures will do. Returns what
    must stay alive for that.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float threshold) -> Tensor")
        importlib.import_module("torchvision")
        return library
    return None


@pytest.fixture(autouse=True, scope="module")
def left_alone() -> None:
    """What is alive when a module of tests begins, no collection looks at again.

    A sweep collects garbage before each trial, and each time would look through all
    that was imported and traced before it, which takes longer than the trial.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_keras() -> Iterator[None]:
    """No layer name, seed or precision policy of one test reaches the next."""
    yield
    if "keras" in sys.modules:
        # Collecting garbage takes longer than most tests.
        sys.modules["keras"].utils.clear_session(free_memory=False)
