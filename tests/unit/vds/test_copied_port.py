"""A port that reaches the guest by COPY: private memory is bounded, whatever is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hypervisor.copied import CopiedIn, CopiedMemory
from protocol.errors import ChannelLost, CookieError, HvStatus
from protocol.ldc.cookie import Cookie
from protocol.vdisk.descriptor import Request
from protocol.vdisk.operations import SLICE_NONE, Operation
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench
from vds.ports.copied import CopiedPort
from vds.session import Session

MiB = 1024 * 1024
NOT_POLLING = SimpleNamespace(enabled=False, budget_s=0.0)


class Memory:
    """The guest's memory: every COPY from it is under way until the test answers it."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answer: list[CopiedIn] = []

    def copy_in(self, cookies: object, nbytes: int, done: CopiedIn) -> None:
        """Note what is asked for."""
        self.asked.append(nbytes)
        self.answer.append(done)

    def copy_out(self, cookies: object, data: object, done: object) -> None:
        """The guest has hung up."""
        raise ChannelLost("the peer is gone")


class Guest:
    """A port on the socket transport, and what its session hears."""

    def __init__(self, bench: Bench, poller: object = NOT_POLLING) -> None:
        looks = iter([True, False])
        self.memory = Memory()
        self.losses: list[ChannelLost] = []
        self.session = SimpleNamespace(
            export=bench.export,
            stack=SimpleNamespace(announced=bench.export.attributes),
            polled=False,
            inline=False,
            poller=poller,
            look=lambda: next(looks),
            resetting=False,
            channel=SimpleNamespace(congested=False),
            loop=asyncio.get_running_loop(),
            wake=lambda: None,
            fault=lambda *_: None,
            lost=self.losses.append,
        )
        self.port = CopiedPort(
            cast("Session", cast("Any", self.session)), cast("CopiedMemory", self.memory), None, None
        )

    def ask(self, operation: Operation, nbytes: int) -> None:
        """Send a request."""
        request = Request(0, operation, SLICE_NONE, 0, nbytes, (Cookie(0, nbytes),))
        self.port.arrive(request, -1, 1)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(HeldBackend())
    yield bench
    bench.close()


async def test_requests_wait_for_private_memory(bench: Bench) -> None:
    guest = Guest(bench)
    refused = CookieError(HvStatus.ENOACCESS, "not yours")
    for size in (40, 40, 1, 24):
        guest.ask(Operation.BWRITE, size * MiB)
    assert guest.memory.asked == [40 * MiB]  # a small one waits its turn behind one that does not fit
    guest.memory.answer[0](refused)
    assert guest.memory.asked == [40 * MiB, 40 * MiB, MiB]
    guest.memory.answer[1](refused)
    assert guest.memory.asked == [40 * MiB, 40 * MiB, MiB, 24 * MiB]
    assert guest.port.running == 2


async def test_what_waits_for_memory_is_dropped_by_a_reset(bench: Bench) -> None:
    guest = Guest(bench)
    for _ in range(2000):
        guest.ask(Operation.BWRITE, 64 * MiB)
    guest.session.resetting = True
    guest.memory.answer[0](bytes(64 * MiB))
    await asyncio.wait_for(guest.port.drain(), 5)
    assert guest.memory.asked == [64 * MiB]


async def test_a_guest_that_hung_up_ends_its_session_and_nothing_else(bench: Bench) -> None:
    """The answer finds nobody; whoever executed the request must not hear of it."""
    guest = Guest(bench)
    guest.ask(Operation.BREAD, 512)
    await bench.executor.drain()
    assert [str(loss) for loss in guest.losses] == ["the peer is gone"]


class Poller:
    """A poller that is enabled and notes whom it is to watch."""

    enabled = True
    budget_s = 1e-3

    def __init__(self) -> None:
        self.watched: list[object] = []

    def watch(self, port: object) -> None:
        """Note it."""
        self.watched.append(port)

    def forget(self, port: object) -> None:
        """Note it."""
        self.watched.remove(port)


async def test_after_a_message_the_socket_is_looked_at(bench: Bench) -> None:
    guest = Guest(bench, poller := Poller())
    guest.session.resetting = True  # it takes none of them: this is about the looking
    for _ in range(2):
        guest.port.offer(1, 0, 1)
        assert poller.watched == [guest.port]
    assert [guest.port.look(), guest.port.look()] == [True, False]
    poller.forget(guest.port)
    guest.port.quiet()
    guest.port.offer(1, 0, 1)
    assert poller.watched == [guest.port]
    guest.port.close()
    assert poller.watched == []


async def test_threads_at_work_are_not_robbed_of_the_interpreter(bench: Bench) -> None:
    guest = Guest(bench, poller := Poller())
    guest.ask(Operation.BREAD, 512)
    guest.session.resetting = True
    guest.port.offer(1, 0, 1)
    assert poller.watched == []
    await bench.executor.drain()
    guest.port.offer(1, 0, 1)
    assert poller.watched == [guest.port]
