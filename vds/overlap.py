"""Requests under way and their ranges: those that overlap, one of them a write, run one after the other.

Ranges are kept in buckets of the disk, so that a look-up costs the same however many requests are under way
elsewhere. Order is the order of arrival: a request waits for everything before it that it collides with, also
for what waits itself. Only requests that do not end at once are entered; nothing under way costs one look at
an empty dict.

A look-up goes back from the latest request and ends at a write that covers the whole range: that one waits
for all older ones that matter. So any number of requests for one place costs one step each, not one for each
pair.
"""

from __future__ import annotations

from typing import Final, Generic, Protocol, Self, TypeVar

__all__ = ["Ranged", "UnderWay"]

BUCKET_SHIFT: Final = 20
"""1 MiB, the longest request: a range is in one bucket or two."""


class Ranged(Protocol):
    """What is entered: a range of the disk, and room for who waits for whom."""

    offset: int
    nbytes: int
    writes: bool
    blockers: int
    """How many requests this one waits for."""

    @property
    def waiters(self) -> list[Self]:
        """Who waits for this one."""


T = TypeVar("T", bound=Ranged)


class UnderWay(Generic[T]):
    """The requests of one disk that have begun and not ended."""

    def __init__(self) -> None:
        self.buckets: dict[int, dict[T, None]] = {}
        """Empty exactly when nothing is under way; the hot path looks at this."""

    def blocks(self, offset: int, nbytes: int, writes: bool) -> bool:
        """Tell whether a request of this range would have to wait."""
        end = offset + nbytes
        for number in _buckets(offset, end):
            for other in self.buckets.get(number, ()):
                if (writes or other.writes) and other.offset < end and offset < other.offset + other.nbytes:
                    return True
        return False

    def enter(self, request: T) -> bool:
        """Enter ``request`` and return whether it has to wait, until :meth:`leave` returns it.

        One that gives up waiting stays entered until then, for those that count on its waiting for others.
        """
        offset, end, writes = request.offset, request.offset + request.nbytes, request.writes
        numbers = _buckets(offset, end)
        blockers: set[T] = set()
        for number in numbers:
            bucket = self.buckets.setdefault(number, {})
            for other in reversed(bucket):
                other_end = other.offset + other.nbytes
                if (writes or other.writes) and other.offset < end and offset < other_end:
                    blockers.add(other)
                    if other.writes and other.offset <= offset and end <= other_end:
                        break
            bucket[request] = None
        for other in blockers:
            other.waiters.append(request)
        request.blockers = len(blockers)
        return bool(blockers)

    def leave(self, request: T) -> list[T]:
        """Take ``request`` out and return those that waited for nothing else, in order of arrival."""
        for number in _buckets(request.offset, request.offset + request.nbytes):
            bucket = self.buckets[number]
            del bucket[request]
            if not bucket:
                del self.buckets[number]
        free = []
        for waiter in request.waiters:
            waiter.blockers -= 1
            if not waiter.blockers:
                free.append(waiter)
        request.waiters.clear()
        return free


def _buckets(offset: int, end: int) -> range:
    return range(offset >> BUCKET_SHIFT, (end - 1 >> BUCKET_SHIFT) + 1)
