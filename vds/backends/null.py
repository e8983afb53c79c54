"""``null:SIZE``: reads zeros, forgets writes. It shows what everything but the backend costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, Final

from vds.backends.base import Backend, Spec
from vds.units import parse_size

__all__ = ["NullBackend"]

_ZEROS: Final = memoryview(bytes(256 * 1024))


class NullBackend(Backend):
    """As large as asked for, and empty. Each start is another instance."""

    kind: ClassVar[str] = "null"
    never_blocks: ClassVar[bool] = True

    def __init__(self, spec: Spec) -> None:
        """Open ``spec.target``, a size. Raises: ValueError (not a size, or less than a block)."""
        self.block_size = 512
        self.size = memory_size(spec.target)
        self.read_only = spec.read_only
        self.instance = os.urandom(16)

    def try_preadv(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Zero ``buffers``."""
        count = 0
        for buffer in buffers:
            nbytes = len(buffer)
            for at in range(0, nbytes, len(_ZEROS)):
                part = min(len(_ZEROS), nbytes - at)
                buffer[at : at + part] = _ZEROS[:part]
            count += nbytes
        return count

    def preadv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Zero ``buffers``."""
        self.try_preadv(buffers, offset)

    def pwritev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Forget ``buffers``."""

    def flush(self) -> None:
        """There is nothing to lose."""

    def close(self) -> None:
        """There is nothing to give back."""


def memory_size(target: str) -> int:
    """Return the size of a backend that is not a file, a multiple of 512.

    Raises: ValueError (not a size, or less than a block).
    """
    size = parse_size(target)
    if size < 512:
        raise ValueError("a disk has at least 512 bytes")
    return size - size % 512
