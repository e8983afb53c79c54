"""The server's answers: exactly one for each message, in the order of the messages.

A client such as Solaris vdc demands rising numbers in the answers and resets the connection otherwise, while
requests finish in any order; so a finished one waits here for those before it.
Source: Solaris vdc.c, vdc_verify_seq_num; vds.c, vd_complete_notify (one serial completion queue).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from protocol.errors import Layer, LocalProtocolError, Reaction, RingError

from .messages import Subtype, echo

__all__ = ["AnswerQueue"]


class _Pending:
    """One request message: what it waits for, as a rule descriptors, and its answer once that is known."""

    __slots__ = ("answer", "message", "waiting")

    def __init__(self, message: bytes, waiting: set[object], answer: bytes | None = None) -> None:
        self.message = message
        self.waiting = waiting
        self.answer = answer


class AnswerQueue:
    """The server's answers, exactly one per message, in the order of the messages.

    A message is known by its batch number from :meth:`open` until it was answered.
    """

    def __init__(self) -> None:
        self._queue: Final[deque[tuple[int, _Pending]]] = deque()
        self._pending: Final[dict[int, _Pending]] = {}
        self._batch = 0
        self._descriptors = 0  # in progress, over all messages

    def __len__(self) -> int:
        """Return how many messages are unanswered."""
        return len(self._queue)

    def open(self, message: bytes, indices: Sequence[int], limit: int) -> int:
        """Note a request for the descriptors ``indices`` and return its batch number.

        ``limit`` is how many descriptors there are. It bounds both, since one short message may name every
        entry of a ring. Raises: RingError (as many messages are unanswered already, or more descriptors
        would be in progress): NACK and full reset.
        """
        if len(self._queue) >= limit:
            raise RingError(Layer.VIO, Reaction.RESET, f"{limit} messages are unanswered already")
        if self._descriptors + len(indices) > limit:
            raise RingError(Layer.VIO, Reaction.RESET, f"more than {limit} descriptors in progress")
        self._batch += 1
        self._descriptors += len(indices)
        pending = _Pending(message, set(indices))
        self._queue.append((self._batch, pending))
        self._pending[self._batch] = pending
        return self._batch

    def message(self, batch: int) -> bytes:
        """Return the message of ``batch``. Raises: LocalProtocolError (no such batch unanswered)."""
        return self._of(batch).message

    def complete(self, batch: int, index: int) -> None:
        """Descriptor ``index`` is done; after its last one the message is acknowledged.

        Raises: LocalProtocolError (no such batch; not a descriptor of it, or complete already).
        """
        pending = self._of(batch)
        if index not in pending.waiting:
            raise LocalProtocolError(Layer.VIO, f"descriptor {index} of batch {batch} is not in progress")
        pending.waiting.remove(index)
        self._descriptors -= 1
        if not pending.waiting and pending.answer is None:
            pending.answer = echo(pending.message, Subtype.ACK)

    def complete_run(self, batch: int, indices: Collection[int]) -> None:
        """As :meth:`complete`, for several different descriptors at once."""
        pending = self._of(batch)
        if not pending.waiting.issuperset(indices):
            raise LocalProtocolError(Layer.VIO, f"not all of {indices} of batch {batch} are in progress")
        pending.waiting.difference_update(indices)
        self._descriptors -= len(indices)
        if not pending.waiting and pending.answer is None:
            pending.answer = echo(pending.message, Subtype.ACK)

    def answer(self, batch: int, index: int, answer: bytes) -> None:
        """Descriptor ``index`` decides: ``answer`` it is, once the others in progress are done.

        Raises: LocalProtocolError (no such batch).
        """
        pending = self._of(batch)
        if index in pending.waiting:
            pending.waiting.remove(index)
            self._descriptors -= 1
        pending.answer = answer

    def append(self, answer: bytes) -> None:
        """Put ``answer`` after those of all messages so far."""
        self._queue.append((0, _Pending(b"", set(), answer)))

    def ready(self) -> Iterator[bytes]:
        """Yield, and forget, the answers whose turn has come."""
        queue = self._queue
        while queue and queue[0][1].answer is not None and not queue[0][1].waiting:
            batch, pending = queue.popleft()
            self._pending.pop(batch, None)
            yield pending.answer or b""

    def drained(self) -> Iterator[bytes]:
        """Yield what answers there are, in order, and forget everything: nothing is in progress any more."""
        answers = [pending.answer for _, pending in self._queue if pending.answer is not None]
        self._queue.clear()
        self._pending.clear()
        self._descriptors = 0
        yield from answers

    def _of(self, batch: int) -> _Pending:
        pending = self._pending.get(batch)
        if pending is None:
            raise LocalProtocolError(Layer.VIO, f"no batch {batch} is unanswered")
        return pending
