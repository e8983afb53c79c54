"""Waiting for something outside this process to come true; the limit is for what hangs, nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

__all__ = ["more_written", "wait_until"]

LIMIT_S = 30.0
STEP_S = 0.005


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Look until ``holds()``. Raises: TimeoutError naming ``what``."""
    pause = threading.Event()
    end = monotonic() + LIMIT_S
    while not holds():
        if monotonic() > end:
            raise TimeoutError(f"waited {LIMIT_S:g} s for {what}")
        pause.wait(STEP_S)


def more_written(pid: int, nbytes: int) -> Callable[[], bool]:
    """A condition: process ``pid`` has written ``nbytes`` more than now, as the kernel counts its calls."""

    def written() -> int:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(fields["wchar"])

    floor = written() + nbytes
    return lambda: written() >= floor
