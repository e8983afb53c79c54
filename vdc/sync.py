"""The blocking twin of :class:`vdc.Disk`, for programs without an event loop: :func:`connect`.

It is not a thread around the other: the caller's own thread writes the ring, looks at it, and sleeps in
``poll``. At depth 1 that is the fastest way to a disk. For more depth, submit several requests and wait for
any.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from math import ceil
from time import monotonic, sleep
from types import TracebackType
from typing import Final

from hypervisor.capture import Capture
from protocol.errors import DiskError
from protocol.vdisk.payloads import Geometry, parse_geometry

from .buffers import Buffer
from .engine import ANSWERS_A_TURN, Engine
from .facts import READ, DiskFacts, ReadTarget, WriteSource, make_patience
from .requests import Request
from .states import State
from .uri import Target

__all__ = ["Disk", "connect"]

SAFETY_S: Final = 0.1
"""With requests outstanding the ring is looked at this often even if no message comes."""


def connect(
    uri: str | Target,
    *,
    poll_us: int | None = None,
    wait_s: float = 0.0,
    capture: Capture | None = None,
) -> Disk:
    """Open the disk at ``uri`` and return it when it answers; arguments and errors as of :func:`vdc.open`."""
    target = uri if isinstance(uri, Target) else Target.parse(uri)
    disk = Disk(target, target.poll_us if poll_us is None else poll_us, capture)
    try:
        disk._open(monotonic() + wait_s)
    except BaseException:
        disk.close()
        raise
    return disk


class Disk(DiskFacts):
    """A disk at a server, for one thread. Made by :func:`connect`; offsets and lengths as for
    :class:`vdc.Disk`.

    Answers are taken only inside its methods: a program that submits and then computes for long should call
    ``wait(0)`` now and then.
    """

    def __init__(self, target: Target, poll_us: int, capture: Capture | None = None) -> None:
        self._patience = make_patience(poll_us)
        self._poll = select.poll()
        self._fd = -1
        self._events = 0
        self._answered: list[tuple[int, bytes | DiskError | None]] = []
        self._tokens = 0
        self._unanswered = 0
        self._engine = Engine(target, self, capture=capture)

    def close(self) -> None:
        """End the disk; what is unanswered fails with EIO. Harmless when done twice."""
        self._engine.close()

    def __enter__(self) -> Disk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- one at a time -----------------------------------------------------------------------------------

    def pread(self, offset: int, nbytes: int) -> bytes:
        """Read ``nbytes`` at ``offset``. Raises: as :meth:`vdc.Disk.pread`."""
        if 0 < nbytes <= self.max_xfer:
            self._check(offset, nbytes)
            request = Request(READ, offset // self.block_size, nbytes, _keep)
            self._engine.submit(request)
            while request.context is None:
                self._advance()
            if request.context is not DONE:
                raise request.context
            return request.result or b""
        requests = self._run(self._reads(offset, nbytes, _keep))
        return b"".join(request.result or b"" for request in requests)

    def preadv_into(self, offset: int, targets: ReadTarget | Sequence[ReadTarget]) -> None:
        """Read at ``offset`` until ``targets`` are full. Raises: as :meth:`vdc.Disk.preadv_into`."""
        self._run(self._reads_into(offset, targets, _keep))

    def pwrite(self, offset: int, data: WriteSource) -> None:
        """Write ``data`` at ``offset``. Raises: as :meth:`vdc.Disk.pwrite`."""
        self._run(self._writes(offset, data, _keep))

    def flush(self) -> None:
        """Make every completed write stable. Raises: as :meth:`vdc.Disk.flush`."""
        self._run(self._flush(_keep))

    def capacity(self) -> tuple[int, int]:
        """Ask the server for (block size in bytes, size in blocks) as they are now; ``size`` follows."""
        return self._learn_capacity(self._run(self._capacity(_keep)))

    def geometry(self) -> Geometry:
        """The geometry that the disk reports; it is for labels, addresses are blocks."""
        (request,) = self._run(self._geometry(_keep))
        return parse_geometry(request.result or b"")

    def buffer(self, nbytes: int) -> Buffer:
        """Memory shared with the server, up to ``max_xfer`` bytes, for transfers without a copy.

        Raises: MemoryError when others hold all of it: one thread cannot wait for itself; OSError (EIO: no
            server within the timeout, or another volume in the place of this one).
        """
        self._check_buffer(nbytes)
        while (buffer := self._engine.buffer(nbytes)) is None:
            if self._engine.state is State.RUNNING and not self._engine.outstanding:
                raise MemoryError(f"no {nbytes} bytes of shared memory left: release buffers first")
            self._advance()
            self._check_served()
        return buffer

    def _run(self, requests: list[Request]) -> list[Request]:
        for request in requests:
            self._engine.submit(request)
        self._finish_all(requests)
        return requests

    def _finish_all(self, requests: Sequence[Request]) -> None:
        """Drive the engine until all of ``requests`` are answered; raise the first error."""
        for request in requests:
            while request.context is None:
                self._advance()
        for request in requests:
            if request.context is not DONE:
                raise request.context

    # -- many at a time ----------------------------------------------------------------------------------

    def submit_read(self, offset: int, nbytes: int | Buffer) -> int:
        """Start a read of at most ``max_xfer`` bytes, into a Buffer or as bytes; returns its token for
        :meth:`wait`."""
        if isinstance(nbytes, Buffer):
            return self._start(self._reads_into(offset, nbytes, self._collect))
        if not 0 < nbytes <= self.max_xfer:
            return self._start(self._reads(offset, nbytes, self._collect))
        self._check(offset, nbytes)
        self._tokens = token = self._tokens + 1
        self._unanswered += 1
        self._engine.submit(Request(READ, offset // self.block_size, nbytes, self._collect, token))
        return token

    def submit_write(self, offset: int, data: WriteSource) -> int:
        """Start a write of at most ``max_xfer`` bytes; ``data`` must not change until :meth:`wait` gives its
        token."""
        return self._start(self._writes(offset, data, self._collect))

    def submit_flush(self) -> int:
        """Start a flush of every write whose answer :meth:`wait` has given."""
        return self._start(self._flush(self._collect))

    def wait(self, n: int = 1) -> list[tuple[int, bytes | DiskError | None]]:
        """Wait until at least ``n`` of what was submitted is answered; returns them, and a few more that are,
        as (token, result).

        A result is the bytes read, None, or the DiskError that the request ended with. ``n`` above the number
        unanswered waits for all; 0 only looks.
        """
        engine = self._engine
        engine.ring(sleeping=False)
        if not n:
            self._attend()
            engine.poll()
        wanted = min(n, len(self._answered) + self._unanswered)
        while len(self._answered) < wanted:
            self._advance()
        answers, self._answered = self._answered, []
        return answers

    def _start(self, requests: list[Request]) -> int:
        if len(requests) > 1:
            raise ValueError(f"one submission carries at most {self.max_xfer} bytes: submit in parts")
        self._tokens = token = self._tokens + 1
        if requests:
            self._unanswered += 1
            requests[0].context = token
            self._engine.submit(requests[0])
        else:
            self._answered.append((token, None))
        return token

    def _collect(self, request: Request, error: DiskError | None) -> None:
        self._unanswered -= 1
        self._answered.append((request.context, request.result if error is None else error))

    # -- driving the engine ------------------------------------------------------------------------------

    def _check_open(self) -> None:
        super()._check_open()
        if self._engine.state is State.FAILED:  # nobody else looks whether the server is back
            self._engine.tick()
            while self._engine.negotiating:
                self._sleep()

    def _advance(self) -> None:
        """Look for an answer, for as long as polling pays; then sleep until there is something to do."""
        engine = self._engine
        if engine.outstanding:
            span = self._patience.span()
            if span:
                engine.ring(sleeping=False)
                if engine.watch(span, ANSWERS_A_TURN):
                    self._patience.paid()
                    return
                self._patience.vain()
            engine.ring(sleeping=True)
        self._sleep()

    def _sleep(self) -> None:
        """Wait for the server, or for the next deadline."""
        engine = self._engine
        deadline = engine.deadline
        timeout = SAFETY_S if engine.table.outstanding else None
        if deadline is not None:
            left = max(0.0, deadline - monotonic())
            timeout = left if timeout is None else min(left, timeout)
        if self._fd < 0 or self._events != select.POLLIN or engine.wants_write:
            self.changed()
        if self._fd < 0:
            sleep(timeout or 0.0)
            heard = False
        else:
            heard = self._listen(timeout)
        if deadline is not None and monotonic() >= deadline:
            engine.tick()
        if not heard:  # otherwise it was looked at
            engine.poll()

    def _attend(self) -> None:
        """Do what is due without waiting: a program that only looks must not miss that the server is back."""
        deadline = self._engine.deadline
        if deadline is not None and monotonic() >= deadline:
            self._engine.tick()
        self.changed()
        if self._fd >= 0:
            self._listen(0)

    def _listen(self, timeout: float | None) -> bool:
        """Take what the server sends within ``timeout`` seconds, None waits for ever; whether it did."""
        engine = self._engine
        heard = False
        for _, events in self._poll.poll(None if timeout is None else ceil(timeout * 1000)):
            if events & select.POLLOUT:
                engine.writable()
            if events & ~select.POLLOUT:
                engine.readable()
                heard = True
        return heard

    def _open(self, give_up_at: float) -> None:
        engine = self._engine
        engine.tick()
        while engine.state is not State.RUNNING:
            if engine.cause is not None and monotonic() >= give_up_at:
                raise engine.cause
            self._sleep()

    def detach(self, fd: int) -> None:
        """The engine closes ``fd``. Source: :class:`vdc.engine.Driver`."""
        if self._fd == fd:
            self._poll.unregister(fd)
            self._fd = -1

    def changed(self) -> None:
        """The engine's state, socket or deadline changed. Source: :class:`vdc.engine.Driver`."""
        fd = self._engine.fileno()
        events = select.POLLIN | (select.POLLOUT if self._engine.wants_write else 0)
        if fd is not None and (fd, events) != (self._fd, self._events):
            self._fd, self._events = fd, events
            self._poll.register(fd, events)
        self._learn()


DONE: Final = object()


def _keep(request: Request, error: DiskError | None) -> None:
    request.context = DONE if error is None else error
