"""A virtual disk for programs with an event loop: :func:`open`, then ``pread``, ``pwrite``, ``flush``.

The loop is given back between answers: a turn looks at the ring for a slice of time, resolves what is done,
and lets those who waited run before it looks again. A request that is the only one under way is waited for a
few microseconds where it is made, without a turn, some times in a row. When nothing comes for ``poll_us`` it
asks the server for a message and sleeps. An idle disk has no timer and looks at nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Final, TypeAlias

from hypervisor.capture import Capture
from protocol.errors import DiskError
from protocol.vdisk.payloads import Geometry, parse_geometry

from .buffers import Buffer
from .engine import ANSWERS_A_TURN, Engine
from .facts import READ, DiskFacts, ReadTarget, WriteSource, make_patience
from .requests import Request
from .states import State
from .uri import Target

__all__ = ["Disk", "open"]

SLICE_S: Final = 20e-6
"""How long a turn looks before others on the loop get theirs; a loop turn costs about a tenth of it."""
GLANCES: Final = 16
"""So many requests in a row are waited for where they are made, without a turn of the loop, when each is the
only one under way: 60 to 100 µs. Then the loop has its turn."""
SAFETY_S: Final = 0.1
"""With requests outstanding the ring is looked at this often even if no message comes."""
ROOM_S: Final = 0.001
"""How often a caller who waits for shared memory looks again."""

log = logging.getLogger("vdc")

ReadCallback: TypeAlias = Callable[[bytes | bytearray | None, OSError | None], None]
WriteCallback: TypeAlias = Callable[[None, OSError | None], None]


async def open(
    uri: str | Target,
    *,
    poll_us: int | None = None,
    wait_s: float = 0.0,
    capture: Capture | None = None,
) -> Disk:
    """Open the disk at ``uri`` and return it when it answers.

    ``wait_s`` is how long to go on trying when the server is not there yet; 0 tries once. ``poll_us``
    overrides the URI's. What is said and done goes to ``capture``, which stays the caller's to close.

    Raises: ConfigError (the URI); OSError (no server, or it refuses: errno and a sentence); ChannelError,
        ProtocolError (it does not speak the protocol).
    """
    target = uri if isinstance(uri, Target) else Target.parse(uri)
    poll_us = target.poll_us if poll_us is None else poll_us
    disk = Disk(target, poll_us=poll_us, wait_s=wait_s, capture=capture)
    try:
        await disk.opened()
    except BaseException:
        await disk.close()
        raise
    return disk


class Disk(DiskFacts):
    """A disk at a server. Made by :func:`open`; safe for any number of tasks of one event loop.

    Offsets and lengths are bytes, multiples of ``block_size``. Requests longer than ``max_xfer`` are split;
    a full ring makes a request wait, never fail. While there is no server, requests wait (see ``timeout`` in
    the URI).
    """

    def __init__(
        self, target: Target, *, poll_us: int, wait_s: float, capture: Capture | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = make_patience(poll_us)
        self._quiet_at = 0.0  # when to stop looking at the ring; 0: not looking yet
        self._glances = 0  # how many requests are still waited for on the spot
        self._scheduled = False
        self._fd = -1
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._safety: asyncio.TimerHandle | None = None
        self._opening: asyncio.Future[None] = self._loop.create_future()
        self._give_up_at = monotonic() + wait_s
        self._engine = Engine(target, self, capture=capture)
        self._tick()

    async def opened(self) -> None:
        """Wait until the disk answers for the first time. Raises: what :func:`open` raises."""
        await self._opening

    async def close(self) -> None:
        """End the disk; what is unanswered fails with EIO. Harmless when done twice."""
        self._engine.close()
        for timer in (self._timer, self._safety):
            if timer is not None:
                timer.cancel()
        if not self._opening.done():
            self._opening.cancel()

    async def __aenter__(self) -> Disk:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- requests ----------------------------------------------------------------------------------------

    async def pread(self, offset: int, nbytes: int) -> bytes:
        """Read ``nbytes`` at ``offset``.

        Raises: ValueError (misaligned, out of range, closed); DiskError (the server's status, or EIO when no
        server
            came back in time; the disk stays usable).
        """
        if 0 < nbytes <= self.max_xfer:
            self._check(offset, nbytes)
            request = Request(READ, offset // self.block_size, nbytes, _resolve)
            future = self._ask(request)
            if future is not None:  # not by _answer(): one coroutine less, and nothing to detach from
                await future
            if request.context is not DONE:
                raise request.context
            return request.result or b""
        requests = await self._run(self._reads(offset, nbytes, _resolve))
        return b"".join(request.result or b"" for request in requests)

    async def preadv_into(self, offset: int, targets: ReadTarget | Sequence[ReadTarget]) -> None:
        """Read at ``offset`` until ``targets`` are full, each a multiple of ``block_size`` long.

        A :class:`Buffer` of this disk is filled by the server itself, anything else through one copy. After
        an error their content is undefined; after a cancellation they are not written to any more, Buffers
        excepted.
        Raises: as :meth:`pread`.
        """
        await self._run(self._reads_into(offset, targets, _resolve))

    async def pwrite(self, offset: int, data: WriteSource) -> None:
        """Write ``data`` at ``offset``; done when the server has completed it.

        It is on stable storage then, unless the volume has a volatile write cache: then after :meth:`flush`.
        ``data`` must not change until this returns. Raises: as :meth:`pread`, with the server's errno
        (ENOSPC, EROFS).
        """
        await self._run(self._writes(offset, data, _resolve))

    async def flush(self) -> None:
        """Make every write that was completed before this call stable. Nothing to do where FLUSH is not
        offered.

        Raises: DiskError; after one failure the server goes on failing until the volume is opened again.
        """
        await self._run(self._flush(_resolve))

    async def capacity(self) -> tuple[int, int]:
        """Ask the server for (block size in bytes, size in blocks) as they are now; ``size`` follows."""
        return self._learn_capacity(await self._run(self._capacity(_resolve)))

    async def geometry(self) -> Geometry:
        """The geometry that the disk reports; it is for labels, addresses are blocks."""
        (request,) = await self._run(self._geometry(_resolve))
        return parse_geometry(request.result or b"")

    def submit_read(self, offset: int, nbytes: int, callback: ReadCallback) -> None:
        """Read without a coroutine: ``callback(data, None)`` or ``callback(None, error)``, once, from the
        loop. ``data`` is a ``bytearray`` where several requests have filled it.

        Raises: ValueError; every other failure goes to the callback.
        """
        self._check(offset, nbytes)
        if 0 < nbytes <= self.max_xfer:
            self._submit(Request(READ, offset // self.block_size, nbytes, _call, callback))
        else:
            whole = bytearray(nbytes)  # each part is copied to its place, and nothing is joined
            self._gather(self._reads_into(offset, whole, _call), callback, whole)

    def submit_write(self, offset: int, data: WriteSource, callback: WriteCallback) -> None:
        """Write without a coroutine: ``callback(None, error)``, once; ``data`` must not change until then."""
        self._gather(self._writes(offset, data, _call), callback)

    def submit_flush(self, callback: WriteCallback) -> None:
        """Flush without a coroutine: ``callback(None, error)``, once."""
        self._gather(self._flush(_call), callback)

    async def buffer(self, nbytes: int) -> Buffer:
        """Memory shared with the server, up to ``max_xfer`` bytes, for transfers without a copy; waits for
        room.

        Raises: OSError (EIO: no server within the timeout, or another volume in the place of this one).
        """
        self._check_buffer(nbytes)
        while (buffer := self._engine.buffer(nbytes)) is None:
            self._check_served()
            await asyncio.sleep(ROOM_S)
        return buffer

    async def _run(self, requests: list[Request]) -> list[Request]:
        """Submit ``requests`` and wait for all; the first error is raised when the last one is answered."""
        if len(requests) == 1:
            await self._answer(requests[0])
            return requests
        futures = [future for request in requests if (future := self._ask(request)) is not None]
        try:
            if futures:
                await asyncio.gather(*futures, return_exceptions=True)
        except asyncio.CancelledError:
            for request in requests:
                request.detach()
            raise
        for request in requests:
            if request.context is not DONE:
                raise request.context
        return requests

    async def _answer(self, request: Request) -> None:
        """Submit ``request`` and wait for it; raises what it ended with."""
        future = self._ask(request)
        if future is not None:
            try:
                await future
            except asyncio.CancelledError:
                request.detach()
                raise
        if request.context is not DONE:
            raise request.context

    def _ask(self, request: Request) -> asyncio.Future[None] | None:
        """Submit ``request``; None: it is answered already, and its context says how."""
        self._engine.submit(request)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)
        if self._glances and self._has_answered(request):
            return None
        if request.context is not None:
            return None
        future = request.context = self._loop.create_future()
        return future

    def _has_answered(self, request: Request) -> bool:
        """Wait a moment for ``request`` where it was made; a miss ends that until a turn finds one alone."""
        self._glances -= 1
        if request.context is None:
            self._engine.ring(sleeping=False)
            self._engine.watch(0.0, 1)
            if request.context is None:
                self._glances = 0
        return request.context is not None

    def _gather(
        self,
        requests: list[Request],
        callback: Callable[[Any, OSError | None], None],
        whole: bytearray | None = None,
    ) -> None:
        if len(requests) == 1:
            requests[0].context = callback
        elif requests:
            gather = _Gather(len(requests), callback, whole)
            for request in requests:
                request.finish = gather.answered
        else:
            self._loop.call_soon(callback, None, None)
        for request in requests:
            self._submit(request)

    # -- driving the engine ------------------------------------------------------------------------------

    def _submit(self, request: Request) -> None:
        self._engine.submit(request)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Tell the server what was posted, then look for answers for a slice of time, or sleep."""
        engine = self._engine
        self._scheduled = False
        if engine.outstanding and self._look():
            self._scheduled = True
            self._loop.call_soon(self._turn)
            return
        self._quiet_at = 0.0
        if engine.outstanding:
            engine.ring(sleeping=True)
            if self._safety is None:
                self._safety = self._loop.call_later(SAFETY_S, self._look_anyway)
        if engine.wants_write:
            self.changed()

    def _look(self) -> bool:
        """Look at the ring for a slice of time; False when it is time to sleep."""
        patience = self._patience
        now = perf_counter()
        if not self._quiet_at:
            span = patience.span()
            if not span:
                return False
            self._quiet_at = now + span
        engine = self._engine
        engine.ring(sleeping=False)
        alone = engine.outstanding == 1
        if engine.watch(SLICE_S, ANSWERS_A_TURN):
            self._glances = GLANCES if alone else 0
            self._quiet_at = 0.0
            patience.paid()
            return True
        if perf_counter() < self._quiet_at:
            return True
        patience.vain()
        return False

    def _look_anyway(self) -> None:
        self._safety = None
        if self._engine.outstanding:
            self._engine.poll()
            self._quiet_at = 0.0
            self._wake()

    def _wake(self) -> None:
        if self._engine.outstanding and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _readable(self) -> None:
        """Take what the server sent. Who is answered runs before the turn scheduled here, so that what
        they submit next needs no other.
        """
        engine = self._engine
        engine.readable()
        if engine.session is not None and engine.session.is_reset:
            self._loop.call_soon(self._readable)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _writable(self) -> None:
        self._engine.writable()
        self.changed()

    def _tick(self) -> None:
        self._timer = None
        self._engine.tick()
        self.changed()

    def detach(self, fd: int) -> None:
        """The engine closes ``fd``. Source: :class:`vdc.engine.Driver`."""
        if self._fd == fd:
            self._loop.remove_reader(fd)
            if self._writing:
                self._loop.remove_writer(fd)
            self._fd = -1
            self._writing = False

    def changed(self) -> None:
        """The engine's state, socket or deadline changed. Source: :class:`vdc.engine.Driver`."""
        engine = self._engine
        self._watch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = engine.deadline
        if deadline is not None and engine.state is not State.CLOSED:
            self._timer = self._loop.call_later(max(0.0, deadline - monotonic()), self._tick)
        if engine.state is State.RUNNING:
            self._learn()
            self._wake()
        if not self._opening.done():
            self._settle_opening()

    def _watch(self) -> None:
        fd = self._engine.fileno()
        if fd is not None and fd != self._fd:
            self._fd = fd
            self._loop.add_reader(fd, self._readable)
        wants_write = fd is not None and self._engine.wants_write
        if wants_write != self._writing and fd is not None:
            self._writing = wants_write
            if wants_write:
                self._loop.add_writer(fd, self._writable)
            else:
                self._loop.remove_writer(fd)

    def _settle_opening(self) -> None:
        if self._engine.state is State.RUNNING:
            self._opening.set_result(None)
        elif self._engine.cause is not None and monotonic() >= self._give_up_at:
            self._opening.set_exception(self._engine.cause)


class _Gather:
    """The parts of one callback's request: the last answer gives ``whole``, or the first error."""

    __slots__ = ("callback", "error", "remaining", "whole")

    def __init__(
        self, remaining: int, callback: Callable[[Any, OSError | None], None], whole: bytearray | None
    ) -> None:
        self.remaining = remaining
        self.callback = callback
        self.whole = whole
        self.error: DiskError | None = None

    def answered(self, _part: Request, error: DiskError | None) -> None:
        self.error = self.error or error
        self.remaining -= 1
        if not self.remaining:
            _report(self.callback, self.whole if self.error is None else None, self.error)


DONE: Final = object()


def _resolve(request: Request, error: DiskError | None) -> None:
    """Say in the request's context how it ended, and wake who waits for it."""
    future: asyncio.Future[None] | None = request.context
    request.context = DONE if error is None else error
    if future is not None and not future.cancelled():
        future.set_result(None)


def _call(request: Request, error: DiskError | None) -> None:
    _report(request.context, request.result, error)


def _report(callback: Callable[[Any, OSError | None], None], result: object, error: OSError | None) -> None:
    """A callback that fails must not keep the answers behind it from being taken."""
    try:
        callback(result, error)
    except Exception:
        log.exception("a callback failed")
