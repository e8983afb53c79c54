"""From a validated request to the backend and back: in which order, and when.

Theory of operation. Everything but the backend's blocking calls happens in the event loop's thread, so
nothing here is locked. A request that cannot block, is alone on its range and meets no layer is done inside
:meth:`Executor.submit`. Every other one goes this way, and may be dropped at each step before the last:

    BLOCKED (by a request it overlaps) → DELAYED → PAUSED → done at once, or
      → RUNNING in a thread: a read, or a write with a volatile write cache, each a job of its own
      → BATCHED: without such a cache, all writes that :meth:`kick` finds, one job that writes each and then
        flushes once; flushes join it. One batch runs at a time, what comes meanwhile is the next one.

How it is done at once is in :mod:`vds.inline`, how in threads in :mod:`vds.workers`, and what becomes of it
in :mod:`vds.medium`.

Source: Solaris vds.c, vd_bio_task.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Final

from protocol.vdisk.status import WireErrno, to_wire
from vds.inline import Inline
from vds.medium import Medium
from vds.overlap import UnderWay
from vds.work import FLUSH, RANGED, READ, WRITE, Stage, Work
from vds.workers import Workers

if TYPE_CHECKING:
    from vds.export import Export

__all__ = ["Executor"]

PAUSE_POLL_S: Final = 0.01
"""How often a paused volume looks whether it goes on."""

log = logging.getLogger("vds")


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
        self.medium = medium = Medium(export.name, export.backend, cached=export.write_cache)
        self._under_way: UnderWay[Work] = UnderWay()
        self._buckets = self._under_way.buckets
        self._plain = not export.layers.options.any
        self.inline = inline = Inline(medium, self._under_way, plain=self._plain, clock=clock)
        self._at_once = inline.attempt
        self._workers = Workers(medium, pool, loop, end=self._end, settle=self._settle)
        self._layers = export.layers
        self._loop = loop
        self._owned: dict[Hashable, set[Work]] = {}
        self._free: deque[Work] = deque()  # blocked no more, to go on
        self._settling = False
        self._timers: dict[Work, asyncio.TimerHandle] = {}
        self._paused: list[Work] = []
        self._pause_timer: asyncio.TimerHandle | None = None
        self._batch: list[Work] = []
        self._closing = False
        self._drains: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # -- in ------------------------------------------------------------------------------------------------

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
        if self._batch and not self._workers.has_batch:
            self._start_batch()

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
                self.medium.flush_failed(OSError(fault, "injected by the error layer"))
            self._end(work)
        elif self._at_once(work):
            self._end(work)
        else:
            self._to_threads(work)

    def _to_threads(self, work: Work) -> None:
        if work.operation == READ or (work.operation == WRITE and self.medium.cached):
            work.stage = Stage.RUNNING
            self._workers.begin(work)
        else:
            work.stage = Stage.BATCHED
            self._batch.append(work)

    def _start_batch(self) -> None:
        batch, self._batch = self._batch, []
        if self.medium.failed:
            for work in batch:
                work.status = WireErrno.EIO
                self._end(work)
            self._settle()
            return
        fault = 0
        for work in batch:
            work.stage = Stage.RUNNING
            fault |= work.operation == WRITE
        self._workers.begin_batch(batch, fault and self._layers.fault(FLUSH))

    # -- out -----------------------------------------------------------------------------------------------

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
            log.exception("%s: the owner of a request failed", self.medium.name)

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
        self.inline.close()
        self._hurry()
        await self._until(lambda: not (self._workers.running or self._batch))
        return self.pending

    async def flush(self) -> int:
        """Make every write done so far stable and return the status; without a cache all are."""
        work = Work(FLUSH)
        if self._at_once(work) or not self.medium.cached:
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
