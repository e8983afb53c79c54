"""From a validated request to the backend and back: what cannot block at once, the rest in threads.

Theory of operation. Everything but the backend's blocking calls happens in the event loop's thread, so
nothing here is locked. A request that cannot block, is alone on its range and meets no layer is done inside
:meth:`Executor.submit`. Every other one goes this way, and may be dropped at each step before the last:

    BLOCKED (by a request it overlaps) → DELAYED → PAUSED → done at once, or
      → RUNNING in a thread: a read, or a write with a volatile write cache, each a job of its own
      → BATCHED: without such a cache, all writes that :meth:`kick` finds, one job that writes each and
      flushes
        once; flushes join it. One batch runs at a time, what comes meanwhile is the next one.

Threads put what they have done into a queue and wake the loop once for all of it.

A flush that failed is final: the kernel has told us once that data is lost and will not again, so every later
flush fails, and without a cache every write, until the volume is opened anew.

Source: Solaris vds.c, vd_bio_task, vd_dskimg_flush; Linux Documentation/filesystems/vfs.rst, "Error
handling".
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Final

from protocol.vdisk.operations import Operation
from protocol.vdisk.status import WireErrno, to_wire
from vds.overlap import UnderWay
from vds.pace import Pace
from vds.work import Stage, Work

if TYPE_CHECKING:
    from vds.export import Export

__all__ = ["Executor", "Work"]

INLINE_WRITE: Final = 64 * 1024
"""Longest write done in the event loop: about 10 µs of copying."""
PAUSE_POLL_S: Final = 0.01
"""How often a paused volume looks whether it goes on."""

READ: Final = int(Operation.BREAD)  # plain ints compare faster
WRITE: Final = int(Operation.BWRITE)
FLUSH: Final = int(Operation.FLUSH)
RANGED: Final = frozenset({READ, WRITE})

log = logging.getLogger("vds")


def _never(buffers: Sequence[memoryview], offset: int) -> int:
    """In place of a backend's ``try_preadv`` where every read takes the long way."""
    return -1


class Executor:
    """Executes the requests of one export, whichever session they come from. Used from the loop's thread
    only.
    """

    def __init__(
        self,
        export: Export,
        pool: ThreadPoolExecutor,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.pending = 0
        """Requests submitted and not done; 0 also means that no thread works for us."""
        self.failed = False
        """A flush failed: nothing becomes stable any more."""
        self.errors = 0
        """Reads and writes that the backend has failed."""
        self._name = export.name
        self._backend = backend = export.backend
        self._layers = export.layers
        self._cached = export.write_cache
        self._idle_flush = backend.never_blocks or backend.read_only  # nothing to make stable
        self._pool = pool
        self._loop = loop
        self._clock = clock
        self._pace = None if backend.never_blocks else Pace()
        self._inline_write = INLINE_WRITE if self._cached and backend.quick_writes else 0
        if backend.never_blocks:
            self._inline_write = sys.maxsize
        self._plain = not export.layers.options.any
        self._try = backend.try_preadv
        self._fast_write = self._inline_write if self._plain else 0
        self._fast = self._try if self._plain else _never
        self._under_way: UnderWay[Work] = UnderWay()
        self._buckets = self._under_way.buckets
        self._owned: dict[Hashable, set[Work]] = {}
        self._free: deque[Work] = deque()  # blocked no more, to go on
        self._settling = False
        self._timers: dict[Work, asyncio.TimerHandle] = {}
        self._paused: list[Work] = []
        self._pause_timer: asyncio.TimerHandle | None = None
        self._batch: list[Work] = []
        self._batch_runs = False
        self._running = 0
        self._finished: deque[tuple[list[Work], OSError | None, bool]] = deque()  # from threads
        self._woken = False
        self._closing = False
        self._drains: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # -- in ------------------------------------------------------------------------------------------------

    def read(self, offset: int, nbytes: int, buffers: Sequence[memoryview]) -> int:
        """Read at once and return ``nbytes``; -1: not possible (it would block, fail, or has to wait): submit
        it.

        After -1 the buffers hold anything.
        """
        if self._buckets and self._under_way.blocks(offset, nbytes, False):
            return -1
        try:
            count = self._fast(buffers, offset)
        except OSError:
            return -1
        return count if count == nbytes else -1

    def write(self, offset: int, nbytes: int, buffers: Sequence[memoryview]) -> int:
        """Write at once and return ``nbytes``; -1: not possible, as for :meth:`read`: submit it."""
        if nbytes > self._fast_write or (self._buckets and self._under_way.blocks(offset, nbytes, True)):
            return -1
        pace = self._pace
        started = 0.0 if pace is None else self._clock()
        if pace is not None and not (pace.quick or pace.again(started)):
            return -1
        try:
            self._backend.pwritev(buffers, offset)
        except OSError:
            return -1
        if pace is not None:
            pace.measured(started, self._clock())
        return nbytes

    def submit(self, work: Work) -> None:
        """Execute ``work``; ``work.done`` is called exactly once, perhaps before this returns.

        A write or flush may wait for :meth:`kick`.
        """
        if not self._plain or (
            self._buckets
            and work.operation in RANGED
            and self._under_way.blocks(work.offset, work.nbytes, work.operation == WRITE)
        ):
            self._begin(work)
        elif self._at_once(work):
            work.stage = Stage.ENDED
            work.done(work)
        else:
            self._own(work)
            if work.operation in RANGED:
                work.writes = work.operation == WRITE
                self._under_way.enter(work)
            self._to_threads(work)

    def kick(self) -> None:
        """Start what was collected, at the end of a batch of submits. Costs nothing when there is nothing."""
        if self._batch and not self._batch_runs:
            self._start_batch()

    # -- at once -------------------------------------------------------------------------------------------

    def _at_once(self, work: Work) -> bool:
        """Do what cannot block and return True, with status and count set; False: it needs a thread."""
        return _AT_ONCE.get(work.operation, Executor._unknown_at_once)(self, work)

    def _read_at_once(self, work: Work) -> bool:
        try:
            count = self._try(work.buffers, work.offset)
        except OSError:
            return False
        if count != work.nbytes:
            return False
        work.count = count
        return True

    def _write_at_once(self, work: Work) -> bool:
        if self.failed and not self._cached:
            work.status = WireErrno.EIO
            return True
        if work.nbytes > self._inline_write:
            return False
        pace = self._pace
        if pace is None:
            self._write(work)
            return True
        started = self._clock()
        if not (pace.quick or pace.again(started)):
            return False
        self._write(work)
        pace.measured(started, self._clock())
        return True

    def _flush_at_once(self, work: Work) -> bool:
        if self.failed:
            work.status = WireErrno.EIO
            return True
        return self._idle_flush

    def _unknown_at_once(self, work: Work) -> bool:
        work.status = WireErrno.ENOTSUP
        return True

    # -- the long way --------------------------------------------------------------------------------------

    def _begin(self, work: Work) -> None:
        self._own(work)
        if self._closing:
            work.stage = Stage.PARKED
            return
        if work.operation in RANGED:
            work.writes = work.operation == WRITE
            if self._under_way.enter(work):
                work.stage = Stage.BLOCKED
                return
        self._hold(work)
        self._release()

    def _own(self, work: Work) -> None:
        self.pending += 1
        self._owned.setdefault(work.port, set()).add(work)

    def _hold(self, work: Work) -> None:
        delay = 0.0 if self._closing else self._layers.delay(work.operation)
        if delay:
            work.stage = Stage.DELAYED
            self._timers[work] = self._loop.call_later(delay, self._delayed, work)
        else:
            self._go_on(work)

    def _delayed(self, work: Work) -> None:
        del self._timers[work]
        self._go_on(work)
        self._settle()

    def _go_on(self, work: Work) -> None:
        if self._layers.paused:
            work.stage = Stage.PAUSED
            self._paused.append(work)
            if self._pause_timer is None:
                self._pause_timer = self._loop.call_later(PAUSE_POLL_S, self._look_whether_paused)
        else:
            self._launch(work)

    def _look_whether_paused(self) -> None:
        self._pause_timer = None
        paused, self._paused = self._paused, []
        for work in paused:
            self._go_on(work)
        self._settle()

    def _launch(self, work: Work) -> None:
        fault = self._layers.fault(work.operation)
        if fault:
            work.status = to_wire(fault)
            if work.operation == FLUSH:
                self._flush_failed(OSError(fault, "injected by the error layer"))
            self._end(work)
        elif self._at_once(work):
            self._end(work)
        else:
            self._to_threads(work)

    def _to_threads(self, work: Work) -> None:
        if work.operation == READ or (work.operation == WRITE and self._cached):
            work.stage = Stage.RUNNING
            self._running += 1
            self._pool.submit(self._run, work)
        else:
            work.stage = Stage.BATCHED
            self._batch.append(work)

    def _start_batch(self) -> None:
        batch, self._batch = self._batch, []
        if self.failed:
            for work in batch:
                work.status = WireErrno.EIO
                self._end(work)
            self._settle()
            return
        self._batch_runs = True
        fault = 0
        for work in batch:
            work.stage = Stage.RUNNING
            fault |= work.operation == WRITE
        self._running += len(batch)
        fault = fault and self._layers.fault(FLUSH)
        self._pool.submit(self._run_batch, batch, fault)

    # -- in threads ----------------------------------------------------------------------------------------

    def _run(self, work: Work) -> None:
        if work.operation == READ:
            self._read(work)
        else:
            self._write(work)
        self._hand_back([work], None, batch=False)

    def _run_batch(self, batch: list[Work], fault: int) -> None:
        for work in batch:
            if work.operation == WRITE:
                self._write(work)
        failure = OSError(fault, "injected by the error layer") if fault else None
        try:
            self._backend.flush()
        except OSError as error:
            failure = error
        except Exception as error:
            log.exception("%s: flush", self._name)
            failure = OSError(errno.EIO, str(error))
        self._hand_back(batch, failure, batch=True)

    def _read(self, work: Work) -> None:
        self._transfer(work, self._backend.preadv)

    def _write(self, work: Work) -> None:
        self._transfer(work, self._backend.pwritev)

    def _transfer(self, work: Work, transfer: Callable[[Sequence[memoryview], int], None]) -> None:
        """Run in the loop for writes at once, else in a thread. Nothing but a status ever comes out of it."""
        try:
            transfer(work.buffers, work.offset)
        except OSError as error:
            work.status = to_wire(error.errno or errno.EIO)
            level = logging.DEBUG if self.errors else logging.WARNING  # the first is news
            log.log(
                level, "%s: %d bytes at %d: %s", self._name, work.nbytes, work.offset, error.strerror or error
            )
            self.errors += 1
        except Exception:
            work.status = WireErrno.EIO
            log.exception("%s: %d bytes at %d", self._name, work.nbytes, work.offset)
        else:
            work.count = work.nbytes

    def _hand_back(self, works: list[Work], failure: OSError | None, *, batch: bool) -> None:
        self._finished.append((works, failure, batch))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._collect)

    # -- out -----------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take over what threads have done. The flag falls first: what comes after it wakes us again."""
        self._woken = False
        while self._finished:
            works, failure, batch = self._finished.popleft()
            self._running -= len(works)
            if batch:
                self._batch_runs = False
            if failure is not None:
                self._flush_failed(failure)
            for work in works:
                if failure is not None and not work.status:
                    work.status = to_wire(failure.errno or errno.EIO)
                    work.count = 0
                self._end(work)
        self._settle()

    def _flush_failed(self, failure: OSError) -> None:
        if not self.failed:
            log.error("%s: flush failed, and will until the server is started again: %s", self._name, failure)
        self.failed = True

    def _end(self, work: Work) -> None:
        """Forget ``work`` and tell its owner; who calls this calls :meth:`_settle` in the end."""
        self.pending -= 1
        owned = self._owned[work.port]
        owned.discard(work)
        if not owned:
            del self._owned[work.port]
        entered = work.operation in RANGED and work.stage is not Stage.PARKED
        work.stage = Stage.ENDED
        if work.blockers:  # others count on its waiting: it leaves in its turn
            work.stage = Stage.GAVE_UP
            work.buffers = []
        elif entered:
            self._free.extend(self._under_way.leave(work))
        try:
            work.done(work)
        except Exception:
            log.exception("%s: the owner of a request failed", self._name)

    def _release(self) -> None:
        """Let go on what waited for what has ended: a loop, since a chain may be long."""
        if self._settling:
            return
        self._settling = True
        while self._free:
            work = self._free.popleft()
            if work.stage is Stage.GAVE_UP:
                self._free.extend(self._under_way.leave(work))
            elif work.stage is Stage.BLOCKED:
                self._hold(work)
        self._settling = False

    def _settle(self) -> None:
        self._release()
        self.kick()
        for reached, drained in self._drains:
            if not drained.done() and reached():
                drained.set_result(None)

    # -- the end -------------------------------------------------------------------------------------------

    async def drain(self, port: Hashable = None) -> None:
        """Wait until nothing is pending; with ``port``, nothing of this owner.

        What the owner has not begun is dropped (``cancelled``), so that this takes no longer than what a
        thread does now. Without ``port`` all of it is executed, delays cut short.
        """
        if port is None:
            self._hurry()
            await self._until(lambda: not self.pending)
        else:
            for work in list(self._owned.get(port, ())):
                self._cancel(work)
            await self._until(lambda: port not in self._owned)

    async def stop(self) -> int:
        """End this executor and return how many requests are left without an answer; they are in no thread.

        Nothing is begun any more; what has begun ends, delays are cut short. Left are those that came since,
        and those that the pause layer holds: :meth:`drain` of their owners drops them.
        """
        self._closing = True
        self._plain = False
        self._fast = _never
        self._fast_write = 0
        self._hurry()
        await self._until(lambda: not (self._running or self._batch))
        return self.pending

    async def flush(self) -> int:
        """Make every write done so far stable and return the status; without a cache all are."""
        work = Work(FLUSH)
        if self._flush_at_once(work) or not self._cached:
            return work.status
        flushed: asyncio.Future[None] = self._loop.create_future()

        def done(work: Work) -> None:
            if not flushed.done():
                flushed.set_result(None)

        work.done = done
        self._own(work)
        work.stage = Stage.BATCHED
        self._batch.append(work)
        self.kick()
        await flushed
        return work.status

    def _hurry(self) -> None:
        for work in list(self._timers):
            self._timers.pop(work).cancel()
            self._go_on(work)
        self._settle()

    def _cancel(self, work: Work) -> None:
        if work.stage is Stage.RUNNING:
            return
        if work.stage is Stage.DELAYED:
            self._timers.pop(work).cancel()
        elif work.stage is Stage.PAUSED:
            self._paused.remove(work)
        elif work.stage is Stage.BATCHED:
            self._batch.remove(work)
        work.cancelled = True
        work.status = WireErrno.ECANCELED
        self._end(work)

    async def _until(self, reached: Callable[[], bool]) -> None:
        drained: asyncio.Future[None] = self._loop.create_future()
        entry = (reached, drained)
        self._drains.append(entry)
        try:
            self._settle()
            await drained
        finally:
            self._drains.remove(entry)


_AT_ONCE: Final[Mapping[int, Callable[[Executor, Work], bool]]] = {
    READ: Executor._read_at_once,
    WRITE: Executor._write_at_once,
    FLUSH: Executor._flush_at_once,
}
