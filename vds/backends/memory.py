"""``memory:SIZE``: a disk that is gone when the server is. Zeros at first, allocated when written."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import ClassVar

from vds.backends.base import Backend, Spec
from vds.backends.null import memory_size

__all__ = ["MemoryBackend"]


class MemoryBackend(Backend):
    """Anonymous memory. Each start is another instance."""

    kind: ClassVar[str] = "memory"
    never_blocks: ClassVar[bool] = True

    def __init__(self, spec: Spec) -> None:
        """Open ``spec.target``, a size. Raises: ValueError (not a size, or less than a block); OSError
        (ENOMEM).
        """
        self.block_size = 512
        self.size = memory_size(spec.target)
        self.read_only = spec.read_only
        self.instance = os.urandom(16)
        try:
            self._map = mmap.mmap(-1, self.size)
        except (OverflowError, OSError) as error:
            raise ValueError("so much memory is not to be had") from error
        self._view = memoryview(self._map)

    def try_preadv(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Copy the range into ``buffers``."""
        start = offset
        view = self._view
        for buffer in buffers:
            end = offset + len(buffer)
            buffer[:] = view[offset:end]
            offset = end
        return offset - start

    def preadv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Copy the range into ``buffers``."""
        self.try_preadv(buffers, offset)

    def pwritev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Copy ``buffers`` into the range."""
        view = self._view
        for buffer in buffers:
            end = offset + len(buffer)
            view[offset:end] = buffer
            offset = end

    def flush(self) -> None:
        """Memory has nothing more stable than itself."""

    def close(self) -> None:
        """Free the memory, and with it the data."""
        self._view.release()
        self._map.close()
