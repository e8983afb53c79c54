"""What one client process is told to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["Task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the worker is told. ``file`` is the backend's, to check the data against, if there is one."""

    uri: str
    api: str  # async or blocking
    loop: str  # of the async API: asyncio or uvloop
    poll_us: int
    pool: bool  # shared buffers instead of bytes objects
    workloads: list[str]
    seconds: float
    warmup: float
    seed: int
    server_pid: int
    file: str | None

    def to_json(self) -> str:
        """The line that :mod:`benchmarks.worker` reads."""
        return json.dumps(asdict(self))
