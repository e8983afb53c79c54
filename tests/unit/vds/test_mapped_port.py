"""A polled ring as the server sees it: what a look takes, and when nobody looks any more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hypervisor.memory import LocalMemory, MappedMemory
from protocol.ldc.cookie import PAGE_SIZE, Permission
from protocol.vdisk.descriptor import ENTRY_ONE
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vdisk.ring import ClientRing
from protocol.vio.dring import RingGeometry
from tests.support.turns import turns
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench
from vds.poller import Poller
from vds.ports.base import BUDGET, TURN
from vds.ports.mapped import MappedPort
from vds.ports.quick import LONG
from vds.session import Session

MiB = 1024 * 1024
TABLE = 512
RING = RingGeometry(256, ENTRY_ONE.size)
RING_AT = PAGE_SIZE
DATA_AT = RING_AT + 2 * PAGE_SIZE
ALL = Permission.R | Permission.W | Permission.CR | Permission.CW


class Stack:
    """The protocol's side: what the port says to it."""

    client_sleeps = False

    def complete(self, batch: int, index: int) -> None:
        """Count."""
        self.answered += 1

    def __init__(self, announced: object) -> None:
        self.announced = announced
        self.answered = 0
        self.reports = 0
        self.stopped_at: list[int] = []

    def completed(self, count: int) -> None:
        """Count."""
        self.answered += count

    def end_of_batch(self, next_index: int, stopping: bool) -> bool:
        """Note where the server stopped looking."""
        self.reports += 1
        if stopping:
            self.stopped_at.append(next_index)
        return stopping


class Client:
    """A client's memory, and the port that serves its ring."""

    def __init__(
        self, bench: Bench, poll_us: int, *, room: int = PAGE_SIZE, poller: Poller | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.local = LocalMemory(DATA_AT + room, TABLE, shared=True)
        (cookie,) = self.local.export(RING_AT, RING.nbytes, ALL)
        (self.data,) = self.local.export(DATA_AT, room, ALL)
        assert self.local.fd is not None
        self.mapped = MappedMemory(os.dup(self.local.fd), self.local.size)
        self.mapped.set_map_table(0, TABLE)
        self.view = self.local.view[RING_AT : RING_AT + RING.nbytes]
        self.ring = ClientRing(self.view, RING)
        self.stack = Stack(bench.export.attributes)
        self.faults: list[int] = []
        self.session = SimpleNamespace(
            export=bench.export,
            stack=self.stack,
            polled=True,
            poller=poller or Poller(loop, poll_us),
            loop=loop,
            resetting=False,
            wake=lambda: None,
            say=lambda: None,
        )
        self.port = MappedPort(cast("Session", cast("Any", self.session)), self.mapped, cookie, RING)

    def post(self, count: int, nbytes: int = 512, start: int = 0) -> None:
        """Fill entries from ``start`` on with reads of the first block, or ``nbytes``."""
        for index in range(start, start + count):
            self.ring.submit(
                index, index, Operation.BREAD, SLICE_NONE, 0, nbytes, self.data.addr, self.data.size
            )

    def done(self, count: int) -> int:
        """How many of the first ``count`` entries are answered."""
        return sum(self.ring.is_done(index) for index in range(count))

    def close(self) -> None:
        """Give everything back."""
        self.port.close()
        self.view.release()
        self.mapped.close()
        self.local.close()


@pytest.fixture
async def bench() -> Any:  # noqa: ANN401 - a fixture that yields
    """A disk all of whose blocks are in memory."""
    backend = HeldBackend()
    backend.cached = True
    bench = Bench(backend)
    yield bench
    bench.close()


async def test_what_a_budget_leaves_is_served_before_the_client_is_told_to_ring(bench: Bench) -> None:
    """Another client keeps the threads busy, so polling is over after one look; nobody would ring again."""
    client = Client(bench, poll_us=50)
    client.post(3 * BUDGET)
    client.port.rung()
    bench.executor.pending += 1  # of somebody else
    client.session.poller.forget(client.port)
    client.port.quiet()
    await turns(5)
    bench.executor.pending -= 1
    assert client.stack.answered == 3 * BUDGET
    assert client.stack.stopped_at == [3 * BUDGET]
    client.close()


async def test_nothing_is_taken_during_a_reset(bench: Bench) -> None:
    """The old session ends with what it has begun."""
    client = Client(bench, poll_us=50)
    client.post(1)
    client.session.resetting = True
    assert not client.port.look()
    client.session.resetting = False
    assert client.port.look()
    client.close()


@pytest.mark.parametrize("poll_us", [0, 50])
async def test_a_server_that_will_not_poll_answers_at_once_and_with_one_message(
    bench: Bench, poll_us: int
) -> None:
    """In the callback in which it was rung; and one that polls at other times does not say so first."""
    client = Client(bench, poll_us)
    client.stack.client_sleeps = True
    client.post(3)
    bench.executor.pending += 1  # of somebody else: no polling
    client.port.rung()
    bench.executor.pending -= 1
    assert client.stack.answered == 3
    assert client.stack.stopped_at == [3]
    assert client.stack.reports == 1
    client.close()


async def test_a_client_that_sleeps_hears_at_once_of_what_it_has_not_seen(bench: Bench) -> None:
    """Its doorbell has crossed the last answer; nothing new is in the ring."""
    client = Client(bench, poll_us=50)
    client.post(1)
    client.port.rung()
    assert client.stack.answered == 0  # it looks itself
    client.stack.client_sleeps = True
    client.port.rung()
    assert client.stack.answered == 1
    assert client.stack.reports == 1
    assert not client.stack.stopped_at
    client.close()


async def test_nothing_is_said_after_a_fault(bench: Bench) -> None:
    """A NACK is the last message of a session."""
    client = Client(bench, poll_us=0)
    client.session.fault = lambda batch, index, cause: setattr(client.session, "resetting", True)
    client.ring.submit(0, 0, Operation.BREAD, SLICE_NONE, 0, 512, 0xDEAD0000, 512)  # no such memory
    client.port.rung()
    assert client.session.resetting
    assert client.stack.reports == 0
    client.close()


async def test_a_look_that_was_due_comes_after_the_end(bench: Bench) -> None:
    """A reset without requests under way is over before the next turn of the loop."""
    client = Client(bench, poll_us=0)
    client.post(2 * BUDGET)
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    client.port.rung()
    client.close()
    await turns(2)
    assert not errors


async def test_a_look_ends_after_so_many_bytes(bench: Bench) -> None:
    """Others wait for one transfer more than that, whatever its client has posted."""
    client = Client(bench, poll_us=50, room=MiB)
    client.post(64, 64 * 1024)
    before = 0
    while client.port.look():
        served = client.done(64) - before
        assert 0 < served * 64 * 1024 <= LONG + 64 * 1024
        before += served
    assert before == 64
    client.close()


async def test_what_goes_the_long_way_at_once_counts_as_well(bench: Bench) -> None:
    """Requests that are too long for the quick way, and are done in the event loop all the same."""
    client = Client(bench, poll_us=50, room=2 * MiB)
    client.post(8, MiB + 512)
    looks = 0
    while client.port.look():
        looks += 1
    assert (looks, client.done(8)) == (8, 8)
    client.close()


async def test_a_turn_of_announced_requests_ends_after_so_many_bytes(bench: Bench) -> None:
    """The rest is taken in the next ones, all of it."""
    client = Client(bench, poll_us=0, room=MiB)
    client.session.polled = False
    client.session.settle = lambda: None
    client.post(64, MiB // 4)
    client.port.offer(1, 0, 64)
    for turn in range(1, 17):
        assert client.done(64) == turn * TURN // (MiB // 4)
        await turns(1)
    assert client.done(64) == client.stack.answered == 64
    client.close()


class Disks:
    """Two disks in memory; the first streams, the second has a watched ring. ``log`` is who read how much."""

    def __init__(self, bench: Bench, *, same: bool = False) -> None:
        self.backend = HeldBackend()
        self.backend.cached = True
        self.other = Bench(self.backend)
        self.stream = Client(bench, poll_us=50, room=MiB)
        disk = bench if same else self.other
        self.probe = Client(disk, poll_us=50, room=MiB, poller=self.stream.session.poller)
        self.probe.port.rung()
        self.log: list[tuple[str, int]] = []
        self.during: dict[str, Callable[[], None]] = {}
        self._hook(bench.backend, "stream")
        self._hook(self.backend, "probe")

    def _hook(self, backend: Any, name: str) -> None:  # noqa: ANN401 - a backend of whatever kind
        read = backend.preadv

        def preadv(buffers: Any, offset: int) -> None:  # noqa: ANN401 - as above
            self.log.append((name, sum(map(len, buffers))))
            self.during.get(name, lambda: None)()
            read(buffers, offset)

        backend.preadv = preadv

    def close(self) -> None:
        """Give everything back."""
        self.stream.close()
        self.probe.close()
        self.other.close()


async def test_other_disks_are_served_in_the_middle_of_a_long_transfer(bench: Bench) -> None:
    """Depth 1 beside a stream of 1 MiB: between two of its answers there are 128 KiB, not 1 MiB."""
    disks = Disks(bench)
    posted = 0

    def post() -> None:
        nonlocal posted
        if disks.probe.done(posted) == posted:
            disks.probe.post(1, start=posted)
            posted += 1

    disks.during["stream"] = post
    disks.stream.post(4, MiB)
    for _ in range(4):
        assert disks.stream.port.look()
        assert disks.probe.port.look()  # the poller's next
    assert disks.stream.done(4) == 4
    assert disks.log == [("stream", LONG), ("probe", 512)] * (4 * MiB // LONG)
    disks.close()


async def test_nobody_is_served_long_in_the_middle_of_a_long_transfer(bench: Bench) -> None:
    """Two streams take turns: 1 MiB of one, 1 MiB of the other."""
    disks = Disks(bench)
    disks.stream.post(1, MiB)
    disks.probe.post(1, MiB)
    assert disks.stream.port.look()
    assert {name for name, _ in disks.log} == {"stream"}
    assert disks.probe.port.look()
    assert (disks.stream.done(1), disks.probe.done(1)) == (1, 1)
    disks.close()


async def test_a_long_transfer_of_whom_nobody_waits_for_is_one_call(bench: Bench) -> None:
    """Ports of the same disk do not count: their requests may overlap this one, and come after it."""
    disks = Disks(bench, same=True)
    disks.stream.post(1, MiB)
    disks.probe.post(1)
    assert disks.stream.port.look()
    assert disks.log == [("stream", MiB)]
    assert disks.probe.done(1) == 0
    disks.close()
