"""VIO and vDisk layouts: parse and build undo each other, the derived codec says the same, garbage raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError
from protocol.ldc.cookie import Cookie
from protocol.vdisk import descriptor
from protocol.vdisk.attributes import AttributeLayout, AttributeLayoutV12
from protocol.vdisk.payloads import CapacityLayout, GeometryLayout
from protocol.vio import messages
from protocol.wire import STRUCTURES, FieldInfo, Kind, Layout

LAYOUTS: list[Layout[Any]] = [
    AttributeLayout,
    AttributeLayoutV12,
    CapacityLayout,
    GeometryLayout,
]  # the others come along
NAMES = sorted(
    name
    for name in STRUCTURES
    if name.startswith(("vio_", "vd_attr_", "vd_dring_", "vd_capacity", "vd_geom"))
)
assert {layout.name for layout in LAYOUTS} <= set(NAMES)
FIXED = [name for name in NAMES if not any(row.counted_by for row in STRUCTURES[name].fields)]
TAILED = [name for name in NAMES if name not in FIXED]


def _of(row: FieldInfo) -> st.SearchStrategy[Any]:
    """Return values of a field."""
    if row.kind is Kind.BYTES:
        return st.binary(min_size=row.size, max_size=row.size)
    if row.name == "end_idx":
        return st.integers(-(2**31), 2**31 - 1)
    return st.integers(0, 256**row.size - 1)


def _values(layout: Layout[Any]) -> st.SearchStrategy[Any]:
    """Return values of a structure; its tail, if any, holds up to 33 cookies."""
    rows = [row for row in layout.fields if row.kind is not Kind.RESERVED]
    tail = next((row for row in rows if row.counted_by), None)
    fields = {
        row.name: _of(row) for row in rows if row is not tail and not (tail and row.name in tail.counted_by)
    }
    if tail is None:
        return st.fixed_dictionaries(fields).map(lambda found: layout.value_type(**found))
    word = st.integers(0, 2**64 - 1)
    cookies = st.lists(st.builds(Cookie, word, word), max_size=33).map(tuple)
    return st.tuples(st.fixed_dictionaries(fields), cookies).map(
        lambda found: layout.value_type(
            **found[0], **{tail.counted_by[0]: len(found[1]), tail.name: found[1]}
        )
    )


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_parse_undoes_build_and_the_codec_agrees(name: str, data: st.DataObject) -> None:
    layout = STRUCTURES[name]
    value = data.draw(_values(layout))
    built = layout.build(value)
    assert layout.parse(built) == value
    fast = dict(zip(layout.codec.fields, layout.codec.unpack_from(built), strict=True))
    assert {key: getattr(value, key) for key in fast} == fast
    assert layout.codec.pack(*fast.values()) == built[: layout.size]


@pytest.mark.parametrize("name", FIXED)
@given(data=st.data())
def test_any_bytes_of_the_right_length_parse_and_build_again(name: str, data: st.DataObject) -> None:
    layout = STRUCTURES[name]
    octets = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    value = layout.parse(octets)
    assert layout.parse(layout.build(value)) == value


@pytest.mark.parametrize("name", NAMES)
@given(octets=st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(name: str, octets: bytes) -> None:
    layout = STRUCTURES[name]
    try:
        value = layout.parse(octets)
    except RemoteProtocolError:
        assert name in TAILED or len(octets) != layout.size
    else:
        assert len(layout.build(value)) == len(octets)


@given(subtype=st.sampled_from(messages.Subtype), octets=st.binary(min_size=8, max_size=200))
def test_an_echo_is_as_long_as_what_it_answers(subtype: messages.Subtype, octets: bytes) -> None:
    answer = messages.echo(octets, subtype)
    assert len(answer) == len(octets)
    assert (answer[0], answer[1], answer[2:8]) == (octets[0], subtype, octets[2:8])


@given(octets=st.binary(max_size=600), ncookies=st.integers(0, 2**32 - 1))
def test_any_entry_is_a_request_or_refused(octets: bytes, ncookies: int) -> None:
    try:
        request = descriptor.parse_entry(octets)
    except RemoteProtocolError:
        pass
    else:
        assert 48 + 16 * len(request.cookies) <= len(octets)
    try:
        cookies = descriptor.parse_cookies(octets, ncookies)
    except RemoteProtocolError:
        assert 48 + 16 * ncookies > len(octets)
    else:
        assert len(cookies) == ncookies


@given(data=st.data())
def test_a_request_comes_out_of_an_entry_as_it_went_in(data: st.DataObject) -> None:
    word = st.integers(0, 2**64 - 1)
    octet = st.integers(0, 255)
    cookies = st.lists(st.builds(Cookie, word, word), max_size=18).map(tuple)
    request = data.draw(
        st.builds(descriptor.Request, word, octet, octet, word, st.integers(1, 2**64 - 1), cookies)
    )
    entry = descriptor.build_entry(request, 48 + 16 * 18)
    assert descriptor.parse_entry(entry.ljust(336, b"\xa5")) == request
    inband = bytes.fromhex("02 01 0041") + bytes(20) + descriptor.build_payload(request)
    assert descriptor.parse_inband(inband) == request
