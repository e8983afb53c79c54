"""The page of rules lists tests that exist and every conformance test there is, each rule with its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "rules.md"
NODE = re.compile(r"`((?:\w+/)+test_\w+\.py(?:::\w+)+)`")
SECTION = re.compile(r"^## (.+)\n\n((?:[^|\n#].*\n)+)\n((?:\|.*\n)+)(?=\n## |\Z)", re.MULTILINE)
"""A section of the page: its name, the words before its table, and the table."""


def _tests(path: Path) -> Iterator[str]:
    """Yield the node ids of a module, below ``tests/``."""
    module = path.relative_to(TESTS).as_posix()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    yield from (f"{module}::{name}" for name in _functions(body))
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from (f"{module}::{node.name}::{name}" for name in _functions(node.body))


def _functions(body: list[ast.stmt]) -> list[str]:
    """Return the names of the tests in ``body``."""
    functions = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [function.name for function in functions if function.name.startswith("test_")]


def _listed() -> set[str]:
    """Return the node ids on the page."""
    return set(NODE.findall(PAGE.read_text(encoding="utf-8")))


def test_every_test_that_is_listed_exists() -> None:
    listed = _listed()
    modules = {TESTS / node.partition("::")[0] for node in listed}
    missing = {str(module.relative_to(TESTS)) for module in modules if not module.exists()}
    assert sorted(missing) == []
    assert sorted(listed - {node for module in modules for node in _tests(module)}) == []


def test_every_conformance_test_is_listed() -> None:
    there = {node for module in (TESTS / "conformance").rglob("test_*.py") for node in _tests(module)}
    assert there, "there are conformance tests"
    assert sorted(there - _listed()) == []


def test_every_row_names_a_test_or_says_why_there_is_none() -> None:
    """A rule without a test is one that nobody keeps; what is not implemented yet says with what it comes."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rules = [row for row in rows if not row.startswith(("| Rule", "| Difference"))]
    assert len(rules) > 100
    assert not [row for row in rules if not NODE.search(row) and "| with " not in row]


def test_every_section_is_words_that_say_its_source_and_one_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sections = {name: words for name, words, _ in SECTION.findall(page)}
    assert list(sections) == re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert [name for name, words in sections.items() if "Source" not in words] == []


def test_every_row_has_a_source_if_there_is_a_column_for_it() -> None:
    for name, words, table in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        head, _, *rows = (_cells(row) for row in table.splitlines())
        assert [row for row in rows if len(row) != len(head)] == [], name
        if "Source" in head:
            assert [row for row in rows if not row[head.index("Source")]] == [], name
        else:
            assert "Source: " in words, name


def test_a_rule_of_our_own_says_why() -> None:
    page = PAGE.read_text(encoding="utf-8")
    ours = [cell for row in page.splitlines() for cell in _cells(row) if cell.startswith("this project")]
    assert ours
    assert [cell for cell in ours if not cell.removeprefix("this project").startswith(": ")] == []


def _cells(row: str) -> list[str]:
    """Return the cells of a row of a table."""
    return [cell.strip() for cell in row.strip("|").split("|")]
