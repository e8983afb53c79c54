"""Looking before sleeping, at rings or at sockets: one poller for all channels of a server.

A port that was just rung is watched. While any watched port had work within the budget, the poller looks at
all of them again and again, and gives the event loop its turn between. A port with nothing for that long is
told to sleep, and so is its client where it looked at a ring: the next descriptor comes with a doorbell. No
port watched means no wake-up at all. After a look that brought nothing the processor is offered to whoever
waits for it: with a front end between the client and us there are more processes than two.

Ports take turns. What one may do in its turn is bounded by the port, in requests and in bytes; a transfer
longer than that is done in parts, and the watched ports of other disks are glanced at between.
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter
from typing import Final, Protocol

from hypervisor.patience import Patience

__all__ = ["Poller", "Watched"]

SLICE_S: Final = 200e-6
"""Longest time between two turns of the event loop while there is work."""
IDLE_SLICE_S: Final = 10e-6
"""The same while there is none: a message that wakes us must not wait for the end of a slice."""


class Watched(Protocol):
    """A port as the poller sees it."""

    busy_at: float
    """When it last had work, by ``perf_counter``."""
    look_s: float
    """How long to look at it after its last work."""
    looked_at: bool
    """Looking at it has brought work since it was rung."""
    patience: Patience
    """For how long to look at it, from what looking brought before."""

    @property
    def disk(self) -> object:
        """What it serves; a glance goes to the other disks, since requests of one may overlap."""

    def look(self) -> bool:
        """Serve what is there; whether anything was."""

    def glance(self) -> bool:
        """Serve what is there and short, in the middle of somebody else's turn; whether anything was."""

    def quiet(self) -> None:
        """Nobody looks any more: tell the client."""

    @property
    def may_poll(self) -> bool:
        """False while worker threads have this port's requests: they need the interpreter that polling would
        hold.
        """


class Poller:
    """Watches ports for ``poll_us`` microseconds after their last work; 0 never watches any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, poll_us: int) -> None:
        self.enabled = poll_us > 0
        self.budget_s = poll_us / 1e6
        self._loop = loop
        self._ports: list[Watched] = []
        self._scheduled = False
        self._glancing = False

    def watch(self, port: Watched) -> None:
        """Look at ``port`` from now on, until it has been idle for its ``look_s``."""
        port.busy_at = perf_counter()
        if port not in self._ports:
            port.looked_at = False
            self._ports.append(port)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def forget(self, port: Watched) -> None:
        """Stop looking at ``port`` without telling its client; harmless if it is not watched."""
        if port in self._ports:
            self._ports.remove(port)

    def others(self, disk: object) -> bool:
        """Whether ports of other disks than ``disk`` are watched, so that :meth:`glance` is worth it."""
        return any(port.disk is not disk for port in self._ports)

    def glance(self, disk: object) -> None:
        """Serve what is short at the watched ports of other disks than ``disk``.

        For who is in the middle of something long; does nothing within another glance.
        """
        if self._glancing:
            return
        self._glancing = True
        try:
            for port in self._ports:
                if port.disk is not disk and port.glance():
                    self._paid(port)
        finally:
            self._glancing = False

    def _paid(self, port: Watched) -> None:
        port.looked_at = True
        port.busy_at = perf_counter()
        port.look_s = self.budget_s

    def _turn(self) -> None:
        started = now = perf_counter()
        over: dict[Watched, None] = {}
        busy = False
        while now - started < SLICE_S:
            busy = False
            for number, port in enumerate(self._ports, 1):
                if port.look():
                    busy = True
                    over.pop(port, None)
                    self._paid(port)
                    now = port.busy_at
                    if now - started >= SLICE_S:  # the next turn begins with the one after it
                        self._ports = self._ports[number:] + self._ports[:number]
                        break
                elif now - port.busy_at > port.look_s:  # only who was just looked at in vain
                    over[port] = None
            now = perf_counter()
            if not busy and (now - started > IDLE_SLICE_S):
                break
        for port in [port for port in self._ports if port in over or not port.may_poll]:
            self._end(port)
        self._scheduled = bool(self._ports)
        if self._scheduled:
            if not busy:  # whoever waits for this processor may be who has work for us
                os.sched_yield()
            self._loop.call_soon(self._turn)

    def _end(self, port: Watched) -> None:
        """Look at ``port`` no more, and learn from what looking brought unless threads end it."""
        if port.may_poll:
            if port.looked_at:
                port.patience.paid()
            else:
                port.patience.vain()
        self.forget(port)
        port.quiet()
