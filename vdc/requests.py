"""Requests a disk has not answered yet: what they carry, and the table that survives a lost server.

The table is the client's alone. Nothing in it is ever read back from memory that the server can write, so
whatever a server did before it died, what was unanswered is known, with its order and its data.

Source: Solaris vdc.c, ``vdc_backup_local_dring`` and ``vdc_resubmit_backup_dring``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from protocol.errors import DiskError
from protocol.vdisk.operations import SLICE_NONE

from .buffers import Buffer

__all__ = ["Finish", "Request", "RequestTable"]

Finish = Callable[["Request", "DiskError | None"], None]
"""Called once, with the request and its error; a read's data is in its place by then."""


class Request:
    """One descriptor's worth of work, from submission to its single answer.

    ``source`` is what a write sends and is kept until the answer, since it may have to be sent again. A read
    goes ``into`` the caller's memory, or else its data becomes ``result``. ``buffer`` is shared memory of
    the caller's that takes the place of either; without one the session lends a chunk at ``offset``, of
    class ``order``. ``context`` is whatever ``finish`` needs.
    """

    __slots__ = (
        "addr",
        "buffer",
        "context",
        "finish",
        "into",
        "nbytes",
        "offset",
        "operation",
        "order",
        "result",
        "source",
        "token",
    )

    def __init__(
        self,
        operation: int,
        addr: int,
        nbytes: int,
        finish: Finish,
        context: Any = None,  # noqa: ANN401 - only ``finish`` knows what it is
        source: bytes | memoryview | None = None,
        into: memoryview | None = None,
        buffer: Buffer | None = None,
    ) -> None:
        self.operation = operation
        self.addr = addr
        self.nbytes = nbytes
        self.finish = finish
        self.context = context
        self.source = source
        self.into = into
        self.buffer = buffer
        self.result: bytes | None = None
        self.token = -1  # place in the order of submission
        self.offset = -1
        self.order = -1  # no chunk was lent
        if buffer is not None:
            buffer.hold()

    def error(self, errno: int) -> DiskError:
        """This request's failure with a Linux ``errno``."""
        return DiskError(errno, self.operation, slice=SLICE_NONE, addr=self.addr, nbytes=self.nbytes)

    def end(self, error: DiskError | None) -> None:
        """Give the one answer and let go of the caller's memory."""
        self.finish(self, error)
        if self.buffer is not None:
            self.buffer.drop()
            self.buffer = None

    def detach(self) -> None:
        """The caller stopped waiting: touch its memory no more, and keep a copy of what is written."""
        self.into = None
        if self.source is not None:
            self.source = memoryview(bytes(self.source))


class RequestTable:
    """Everything unanswered: what waits for a place in the ring, and what the server has.

    Slots are filled in ring order, as a polled ring requires; a slot is free again when its request was
    answered.
    """

    __slots__ = ("head", "outstanding", "resubmitted", "slots", "submitted", "tail", "unanswered", "waiting")

    def __init__(self) -> None:
        self.slots: list[Request | None] = []
        self.waiting: deque[Request] = deque()
        self.head = 0  # the next slot to fill
        self.tail = 0  # the oldest slot that may be unanswered
        self.outstanding = 0  # filled slots
        self.submitted = 0  # requests ever; gives each its place
        self.unanswered = 0  # of those waiting, how many a lost server had
        self.resubmitted = 0  # requests ever sent a second time

    def __len__(self) -> int:
        return self.outstanding + len(self.waiting)

    def number(self, request: Request) -> None:
        """Give a new request its place in the order of submission."""
        request.token = self.submitted
        self.submitted += 1

    def begin(self, nslots: int) -> None:
        """Start with an empty ring of ``nslots``; the requests of the last one were taken back before."""
        self.slots = [None] * nslots
        self.head = self.tail = self.outstanding = 0

    def take_back(self) -> None:
        """A connection is gone: what the server had waits again, oldest first."""
        unanswered = sorted(filter(None, self.slots), key=_age)
        for request in unanswered:
            request.order = -1
        self.waiting.extendleft(reversed(unanswered))
        self.begin(0)
        self.unanswered += len(unanswered)

    def resume(self) -> int:
        """A connection is there again: returns how many requests go to a server for the second time."""
        again, self.unanswered = self.unanswered, 0
        self.resubmitted += again
        return again

    def drain(self) -> Iterator[Request]:
        """Take out everything that waits, oldest first; whoever asks answers it."""
        self.unanswered = 0
        while self.waiting:
            yield self.waiting.popleft()


def _age(request: Request) -> int:
    return request.token
