"""Records: any bytes parse or are refused, and what was built parses to what it was."""

from __future__ import annotations

import contextlib
import socket

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.channel import Channel
from hypervisor.greeting import (
    KNOWN_EXTENSIONS,
    Hello,
    Refused,
    Transport,
    Welcome,
    build_answer,
    build_hello,
    parse_answer,
    parse_hello,
)
from hypervisor.records import (
    Copy,
    CopyDone,
    MapTableRecord,
    Push,
    QueueRecord,
    Record,
    build_record,
    parse_record,
)
from protocol.errors import ChannelLost, PacketError
from protocol.vio.extensions import Extension

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
powers = st.one_of(st.just(0), st.integers(1, 31).map(lambda bits: 1 << bits))
contents = st.binary(max_size=300)
pieces = st.tuples(
    u64.map(lambda addr: addr & ~7), st.binary(min_size=8, max_size=64).map(lambda b: b[: len(b) & ~7])
)
packets = st.lists(st.binary(min_size=64, max_size=64), max_size=3)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(QueueRecord, powers),
    st.builds(MapTableRecord, u64, powers),
    st.builds(lambda i, a, d: Copy(i, 1, a, len(d), d), u32, u64, contents),
    st.builds(lambda i, d, a, n: Copy(i, d, a, n), u32, u32.filter(lambda d: d != 1), u64, u32),
    st.builds(lambda i, s, d: CopyDone(i, s, len(d), d), u32, u32, contents),
    st.builds(lambda i, s, n: CopyDone(i, s, n), u32, u32, u32),
    st.builds(lambda p, q: Push(p, q), st.lists(pieces, max_size=5), packets),
    st.builds(lambda p: Push(p, [], True), st.lists(pieces, max_size=5)),
)


def datagram(record: Record) -> bytes:
    return b"".join(build_record(record))


@given(records)
def test_what_was_built_parses_to_the_same(record: Record) -> None:
    data = datagram(record)
    assert len(data) != 64
    assert parse_record(data) == record


@given(records, st.data())
def test_damaged_records_parse_or_are_refused(record: Record, data: st.DataObject) -> None:
    raw = bytearray(datagram(record))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 48)))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PacketError):
        datagram(parse_record(bytes(raw)))


@given(records, st.integers(0, 400))
def test_cut_and_lengthened_records_are_refused(record: Record, length: int) -> None:
    whole = datagram(record)
    cut = whole[:length].ljust(length, b"\0")
    if len(cut) != len(whole) and not (len(whole) == 72 and len(cut) == 64):
        with contextlib.suppress(PacketError):
            raise AssertionError(parse_record(cut))


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(PacketError):
        parse_record(data)
    with contextlib.suppress(PacketError):
        parse_hello(data)
    with contextlib.suppress(PacketError, Refused):
        parse_answer(data, KNOWN_EXTENSIONS)


names = st.text(min_size=1, max_size=60).map(lambda text: text.replace("\0", "0"))
hellos = st.builds(
    Hello,
    volume=names,
    transport=st.sampled_from(Transport),
    client_id=st.binary(min_size=16, max_size=16),
    secret=st.binary(min_size=16, max_size=16),
    memory_size=u64,
    extensions=st.integers(0, 3).map(Extension),
)


@given(hellos)
def test_hello_survives_the_wire(hello: Hello) -> None:
    data = build_hello(hello)
    assert len(data) > 64
    assert parse_hello(data) == hello


@given(hellos, st.integers(0, 80), st.integers(0, 255))
def test_damaged_hello_parses_or_is_refused(hello: Hello, where: int, octet: int) -> None:
    data = bytearray(build_hello(hello))
    data[where % len(data)] = octet
    with contextlib.suppress(PacketError):
        parse_hello(bytes(data))


@given(st.integers(0, 3), st.binary(min_size=16, max_size=16), u32)
def test_welcome_survives_the_wire(extensions: int, instance: bytes, poll_us: int) -> None:
    welcome = Welcome(extensions=Extension(extensions), instance=instance, poll_us=poll_us)
    assert parse_answer(build_answer(welcome), KNOWN_EXTENSIONS) == welcome


@given(st.lists(st.one_of(st.binary(max_size=200), records.map(datagram), packets.map(b"".join)), max_size=8))
def test_channel_survives_any_datagrams(datagrams: list[bytes]) -> None:
    """Whatever comes: items, or one of the two errors that close the channel."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ends[0], extensions=Extension.INLINE)
    for data in datagrams:
        ends[1].send(data)
    with contextlib.suppress(PacketError, ChannelLost):
        while channel.receive():
            pass
    channel.close()
    ends[1].close()
