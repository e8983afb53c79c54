"""What is measured: block size, depth, share of reads, and where on the disk each request goes.

Places are made before the clock starts, from a seed, and used in turn, so that the generator costs one step
of an iterator. A place is the byte offset of a request, plus 1 when it is a write: offsets are even.
"""

from __future__ import annotations

import random
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

__all__ = ["FULL", "QUICK", "KiB", "MiB", "Workload", "parse_workload", "places"]

KiB = 1024
MiB = 1024 * KiB

PLACES = 1 << 19
"""Draws of a random workload before they repeat: with 4 KiB they reach 86 % of 1 GiB, as fio reaches all of
it. Fewer would leave more of the disk's memory in the processor's cache than a peer has there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table: ``depth`` requests of ``block_size`` bytes, ``reads`` percent of them reads."""

    reads: int
    sequential: bool
    block_size: int
    depth: int

    @property
    def write(self) -> bool:
        """Whether nothing is read."""
        return self.reads == 0

    @property
    def mixed(self) -> bool:
        """Whether some are reads and some are writes."""
        return 0 < self.reads < 100

    @property
    def name(self) -> str:
        """For example ``randread-4k-32`` or, seven reads to three writes, ``randrw70-4k-32``."""
        size = f"{self.block_size // MiB}m" if self.block_size >= MiB else f"{self.block_size // KiB}k"
        order = "seq" if self.sequential else "rand"
        way = f"rw{self.reads}" if self.mixed else "write" if self.write else "read"
        return f"{order}{way}-{size}-{self.depth}"

    @property
    def title(self) -> str:
        """For example ``4 KiB random read, depth 32``."""
        size = f"{self.block_size // MiB} MiB" if self.block_size >= MiB else f"{self.block_size // KiB} KiB"
        order = "sequential" if self.sequential else "random"
        way = f"{self.reads} % read" if self.mixed else "write" if self.write else "read"
        return f"{size} {order} {way}, depth {self.depth}"

    @property
    def fio_rw(self) -> str:
        """fio's word for it."""
        way = "rw" if self.mixed else "write" if self.write else "read"
        return way if self.sequential else f"rand{way}"


def _both(block_size: int, *depths: int, sequential: bool = False) -> list[Workload]:
    return [
        Workload(reads=reads, sequential=sequential, block_size=block_size, depth=depth)
        for reads in (100, 0)
        for depth in depths
    ]


_MIXED = Workload(reads=70, sequential=False, block_size=4 * KiB, depth=32)
FULL = (*_both(4 * KiB, 1, 8, 32, 64), _MIXED, *_both(64 * KiB, 16), *_both(MiB, 4, sequential=True))
QUICK = (*_both(4 * KiB, 1, 32), *_both(64 * KiB, 16), *_both(MiB, 4, sequential=True))

_NAME = re.compile(r"(seq|rand)(read|write|rw([1-9][0-9]?))-([1-9][0-9]*)([km])-([1-9][0-9]*)")


def parse_workload(name: str) -> Workload:
    """The workload of a :attr:`Workload.name`.

    Raises: ValueError (not such a name).
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not like randread-4k-32, randrw70-4k-32 or seqwrite-1m-4")
    order, direction, percent, size, unit, depth = match.groups()
    return Workload(
        reads=int(percent) if percent else 100 if direction == "read" else 0,
        sequential=order == "seq",
        block_size=int(size) * (KiB if unit == "k" else MiB),
        depth=int(depth),
    )


def places(workload: Workload, disk_size: int, seed: int | str) -> Iterator[int]:
    """Endless places, the same for the same ``seed``: multiples of the block size, plus 1 for a write.

    Random ones are drawn evenly and with repetition, as fio draws them with ``norandommap``.

    Raises: ValueError (the disk does not hold one block for every request in flight).
    """
    blocks = disk_size // workload.block_size
    if blocks < workload.depth:
        raise ValueError(f"{disk_size} bytes are too few for {workload.name}")
    dice = random.Random(f"{seed} {workload.name}")
    draws: Sequence[int] = range(blocks)
    if not workload.sequential:
        draws = array("Q", dice.randbytes(8 * min(PLACES, 16 * blocks)))  # 64 bits: no block is favoured
    made = array("Q", (draw % blocks * workload.block_size for draw in draws))
    if workload.mixed:
        share = workload.reads / 100
        made = array("Q", (place + (dice.random() >= share) for place in made))
    elif workload.write:
        made = array("Q", (place + 1 for place in made))
    return chain.from_iterable(repeat(made))
