"""Every structure: any legal value goes there and back, whatever is illegal is refused with its reason."""

from __future__ import annotations

import contextlib
import json
from enum import IntFlag
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import structures, wire
from protocol.errors import LocalProtocolError, PacketError, RemoteProtocolError

LAYOUTS = structures.STANDARD
by_name = pytest.mark.parametrize("name", LAYOUTS)

EXAMPLES = settings().max_examples // 10
"""Two hundred tests share the time of one; a structure has few fields."""

SIGNED = {"end_idx", "enabled", "tv_sec", "tv_usec"}


def numbers(row: wire.FieldInfo) -> st.SearchStrategy[int]:
    """A number that the field may hold and that has a meaning in it."""
    if row.enum is not None and issubclass(row.enum, IntFlag):
        every = 0
        for member in row.enum:
            every |= int(member)
        return st.integers(0, every).map(lambda bits: bits & every)
    if row.enum is not None:
        return st.sampled_from([int(member) for member in row.enum] + [0] * row.zero)
    bits = 8 * row.size
    return (
        st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
        if row.name in SIGNED
        else st.integers(0, (1 << bits) - 1)
    )


@st.composite
def legal(draw: st.DrawFn, layout: wire.Layout[Any]) -> dict[str, object]:
    """A legal value as a plain object."""
    tail = next((row for row in layout.fields if row.counted_by), None)
    counts = tail.counted_by if tail is not None else ()
    found: dict[str, object] = {}
    for row in layout.fields:
        if row.kind is wire.Kind.RESERVED or row is tail:
            continue
        if row.name in counts:
            found[row.name] = draw(st.integers(0, 5))
        elif row.kind is wire.Kind.INT:
            found[row.name] = draw(numbers(row))
        elif row.element is not None:
            count = row.size // row.element.size
            found[row.name] = [draw(legal(row.element)) for _ in range(count)]
        else:
            found[row.name] = draw(st.binary(min_size=row.size, max_size=row.size)).hex()
    if tail is not None:
        lengths = [int(str(found[name])) for name in counts]
        total = sum(-(-each // tail.rounded) * tail.rounded for each in lengths)
        if tail.element is not None:
            found[tail.name] = [draw(legal(tail.element)) for _ in range(total)]
        else:
            found[tail.name] = draw(st.binary(min_size=total, max_size=total)).hex()
    return found


@by_name
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_encode_decode_encode_is_the_identity(name: str, data: st.DataObject) -> None:
    found = json.loads(json.dumps(data.draw(legal(LAYOUTS[name]))))
    built = structures.encode(name, found)
    assert structures.decode(name, built) == found
    assert structures.encode(name, structures.decode(name, built)) == built


@by_name
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_one_byte_more_or_less_is_refused(name: str, data: st.DataObject) -> None:
    built = structures.encode(name, data.draw(legal(LAYOUTS[name])))
    for wrong in (built[:-1], built + b"\0", b""):
        with pytest.raises(PacketError, match=f"{name}: .*bytes, must be"):
            structures.decode(name, wrong)


@by_name
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_codec_and_layout_read_the_same(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    built = structures.encode(name, data.draw(legal(layout)))
    fast = dict(zip(layout.codec.fields, layout.codec.unpack_from(built), strict=True))
    slow = layout.parse(built)
    for key, value in fast.items():
        found: Any = slow
        for part in key.replace("]", "").replace("[", ".").split("."):
            found = found[int(part)] if part.isdecimal() else getattr(found, part)
        assert found == value, key


@by_name
@settings(max_examples=EXAMPLES)
@given(raw=st.binary(max_size=700))
def test_any_bytes_decode_or_are_refused(name: str, raw: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert set(structures.decode(name, raw)) <= {row.name for row in LAYOUTS[name].fields}


def meaningless(row: wire.FieldInfo) -> st.SearchStrategy[int]:
    """A number that fits the field and has no meaning in it."""
    assert row.enum is not None
    known = {int(member) for member in row.enum}
    top = (1 << 8 * row.size - (row.name in SIGNED)) - 1
    if issubclass(row.enum, IntFlag):
        unused = [1 << bit for bit in range(8 * row.size) if 1 << bit not in known]
        return st.builds(int.__or__, st.integers(0, top), st.sampled_from(unused))
    if row.zero:
        known.add(0)
    return st.integers(0, top).filter(lambda number: number not in known) | st.just(max(known) + 1)


NUMBERED = [(name, row) for name, layout in LAYOUTS.items() for row in layout.fields if row.enum is not None]


@pytest.mark.parametrize(("name", "row"), NUMBERED, ids=[f"{name}.{row.name}" for name, row in NUMBERED])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_a_number_without_a_meaning_is_refused_both_ways(
    name: str, row: wire.FieldInfo, data: st.DataObject
) -> None:
    found = data.draw(legal(LAYOUTS[name]))
    built = bytearray(structures.encode(name, found))
    unknown = data.draw(meaningless(row))
    with pytest.raises(LocalProtocolError, match=f"{name}: {row.name} is {unknown}, known are"):
        structures.encode(name, found | {row.name: unknown})
    built[row.offset : row.offset + row.size] = unknown.to_bytes(row.size, "big")
    with pytest.raises(PacketError, match=f"{name}: {row.name} is {unknown}, known are"):
        structures.decode(name, bytes(built))


COUNTED = [(name, row) for name, layout in LAYOUTS.items() for row in layout.fields if row.counted_by]


@pytest.mark.parametrize(("name", "row"), COUNTED, ids=[name for name, _ in COUNTED])
def test_a_count_beyond_its_bound_is_refused(name: str, row: wire.FieldInfo) -> None:
    layout = LAYOUTS[name]
    counting = next(field for field in layout.fields if field.name == row.counted_by[0])
    data = bytearray(layout.size)
    data[counting.offset : counting.offset + counting.size] = b"\xff" * counting.size
    with pytest.raises(PacketError, match="at most"):
        layout.parse(data)
