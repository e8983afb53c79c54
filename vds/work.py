"""One request on its way through the executor."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Final

from protocol.vdisk.operations import Operation

__all__ = ["FLUSH", "RANGED", "READ", "WRITE", "Stage", "Work"]

READ: Final = int(Operation.BREAD)  # plain ints compare faster
WRITE: Final = int(Operation.BWRITE)
FLUSH: Final = int(Operation.FLUSH)
RANGED: Final = frozenset({READ, WRITE})


class Stage(Enum):
    """Where a request stands. All but RUNNING can be dropped without touching the backend."""

    NEW = auto()
    PARKED = auto()  # came while the server stops
    BLOCKED = auto()  # waits for a request that it overlaps
    DELAYED = auto()  # waits for the delay layer
    PAUSED = auto()  # waits for the pause layer
    BATCHED = auto()  # waits for the next write batch or flush
    RUNNING = auto()  # in a worker thread
    GAVE_UP = auto()  # ``done`` was called while it was BLOCKED
    ENDED = auto()  # ``done`` was called


def _nobody(work: Work) -> None:
    """Until the owner says who wants to know."""


class Work:
    """A request for the executor, validated, on a private copy. The owner fills it in, then submits it once.

    ``operation`` is BREAD, BWRITE or FLUSH; ``offset`` and ``nbytes`` are bytes of the backend, inside it;
    ``buffers`` have together exactly ``nbytes`` and are lent until ``done``. ``port`` is the owner as
    :meth:`~vds.execute.Executor.drain` knows it; ``index`` and ``batch`` are the owner's own.

    When ``done`` is called, ``status`` is the wire's errno (0: success) and ``count`` the bytes transferred.
    ``cancelled`` says that it never ran: its owner is gone or the server stops.
    """

    __slots__ = (
        "batch",
        "blockers",
        "buffers",
        "cancelled",
        "count",
        "done",
        "index",
        "nbytes",
        "offset",
        "operation",
        "port",
        "stage",
        "status",
        "waiters",
        "writes",
    )

    def __init__(self, operation: int, *, index: int = -1, batch: int | None = None) -> None:
        self.operation = operation
        self.offset = 0
        self.nbytes = 0
        self.buffers: list[memoryview] = []
        self.port: Hashable = None
        self.index = index
        self.batch = batch
        self.done: Callable[[Work], None] = _nobody
        self.status = 0
        self.count = 0
        self.cancelled = False
        self.stage = Stage.NEW
        self.writes = False
        self.blockers = 0
        self.waiters: list[Work] = []
