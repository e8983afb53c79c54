"""vds.session: the client's turn to begin the link handshake, on a clock that the test sets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from hypervisor.channel import Channel
from hypervisor.greeting import Welcome
from protocol.vio.extensions import NO_EXTENSION
from tests.support.links import ACK, DATA, INFO, NACK, packet, version
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench
from vds.poller import Poller
from vds.session import CLIENT_BEGINS_S, Session

ALMOST_S = CLIENT_BEGINS_S * 0.75
"""Most of a turn; twice that is more than one."""


class Timer:
    """One call that is due."""

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """It will not be made."""
        self.cancelled = True


class Loop:
    """The running loop, but timers wait for :meth:`advance`, and the socket for :meth:`readable`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = 0.0
        self._timers: list[Timer] = []
        self.readable: Callable[[], None]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a loop has
        return getattr(self._loop, name)

    def add_reader(self, _fd: int, callback: Callable[[], None]) -> None:
        """There is one socket."""
        self.readable = callback

    def remove_reader(self, _fd: int) -> None:
        """Nothing more is read."""

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Note it."""
        timer = Timer(self._now + delay, call)
        self._timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass and make the calls that are due."""
        self._now += seconds
        due = [timer for timer in self._timers if timer.due <= self._now]
        self._timers = [timer for timer in self._timers if timer.due > self._now]
        for timer in due:
            if not timer.cancelled:
                timer.call()


class Client:
    """The other end of a session; speaks when the test says so."""

    def __init__(self, bench: Bench) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = Channel(ours)
        self.loop = Loop(asyncio.get_running_loop())
        welcome = Welcome(extensions=NO_EXTENSION, instance=bytes(16), poll_us=0)
        log = logging.LoggerAdapter(logging.getLogger("vds"), {})
        poller = Poller(asyncio.get_running_loop(), 0)
        self.session = Session(its, None, welcome, bench.export, poller, log)
        self.session.loop = self.loop  # type: ignore[assignment]  # what a session needs of a loop
        self.session.start()

    def packets(self) -> list[bytes]:
        """What has been said to us; nothing is on its way."""
        return [item for item in self.channel.receive() if isinstance(item, bytes)]

    def says(self, *packets: bytes) -> None:
        """Send packets; they are read with whatever comes next."""
        for each in packets:
            self.channel.send_packet(each)

    def resets(self) -> None:
        """Configure our queue, and have everything read in one go."""
        self.channel.queue_configured()
        self.loop.readable()


@pytest.fixture
async def begins() -> Any:  # noqa: ANN401 - a fixture that yields
    """A client that has just appeared, and may begin."""
    bench = Bench(HeldBackend())
    client = Client(bench)
    client.resets()
    yield client
    await client.session.stop("the test is over")
    client.channel.close()
    bench.close()


async def test_server_begins_when_the_client_has_had_its_turn(begins: Client) -> None:
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == []
    begins.loop.advance(CLIENT_BEGINS_S - ALMOST_S)
    assert begins.packets() == [version(INFO)]


async def test_every_reset_of_the_client_gives_it_a_whole_turn(begins: Client) -> None:
    """It may reset again before it begins: OpenBSD does when it drops what it cannot use."""
    for _ in range(3):
        begins.loop.advance(ALMOST_S)
        begins.resets()
        assert begins.packets() == []
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == []
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == [version(INFO)]


async def test_client_that_resets_as_soon_as_it_has_begun_has_a_whole_turn(begins: Client) -> None:
    """Both come in one go: the answer is void before it is sent, and the turn was never over."""
    begins.loop.advance(ALMOST_S)
    begins.says(version(INFO))
    begins.resets()
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == []
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == [version(INFO)]


async def test_reset_of_ours_gives_the_client_a_whole_turn(begins: Client) -> None:
    """What is no step of the handshake resets the link from our side, in one go with its beginning."""
    begins.loop.advance(ALMOST_S)
    begins.says(version(INFO), packet(DATA, NACK, 0, 0, 0))
    begins.loop.readable()
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == []
    begins.loop.advance(ALMOST_S)
    assert begins.packets() == [version(INFO)]


async def test_client_that_has_begun_is_left_to_it(begins: Client) -> None:
    begins.says(version(INFO))
    begins.loop.readable()
    begins.loop.advance(10 * CLIENT_BEGINS_S)
    assert begins.packets() == [version(ACK)]
