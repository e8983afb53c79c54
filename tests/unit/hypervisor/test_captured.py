"""Captured channels and rings do what the plain ones do, and tell each thing once and in its order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hypervisor.capture import Capture, Tap
from hypervisor.captured import CapturedChannel, CapturedClientRing, CapturedServerRing
from hypervisor.channel import Channel
from hypervisor.memory import LocalMemory
from hypervisor.pushing import PACKETS_LIMIT
from protocol.capture import Direction, How, NoteKind
from protocol.errors import ChannelLost, PacketError, RingError
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission
from protocol.ldc.events import LinkState
from protocol.ldc.fragment import QUEUE_ENTRIES
from protocol.vdisk.descriptor import Entry, EntryLayout
from protocol.vdisk.operations import Operation
from protocol.vio.dring import Dstate, RingGeometry
from protocol.vio.extensions import Extension
from tests.support.captures import CaptureFile

from .conftest import Sockets

IN, OUT = Direction.INBOUND, Direction.OUTBOUND
SUBMITTED, TAKEN = NoteKind.SUBMITTED, NoteKind.TAKEN
FINISHED, ANSWERED = NoteKind.FINISHED, NoteKind.ANSWERED
READ, WRITE = int(Operation.BREAD), int(Operation.BWRITE)


def packet(number: int) -> bytes:
    return number.to_bytes(64, "big")


class Link:
    """A plain endpoint, its captured peer, and what the capture of that has."""

    def __init__(self, sockets: Sockets, path: Path, extensions: Extension) -> None:
        self.path = path
        self.capture = Capture(path, "test")
        self.memory = LocalMemory(4 * PAGE_SIZE, 64, shared=False)
        (self.cookie,) = self.memory.export(
            PAGE_SIZE, PAGE_SIZE, Permission.R | Permission.W | Permission.CR | Permission.CW
        )
        self.plain = Channel(sockets[0], extensions=extensions)
        self.captured = CapturedChannel(
            sockets[1], self.capture.tap("t#1", ""), exported=self.memory, extensions=extensions
        )

    def file(self) -> CaptureFile:
        return CaptureFile(self.path)

    def close(self) -> None:
        self.plain.close()
        self.captured.close()
        self.capture.close()
        self.memory.close()


@pytest.fixture
def link(sockets: Sockets, tmp_path: Path) -> Iterator[Link]:
    made = Link(sockets, tmp_path / "trace", Extension.INLINE)
    yield made
    made.close()


class TestChannel:
    def test_packets_both_ways(self, link: Link) -> None:
        link.plain.send_packet(packet(1))
        link.plain.send_packet(packet(2))
        assert link.captured.receive() == [packet(1), packet(2)]
        link.captured.send_packet(packet(3))
        assert link.plain.receive() == [packet(3)]
        steps = [(step.direction, step.packet) for step in link.file().steps]
        assert steps == [(IN, packet(1)), (IN, packet(2)), (OUT, packet(3))]

    def test_what_was_put_back_is_told_once_and_comes_first(self, link: Link) -> None:
        link.plain.send_packet(packet(1))
        link.captured.unread([*link.captured.receive(), LinkState.RESET])
        link.plain.send_packet(packet(2))
        assert link.captured.receive() == [packet(1), LinkState.RESET, packet(2)]
        assert link.file().packets(IN) == [packet(1), packet(2)]

    def test_budget(self, link: Link) -> None:
        for number in range(5):
            link.plain.send_packet(packet(number))
        assert [len(link.captured.receive(2)) for _ in range(4)] == [2, 2, 1, 0]
        assert link.file().packets(IN) == [packet(number) for number in range(5)]

    def test_one_packet_is_left_to_receive_which_tells_of_it(self, link: Link) -> None:
        link.plain.send_packet(packet(1))
        link.captured.take_packet()
        assert link.captured.receive() == [packet(1)]
        assert link.file().packets(IN) == [packet(1)]

    def test_queue_configurations_both_ways(self, link: Link) -> None:
        link.plain.queue_configured(128)
        link.plain.queue_configured(0)
        assert link.captured.receive() == [LinkState.UP, LinkState.DOWN]
        link.captured.queue_configured()
        assert link.plain.receive() == [LinkState.UP]
        notes = [(step.direction, step.note.index) for step in link.file().steps if step.note is not None]
        assert notes == [(IN, 128), (IN, 0), (OUT, QUEUE_ENTRIES)]

    def test_packets_inside_a_push_that_comes(self, link: Link) -> None:
        link.plain.push([(link.cookie.addr, bytes(64))], [packet(1), packet(2)])
        assert link.captured.receive() == [packet(1), packet(2)]
        assert link.file().packets(IN) == [packet(1), packet(2)]

    @pytest.mark.parametrize("count", [1, 2, PACKETS_LIMIT, PACKETS_LIMIT + 3])
    def test_packets_inside_a_push_that_goes(self, link: Link, count: int) -> None:
        packets = [packet(number) for number in range(count)]
        link.plain.send_packet(packet(0))  # so that there is something in the other direction too
        link.captured.push([], packets)
        assert link.file().packets(OUT) == packets
        received = [item for _ in range(10) for item in link.plain.receive() if isinstance(item, bytes)]
        assert received == packets

    def test_packets_that_wait_in_a_full_queue_are_told_once(self, link: Link) -> None:
        count = 0
        while not link.captured.wants_write:
            link.captured.send_packet(packet(count))
            count += 1
        received: list[object] = []
        while len(received) < count:
            received += link.plain.receive()
            link.captured.flush()
        assert link.file().packets(OUT) == received

    def test_what_came_before_garbage_is_told(self, link: Link, sockets: Sockets) -> None:
        link.plain.send_packet(packet(1))
        sockets[0].send(b"garbage")
        with pytest.raises(PacketError):
            link.captured.receive()
        assert link.file().packets(IN) == [packet(1)]

    def test_what_came_before_the_end_is_returned_and_then_the_end(self, link: Link) -> None:
        link.plain.send_packet(packet(1))
        link.plain.close()
        assert link.captured.receive() == [packet(1)]
        with pytest.raises(ChannelLost):
            link.captured.receive()
        assert link.file().packets(IN) == [packet(1)]


class Told(NamedTuple):
    """What a ring told, and the state of the shared entry at that moment."""

    direction: Direction
    kind: NoteKind
    at: int
    seq_num: int | None
    entry: Entry
    shared: int


class Ears(Tap):
    """A tap that keeps what it hears."""

    def __init__(self, memory: memoryview, geometry: RingGeometry) -> None:
        self.memory = memory
        self.geometry = geometry
        self.told: list[Told] = []

    def entry(
        self, direction: Direction, kind: NoteKind, index: int, seq_num: int | None, entry: bytes
    ) -> None:
        shared = self.memory[self.geometry.offset(index)]
        self.told.append(Told(direction, kind, index, seq_num, EntryLayout.parse(entry), shared))


class Rings:
    """A ring with a captured end on either side, each with a tap of its own."""

    def __init__(self, *, polled: bool, descriptor_size: int = 64) -> None:
        geometry = RingGeometry(4, descriptor_size)
        self.memory = memoryview(bytearray(geometry.nbytes))
        self.client_ears = Ears(self.memory, geometry)
        self.server_ears = Ears(self.memory, geometry)
        self.client = CapturedClientRing(self.memory, geometry, self.client_ears, polled=polled)
        self.server = CapturedServerRing(self.memory, geometry, self.server_ears)


def entry(dstate: Dstate, status: int = 0xFFFFFFFF, nbytes: int = 512) -> Entry:
    """The entry that the tests ask for, as it is in one of its states."""
    return Entry(dstate, 0x80, 7, READ, 0xFF, status, 9, nbytes, 1, (Cookie(0x2000, 512),))


def submit(rings: Rings, index: int) -> None:
    rings.client.submit(index, 7, READ, 0xFF, 9, 512, 0x2000, 512)


def test_polled_ring() -> None:
    """Told before the other end can see it: READY after SUBMITTED, DONE after FINISHED."""
    rings = Rings(polled=True)
    submit(rings, 2)
    assert rings.server.take(2)[:1] == bytes([Dstate.ACCEPTED])
    rings.server.finish(2, 5, 256)
    assert rings.client.reap(2) == (5, 256)
    assert rings.client_ears.told == [
        (OUT, SUBMITTED, 2, None, entry(Dstate.READY), 0),
        (IN, ANSWERED, 2, None, entry(Dstate.DONE, 5, 256), Dstate.DONE),
    ]
    assert rings.server_ears.told == [
        (IN, TAKEN, 2, None, entry(Dstate.ACCEPTED), Dstate.ACCEPTED),
        (OUT, FINISHED, 2, None, entry(Dstate.DONE, 5, 256), Dstate.ACCEPTED),
    ]
    assert rings.memory[128] == Dstate.FREE


def test_plain_ring() -> None:
    """A submission is told with the number of the message that announces it, and so is the rest."""
    rings = Rings(polled=False)
    for index in (3, 0, 1):
        submit(rings, index)
    assert rings.client_ears.told == []
    rings.client.announced(3, 0, 40)
    rings.client.announced(1, 1, 41)
    submissions = [(told.kind, told.at, told.seq_num) for told in rings.client_ears.told]
    assert submissions == [(SUBMITTED, 3, 40), (SUBMITTED, 0, 40), (SUBMITTED, 1, 41)]
    rings.server.announced(3, 0, 40)
    rings.server.announced(1, 1, 41)
    for index in (0, 3, 1):
        rings.server.take(index)
    for index in (1, 0, 3):
        rings.server.finish(index, 0, 512)
        rings.client.reap(index)
    assert [(told.kind, told.at, told.seq_num) for told in rings.server_ears.told] == [
        *[(TAKEN, 0, 40), (TAKEN, 3, 40), (TAKEN, 1, 41)],
        *[(FINISHED, 1, 41), (FINISHED, 0, 40), (FINISHED, 3, 40)],
    ]
    assert [(told.kind, told.at, told.seq_num) for told in rings.client_ears.told[3:]] == [
        (ANSWERED, 1, 41),
        (ANSWERED, 0, 40),
        (ANSWERED, 3, 40),
    ]
    assert {told.entry.dstate for told in rings.client_ears.told[:3]} == {Dstate.READY}


def test_a_request_of_no_bytes_has_no_cookie() -> None:
    rings = Rings(polled=True)
    rings.client.submit(0, 1, int(Operation.FLUSH), 0xFF, 0, 0, 0, 0)
    assert rings.client_ears.told[0].entry.cookie == ()


def test_an_entry_that_changed_is_not_finished_and_not_told() -> None:
    rings = Rings(polled=True)
    submit(rings, 0)
    rings.server.take(0)
    rings.memory[0] = Dstate.READY
    with pytest.raises(RingError, match="descriptor 0 is in state 2"):
        rings.server.finish(0, 0, 512)
    assert [told.kind for told in rings.server_ears.told] == [TAKEN]


def test_an_entry_that_is_not_ready_is_not_taken_and_not_told() -> None:
    rings = Rings(polled=True)
    with pytest.raises(RingError, match="descriptor 1 is in state 0"):
        rings.server.take(1)
    assert rings.server_ears.told == []


def test_more_cookies_than_fit_are_told_as_far_as_they_do() -> None:
    """What a hostile client claims cannot make a note that is none."""
    rings = Rings(polled=True, descriptor_size=96)
    submit(rings, 0)
    rings.memory[40:44] = b"\xff\xff\xff\xff"
    told: list[int] = []

    class Raw(Ears):
        def entry(
            self, direction: Direction, kind: NoteKind, index: int, seq_num: int | None, entry: bytes
        ) -> None:
            told.append(len(entry))

    server = CapturedServerRing(rings.memory, RingGeometry(4, 96), Raw(rings.memory, RingGeometry(4, 96)))
    server.take(0)
    server.finish(0, 22, 0)
    assert told == [96, 96]


def test_how_follows_from_the_number(tmp_path: Path) -> None:
    with Capture(tmp_path / "trace", "test") as capture:
        tap = capture.tap("t#1", "")
        tap.entry(OUT, SUBMITTED, 1, None, bytes(48))
        tap.entry(OUT, SUBMITTED, 1, 0, bytes(48))  # a first message may have the number 0
    notes = CaptureFile(tmp_path / "trace").notes(SUBMITTED)
    assert [(note.how, note.seq_num) for note in notes] == [(How.POLLING, 0), (How.MESSAGE, 0)]
