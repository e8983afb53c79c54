"""``docs/reference/capture.md`` says of every structure what its layout says, and has all the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protocol import structures, wire
from protocol.capture import How, NoteKind, NoteLayout

PAGE = (Path(__file__).resolve().parents[4] / "docs/reference/capture.md").read_text(encoding="utf-8")
TABLES: dict[str, str] = dict(re.findall(r"<!-- layout: (\w+) -->\n((?:\|.*\n)+)", PAGE))


def test_every_structure_has_its_table() -> None:
    ours = {name for name in wire.STRUCTURES if name.startswith(("capture_", "pcapng_"))}
    assert {name for name in ours if not name.endswith("_big")} == set(TABLES)
    assert NoteLayout.name in TABLES


@pytest.mark.parametrize("name", TABLES)
def test_table_is_that_of_the_layout(name: str) -> None:
    assert TABLES[name] == structures.table(wire.STRUCTURES[name]) + "\n"


@pytest.mark.parametrize("kind", NoteKind)
def test_every_kind_is_described(kind: NoteKind) -> None:
    assert f"| {kind.value} | {kind.name}: " in PAGE


def test_both_ways_are_described() -> None:
    assert re.findall(r"^\| (\d) \| (?:the entry|by polling)", PAGE, re.MULTILINE) == [
        str(how.value) for how in How
    ]
