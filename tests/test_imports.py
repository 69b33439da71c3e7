"""A floor of the house imports only floors below it, and keeps its other promises.

Read from the source, so that imports inside functions count too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = (
    {"hparams", "lazy", "strict_json", "tasks"},
    {
        "layers",
        "losses",
        "preprocessing",
        "features",
        "macs",
        "initial_weights",
        "keras_files",
    },
    {"models"},
    {"registry", "index", "plugins", "extend"},
    {"datasets", "distribution", "weights", "generation", "generation_options"},
    {"training"},
    {"distillation", "pretraining", "tuning"},
    {"interpret", "robustness", "export"},
    {"cli"},
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}

# `import kzoo` and `python -m kzoo`: what users come in by, and only the cli beside.
DOOR = {"__init__", "__main__"}

BACKENDS = {"tensorflow", "jax", "torch"}
SEE_A_BACKEND = {"distribution", "datasets", "weights"}  # only inside a function

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "kzoo").rglob("*.py"))


def unit(path: Path) -> str:
    """The module or sub-package right under kzoo/ that a file belongs to."""
    return path.with_suffix("").parts[1]


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Every import as (statement, absolute dotted name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: -node.level] if node.level else ()
            base = ".".join([*package, *filter(None, [node.module])])
            for alias in node.names:
                yield node, f"{base}.{alias.name}"


def arrows_up(tree: ast.AST, path: Path) -> Iterator[str]:
    """Imports of a higher floor, or of the door from anywhere but the cli."""
    for node, name in imports(tree, path):
        package, _, rest = name.partition(".")
        if package != "kzoo":
            continue
        target = rest.partition(".")[0]
        if target == "__version__":  # stands on no floor
            continue
        floor = FLOOR_OF.get(target, FLOOR_OF["cli"])
        if floor > FLOOR_OF[unit(path)]:
            yield f"{path}:{node.lineno} imports {name}, which is a higher floor"


def backends_seen(tree: ast.Module, path: Path) -> Iterator[str]:
    """Imports of a backend's own package where keras must do."""
    for node, name in imports(tree, path):
        if name.partition(".")[0] not in BACKENDS:
            continue
        if unit(path) not in SEE_A_BACKEND:
            yield f"{path}:{node.lineno} imports {name}; use keras.ops"
        elif node in tree.body:
            yield f"{path}:{node.lineno} imports {name} outside a function"


def prints(tree: ast.AST, path: Path) -> Iterator[str]:
    """Calls of print outside the cli."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{path}:{node.lineno} prints; use logging"


def backend_choices(tree: ast.AST, path: Path) -> Iterator[str]:
    """Places outside the cli that set KERAS_BACKEND for this process."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(slice=ast.Constant("KERAS_BACKEND"), ctx=context):
                sets = not isinstance(context, ast.Load)
            case ast.Call(
                func=ast.Attribute(attr="setdefault" | "putenv"),
                args=[ast.Constant("KERAS_BACKEND"), *_],
            ):
                sets = True
            case ast.Call(func=ast.Attribute(attr="update")):
                sets = "KERAS_BACKEND" in ast.unparse(node)
            case _:
                sets = False
        if sets:
            yield f"{path}:{node.lineno} sets KERAS_BACKEND; only the cli may"


def faults(source: str, path: Path) -> list[str]:
    """What a source file does that its place in the house forbids."""
    if unit(path) in DOOR:
        return []
    if unit(path) not in FLOOR_OF:
        return [f"{path}: kzoo/{unit(path)} stands on no floor; add it to FLOORS"]
    tree = ast.parse(source)
    found = [*arrows_up(tree, path), *backends_seen(tree, path)]
    if unit(path) != "cli":
        found += [*prints(tree, path), *backend_choices(tree, path)]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_source_keeps_to_its_floor(path: Path) -> None:
    assert faults((ROOT / path).read_text(encoding="utf-8"), path) == []


def test_all_sources_are_found() -> None:
    assert Path("kzoo/__init__.py") in SOURCES
    assert len(SOURCES) > 10


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kzoo/hparams.py", "from kzoo.layers import attention"),
        ("kzoo/hparams.py", "from kzoo import models"),
        ("kzoo/hparams.py", "from . import models"),
        ("kzoo/layers/attention.py", "from ..models import cnn"),
        ("kzoo/models/cnn.py", "import kzoo.registry as registry"),
        ("kzoo/models/cnn.py", "def build():\n    from kzoo.registry import FAMILIES"),
        ("kzoo/training/__init__.py", "from kzoo import build_model"),
        ("kzoo/training/__init__.py", "import kzoo"),
        ("kzoo/utils.py", ""),
        ("kzoo/common/text.py", ""),
        ("kzoo/models/cnn.py", "import tensorflow as tf"),
        ("kzoo/layers/attention.py", "def call(x):\n    from jax import numpy"),
        ("kzoo/distribution/__init__.py", "import torch.distributed"),
        ("kzoo/training/fit.py", "def fit():\n    print('done')"),
        ("kzoo/training/fit.py", "os.environ['KERAS_BACKEND'] = 'jax'"),
        ("kzoo/training/fit.py", "os.environ.setdefault('KERAS_BACKEND', 'jax')"),
        ("kzoo/training/fit.py", "os.environ.update(KERAS_BACKEND='jax')"),
    ],
)
def test_a_fault_is_found(path: str, source: str) -> None:
    assert len(faults(source, Path(path))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kzoo/__init__.py", "from kzoo.cli.main import main"),
        ("kzoo/registry.py", "from kzoo.models import cnn\nfrom kzoo import index"),
        ("kzoo/training/fit.py", "from kzoo import __version__"),
        ("kzoo/models/cnn.py", "from kzoo.models.family import Family"),
        ("kzoo/models/cnn.py", "from .family import Family\nimport keras"),
        ("kzoo/distribution/mirrored.py", "def scope():\n    import tensorflow as tf"),
        ("kzoo/datasets/tfds.py", "import tensorflow_datasets as tfds"),
        ("kzoo/training/fit.py", "backend = os.environ['KERAS_BACKEND']"),
        ("kzoo/cli/main.py", "os.environ['KERAS_BACKEND'] = 'jax'\nprint(kzoo)"),
        ("kzoo/cli/main.py", "import kzoo\nfrom kzoo.training import fit"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert faults(source, Path(path)) == []
