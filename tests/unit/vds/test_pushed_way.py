"""What came pushed is served at once, if nothing keeps it from that; whatever else is left alone."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator

import pytest

from hypervisor.channel import Channel
from hypervisor.copied import CopiedMemory
from hypervisor.memory import LocalMemory
from hypervisor.records import RECORD_LIMIT, Push
from protocol.ldc.cookie import PAGE_SIZE, Permission
from protocol.vdisk.descriptor import STATUS_UNSET
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vdisk.ring import ClientRing
from protocol.vio.dring import Dstate, RingGeometry
from protocol.vio.extensions import Extension
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench
from vds.ports.pushed import MAX_AT_ONCE, PushedWay

PACKET = bytes(range(64))
RING_AT, DATA_AT = PAGE_SIZE * 2, PAGE_SIZE * 8
DATA_SIZE = 2 * MAX_AT_ONCE
ALL = Permission.R | Permission.W | Permission.CR | Permission.CW
READ, WRITE = Operation.BREAD, Operation.BWRITE


class Client:
    """A client's memory, ring and channel, and the server's way to serve them."""

    def __init__(self, bench: Bench, ring: RingGeometry) -> None:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ring = ring
        self.memory = LocalMemory(DATA_AT + DATA_SIZE, 1024, shared=False)
        (self.ring_cookie,) = self.memory.export(RING_AT, DATA_AT - RING_AT, ALL)
        (self.cookie,) = self.memory.export(DATA_AT, DATA_SIZE, ALL)
        self.data = self.memory.view[DATA_AT:]
        self.entries = self.memory.view[RING_AT : RING_AT + ring.nbytes]
        self.end = Channel(ends[0], exported=self.memory, extensions=Extension.INLINE)
        self.server = Channel(ends[1], extensions=Extension.INLINE)
        copied = CopiedMemory(self.server)
        self.shadow = copied.map_ring(self.ring_cookie, ring.nbytes)
        self.copied = copied
        self.glances = 0
        disk = bench.export.attributes
        self.way = PushedWay(self.shadow, ring, copied, self.server, bench.executor.inline, disk, self.glance)

    def glance(self) -> None:
        """Somebody else would have a look here."""
        self.glances += 1

    def post(self, index: int, operation: int, addr: int, nbytes: int, at: int, **other: int) -> None:
        """Fill an entry: ``nbytes`` from block ``addr`` on, the memory is ``at`` in the data."""
        cookie, size = other.get("cookie", self.cookie.addr + at), other.get("size", nbytes)
        slice_ = other.get("slice", SLICE_NONE)
        ClientRing(self.entries, self.ring).submit(index, 7, operation, slice_, addr, nbytes, cookie, size)

    def push(self, *writes: tuple[int, int]) -> None:
        """Send the ring and the data at ``writes``, as (where, bytes), and let the server take them."""
        pieces = [(self.cookie.addr + at, self.data[at : at + nbytes]) for at, nbytes in writes]
        self.end.push([*pieces, (self.ring_cookie.addr, self.entries)])
        pushes: list[object] = []
        while not pushes:
            pushes = list(self.server.receive())
            self.end.flush()
        (push,) = pushes
        assert isinstance(push, Push)
        self.copied.received(push)

    def answers(self) -> list[tuple[int, int, int]]:
        """Take what the server has sent, with a packet behind it; return (state, status, nbytes) by index."""
        self.way.send([PACKET])
        items: list[object] = []
        while not items:
            items = list(self.end.receive())
            self.server.flush()
        assert items == [PACKET]
        stride = self.ring.descriptor_size
        found = []
        for at in range(0, self.ring.nbytes, stride):
            entry = bytes(self.entries[at : at + 64])
            found.append((entry[0], int.from_bytes(entry[20:24], "big"), int.from_bytes(entry[32:40], "big")))
        return found

    def close(self) -> None:
        """Close what there is."""
        self.end.close()
        self.server.close()
        self.data.release()
        self.entries.release()
        self.memory.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    backend = HeldBackend(4 * MAX_AT_ONCE)
    backend.data[:] = os.urandom(len(backend.data))
    backend.cached = True
    bench = Bench(backend, "wce")
    yield bench
    await bench.executor.drain()
    bench.close()


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[Client]:
    client = Client(bench, RingGeometry(16, 64))
    yield client
    client.close()


def disk(bench: Bench) -> bytes:
    assert isinstance(bench.backend, HeldBackend)
    return bytes(bench.backend.data)


@pytest.mark.parametrize("nbytes", [512, 4096, 65536 - 512])
async def test_reads_and_writes_are_answered_in_one_run(bench: Bench, client: Client, nbytes: int) -> None:
    before = disk(bench)
    client.data[nbytes : 2 * nbytes] = os.urandom(nbytes)
    client.post(3, READ, 8, nbytes, 0)
    client.post(4, WRITE, 512, nbytes, nbytes)
    client.post(5, READ, 512, nbytes, 2 * nbytes)
    client.push((nbytes, nbytes))
    served = 0
    while served < 3:
        count = client.way.serve(3 + served, 16)
        assert count
        served += count
    assert client.way.serve(6, 10) == 0
    answers = client.answers()
    assert answers[3:6] == [(Dstate.DONE, 0, nbytes)] * 3
    assert [answer[0] for answer in answers[:3] + answers[6:]] == [0] * 13
    assert bytes(client.data[:nbytes]) == before[4096 : 4096 + nbytes]
    assert bytes(client.data[2 * nbytes : 3 * nbytes]) == bytes(client.data[nbytes : 2 * nbytes])
    assert disk(bench)[512 * 512 :][:nbytes] == bytes(client.data[nbytes : 2 * nbytes])


@pytest.mark.parametrize("nbytes", [65536, 65536 + 512, MAX_AT_ONCE])
async def test_long_reads_take_several_records(bench: Bench, client: Client, nbytes: int) -> None:
    client.post(0, READ, 1, 512, 0)
    client.post(1, READ, 3, nbytes, 4096)
    client.push()
    assert client.way.serve(0, 16) == 1  # what was read goes before the long one
    assert client.way.serve(1, 15) == 1
    assert client.glances >= nbytes // RECORD_LIMIT  # others are served between two records
    assert client.way.moved == nbytes
    assert client.answers()[:2] == [(Dstate.DONE, 0, 512), (Dstate.DONE, 0, nbytes)]
    assert bytes(client.data[:512]) == disk(bench)[512:1024]
    assert bytes(client.data[4096 : 4096 + nbytes]) == disk(bench)[1536 : 1536 + nbytes]


async def test_a_full_record_is_sent_before_the_next_is_begun(bench: Bench, client: Client) -> None:
    for index in range(16):
        client.post(index, READ, 8 * index, 8192, 8192 * index)
    client.push()
    served = 0
    while served < 16:
        served += client.way.serve(served, 16 - served)
        client.end.receive()
        done = [client.entries[64 * index] == Dstate.DONE for index in range(16)]
        assert done == [True] * sum(done) + [False] * (16 - sum(done))
        assert served - sum(done) <= 8  # what fits into a record
    assert client.answers() == [(Dstate.DONE, 0, 8192)] * 16
    for index in range(16):
        assert bytes(client.data[8192 * index :][:8192]) == disk(bench)[4096 * index :][:8192]


async def test_no_more_is_served_than_was_announced_and_the_ring_ends(client: Client) -> None:
    for index in range(16):
        client.post(index, READ, index, 512, 512 * index)
    client.push()
    assert client.way.serve(2, 3) == 3
    assert client.way.serve(14, 5) == 2
    states = [answer[0] for answer in client.answers()]
    assert states == [2, 2, 4, 4, 4, *[2] * 9, 4, 4]
    assert client.shadow[5 * 64] == Dstate.READY


REFUSED: dict[str, dict[str, int]] = {
    "another slice": {"slice": 0},
    "nothing to do": {"nbytes": 0, "size": 512},
    "longer than is done at once": {"nbytes": MAX_AT_ONCE + 512},
    "beyond the end": {"addr": 8192, "nbytes": 512},
    "across the end": {"addr": 8191, "nbytes": 1024},
    "addresses that wrap": {"addr": (1 << 64) - 1},
    "a cookie that is too short": {"size": 504},
    "a cookie at an odd place": {"cookie": 4},
    "a cookie of odd length": {"size": 516},
    "an odd length": {"nbytes": 516, "size": 520},
    "another operation": {"operation": Operation.FLUSH},
    "an operation that nobody knows": {"operation": 0xEE},
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("operation", [READ, WRITE])
async def test_everything_else_is_left_as_it_is(
    bench: Bench, client: Client, operation: int, name: str
) -> None:
    before = disk(bench)
    client.post(0, READ, 0, 512, 0)
    client.post(1, **{"operation": operation, "addr": 0, "nbytes": 512, "at": 4096, **REFUSED[name]})
    client.push((4096, 1024))
    shadow = bytes(client.shadow)
    assert client.way.serve(0, 16) == 1
    assert client.way.serve(1, 15) == 0
    assert bytes(client.shadow)[64:] == shadow[64:]
    nbytes = REFUSED[name].get("nbytes", 512)
    assert client.answers()[:2] == [(Dstate.DONE, 0, 512), (Dstate.READY, STATUS_UNSET, nbytes)]
    assert disk(bench) == before


async def test_more_than_one_cookie_is_left(client: Client) -> None:
    client.post(0, READ, 0, 512, 0)
    client.entries[40:44] = b"\0\0\0\2"
    client.push()
    assert client.way.serve(0, 1) == 0


async def test_what_is_not_ready_is_left(client: Client) -> None:
    client.post(0, READ, 0, 512, 0)
    for state in (0, *Dstate, 0xFF):
        client.entries[0] = state
        client.push()
        assert client.way.serve(0, 1) == (state == Dstate.READY)


async def test_a_write_whose_data_did_not_come_is_left(client: Client, bench: Bench) -> None:
    client.post(0, WRITE, 0, 1024, 0)
    client.push((0, 512))
    assert client.way.serve(0, 1) == 0
    client.push((0, 512), (512, 512))
    assert client.way.serve(0, 1) == 1
    assert disk(bench)[:1024] == bytes(1024)


@pytest.mark.parametrize("nbytes", [512, 65536])
async def test_what_would_block_is_left(bench: Bench, client: Client, nbytes: int) -> None:
    assert isinstance(bench.backend, HeldBackend)
    client.post(0, READ, 0, 512, 0)
    client.post(1, READ, 0, nbytes, 4096)
    client.push()
    assert client.way.serve(0, 1) == 1
    bench.backend.cached = False
    assert client.way.serve(1, 1) == 0
    assert client.answers()[:2] == [(Dstate.DONE, 0, 512), (Dstate.READY, STATUS_UNSET, nbytes)]


@pytest.mark.parametrize("nbytes", [512, 65536])
@pytest.mark.parametrize("operation", [READ, WRITE])
async def test_what_fails_is_left(bench: Bench, client: Client, operation: int, nbytes: int) -> None:
    assert isinstance(bench.backend, HeldBackend)
    bench.backend.failures = {"read": OSError(5, "no"), "write": OSError(5, "no")}
    client.post(0, operation, 0, nbytes, 0)
    client.push((0, nbytes))
    assert client.way.serve(0, 1) == 0
    assert client.shadow[0] == Dstate.READY


@pytest.mark.parametrize("operation", [READ, WRITE])
async def test_what_overlaps_a_write_under_way_is_left(bench: Bench, client: Client, operation: int) -> None:
    assert isinstance(bench.backend, HeldBackend)
    bench.backend.gate.clear()
    bench.write("held", 0, bytes(128 * 1024))
    await bench.begun(bench.backend)
    client.post(0, operation, 255, 1024, 0)
    client.push((0, 1024))
    assert client.way.serve(0, 1) == 0
    bench.backend.gate.set()
    await bench.until("held")
    assert client.way.serve(0, 1) == 1


async def test_entries_too_long_for_a_piece_are_left(bench: Bench) -> None:
    client = Client(bench, RingGeometry(2, 16384))
    for index in range(2):
        client.post(index, READ, 8 * index, 4096, 4096 * index)
    client.push()
    served = [client.way.serve(0, 2)]
    served.append(client.way.serve(sum(served), 2))
    assert sum(served) == 2
    assert client.answers() == [(Dstate.DONE, 0, 4096)] * 2
    client.close()
