"""``vdc serve``: one disk, its NBD server, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, TypeVar

from hypervisor.capture import Capture
from hypervisor.rendezvous import Refused
from vdc.config import ServeConfig
from vdc.disk import open as open_disk
from vdc.frontends.nbd import NbdServer
from vdc.info import format_size

__all__ = ["Interrupts", "capturing", "naming", "serve"]

log = logging.getLogger("vdc")

_T = TypeVar("_T")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """Requests to stop, while used as a context manager: signals, and the parent's death if asked for.

    ``asked`` is set by the first, ``insisted`` by the second.
    """

    def __init__(self, *, with_parent: bool = False) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._parent = os.pidfd_open(os.getppid()) if with_parent else None

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._interrupt)
        if self._parent is not None:
            self._loop.add_reader(self._parent, self._orphaned)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
        self._forget_parent()

    async def unless(self, event: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
        """The result of ``work``, or None when ``event`` came first and cancelled it."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, stop):
                each.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)

    def _interrupt(self) -> None:
        (self.insisted if self.asked.is_set() else self.asked).set()

    def _orphaned(self) -> None:
        self._forget_parent()
        self._interrupt()

    def _forget_parent(self) -> None:
        if self._parent is not None:
            self._loop.remove_reader(self._parent)
            os.close(self._parent)
            self._parent = None


@contextmanager
def naming(socket: str) -> Iterator[None]:
    """A server's refusal inside gets the server's socket in front, for people."""
    try:
        yield
    except Refused as refusal:
        raise Refused(refusal.errno, refusal.strerror, socket) from refusal


def capturing(path: str | None) -> AbstractContextManager[Capture | None]:
    """Capture to ``path`` inside, if that was asked for. Raises: OSError (it cannot be written)."""
    return nullcontext() if path is None else Capture(path, "vdc")


async def serve(config: ServeConfig, say: Callable[[str], None]) -> bool:
    """Serve until told to stop; ``say`` gets one line when clients may come.

    Returns True after an orderly end, False when requests were cut off: they took longer than the limit, or a
    second signal came. Raises: what opening the disk and listening raise.
    """
    with Interrupts(with_parent=config.exit_with_parent) as interrupts, capturing(config.capture) as capture:
        with naming(config.target.socket):
            opening = open_disk(config.target, wait_s=config.wait_s, capture=capture)
            disk = await interrupts.unless(interrupts.asked, opening)
        if disk is None:
            return True
        async with disk:
            server = NbdServer(disk, config.nbd, name=config.export, read_only=config.read_only)
            server.start()
            say(f"ready: {disk.volume} ({format_size(disk.size)}) as NBD on {config.nbd}: {server.uri}")
            await interrupts.asked.wait()
            log.info("stopping: %d NBD clients", server.connections)
            orderly = await interrupts.unless(interrupts.insisted, server.stop(config.stop_timeout_s))
            return bool(orderly)
