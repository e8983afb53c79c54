"""The interface of a backend; everything above it sees nothing else of a file or device.

Two ways lead to the data. ``preadv``, ``pwritev`` and ``flush`` may block and are called from worker threads,
several at once; they do all that was asked or raise OSError. ``try_preadv`` never blocks and is called from
the event loop; it may do nothing, and then the caller takes the other way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Backend", "Spec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How a volume's backend is to be opened."""

    target: str
    """What follows the ``kind:`` in the configuration: a path, a size."""
    read_only: bool = False
    direct: bool = False
    """Bypass the page cache (O_DIRECT)."""
    share: bool = False
    """Other writers that said the same are welcome."""
    block_size: int | None = None
    """The block size asked for, or None for the backend's own."""


class Backend(ABC):
    """An array of bytes. Made by :func:`~vds.backends.registry.open_backend`; :meth:`close` ends it.

    Callers pass ranges inside ``size`` only, and buffers that hold together exactly the bytes of the range.
    """

    kind: ClassVar[str]
    """One word for people: ``file``, ``device``, ``memory``, ``null``."""
    never_blocks: ClassVar[bool] = False
    """Whether reads, writes and flush are all as quick as a copy in memory, so that no thread is needed."""

    size: int
    """Bytes, a multiple of ``block_size``."""
    block_size: int
    """The smallest unit this backend transfers; a disk's blocks are as large, or larger."""
    read_only: bool
    instance: bytes
    """16 bytes that stay the same as long as it is the same data, also over a restart of the server."""
    quick_writes: bool = True
    """Whether a short write usually ends in memory, so that it is worth trying without a thread."""

    @abstractmethod
    def preadv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill ``buffers`` from ``offset``. Raises: OSError (EIO also when the backend ends early)."""

    @abstractmethod
    def pwritev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Write all of ``buffers`` at ``offset``. Raises: OSError; any part of the range may have changed
        then.
        """

    @abstractmethod
    def flush(self) -> None:
        """Make everything written before this call stable. Raises: OSError; what was not stable may be lost
        then.
        """

    @abstractmethod
    def try_preadv(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Read without blocking and return how many bytes came: fewer than asked, or -1, if it would block.

        Raises: OSError; the caller then asks :meth:`preadv`, whose word counts.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back; nothing runs any more. Harmless when done twice."""
