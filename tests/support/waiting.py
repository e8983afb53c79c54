"""Waiting for something outside this process to come true; the limit is for what hangs, nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

__all__ = ["bytes_written", "wait_until"]

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


def bytes_written(pid: int) -> int:
    """Bytes that process ``pid`` has written by system calls, as the kernel counts them."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])
