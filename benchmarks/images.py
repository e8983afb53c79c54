"""The files that are served: filled beforehand, so that reading them costs what reading data costs."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.workload import KiB, MiB

__all__ = ["fill"]


def fill(path: Path, size: int, seed: int) -> None:
    """Write ``size`` bytes of blocks that all differ, so that an answer from the wrong place is noticed."""
    base = random.Random(f"{seed} fill").randbytes(MiB + 64 * KiB)
    with path.open("wb") as file:
        for number in range(0, size, MiB):
            shift = number // MiB % (64 * KiB)
            file.write(base[shift : shift + min(MiB, size - number)])
