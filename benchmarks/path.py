"""Where the time of one 4 KiB read goes, step by step.

Its work is measured with both ends in one process (:mod:`benchmarks.pair`): nothing waits and nothing
switches. What that lacks of a measured latency is measured apart: a turn of the event loop, and the way to
another process (:mod:`benchmarks.crossing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Final

import uvloop

from benchmarks.crossing import crossings
from benchmarks.laps import CALLS, REPEATS, cost, laps
from benchmarks.pair import BLOCK, Pair, joined
from protocol.ldc.cookie import Permission
from protocol.vdisk.descriptor import PLAIN, PLAIN_AT, STATUS, STATUS_AT
from protocol.vio.dring import Dstate
from vdc.guest import ARENA_AT
from vds.ports import MappedPort

__all__ = ["Step", "measure"]

DONE: Final = int(Dstate.DONE)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: whose, what, and its median cost. ``part`` is a part of the step above it."""

    side: str
    what: str
    nanoseconds: float
    part: bool = False


def measure(image: Path) -> Mapping[str, Sequence[Step]]:
    """Measure 4 KiB reads of ``image``, at least 1 MiB; chapters of steps by their titles."""
    return {
        "Both sides look at the ring": uvloop.run(_polled(image)),
        "Neither looks: a message each way": uvloop.run(_messages(image)),
        "Socket only: ring entry there, data and ring entry back": uvloop.run(_pushes(image)),
        "A coroutine that waits": uvloop.run(_loop()),
        "Crossing to another process, one way": [Step("", what, spent) for what, spent in crossings()],
    }


async def _polled(image: Path) -> list[Step]:
    async with joined(image, poll_us=50) as pair:
        client, port = pair.client, pair.port
        assert isinstance(port, MappedPort)

        def ring() -> None:
            client.ring(sleeping=False)

        steps = (pair.post, ring, port.look, client.poll)
        _once(steps)  # rings; from then on the server is known to look
        total = _total(steps)
        posted, rung, looked, answered = laps(steps)
        made = cost(pair.make)
        copied = cost(lambda: pair.guest.pages[ARENA_AT : ARENA_AT + BLOCK])
        return [
            Step("both", "one request, posted to answered", total),
            Step("client", "request made, entry written", posted),
            Step("client", "request made", made, part=True),
            Step("client", "doorbell: not needed", rung),
            Step("server", "one look at a ring with one entry", looked),
            *_parts_of_look(pair, port),
            Step("server", "one look at an empty ring", cost(port.look)),
            Step("client", "answer read, checked, handed over", answered),
            Step("client", "data copied out of shared memory", copied, part=True),
        ]


def _parts_of_look(pair: Pair, port: MappedPort) -> list[Step]:
    """What a look does to an entry, by itself, on one that is left in the ring."""
    entries, memory, at = pair.guest.entries, pair.memory, port._at
    assert memory is not None
    pair.post()
    *_, cookie, size = PLAIN.unpack_from(entries, at + PLAIN_AT)
    views = memory.views(((cookie, size),), BLOCK, Permission.CW)
    known, words = memory.known[Permission.CW].get, memory.words

    def resolve() -> bool:
        page = known(cookie)
        return bool(page and page[0] == BLOCK and page[1] == size and words[page[2]] == page[3])

    def finish() -> None:
        STATUS.pack_into(entries, at + STATUS_AT, 0)
        entries[at] = DONE

    parts = [
        Step(
            "server", "entry's fields copied", cost(lambda: PLAIN.unpack_from(entries, at + PLAIN_AT)), True
        ),
        Step("server", "cookie to memory, map table compared", cost(resolve), True),
        Step("server", "read from the backend", cost(lambda: pair.executor.inline.try_read(views, 0)), True),
        Step("server", "status, DONE", cost(finish), True),
    ]
    entries[at] = Dstate.READY
    port.look()
    pair.client.poll()
    return parts


async def _messages(image: Path) -> list[Step]:
    async with joined(image, poll_us=0) as pair:
        client, server, port = pair.client, pair.server, pair.port
        assert isinstance(port, MappedPort)
        packets: list[bytes] = []

        def ring() -> None:
            client.ring(sleeping=True)

        def receive() -> None:
            packet = server.channel.take_packet()
            assert packet is not None
            packets.append(packet)

        def take() -> None:
            port.account()
            server.stack.take_packet(packets.pop())

        def answer() -> None:
            port._report(stopping=True)

        whole = (pair.post, ring, server._readable, client.readable)
        _once(whole)
        total = _total(whole)
        posted, rung, served, answered = laps(whole)
        sent, _ = laps((lambda: client._channel.send_packet(bytes(64)), server.channel.take_packet))
        *_, received, taken, looked, told, _ = laps(
            (pair.post, ring, receive, take, port.look, answer, client.readable)
        )
        return [
            Step("both", "one request, posted to answered", total),
            Step("client", "request made, entry written", posted),
            Step("client", "doorbell built and sent", rung),
            Step("client", "packet sent: a system call", sent, part=True),
            Step("server", "woken: all of it", served),
            Step("server", "packet received: a system call", received, part=True),
            Step("server", "packet, message, counts checked", taken, part=True),
            Step("server", "one look at a ring with one entry", looked, part=True),
            Step("server", "answer built and sent", told, part=True),
            Step("client", "woken: packet received, answer handed over", answered),
        ]


async def _pushes(image: Path) -> list[Step]:
    async with joined(image, poll_us=50, shared=False) as pair:
        client, server = pair.client, pair.server

        def ring() -> None:
            client.ring(sleeping=False)

        whole = (pair.post, ring, server._readable, client.readable)
        _once(whole)
        total = _total(whole)
        posted, rung, served, answered = laps(whole)
        return [
            Step("both", "one request, posted to answered", total),
            Step("client", "request made, entry written", posted),
            Step("client", "entry and message built and sent", rung),
            Step("server", "all received, read, answered, sent", served),
            Step("server", "a look at a socket with nothing", cost(server.look)),
            Step("client", "all received, put in place, handed over", answered),
        ]


async def _loop() -> list[Step]:
    """What asyncio costs a request whose answer is not waited for on the spot."""
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future

    async def turn() -> None:
        await asyncio.sleep(0)

    return [
        Step("client", "a turn of the event loop", await _awaited(turn)),
        Step("client", "a future waited for: two turns", await _awaited(wait)),
    ]


async def _awaited(make: Callable[[], Coroutine[None, None, None]]) -> float:
    took = []
    for _ in range(REPEATS):
        started = perf_counter_ns()
        for _ in range(CALLS):
            await make()
        took.append((perf_counter_ns() - started) / CALLS)
    return median(took)


def _once(steps: Sequence[Callable[[], object]]) -> None:
    for step in steps:
        step()


def _total(steps: Sequence[Callable[[], object]]) -> float:
    """All of ``steps`` without a look at the clock in between."""
    first, second, third, fourth = steps

    def whole() -> None:
        first()
        second()
        third()
        fourth()

    return cost(whole)
