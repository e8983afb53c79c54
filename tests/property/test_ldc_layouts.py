"""LDC structures: what is built parses to the same, and the derived codec says what the layout says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import RemoteProtocolError
from protocol.ldc import cookie, packet

LAYOUTS: Mapping[str, wire.Layout[Any]] = {
    name: layout for name, layout in wire.STRUCTURES.items() if name.startswith("ldc_")
}


def test_the_layouts_of_the_modules_are_all_here() -> None:
    assert {packet.RawPacketLayout.name, cookie.CookieLayout.name} <= set(LAYOUTS)
    assert len(LAYOUTS) == 6


def field_values(layout: wire.Layout[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a value for each field of a fixed layout."""
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    for row in layout.fields:
        if row.kind is wire.Kind.INT:
            drawn[row.name] = st.integers(0, (1 << 8 * row.size) - 1)
        elif row.kind is wire.Kind.BYTES:
            drawn[row.name] = st.binary(min_size=row.size, max_size=row.size)
    return st.fixed_dictionaries(drawn)


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_what_is_built_parses_to_the_same(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    value = layout.value_type(**data.draw(field_values(layout)))
    built = layout.build(value)
    assert len(built) == layout.size
    assert layout.parse(built) == value


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_codec_and_layout_read_the_same(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    parsed = layout.parse(raw)
    found = dict(zip(layout.codec.fields, layout.codec.unpack_from(raw), strict=True))
    assert found == {key: getattr(parsed, key) for key in layout.codec.fields}


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_codec_and_layout_write_the_same(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    values = data.draw(field_values(layout))
    packed = layout.codec.pack(*(values[key] for key in layout.codec.fields))
    assert packed == layout.build(layout.value_type(**values))
    buffer = bytearray(b"\xee" * layout.size)
    layout.codec.pack_into(buffer, 0, *(values[key] for key in layout.codec.fields))
    assert buffer == packed


@pytest.mark.parametrize("name", LAYOUTS)
@given(raw=st.binary(max_size=130))
def test_any_bytes_parse_or_are_refused(name: str, raw: bytes) -> None:
    layout = LAYOUTS[name]
    try:
        value = layout.parse(raw)
    except RemoteProtocolError:
        assert len(raw) != layout.size
    else:
        assert isinstance(value, layout.value_type if isinstance(layout.value_type, type) else tuple)
