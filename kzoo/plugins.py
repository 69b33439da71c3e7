"""Families that live outside kzoo: installed packages, modules and files.

An installed package offers its families as entry points of the group
``kzoo.families``. Any other module or file is named by ``--plugin`` of each command.
Both are imported when a model is looked up, not before, since a family imports Keras.
"""

import importlib
import importlib.util
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

GROUP = "kzoo.families"

log = logging.getLogger(__name__)

# Where a family came from, in plain JSON types; a run's config.json records it.
Origin = Mapping[str, str]

_noted: list[str] = []  # named, and not imported yet
_imported: list[str] = []  # named, as another process can name them again
_origins: dict[str, Origin] = {}  # by the model's name
_state: dict[str, Any] = {"prepare": None, "installed": False, "importing": None}


def note(
    sources: Iterable[str], *, prepare: Callable[[], object] | None = None
) -> None:
    """Names plug-ins, which are imported when a model is looked up.

    Args:
        sources: modules, such as ``own_zoo.family``, or files that end in ``.py``.
        prepare: called before the first import; it chooses the backend.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such module.
    """
    if prepare is not None:
        _state["prepare"] = prepare
    for source in sources:
        source = _checked(source)
        if source not in (*_noted, *_imported):
            _noted.append(source)


def load() -> None:
    """Imports the plug-ins that were named, and once those that are installed.

    An installed one that fails is a warning: it must not stop other models.

    Raises:
        ValueError: a plug-in that was named fails, registers nothing, or a family under
            a name that is taken.
    """
    load_named()
    if _state["installed"]:
        return
    _state["installed"] = True
    for point in entry_points(group=GROUP):
        _prepare()
        try:
            _import_installed(point)
        except ValueError as error:
            log.warning("%s", error)


def load_named() -> None:
    """Imports the plug-ins that were named; see :func:`load`."""
    sources, _noted[:] = list(_noted), []
    if sources:
        _prepare()
    for source in sources:
        origin = {"file" if _is_file(source) else "module": source}
        stem = Path(source).stem if _is_file(source) else source.rpartition(".")[2]
        classes = _keras_classes()
        with _importing(source, origin, stem):
            if _is_file(source):
                _import_file(Path(source))
            else:
                importlib.import_module(source)
        families = origin in _origins.values() or _registered_by(source)
        if not families and _keras_classes() == classes:
            raise ValueError(
                f"plug-in {source} registers no family, by kzoo.extend.register(FAMILY)"
                ", nor a class of Keras"
            )
        _imported.append(source)


def record(names: Iterable[str], module: Mapping[str, Any]) -> None:
    """Keeps where newly registered models came from.

    Args:
        names: of the models.
        module: the globals of the module that registers them.
    """
    origin = _state["importing"]
    if origin is None:
        name, file = str(module.get("__name__")), module.get("__file__")
        if name == "__main__":
            origin = {"script": str(file)} if file else {"script": "an interpreter"}
        else:
            origin = {"module": name} | ({"path": str(file)} if file else {})
    _origins.update(dict.fromkeys(names, origin))


def forget(names: Iterable[str]) -> None:
    """Takes back what :func:`record` kept."""
    for name in names:
        del _origins[name]


def origin_of(name: str) -> Origin | None:
    """Where the model's family came from; None = kzoo itself."""
    return _origins.get(name)


def sources(model: str) -> list[str]:
    """What another process must name by ``note`` to have the same families.

    Args:
        model: the name of the one that it is to build.

    Raises:
        ValueError: its family was registered by a script, which no other process can
            import.
    """
    found = [str(Path(s).resolve()) if _is_file(s) else s for s in _imported]
    for name, origin in _origins.items():
        if "script" in origin and name == model:
            raise ValueError(
                f"the family of {name} is registered by {origin['script']} alone, "
                "which other processes cannot import: put it into a file of its own, "
                "and name that by --plugin"
            )
        if "module" in origin and origin["module"] not in found:
            found.append(origin["module"])
    return found


def in_words(origin: Origin) -> str:
    """``own_zoo 1.2``, ``own_family.py``: an origin as people read it."""
    if "distribution" in origin:
        return f"{origin['distribution']} {origin.get('version', '')}".strip()
    return next(iter(origin.values()))


def missing(name: str, origin: Origin, where: str) -> str:
    """The line that a run of a family gets that is not here."""
    told = f"{where} is of the model {name!r} of the plug-in {in_words(origin)}"
    if "distribution" in origin:
        return f"{told}, which is not installed: pip install {origin['distribution']}"
    if "script" in origin:
        return (
            f"{told}, a script: register its family in a file of its own, and name "
            "that: --plugin FILE"
        )
    again = origin.get("path") or in_words(origin)
    return f"{told}, which was not named: add --plugin {again}, or import it first"


def _checked(source: str) -> str:
    """The source as it can be imported from any folder."""
    if _is_file(source):
        if not Path(source).is_file():
            raise FileNotFoundError(f"there is no plug-in file {source}")
        return source
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", source):
        raise ValueError(
            f"plug-in {source!r} is neither a module, such as own_zoo.family, nor a "
            "file that ends in .py"
        )
    package = source.partition(".")[0]  # a deeper look would import it
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        hint = f"; there is a file {source}.py" if Path(f"{source}.py").exists() else ""
        raise ValueError(f"there is no module {package!r} to plug in{hint}")
    return source


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or "\\" in source


def _prepare() -> None:
    prepare, _state["prepare"] = _state["prepare"], None
    if prepare is not None:
        prepare()


def _import_file(path: Path) -> ModuleType:
    """Imports a file once; its own imports may name its neighbours."""
    path = path.resolve()
    name = re.sub(r"\W", "_", path.stem)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None or name in sys.stdlib_module_names:
        name = f"kzoo_plugin_{name}"  # hides no module of that name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Keras looks a layer's class up by its module; nothing here hides another module.
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_installed(point: EntryPoint) -> None:
    """Imports an entry point: a module that registers, a family, or several."""
    from kzoo.models.family import Family
    from kzoo.registry import register

    distribution = point.dist
    assert distribution is not None
    origin = {"distribution": distribution.name, "version": distribution.version}
    with _importing(in_words(origin), origin, point.module.rpartition(".")[2]):
        given = point.load()
        families = given if isinstance(given, list | tuple) else [given]
        for family in families:
            if isinstance(family, Family) and not set(family.variants) <= set(_origins):
                register(family)
    if origin not in _origins.values():
        raise ValueError(
            f"plug-in {in_words(origin)} registers no family: its entry point "
            f"{point.name!r} must name a Family or a module that registers one"
        )


@contextmanager
def _importing(source: str, origin: Origin, stem: str) -> Iterator[None]:
    """What is registered inside has this origin; a failure becomes one line.

    Args:
        source: what errors call the plug-in.
        origin: of the families.
        stem: the name of its file.
    """
    before, _state["importing"] = _state["importing"], origin
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(_failure(source, error, stem)) from error
    finally:
        _state["importing"] = before


def _failure(source: str, error: BaseException, stem: str) -> str:
    """What went wrong, and in which line of the plug-in."""
    told = str(error).strip().split("\n")[0]
    if not isinstance(error, ValueError) or not told:
        told = f"{type(error).__name__}: {told}".removesuffix(": ")
    if isinstance(error, SyntaxError):
        return f"plug-in {source} fails: {told}"
    files = (f"/{stem}.py", f"/{stem}/__init__.py")
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).as_posix().endswith(files)
    ]
    at = f" in line {lines[-1]}" if lines else ""
    return f"plug-in {source} fails{at}: {told}"


def _keras_classes() -> set[str]:
    """Names of the classes that ``.keras`` files may hold beside Keras's own."""
    if "keras" not in sys.modules:
        return set()
    return set(sys.modules["keras"].saving.get_custom_objects())


def _registered_by(source: str) -> bool:
    """Whether a module registered families when something else imported it."""
    path = str(Path(source).resolve()) if _is_file(source) else None
    return any(
        origin.get("module") == source or (path and origin.get("path") == path)
        for origin in _origins.values()
    )
