"""What may block is done in threads: single requests, and batches of writes with one flush.

Threads put what they have done into a queue and wake the loop once for all of it.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from protocol.vdisk.status import to_wire
from vds.medium import Medium
from vds.work import READ, WRITE, Work

__all__ = ["Workers"]


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
        self._finished: Final[deque[tuple[list[Work], OSError | None, bool]]] = deque()  # from threads
        self._woken = False

    # -- in --------------------------------------------------------------------------------------------------

    def begin(self, work: Work) -> None:
        """Read, or write, in a thread."""
        self.running += 1
        self._pool.submit(self._run, work)

    def begin_batch(self, batch: list[Work], fault: int) -> None:
        """Do all writes of ``batch`` and flush; ``fault`` is the errno the flush is to fail with, or 0."""
        self.has_batch = True
        self.running += len(batch)
        self._pool.submit(self._run_batch, batch, fault)

    # -- in threads ------------------------------------------------------------------------------------------

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
