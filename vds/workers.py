"""What may block is done in threads: single requests, and batches of writes with one flush.

Threads put what they have done into a queue and wake the loop once for all of it. Threads are started as they
are needed; where none can be (RLIMIT_NPROC), those that there are do the work, and without any a request
fails at once.

Source: clone(2), EAGAIN.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from protocol.vdisk.status import WireErrno, to_wire
from vds.medium import Medium
from vds.work import READ, WRITE, Work

__all__ = ["Workers"]

log = logging.getLogger("vds")


class Workers:
    """The threads of ``pool``, at work on ``medium``. Used from the loop's thread only.

    ``end`` is called for each request that is done, and ``settle`` after all that came at once.
    """

    def __init__(
        self,
        medium: Medium,
        pool: ThreadPoolExecutor,
        loop: asyncio.AbstractEventLoop,
        *,
        end: Callable[[Work], None],
        settle: Callable[[], None],
    ) -> None:
        self.running = 0
        """Requests that threads have."""
        self.has_batch = False
        """A batch is among them; there is one at a time."""
        self._medium: Final = medium
        self._pool: Final = pool
        self._loop: Final = loop
        self._end: Final = end
        self._settle: Final = settle
        self._jobs: Final[deque[tuple[list[Work], int | None]]] = deque()  # for threads
        self._has_threads = False  # a thread of the pool lives as long as the pool
        self._told = False
        self._finished: Final[deque[tuple[list[Work], OSError | None, bool]]] = deque()  # from threads
        self._woken = False

    # -- in --------------------------------------------------------------------------------------------------

    def begin(self, work: Work) -> None:
        """Read, or write, in a thread."""
        self._give([work], None)

    def begin_batch(self, batch: list[Work], fault: int) -> None:
        """Do all writes of ``batch`` and flush; ``fault`` is the errno the flush is to fail with, or 0."""
        self.has_batch = True
        self._give(batch, fault)

    def _give(self, works: list[Work], fault: int | None) -> None:
        """Let a thread do ``works``, a batch unless ``fault`` is None."""
        self.running += len(works)
        self._jobs.append((works, fault))
        try:
            self._pool.submit(self._next)
        except RuntimeError as error:  # the process has as many threads as it may; the pool keeps the call
            self._no_thread(works, fault, error)
        else:
            self._has_threads = True

    def _no_thread(self, works: list[Work], fault: int | None, error: RuntimeError) -> None:
        what = "wait for those there are" if self._has_threads else "that need one fail with EAGAIN"
        if not self._told:
            self._told = True
            log.warning("%s: no thread can be started (%s): requests %s", self._medium.name, error, what)
        if not self._has_threads:
            self._jobs.pop()  # so that the first thread to start does not find it
            for work in works:
                work.status = WireErrno.EAGAIN
            self._hand_back(works, None, batch=fault is not None)

    # -- in threads ------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Do a job; there is none when it was answered because this call found no thread in time."""
        try:
            works, fault = self._jobs.popleft()
        except IndexError:
            return
        if fault is None:
            self._run(works[0])
        else:
            self._run_batch(works, fault)

    def _run(self, work: Work) -> None:
        if work.operation == READ:
            self._medium.read(work)
        else:
            self._medium.write(work)
        self._hand_back([work], None, batch=False)

    def _run_batch(self, batch: list[Work], fault: int) -> None:
        for work in batch:
            if work.operation == WRITE:
                self._medium.write(work)
        failure = self._medium.flush()
        if failure is None and fault:
            failure = OSError(fault, "injected by the error layer")
        self._hand_back(batch, failure, batch=True)

    def _hand_back(self, works: list[Work], failure: OSError | None, *, batch: bool) -> None:
        self._finished.append((works, failure, batch))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._collect)

    # -- out -------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take over what threads have done. The flag falls first: what comes after it wakes us again."""
        self._woken = False
        while self._finished:
            works, failure, batch = self._finished.popleft()
            self.running -= len(works)
            if batch:
                self.has_batch = False
            if failure is not None:
                self._medium.flush_failed(failure)
            for work in works:
                if failure is not None and not work.status:
                    work.status = to_wire(failure.errno or errno.EIO)
                    work.count = 0
                self._end(work)
        self._settle()
