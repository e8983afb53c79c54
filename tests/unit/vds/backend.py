"""A backend that the test holds in its hands: every call is noted, may be held up, may fail."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import ClassVar

from vds.backends.base import Backend

LIMIT_S = 10.0
"""A test that holds a call longer has failed."""


class HeldBackend(Backend):
    """Bytes in memory. ``gate`` cleared holds up every call in its thread, ``begun`` counts the calls.

    ``calls`` has an entry for each call that went through: ``read 0+512``, ``write 512+512``, ``flush``.
    ``failures`` maps the first word to what is raised. ``cached``: whether ``try_preadv`` finds anything.
    """

    kind: ClassVar[str] = "held"

    def __init__(self, size: int = 1 << 20) -> None:
        self.size = size
        self.block_size = 512
        self.read_only = False
        self.instance = bytes(16)
        self.data = bytearray(size)
        self.calls: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.cached = False
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)

    def preadv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Copy out."""
        self._enter("read", buffers, offset)
        for buffer in buffers:
            buffer[:] = self.data[offset : offset + len(buffer)]
            offset += len(buffer)

    def pwritev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Copy in."""
        self._enter("write", buffers, offset)
        for buffer in buffers:
            self.data[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def flush(self) -> None:
        """Only note it."""
        self._enter("flush", (), 0)

    def try_preadv(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Copy out if ``cached``."""
        if not self.cached:
            return -1
        self.preadv(buffers, offset)
        return sum(map(len, buffers))

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def wait_begun(self, count: int = 1) -> None:
        """Wait until so many more calls have come in."""
        for _ in range(count):
            assert self.begun.acquire(timeout=LIMIT_S)

    def _enter(self, word: str, buffers: Sequence[memoryview], offset: int) -> None:
        self.begun.release()
        assert self.gate.wait(LIMIT_S)
        nbytes = sum(map(len, buffers))
        self.calls.append(f"{word} {offset}+{nbytes}" if word != "flush" else word)
        if word in self.failures:
            raise self.failures[word]
