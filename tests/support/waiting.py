"""Waiting for something outside this process to come true; the limit is for what hangs, nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

__all__ = ["more_written", "still", "wait_until"]

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

    floor = _written(pid) + nbytes
    return lambda: _written(pid) >= floor


def still(pid: int, looks: int = 20) -> Callable[[], bool]:
    """A condition: process ``pid`` has written nothing for so many looks in a row."""
    last, unchanged = -1, 0

    def is_still() -> bool:
        nonlocal last, unchanged
        now = _written(pid)
        unchanged = unchanged + 1 if now == last else 0
        last = now
        return unchanged >= looks

    return is_still


def _written(pid: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])
