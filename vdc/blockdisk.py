"""What a front end needs of a disk, as a structural type: it and its tests know nothing else of the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

__all__ = ["BlockDisk", "Done", "ReadDone"]

ReadDone: TypeAlias = "Callable[[bytes | bytearray | memoryview | None, OSError | None], None]"
"""Called once with data or error. A ``memoryview`` is valid during the call only; all else may be kept."""

Done: TypeAlias = "Callable[[None, OSError | None], None]"
"""Called once; the error is ``None`` when all went well."""


class BlockDisk(Protocol):
    """A disk with a callback for each request: no future and no task stands between a front end and the ring.

    Offsets and lengths are bytes, multiples of ``block_size`` and inside ``size``. Lengths may exceed what
    one request of the wire can carry: the disk splits them. The callback runs in the loop's thread, possibly
    before the ``submit_`` method returns, and gets every failure of the request. What the disk as it is now
    cannot do (it may have shrunk or become read-only) raises ValueError or OSError instead.
    """

    @property
    def size(self) -> int:
        """Bytes, a multiple of ``block_size``."""

    @property
    def block_size(self) -> int:
        """Bytes of one logical block, a power of two."""

    @property
    def read_only(self) -> bool:
        """Writes would be refused."""

    @property
    def volume(self) -> str:
        """The volume's name at the server."""

    def submit_read(self, offset: int, nbytes: int, callback: ReadDone) -> None:
        """Read ``nbytes`` at ``offset``."""

    def submit_write(self, offset: int, data: bytes | bytearray | memoryview, callback: Done) -> None:
        """Write ``data`` at ``offset``; it must not change before the callback."""

    def submit_flush(self, callback: Done) -> None:
        """Put every write completed before this call on stable storage."""
