"""The reader: both byte orders, other programs' files, files cut short, and what is no file of this kind."""

from __future__ import annotations

import struct

import pytest

from protocol.capture import (
    Direction,
    Event,
    Frame,
    Interface,
    build_frame,
    build_interface,
    build_section,
    reader,
)
from protocol.capture.pcapng import MAX_BLOCK_SIZE
from protocol.capture.reader import Reader
from protocol.errors import Layer, PacketError, Reaction

from .blocks import BIG, LITTLE, block, interface, option, packet, read, section

PACKET = bytes(range(64))
OURS = (
    build_section("vds", "test")
    + build_interface("disk0#1", "client process 1")
    + b"".join(build_frame(0, 1_700_000_000_123_456_789, Direction.INBOUND, PACKET))
    + build_interface("disk1#2", "client process 2")
    + b"".join(build_frame(1, 5, Direction.OUTBOUND, b"note" * 6 + b"x"))
    + b"".join(build_frame(0, 6, Direction.UNKNOWN, b""))
)
DISK0 = Interface(number=0, name="disk0#1", description="client process 1", linktype=147, resolution=9)
DISK1 = Interface(number=1, name="disk1#2", description="client process 2", linktype=147, resolution=9)
EVENTS: list[Event] = [
    DISK0,
    Frame(DISK0, 1_700_000_000_123_456_789, Direction.INBOUND, PACKET),
    DISK1,
    Frame(DISK1, 5, Direction.OUTBOUND, b"note" * 6 + b"x"),
    Frame(DISK0, 6, Direction.UNKNOWN, b""),
]

by_order = pytest.mark.parametrize("order", [LITTLE, BIG], ids=["little", "big"])


@pytest.mark.parametrize("step", [1, 2, 3, 7, 12, 64, 1 << 20])
def test_what_was_built_is_read_in_pieces_of_any_size(step: int) -> None:
    assert read(OURS, step) == (EVENTS, False)


def test_packets_are_told_by_their_length() -> None:
    assert [event.is_packet for event in EVENTS if isinstance(event, Frame)] == [True, False, False]


def test_nothing_at_all_is_cut_short() -> None:
    assert read(b"") == ([], True)


def test_a_section_alone_is_whole() -> None:
    assert read(build_section("vds", "")) == ([], False)


def test_cut_at_every_byte() -> None:
    """What is whole is read, and it is known that something is missing, unless whole blocks are."""
    sizes = [len(build_section("vds", "test"))]
    for event in EVENTS:
        if isinstance(event, Interface):
            sizes.append(len(build_interface(event.name, event.description)))
        else:
            number = event.interface.number
            sizes.append(len(b"".join(build_frame(number, event.time_ns, event.direction, event.data))))
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    assert ends[-1] == len(OURS)
    for cut in range(len(OURS) + 1):
        whole = sum(end <= cut for end in ends)
        assert read(OURS[:cut]) == (EVENTS[: max(0, whole - 1)], cut not in ends)


@by_order
def test_both_byte_orders(order: str) -> None:
    options = option(order, 2, b"name") + option(order, 3, b"text") + option(order, 0, b"")
    data = (
        section(order, options=option(order, 4, b"dumpcap") + option(order, 0, b""))
        + interface(order, options)
        + packet(order, PACKET, time=(3 << 32) + 5, options=option(order, 2, struct.pack(order + "I", 0x102)))
    )
    (link, frame), cut = read(data)
    assert not cut
    assert link == Interface(number=0, name="name", description="text", linktype=147)
    assert isinstance(frame, Frame)
    assert frame.direction is Direction.OUTBOUND
    assert frame.time_ns == ((3 << 32) + 5) * 1000  # microseconds, unless told otherwise
    assert frame.data == PACKET


@by_order
@pytest.mark.parametrize(
    ("resolution", "offset", "time", "expected"),
    [
        (6, 0, 1_000_001, 1_000_001_000),
        (9, 0, 1_000_001, 1_000_001),
        (0, 0, 3, 3_000_000_000),
        (12, 0, 5_999, 5),
        (0x80, 0, 2, 2_000_000_000),
        (0x8A, 0, 1536, 1_500_000_000),
        (9, 2, 1, 2_000_000_001),
        (9, -2, 1, -1_999_999_999),
        (127, 0, 1, 0),
    ],
)
def test_times(order: str, resolution: int, offset: int, time: int, expected: int) -> None:
    options = option(order, 9, bytes([resolution])) + option(order, 14, struct.pack(order + "q", offset))
    events, _ = read(section(order) + interface(order, options) + packet(order, PACKET, time=time))
    assert isinstance(events[1], Frame)
    assert events[1].time_ns == expected


@by_order
def test_unknown_blocks_and_options_are_skipped(order: str) -> None:
    strange = option(order, 0x7FF, b"abc")
    data = (
        section(order, options=strange)
        + block(order, 5, bytes(8))  # interface statistics
        + interface(order, strange + option(order, 2, b"a"))
        + block(order, 0x80000001, b"")
        + packet(order, PACKET, options=strange + option(order, 1, b"a comment"))
        + block(order, 3, bytes(4))  # a simple packet has no time and no way
    )
    events, cut = read(data)
    assert not cut
    assert [type(event) for event in events] == [Interface, Frame]


def test_what_follows_the_end_of_the_options_does_not_matter() -> None:
    options = option(LITTLE, 2, b"a") + option(LITTLE, 0, b"") + b"\xff\xff\xff\xff"
    (link,), _ = read(section(LITTLE) + interface(LITTLE, options))
    assert isinstance(link, Interface)
    assert link.name == "a"


def test_a_name_that_is_no_utf8_is_read_all_the_same() -> None:
    (link,), _ = read(section(LITTLE) + interface(LITTLE, option(LITTLE, 2, b"a\xff")))
    assert isinstance(link, Interface)
    assert link.name == "a\N{REPLACEMENT CHARACTER}"


def test_of_a_long_text_the_beginning_is_kept() -> None:
    data = build_section("vds", "") + build_interface("n" * 1000, "d" * 1000)
    (link,), _ = read(data)
    assert isinstance(link, Interface)
    assert (link.name, link.description) == ("n" * 256, "d" * 256)


def test_a_section_has_so_many_interfaces_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_INTERFACES", 2)
    two = section(LITTLE) + interface(LITTLE) * 2
    events, _ = read(two + two)
    assert len(events) == 4
    with pytest.raises(PacketError, match="more than 2 interfaces in a section"):
        read(two + interface(LITTLE))


def test_each_section_has_its_own_byte_order_and_interfaces() -> None:
    one = section(LITTLE) + interface(LITTLE) + interface(LITTLE, option(LITTLE, 2, b"b"))
    two = section(BIG) + interface(BIG, option(BIG, 2, b"c")) + packet(BIG, PACKET)
    events, _ = read(one + two)
    assert [event.name for event in events if isinstance(event, Interface)] == ["", "b", "c"]
    assert isinstance(events[-1], Frame)
    assert events[-1].interface.name == "c"
    with pytest.raises(PacketError, match="interface 1, there are 1"):
        read(one + two + packet(BIG, PACKET, number=1))


def test_frames_of_another_link_type_are_skipped() -> None:
    data = section(LITTLE) + interface(LITTLE, linktype=1) + packet(LITTLE, bytes(60), original=1500)
    (link,), cut = read(data)
    assert isinstance(link, Interface)
    assert not link.is_ours
    assert not cut


GOOD = section(LITTLE) + interface(LITTLE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xd4\xc3\xb2\xa1", "not a pcapng file"),  # classic pcap
        (b"\x0a\x0d\x0d\x0b", "not a pcapng file"),
        (b"x", "not a pcapng file"),
        (block(LITTLE, 1, bytes(8)), "not a pcapng file"),
        (b"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00abcd", "unknown byte order"),
        (GOOD + b"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00abcd", "unknown byte order"),
        (section(LITTLE, major=2), "version 2.0"),
        (block(BIG, 0x0A0D0D0A, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1)[:12]), "must be 16"),
        (GOOD + struct.pack("<III", 5, 8, 8), "a block of 8 bytes"),
        (GOOD + struct.pack("<III", 5, 14, 8), "a block of 14 bytes"),
        (GOOD + struct.pack("<III", 5, MAX_BLOCK_SIZE + 4, 0), f"a block of {MAX_BLOCK_SIZE + 4} bytes"),
        (GOOD + struct.pack("<III", 5, 12, 16), "that ends as one of 16"),
        (section(LITTLE) + block(LITTLE, 1, bytes(4)), "must be 8"),
        (section(LITTLE) + interface(LITTLE, struct.pack("<HH", 2, 1)), "an option of 1 bytes where 0"),
        (section(LITTLE) + interface(LITTLE, option(LITTLE, 9, b"ab")), "TSRESOL of 2 bytes, must be 1"),
        (section(LITTLE) + interface(LITTLE, option(LITTLE, 14, b"ab")), "TSOFFSET of 2 bytes, must be 8"),
        (GOOD + block(LITTLE, 6, bytes(16)), "must be 20"),
        (GOOD + packet(LITTLE, PACKET, number=1), "interface 1, there are 1"),
        (GOOD + block(LITTLE, 6, struct.pack("<IIIII", 0, 0, 0, 5, 5) + bytes(4)), "a frame of 5 bytes"),
        (GOOD + block(LITTLE, 6, struct.pack("<IIIII", 0, 0, 0, 2**32 - 1, 0)), "a frame of 4294967295"),
        (GOOD + packet(LITTLE, PACKET, original=96), "only 64 bytes of a frame of 96"),
        (GOOD + packet(LITTLE, PACKET, options=option(LITTLE, 2, b"\3\0\0\0")), "inbound and outbound"),
        (GOOD + packet(LITTLE, PACKET, options=option(LITTLE, 2, b"\1")), "FLAGS of 1 bytes, must be 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_contradicts_itself_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(PacketError, match=why) as caught:
        read(data)
    assert caught.value.layer is Layer.HYPERVISOR
    assert caught.value.reaction is Reaction.CLOSE


def test_what_is_whole_before_an_error_is_read_and_the_error_stays() -> None:
    reading = Reader()
    reading.receive_data(GOOD + packet(LITTLE, PACKET) + packet(LITTLE, PACKET, number=9))
    assert isinstance(reading.next_event(), Interface)
    assert isinstance(reading.next_event(), Frame)
    for _ in range(2):
        with pytest.raises(PacketError, match="interface 9"):
            reading.next_event()
    assert reading.is_cut_short


def test_the_longest_block_is_read() -> None:
    data = GOOD + block(LITTLE, 0xBAD, bytes(MAX_BLOCK_SIZE - 12)) + packet(LITTLE, PACKET)
    events, cut = read(data)
    assert isinstance(events[-1], Frame)
    assert not cut
