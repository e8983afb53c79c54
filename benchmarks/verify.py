"""Whether a read gave what was written: every 512 bytes of a disk are tagged, and a ledger knows what they
may say.

A tag names the run, the disk, the block and the block's generation: how often it has been written. The
ledger of a disk counts the generations of each of its units (a unit is one request long): those begun and
those completed. A read must find its unit whole, of one generation, no older than the last one completed
when the read began and no newer than the last one begun when it ended. Two writes of one unit are never in
flight together, since then either may come last.
"""

from __future__ import annotations

import hashlib
import struct
from array import array

__all__ = ["BLOCK", "Ledger"]

BLOCK = 512
_TAG = struct.Struct("<16sIIQQ24x")  # run, disk, spare, block, generation
_TAGS = BLOCK // _TAG.size
_GENERATION = struct.Struct("<Q")
_GENERATION_AT = 32


class Ledger:
    """What one disk may hold. ``run`` is anything that no earlier user of the disk had."""

    def __init__(self, run: str, disk: int, size: int, unit: int) -> None:
        self.unit = unit
        self.units = size // unit
        self.errors = 0
        self.first_error: str | None = None
        self._run = hashlib.sha256(run.encode()).digest()[:16]
        self._disk = disk
        self._begun = array("Q", bytes(8 * self.units))
        self._completed = array("Q", bytes(8 * self.units))

    def content(self, offset: int, generation: int) -> bytes:
        """What the unit at ``offset`` holds in its ``generation``."""
        first = offset // BLOCK
        return b"".join(
            _TAG.pack(self._run, self._disk, 0, block, generation) * _TAGS
            for block in range(first, first + self.unit // BLOCK)
        )

    def begin_write(self, offset: int) -> tuple[int, bytes]:
        """A unit to write and its new content: the one at ``offset``, or the next that is not being written.

        Raises: RuntimeError (all are).
        """
        first = offset // self.unit
        for step in range(self.units):
            number = (first + step) % self.units
            if self._begun[number] == self._completed[number]:
                self._begun[number] += 1
                return number * self.unit, self.content(number * self.unit, self._begun[number])
        raise RuntimeError("more writes in flight than the disk has units")

    def end_write(self, offset: int) -> None:
        """The write of the unit at ``offset`` was answered."""
        number = offset // self.unit
        self._completed[number] = self._begun[number]

    def begin_read(self, offset: int) -> int:
        """The oldest generation that a read of the unit at ``offset``, begun now, may find."""
        return self._completed[offset // self.unit]

    def end_read(self, offset: int, oldest: int, data: bytes | memoryview) -> None:
        """Check the answer of a read; a wrong one is counted."""
        newest = self._begun[offset // self.unit]
        if len(data) == self.unit:
            (found,) = _GENERATION.unpack_from(data, _GENERATION_AT)
            if oldest <= found <= newest and data == self.content(offset, found):
                return
        self.errors += 1
        if self.first_error is None:
            self.first_error = self._describe(offset, oldest, newest, bytes(data))

    def _describe(self, offset: int, oldest: int, newest: int, data: bytes) -> str:
        where = f"disk {self._disk}, {self.unit} bytes at {offset}, generation {oldest} to {newest} expected"
        if len(data) != self.unit:
            return f"{where}: {len(data)} bytes came"
        for at in range(0, self.unit, BLOCK):
            run, disk, _, block, generation = _TAG.unpack_from(data, at)
            good = _TAG.pack(self._run, self._disk, 0, (offset + at) // BLOCK, generation) * _TAGS
            if data[at : at + BLOCK] != good or not oldest <= generation <= newest:
                whose = "this run" if run == self._run else "another run, or no tag"
                return (
                    f"{where}: at {offset + at} disk {disk}, block {block}, generation {generation}, {whose}"
                )
        return f"{where}: its blocks are of several generations"
