"""Layouts and codecs: what a declaration turns into, and everything that is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import construct
import pytest

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction

T = TypeVar("T")


class Colour(IntEnum):
    """An enumerated field."""

    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    """A value that is no dataclass."""

    addr: int
    size: int


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, wire.Layout[Any]]:
    """Let each test declare structures of its own."""
    fresh: dict[str, wire.Layout[Any]] = {}
    monkeypatch.setattr(wire, "STRUCTURES", fresh)
    monkeypatch.setattr("protocol.wire.layouts.STRUCTURES", fresh)
    return fresh


def pair_layout() -> wire.Layout[Pair]:
    fields = {"addr": wire.field(wire.Int64ub), "size": wire.field(wire.Int64ub, doc="bytes")}
    return wire.describe("ldc_pair", Pair, fields, size=16)


def declare() -> tuple[Any, wire.Layout[Any]]:
    """A structure with one field of each sort and a variable tail."""
    pairs = pair_layout()

    @wire.structure("vio_sample", size=36)
    class Sample:
        number: int = wire.field(wire.Int8ub, doc="a number")
        colour: Colour = wire.field(wire.Int8ub, enum=Colour)
        resv1 = wire.reserved(2)
        signed: int = wire.field(wire.Int32sb, default=-1)
        opaque: bytes = wire.field(wire.Bytes(4))
        words: tuple[int, ...] = wire.field(wire.Array(2, wire.Int16ub))
        pair: tuple[Pair, ...] = wire.array(1, pairs)
        ncookies: int = wire.field(wire.Int32ub)
        cookie: tuple[Pair, ...] = wire.tail(pairs, count="ncookies", limit=2)

    return Sample, wire.layout(Sample)


SAMPLE_HEX = (
    "07 02 0000 ffffffff 61626364 0001 0002 0000000000000003 0000000000000004 00000001"
    "0000000000000005 0000000000000006"
)


def sample(kind: type[T], **changes: object) -> T:
    values: dict[str, object] = {
        "number": 7,
        "colour": Colour.BLUE,
        "opaque": b"abcd",
        "words": (1, 2),
        "pair": (Pair(3, 4),),
        "ncookies": 1,
        "cookie": (Pair(5, 6),),
    }
    return kind(**(values | changes))


def test_value_is_a_frozen_slotted_dataclass_without_reserved_fields() -> None:
    kind, _ = declare()
    value = sample(kind)
    assert len(dataclasses.fields(kind)) == 8
    assert not hasattr(value, "resv1")
    assert not hasattr(value, "__dict__")
    assert value.signed == -1  # the default
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.number = 8
    with pytest.raises(TypeError):
        kind()  # fields without a default are required


def test_build_writes_every_field_in_its_place() -> None:
    kind, layout = declare()
    assert layout.build(sample(kind)) == bytes.fromhex(SAMPLE_HEX)


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_parse_reads_every_field_and_ignores_reserved_bytes(
    buffer: Callable[[bytearray], wire.Buffer],
) -> None:
    kind, layout = declare()
    data = bytearray.fromhex(SAMPLE_HEX)
    data[2:4] = b"\xaa\xbb"
    parsed = layout.parse(buffer(data))
    assert parsed == sample(kind)
    assert parsed.colour is Colour.BLUE
    assert isinstance(parsed.words, tuple)
    assert isinstance(parsed.cookie[0], Pair)


@pytest.mark.parametrize("size", [0, 1, 35, 36, 51, 53])
def test_wrong_size_is_refused(size: int) -> None:
    _, layout = declare()
    data = bytes.fromhex(SAMPLE_HEX + "00")[:size]
    with pytest.raises(PacketError, match=f"vio_sample: {size} bytes, must be") as caught:
        layout.parse(data)
    assert caught.value.layer is Layer.VIO
    assert caught.value.reaction is Reaction.RESET


def test_trailing_bytes_are_accepted_when_asked_for() -> None:
    kind, layout = declare()
    assert layout.parse(bytes.fromhex(SAMPLE_HEX) + b"more", trailing=True) == sample(kind)
    with pytest.raises(PacketError):
        layout.parse(bytes.fromhex(SAMPLE_HEX)[:-1], trailing=True)


def test_unknown_enumerated_number_is_refused() -> None:
    _, layout = declare()
    data = bytearray.fromhex(SAMPLE_HEX)
    data[1] = 3
    with pytest.raises(PacketError, match="3 is not a valid Colour"):
        layout.parse(data)


@pytest.mark.parametrize("count", [3, 0xFFFFFFFF])
def test_count_above_its_limit_is_refused_before_the_array_is_read(count: int) -> None:
    _, layout = declare()
    data = bytearray.fromhex(SAMPLE_HEX)
    data[32:36] = count.to_bytes(4, "big")
    with pytest.raises(PacketError, match=f"ncookies is {count}, at most 2"):
        layout.parse(data)


@pytest.mark.parametrize("count", [0, 2])
def test_count_that_is_not_the_length_is_refused(count: int) -> None:
    _, layout = declare()
    data = bytearray.fromhex(SAMPLE_HEX)
    data[32:36] = count.to_bytes(4, "big")
    with pytest.raises(PacketError, match="52 bytes, must be"):
        layout.parse(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 256},
        {"number": -1},
        {"number": None},
        {"signed": 1 << 31},
        {"colour": 9},
        {"opaque": b"abc"},
        {"words": (1, 2, 3)},
        {"words": (1, 1 << 16)},
        {"pair": ()},
        {"ncookies": 2},
        {"ncookies": 3, "cookie": (Pair(0, 0),) * 3},
    ],
)
def test_value_that_does_not_fit_is_our_own_error(changes: dict[str, object]) -> None:
    kind, layout = declare()
    with pytest.raises(LocalProtocolError, match="vio_sample: "):
        layout.build(sample(kind, **changes))


def test_fields_are_the_layout_table() -> None:
    _, layout = declare()
    assert [(row.name, row.offset, row.size, row.kind) for row in layout.fields] == [
        ("number", 0, 1, wire.Kind.INT),
        ("colour", 1, 1, wire.Kind.INT),
        ("resv1", 2, 2, wire.Kind.RESERVED),
        ("signed", 4, 4, wire.Kind.INT),
        ("opaque", 8, 4, wire.Kind.BYTES),
        ("words", 12, 4, wire.Kind.ARRAY),
        ("pair", 16, 16, wire.Kind.ARRAY),
        ("ncookies", 32, 4, wire.Kind.INT),
        ("cookie", 36, 16, wire.Kind.ARRAY),
    ]
    rows = {row.name: row for row in layout.fields}
    assert rows["number"].doc == "a number"
    assert rows["resv1"].doc == "reserved, zero"
    assert rows["colour"].enum is Colour
    assert rows["cookie"].counted_by == ("ncookies",)
    assert rows["pair"].counted_by == ()


def test_codec_is_derived_from_the_declaration() -> None:
    _, layout = declare()
    codec = layout.codec
    assert codec.format == ">BB2xl4sHHQQL"
    assert (codec.size, layout.size) == (36, 36)
    assert codec.fields == (
        "number",
        "colour",
        "signed",
        "opaque",
        "words[0]",
        "words[1]",
        "pair[0].addr",
        "pair[0].size",
        "ncookies",
    )
    values = (7, 2, -1, b"abcd", 1, 2, 3, 4, 1)
    assert codec.pack(*values) == bytes.fromhex(SAMPLE_HEX)[:36]
    assert codec.unpack(bytes.fromhex(SAMPLE_HEX)[:36]) == values
    assert codec.unpack_from(b"??" + bytes.fromhex(SAMPLE_HEX), 2) == values
    buffer = bytearray(b"\xff" * 40)
    codec.pack_into(buffer, 4, *values)
    assert buffer == b"\xff" * 4 + bytes.fromhex(SAMPLE_HEX)[:36]
    assert list(codec.iter_unpack(bytes.fromhex(SAMPLE_HEX)[:36] * 2)) == [values, values]


def test_codecs_are_joined_by_derive() -> None:
    _, layout = declare()
    pairs = wire.STRUCTURES["ldc_pair"]
    codec = wire.derive(layout, pairs, pairs)
    assert codec.format == ">BB2xl4sHHQQLQQQQ"
    assert codec.size == 36 + 2 * 16
    assert codec.fields[-4:] == ("addr", "size", "addr", "size")


def test_little_endian_structures_are_possible() -> None:
    @wire.structure("efi_sample", size=16)
    class Label:
        flags: int = wire.field(wire.Int8ul)
        reserved = wire.reserved(1)
        version: int = wire.field(wire.Int16ul)
        size: int = wire.field(wire.Int32ul)
        lba: int = wire.field(wire.Int64ul)

    layout = wire.layout(Label)
    data = bytes.fromhex("01 00 0200 03000000 0400000000000000")
    assert layout.codec.format == "<B1xHLQ"
    assert layout.layer is Layer.VDISK
    assert layout.parse(data) == Label(flags=1, version=2, size=3, lba=4)
    assert layout.build(Label(flags=1, version=2, size=3, lba=4)) == data


def test_byte_orders_do_not_mix() -> None:
    with pytest.raises(TypeError, match="big-endian and little-endian"):

        @wire.structure("vd_mixed", size=4)
        class Mixed:
            big: int = wire.field(wire.Int16ub)
            little: int = wire.field(wire.Int16ul)


def test_codec_of_bytes_alone_and_all_signed_widths() -> None:
    @wire.structure("vd_signed", size=17)
    class Signed:
        a: int = wire.field(wire.Int8sb)
        b: int = wire.field(wire.Int16sb)
        c: int = wire.field(wire.Int64sb)
        d: int = wire.field(wire.Int16ub)
        e: bytes = wire.field(wire.Bytes(4))

    @wire.structure("ldc_raw", size=3)
    class Raw:
        payload: bytes = wire.field(wire.Bytes(3))

    assert wire.layout(Raw).codec.format == ">3s"
    value = Signed(a=-1, b=-2, c=-3, d=4, e=b"abcd")
    data = bytes.fromhex("ff fffe fffffffffffffffd 0004 61626364")
    assert wire.layout(Signed).build(value) == data
    assert wire.layout(Signed).parse(data) == value


def test_nested_structures_check_their_enumerated_fields_too() -> None:
    @wire.structure("vd_inner", size=2)
    class Inner:
        colour: Colour = wire.field(wire.Int8ub, enum=Colour)
        pad = wire.reserved(1)

    inner = wire.layout(Inner)

    @wire.structure("vd_outer", size=4)
    class Outer:
        inner_: tuple[Inner, ...] = wire.array(2, inner)

    layout = wire.layout(Outer)
    value = Outer(inner_=(Inner(colour=Colour.RED), Inner(colour=Colour.BLUE)))
    assert layout.build(value) == b"\x01\x00\x02\x00"
    assert layout.parse(b"\x01\x00\x02\x00") == value
    assert layout.codec.fields == ("inner_[0].colour", "inner_[1].colour")
    assert layout.codec.format == ">B1xB1x"
    with pytest.raises(PacketError, match="not a valid Colour"):
        layout.parse(b"\x01\x00\x03\x00")


def test_declared_size_is_verified() -> None:
    with pytest.raises(TypeError, match="vio_wrong is 4 bytes, declared as 5"):

        @wire.structure("vio_wrong", size=5)
        class Wrong:
            number: int = wire.field(wire.Int32ub)


def test_variable_tail_must_be_the_last_field() -> None:
    pairs = pair_layout()
    with pytest.raises(TypeError, match="cookie is variable and not the last"):

        @wire.structure("vio_tail", size=5)
        class Tail:
            n: int = wire.field(wire.Int8ub)
            cookie: tuple[Pair, ...] = wire.tail(pairs, count="n", limit=1)
            after: int = wire.field(wire.Int32ub)


def test_name_is_registered_once(registry: dict[str, wire.Layout[Any]]) -> None:
    layout = pair_layout()
    assert registry == {"ldc_pair": layout}
    with pytest.raises(TypeError, match="ldc_pair is declared twice"):
        pair_layout()


@pytest.mark.parametrize(
    ("name", "layer", "reaction"),
    [
        ("hv_x", Layer.HYPERVISOR, Reaction.CLOSE),
        ("ldc_x", Layer.LDC, Reaction.CLOSE),
        ("vio_x", Layer.VIO, Reaction.RESET),
        ("vd_x", Layer.VDISK, Reaction.RESET),
        ("dk_x", Layer.VDISK, Reaction.RESET),
    ],
)
def test_layer_and_reaction_follow_from_the_name(name: str, layer: Layer, reaction: Reaction) -> None:
    layout = wire.describe(
        name, Pair, {"addr": wire.field(wire.Int8ub), "size": wire.field(wire.Int8ub)}, size=2
    )
    assert layout.layer is layer
    with pytest.raises(PacketError) as caught:
        layout.parse(b"")
    assert (caught.value.layer, caught.value.reaction) == (layer, reaction)


def test_layer_can_be_given() -> None:
    layout = wire.describe("other", bytes, {"x": wire.field(wire.Int8ub)}, size=1, layer=Layer.HYPERVISOR)
    assert layout.layer is Layer.HYPERVISOR


def test_field_without_a_fixed_code_is_refused() -> None:
    with pytest.raises(TypeError, match="BytesInteger has no fixed struct code"):
        wire.describe("vd_odd", Pair, {"addr": wire.field(_three_bytes())}, size=3)


def _three_bytes() -> wire.FieldType[int]:
    """A construct field that ``struct`` has no letter for."""
    kind: wire.FieldType[int] = construct.Int24ub
    return kind
