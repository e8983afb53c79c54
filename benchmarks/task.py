"""What one client process is told to do, and what it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["Task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the worker is told. ``files`` are the backends', to check the data against, if there are any."""

    uris: list[str]  # one for each disk
    api: str  # async or blocking
    loop: str  # of the async API: asyncio or uvloop
    poll_us: int
    pool: bool  # shared buffers instead of bytes objects
    workload: str
    seconds: float
    warmup: float
    seed: str
    pids: dict[str, int]  # side → process, of all sides but the client
    files: list[str]
    rate: float | None = None  # requests due a second, of all disks together; None: a closed loop
    verify: bool = False

    def to_json(self) -> str:
        """The line that :mod:`benchmarks.worker` reads."""
        return json.dumps(asdict(self))
