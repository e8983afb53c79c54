"""A polled ring as the server sees it: what a look takes, and when nobody looks any more."""

from __future__ import annotations

import asyncio
import os
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
from vds.ports.base import BUDGET
from vds.ports.mapped import MappedPort
from vds.session import Session

TABLE = 64
RING = RingGeometry(256, ENTRY_ONE.size)
RING_AT = PAGE_SIZE
DATA_AT = RING_AT + 2 * PAGE_SIZE
ALL = Permission.R | Permission.W | Permission.CR | Permission.CW


class Stack:
    """The protocol's side: what the port says to it."""

    client_sleeps = False

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

    def __init__(self, bench: Bench, poll_us: int) -> None:
        loop = asyncio.get_running_loop()
        self.local = LocalMemory(DATA_AT + PAGE_SIZE, TABLE, shared=True)
        (cookie,) = self.local.export(RING_AT, RING.nbytes, ALL)
        (self.data,) = self.local.export(DATA_AT, PAGE_SIZE, ALL)
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
            poller=Poller(loop, poll_us),
            loop=loop,
            resetting=False,
            wake=lambda: None,
            say=lambda: None,
        )
        self.port = MappedPort(cast("Session", cast("Any", self.session)), self.mapped, cookie, RING)

    def post(self, count: int) -> None:
        """Fill the first entries with reads of a block."""
        for index in range(count):
            self.ring.submit(
                index, index, Operation.BREAD, SLICE_NONE, 0, 512, self.data.addr, self.data.size
            )

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
