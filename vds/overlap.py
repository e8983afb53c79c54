"""Requests under way and their ranges: those that overlap, one of them a write, run one after the other.

Ranges are kept in buckets of the disk, so that a look-up costs the same however many requests are under way
elsewhere. Order is the order of arrival: a request waits for everything before it that it collides with, also
for what waits itself. Only requests that do not end at once are entered; nothing under way costs one look at
an empty dict.
"""

from __future__ import annotations

from typing import Final, Protocol

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
    waiters: list[Ranged]
    """Who waits for this one."""


class UnderWay:
    """The requests of one disk that have begun and not ended."""

    def __init__(self) -> None:
        self.buckets: dict[int, list[Ranged]] = {}
        """Empty exactly when nothing is under way; the hot path looks at this."""

    def blocks(self, offset: int, nbytes: int, writes: bool) -> bool:
        """Tell whether a request of this range would have to wait."""
        end = offset + nbytes
        for number in range(offset >> BUCKET_SHIFT, (end - 1 >> BUCKET_SHIFT) + 1):
            for other in self.buckets.get(number, ()):
                if (writes or other.writes) and other.offset < end and offset < other.offset + other.nbytes:
                    return True
        return False

    def enter(self, request: Ranged) -> bool:
        """Enter ``request`` and return whether it has to wait, until :meth:`leave` returns it."""
        offset, end, writes = request.offset, request.offset + request.nbytes, request.writes
        for number in range(offset >> BUCKET_SHIFT, (end - 1 >> BUCKET_SHIFT) + 1):
            bucket = self.buckets.setdefault(number, [])
            for other in bucket:
                if (
                    (writes or other.writes)
                    and other.offset < end
                    and offset < other.offset + other.nbytes
                    and request not in other.waiters
                ):
                    other.waiters.append(request)
                    request.blockers += 1
            bucket.append(request)
        return request.blockers > 0

    def leave(self, request: Ranged) -> list[Ranged]:
        """Take ``request`` out, whether it ran or gives up waiting; return those that waited for nothing
        else.
        """
        last = request.offset + request.nbytes - 1
        for number in range(request.offset >> BUCKET_SHIFT, (last >> BUCKET_SHIFT) + 1):
            bucket = self.buckets[number]
            bucket.remove(request)
            if request.blockers:  # it gave up waiting
                for other in bucket:
                    if request in other.waiters:
                        other.waiters.remove(request)
            if not bucket:
                del self.buckets[number]
        request.blockers = 0
        free = []
        for waiter in request.waiters:
            waiter.blockers -= 1
            if not waiter.blockers:
                free.append(waiter)
        request.waiters = []
        return free
