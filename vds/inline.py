"""What cannot block is done in the event loop, inside the call that asks for it.

Two ways lead here. A port asks for the bytes of a read or write alone (:meth:`Inline.read`,
:meth:`Inline.write`), which makes no request of them; the executor tries every request before it takes the
long way (:meth:`Inline.attempt`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from protocol.vdisk.status import WireErrno
from vds.medium import Medium
from vds.overlap import UnderWay
from vds.pace import Pace
from vds.work import FLUSH, READ, WRITE, Work

__all__ = ["Inline"]

INLINE_WRITE: Final = 64 * 1024
"""Longest write done in the event loop: about 10 µs of copying."""


def _never(buffers: Sequence[memoryview], offset: int) -> int:
    """In place of a backend's ``try_preadv`` where every read takes the long way."""
    return -1


class Inline:
    """What ``medium`` can do at once. ``under_way`` is what has begun and not ended, the executor's own.

    ``plain``: no layer wants to see the requests, so that a port may do without one.
    """

    def __init__(
        self, medium: Medium, under_way: UnderWay[Work], *, plain: bool, clock: Callable[[], float]
    ) -> None:
        backend = medium.backend
        self._medium = medium
        self._cached = medium.cached
        self._clock = clock
        self._idle_flush = backend.never_blocks or backend.read_only  # nothing to make stable
        self._pace = None if backend.never_blocks else Pace()
        self._longest = INLINE_WRITE if medium.cached and backend.quick_writes else 0
        if backend.never_blocks:
            self._longest = sys.maxsize
        self._try = backend.try_preadv
        self._pwritev = backend.pwritev
        self.try_read = self._try if plain else _never
        """The backend's own, where a port may use it; it heeds nothing under way."""
        self._quick_write = self._longest if plain else 0
        self._blocks = under_way.blocks
        self.under_way = under_way.buckets
        """Empty while nothing is under way that a request could overlap."""

    def close(self) -> None:
        """From now on :meth:`read` and :meth:`write` do nothing at once."""
        self.try_read = _never
        self._quick_write = 0

    # -- bytes -----------------------------------------------------------------------------------------------

    def read(self, offset: int, nbytes: int, buffers: Sequence[memoryview]) -> int:
        """Read at once and return ``nbytes``; -1: not possible (it would block, fail, or has to wait): submit
        it.

        After -1 the buffers hold anything.
        """
        if self.under_way and self._blocks(offset, nbytes, False):
            return -1
        try:
            count = self.try_read(buffers, offset)
        except OSError:
            return -1
        return count if count == nbytes else -1

    def write(self, offset: int, nbytes: int, buffers: Sequence[memoryview]) -> int:
        """Write at once and return ``nbytes``; -1: not possible, as for :meth:`read`: submit it."""
        if nbytes > self._quick_write or (self.under_way and self._blocks(offset, nbytes, True)):
            return -1
        pace = self._pace
        started = 0.0 if pace is None else self._clock()
        if pace is not None and not (pace.quick or pace.again(started)):
            return -1
        try:
            self._pwritev(buffers, offset)
        except OSError:
            return -1
        if pace is not None:
            pace.measured(started, self._clock())
        return nbytes

    # -- requests --------------------------------------------------------------------------------------------

    def attempt(self, work: Work) -> bool:
        """Do what cannot block and return True, with status and count set; False: it needs a thread."""
        return _ATTEMPTS.get(work.operation, Inline._unknown)(self, work)

    def _read(self, work: Work) -> bool:
        try:
            count = self._try(work.buffers, work.offset)
        except OSError:
            return False
        if count != work.nbytes:
            return False
        work.count = count
        return True

    def _write(self, work: Work) -> bool:
        if self._medium.failed and not self._cached:
            work.status = WireErrno.EIO
            return True
        if work.nbytes > self._longest:
            return False
        pace = self._pace
        if pace is None:
            self._medium.write(work)
            return True
        started = self._clock()
        if not (pace.quick or pace.again(started)):
            return False
        self._medium.write(work)
        pace.measured(started, self._clock())
        return True

    def _flush(self, work: Work) -> bool:
        if self._medium.failed:
            work.status = WireErrno.EIO
            return True
        return self._idle_flush

    def _unknown(self, work: Work) -> bool:
        work.status = WireErrno.ENOTSUP
        return True


_ATTEMPTS: Final[Mapping[int, Callable[[Inline, Work], bool]]] = {
    READ: Inline._read,
    WRITE: Inline._write,
    FLUSH: Inline._flush,
}
