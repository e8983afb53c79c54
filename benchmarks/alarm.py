"""Waking up when a request is due: a Linux timer descriptor in the event loop.

An event loop's own timers are too coarse: uvloop's have whole milliseconds, in which ten requests may be due.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
from itertools import count
from time import perf_counter_ns
from types import TracebackType

__all__ = ["Alarm"]

_CLOCK_MONOTONIC = 1  # what perf_counter_ns reads on Linux
_TFD_TIMER_ABSTIME = 1
_NS = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """Source: Linux timerfd_create(2), struct itimerspec: interval, then the first expiry."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Wakes any number of coroutines, each at its own time of ``perf_counter_ns``."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"timerfd_create: {os.strerror(number)}")

    def __enter__(self) -> Alarm:
        self._loop.add_reader(self._fd, self._expired)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def until(self, when: int) -> None:
        """Sleep until ``when``; return at once if that is past."""
        if when <= perf_counter_ns():
            return
        future: asyncio.Future[None] = self._loop.create_future()
        entry = (when, next(self._order), future)
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._set(when)
        await future

    def _set(self, when: int) -> None:
        spec = _TimerSpec(0, 0, when // _NS, when % _NS)
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            number = ctypes.get_errno()
            raise OSError(number, f"timerfd_settime: {os.strerror(number)}")

    def _expired(self) -> None:
        os.read(self._fd, 8)
        now = perf_counter_ns()
        while self._waiting and self._waiting[0][0] <= now:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)
        if self._waiting:
            self._set(self._waiting[0][0])
