"""The house stands as drawn: who may import whom, and how large a room may grow."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocol", "hypervisor", "vds", "vdc")

#: Package → packages of ours that it may import.
ALLOWED = {
    "protocol": {"protocol"},
    "hypervisor": {"hypervisor", "protocol"},
    "vds": {"vds", "hypervisor", "protocol"},
    "vdc": {"vdc", "hypervisor", "protocol"},
}

#: Inside protocol/, lowest first: a layer imports itself and what stands before it.
LAYERS = (
    "protocol.errors",
    "protocol.wire",
    "protocol.ldc",
    "protocol.vio",
    "protocol.vdisk",
    "protocol.structures",
    "protocol.stack",
    "protocol.capture",
    "protocol.explain",
)

#: What a pure protocol must not even import: files, clocks, dice, threads, event loops.
IMPURE = {
    *(
        "asyncio",
        "concurrent",
        "datetime",
        "fcntl",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
    ),
    *("random", "secrets", "select", "selectors", "signal", "socket", "subprocess", "tempfile", "threading"),
    *("time", "uuid"),
}

#: What only the commands may import, and only when they run: it would slow every program that embeds a disk.
FOR_PEOPLE = {"click", "msgspec", "rich"}
COMMAND_MODULES = {"cli", "config", "__main__"}

SWITCHED_OFF = re.compile(r"# (noqa|type: ignore|pragma: no (cover|branch)|ruff:)")
EXPLAINED = re.compile(
    r"# (noqa: [A-Z]+\d+|type: ignore\[[\w-]+\]|pragma: no (cover|branch))(  # | - )[\w`]+ [\w`]+"
)

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60


def _modules() -> list[Path]:
    """Return every module of the product."""
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def _name(path: Path) -> str:
    """Return a module's dotted name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[str]:
    """Yield the dotted name of each import, wherever in the module it stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _layer(name: str) -> int | None:
    """Return which of the layers a dotted name belongs to."""
    return next((i for i, layer in enumerate(LAYERS) if name == layer or name.startswith(layer + ".")), None)


by_module = pytest.mark.parametrize("path", _modules(), ids=_name)


def test_every_package_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in _modules()} == set(PACKAGES)


@by_module
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in _imports(path)} & {*PACKAGES, "tests", "benchmarks"}
    assert ours <= ALLOWED[package]


@by_module
def test_protocol_does_no_io(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "protocol" and path.stem != "__main__":
        assert not {name.split(".")[0] for name in _imports(path)} & IMPURE


@by_module
def test_protocol_layers_look_down_only(path: Path) -> None:
    own = _layer(_name(path))
    if own is not None:
        above = [name for name in _imports(path) if (other := _layer(name)) is not None and other > own]
        assert not above


@by_module
def test_vio_takes_only_cookies_from_ldc(path: Path) -> None:
    if _name(path).startswith("protocol.vio"):
        foreign = {name for name in _imports(path) if name.startswith("protocol.ldc")}
        assert all(name.startswith("protocol.ldc.cookie") for name in foreign)


@by_module
def test_only_wire_knows_construct_is_untyped(path: Path) -> None:
    """Everything above ``wire`` may name construct's field types, but takes none of its containers."""
    if not _name(path).startswith("protocol.wire"):
        assert not {name for name in _imports(path) if name.startswith("construct.") and "Container" in name}
    if path.relative_to(ROOT).parts[0] in ("vds", "vdc"):
        assert "construct" not in {name.split(".")[0] for name in _imports(path)}


@by_module
def test_what_is_for_people_stays_in_the_commands(path: Path) -> None:
    if path.stem not in COMMAND_MODULES:
        top_level = ast.parse(path.read_text(encoding="utf-8")).body
        names = {
            alias.name.split(".")[0]
            for node in top_level
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {(node.module or "").split(".")[0] for node in top_level if isinstance(node, ast.ImportFrom)}
        assert not names & FOR_PEOPLE


@by_module
def test_modules_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    too_long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := _body_lines(node)) > MAX_FUNCTION_LINES
    ]
    assert not too_long


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function's body has, its docstring left out."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _undocumented(owner: object, body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Yield the public classes, functions and methods that say nothing about themselves.

    A method that carries out what a base class has described has that description.
    """
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue
            named = getattr(owner, node.name)
            if not inspect.getdoc(named):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _undocumented(named, node.body, f"{prefix}{node.name}.")


@by_module
def test_every_public_name_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module does not say what it is for"
    if path.stem != "__main__":  # importing it would run the command
        assert not list(_undocumented(importlib.import_module(_name(path)), tree.body))


@by_module
def test_no_check_is_switched_off_without_a_reason(path: Path) -> None:
    """Whoever switches a check off says which one and why: ``# type: ignore[code]  # the reason``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if SWITCHED_OFF.search(line) and not EXPLAINED.search(line)]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed_for_its_users(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()
