"""Structures and numbers are those of the drivers' headers, as ``tests/vectors/layouts.json`` has them.

That file was read out of the headers, not out of our code: names, offsets, sizes, kinds and byte order of 36
structures, the bit-fields in them, and every group of constants. Source: each entry names its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protocol import structures, wire

PAPER: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "layouts.json").read_text())
STRUCTS: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in PAPER["structs"]}

by_name = pytest.mark.parametrize("name", STRUCTS)


def test_every_structure_is_there_and_no_other() -> None:
    assert len(STRUCTS) == 36
    assert set(structures.STANDARD) == set(STRUCTS)


@by_name
def test_offsets_and_sizes(name: str) -> None:
    layout = structures.STANDARD[name]
    expected = [
        (f["name"], f["offset"], f.get("element_size", f["size"]) if f.get("variable") else f["size"])
        for f in STRUCTS[name]["fields"]
    ]
    assert [(row.name, row.offset, row.size) for row in layout.fields] == expected
    assert layout.size == STRUCTS[name].get("header_size", STRUCTS[name]["size"])


@by_name
def test_kinds_and_counts(name: str) -> None:
    for row, field in zip(structures.STANDARD[name].fields, STRUCTS[name]["fields"], strict=True):
        if row.kind is not wire.Kind.RESERVED:
            assert row.kind.value == field["kind"]
        assert bool(row.counted_by) == field.get("variable", False)
        if "count" in field and field.get("variable"):
            assert row.counted_by == (field["count"],)
        if field["kind"] == "array":
            assert row.element is not None
            assert row.element.size == field["element_size"]
            if not field.get("variable"):
                assert row.size == field["count"] * field["element_size"]


@by_name
def test_reserved_fields_are_those_without_a_meaning(name: str) -> None:
    reserved = {row.name for row in structures.STANDARD[name].fields if row.kind is wire.Kind.RESERVED}
    unnamed = {
        field["name"]
        for field in STRUCTS[name]["fields"]
        if any(word in field["name"] for word in ("resv", "reserved", "pad", "zero"))
    }
    assert reserved == unnamed


@by_name
def test_byte_order_and_signs(name: str) -> None:
    layout = structures.STANDARD[name]
    if any(row.kind is wire.Kind.INT and row.size > 1 for row in layout.fields):
        assert layout.codec.format[0] == {"big": ">", "little": "<"}[STRUCTS[name]["byte_order"]]
    signs = {field["name"]: field["signed"] for field in STRUCTS[name]["fields"]}
    filled = layout.parse(b"\xff" * layout.size, trailing=True) if _all_ones_parse(layout) else None
    for row in layout.fields:
        if filled is not None and row.kind is wire.Kind.INT:
            assert (getattr(filled, row.name) < 0) == signs[row.name], row.name


def _all_ones_parse(layout: wire.Layout[Any]) -> bool:
    return not any(row.counted_by for row in layout.fields)


def test_signed_fields_of_structures_with_a_tail() -> None:
    signed = {
        (name, field["name"])
        for name, entry in STRUCTS.items()
        for field in entry["fields"]
        if field["signed"] and field["kind"] == "int"
    }
    assert signed == {
        ("vio_dring_msg", "end_idx"),
        ("vd_wce", "enabled"),
        ("devid_fab_id", "tv_sec"),
        ("devid_fab_id", "tv_usec"),
    }


def test_the_elements_of_the_disk_label() -> None:
    elements = {
        row.name: [(inner.name, inner.offset, inner.size) for inner in row.element.fields]
        for row in structures.STANDARD["dk_label_vtoc8"].fields
        if row.element is not None
    }
    assert elements == {
        "v_part": [("tag", 0, 2), ("flag", 2, 2)],
        "map": [("start_cylinder", 0, 4), ("nblocks", 4, 4)],
    }
