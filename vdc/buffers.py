"""The data buffers a disk shares with its server: one arena, cut into power-of-two chunks of pages.

A chunk belongs to one request at a time, or to a caller's :class:`Buffer` until that is released. The arena
is the back-pressure of large transfers: no room means that the request waits, never that it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from protocol.ldc.cookie import PAGE_SHIFT, PAGE_SIZE

__all__ = ["Arena", "Buffer"]


class Arena:
    """Hands out chunks of ``size`` bytes of memory, by offset; a buddy allocator that merges only when it
    must.

    ``size`` is a multiple of the page size (8 KiB). A chunk is a power of two of pages. ``pages`` are the
    free chunks of one page: the data path takes and gives those itself.
    """

    __slots__ = ("_free", "_orders", "pages", "size")

    def __init__(self, size: int) -> None:
        pages = size >> PAGE_SHIFT
        self.size = pages << PAGE_SHIFT
        self._orders = pages.bit_length()
        self._free: list[list[int]] = [[] for _ in range(self._orders)]  # offsets, by class
        self.pages = self._free[0]
        offset = 0
        for order in reversed(range(self._orders)):
            if pages >> order & 1:
                self._free[order].append(offset)
                offset += PAGE_SIZE << order

    @staticmethod
    def order_of(nbytes: int) -> int:
        """The chunk class that holds ``nbytes`` (> 0): 0 is one page, 1 is two."""
        return ((nbytes - 1) >> PAGE_SHIFT).bit_length()

    def take(self, order: int) -> int:
        """A chunk's offset in bytes, or -1 when there is no room now."""
        try:
            return self._free[order].pop()
        except IndexError:
            return self._split(order)

    def give(self, offset: int, order: int) -> None:
        """Take a chunk back; ``order`` must be the one it was taken with."""
        self._free[order].append(offset)

    def _split(self, order: int) -> int:
        if order >= self._orders:
            return -1
        larger = self._larger(order)
        if larger < 0:
            self._merge()
            larger = self._larger(order - 1)
            if larger < 0:
                return -1
        offset = self._free[larger].pop()
        for half in reversed(range(order, larger)):
            self._free[half].append(offset + (PAGE_SIZE << half))
        return offset

    def _larger(self, order: int) -> int:
        """The smallest class above ``order`` that has a free chunk, or -1."""
        return next((n for n in range(order + 1, self._orders) if self._free[n]), -1)

    def _merge(self) -> None:
        """Join free neighbours; rare, so that giving a chunk back stays one append."""
        for order in range(self._orders - 1):
            size = PAGE_SIZE << order
            chunks = set(self._free[order])
            joined = [offset for offset in chunks if not offset & size and offset + size in chunks]
            for offset in joined:
                chunks.discard(offset)
                chunks.discard(offset + size)
            self._free[order][:] = sorted(chunks)
            self._free[order + 1].extend(joined)


class Buffer:
    """Memory shared with the server, for transfers without a copy.

    ``view`` is writable and belongs to the caller, except while a request with this buffer is in flight.
    Release it, or use it as a context manager: the room it takes is missing to others.
    """

    __slots__ = ("_holds", "_release", "_released", "memory", "offset", "view")

    def __init__(self, memory: object, view: memoryview, offset: int, release: Callable[[], None]) -> None:
        self.memory = memory
        self.view = view
        self.offset = offset
        self._release: Callable[[], None] | None = release
        self._holds = 1
        self._released = False

    def __len__(self) -> int:
        return len(self.view)

    def hold(self) -> None:
        """A request uses the memory: it is given back no sooner than :meth:`drop`."""
        self._holds += 1

    def drop(self) -> None:
        """The request is done with the memory."""
        self._holds -= 1
        if not self._holds and self._release is not None:
            release, self._release = self._release, None
            self.view.release()
            release()

    def release(self) -> None:
        """Give the memory back; harmless when done twice. ``view`` must not be used afterwards."""
        if not self._released:
            self._released = True
            self.drop()

    def __enter__(self) -> Buffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
