"""What a configuration had to do, and how people call it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.pages.text import size

__all__ = ["Load"]

_PATTERNS = {
    "read": "sequential read",
    "write": "sequential write",
    "rw": "sequential {} % read",
    "randread": "random read",
    "randwrite": "random write",
    "randrw": "random {} % read",
}
_USUAL = re.compile(
    r"^(seq|rand)(read|write|rw)\d*-\d+[km]-\d+"
)  # whatever a name says beyond it is worth saying


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A workload on some disks: two rounds are of the same load if all of it is equal.

    ``pattern`` is fio's word (``randread``), ``rate`` is what is due in a second, ``None`` in a closed loop.
    """

    workload: str
    pattern: str
    block_size: int
    depth: int
    disks: int = 1
    rate: float | None = None
    reads: int | None = None  # percent, of a mixture

    @property
    def family(self) -> str:
        """What it does, whatever the depth: ``4 KiB random read``, with more than one disk their number."""
        return self.kind + (f", {self.disks} disks" if self.disks > 1 else "")

    @property
    def kind(self) -> str:
        """What it does, whatever the depth and the number of disks: ``4 KiB random read``."""
        note = _USUAL.sub("", self.workload).strip("- ")
        what = _PATTERNS[self.pattern].format(self.reads)
        return f"{size(self.block_size)} {what}" + (f", {note}" if note else "")

    @property
    def each(self) -> str:
        """What it does to each disk, whatever their number: ``4 KiB random read, depth 32``."""
        pace = f"depth {self.depth}" if self.rate is None else f"at {self.rate:,.10g} a second"
        return f"{self.kind}, {pace}"

    @property
    def title(self) -> str:
        """All of it: ``4 KiB random read, depth 32, 4 disks``."""
        return self.each + (f", {self.disks} disks" if self.disks > 1 else "")
