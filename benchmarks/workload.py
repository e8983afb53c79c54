"""What is measured: block size, depth, direction, and where on the disk each request goes.

Offsets are made before the clock starts, from a seed, and used in turn, so that the generator costs one
list access.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

__all__ = ["FULL", "QUICK", "KiB", "MiB", "Workload", "offsets", "parse_workload"]

KiB = 1024
MiB = 1024 * KiB

OFFSETS = (
    1 << 16
)  # distinct places of a random workload; more than any ring, small enough to stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table: ``depth`` requests of ``block_size`` bytes always in flight."""

    write: bool
    sequential: bool
    block_size: int
    depth: int

    @property
    def name(self) -> str:
        """For example ``randread-4k-32``."""
        size = f"{self.block_size // MiB}m" if self.block_size >= MiB else f"{self.block_size // KiB}k"
        order = "seq" if self.sequential else "rand"
        return f"{order}{'write' if self.write else 'read'}-{size}-{self.depth}"

    @property
    def title(self) -> str:
        """For example ``4 KiB random read, depth 32``."""
        size = f"{self.block_size // MiB} MiB" if self.block_size >= MiB else f"{self.block_size // KiB} KiB"
        order = "sequential" if self.sequential else "random"
        return f"{size} {order} {'write' if self.write else 'read'}, depth {self.depth}"


def _both(block_size: int, *depths: int, sequential: bool = False) -> list[Workload]:
    return [
        Workload(write=write, sequential=sequential, block_size=block_size, depth=depth)
        for write in (False, True)
        for depth in depths
    ]


FULL = (*_both(4 * KiB, 1, 8, 32, 64), *_both(64 * KiB, 16), *_both(MiB, 4, sequential=True))
QUICK = (*_both(4 * KiB, 1, 32), *_both(64 * KiB, 16), *_both(MiB, 4, sequential=True))

_NAME = re.compile(r"(seq|rand)(read|write)-([1-9][0-9]*)([km])-([1-9][0-9]*)")


def parse_workload(name: str) -> Workload:
    """The workload of a :attr:`Workload.name`.

    Raises: ValueError (not such a name).
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not like randread-4k-32 or seqwrite-1m-4")
    order, direction, size, unit, depth = match.groups()
    return Workload(
        write=direction == "write",
        sequential=order == "seq",
        block_size=int(size) * (KiB if unit == "k" else MiB),
        depth=int(depth),
    )


def offsets(workload: Workload, disk_size: int, seed: int) -> Iterator[int]:
    """Endless byte offsets, multiples of the block size; the same for the same ``seed``.

    Raises: ValueError (the disk does not hold one block for every request in flight).
    """
    blocks = disk_size // workload.block_size
    if blocks < workload.depth:
        raise ValueError(f"{disk_size} bytes are too few for {workload.name}")
    if workload.sequential:
        return cycle(range(0, blocks * workload.block_size, workload.block_size))
    dice = random.Random(f"{seed} {workload.name}")
    return cycle([dice.randrange(blocks) * workload.block_size for _ in range(min(OFFSETS, 16 * blocks))])
