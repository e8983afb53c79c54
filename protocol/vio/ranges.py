"""Open-ended ranges (:attr:`~protocol.vio.extensions.Extension.OPEN_RANGES`): who looks at the ring, how far.

Theory of operation. A DRING_DATA whose ``end_idx`` is -1 says "from ``start_idx`` on, until an entry is not
READY". The server takes entries in ring order and may answer several times with the number of the message.
Each answer tells the next piece of the range: ``start_idx`` is the first entry that no answer has told yet,
``end_idx`` the last one processed. With no entry to tell, both are the entry before; so an empty range is
one that has stopped at once. ``proc_state`` ACTIVE says that the server goes on looking, STOPPED that it
does not, and then the message has all its answers.

No wake-up is lost: the server stops at an entry that it found not READY, and says which; the client announces
what it has filled there or later, once it has heard STOPPED. Until then it has nothing to announce, as the
server looks, or is about to say that it does not. The client fills an entry again only after an answer told
of it; so no piece is longer than the ring.
Source: FWARC 2010/054, DRING_DATA, processing state; Solaris vnet_gen.c, vgen_send_dring_ack, whose clients
look at ``end_idx`` alone; Linux sunvnet_common.c, vnet_walk_rx, for the pieces and the range without entries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from protocol.errors import Layer, LocalProtocolError, Reaction, RingError

from .answers import AnswerQueue
from .dring import RingGeometry
from .messages import DringDataLayout, ProcState, Subtype

__all__ = ["ClientRange", "RangeQueue"]

_DRING_DATA: Final = DringDataLayout.codec
_ACTIVE: Final = int(ProcState.ACTIVE)
_STOPPED: Final = int(ProcState.STOPPED)

_LOOKING: Final = "looking"
"""What an open range waits for besides its descriptors: that the server stops."""


class _OpenRange:
    """What the server has done of one range; the counts are entries from ``start`` on."""

    __slots__ = ("_settled", "_start", "_told", "geometry", "taken")

    def __init__(self, start: int, geometry: RingGeometry) -> None:
        self.geometry: Final = geometry
        self._start: Final = start
        self._told = 0  # told by answers
        self._settled = 0  # complete, with all before them
        self.taken = 0

    @property
    def next_index(self) -> int:
        """The entry to be taken next."""
        return self._index(self.taken)

    @property
    def is_full(self) -> bool:
        """As many entries were taken and not told as there are: the next one cannot be the client's."""
        return self.taken - self._told >= self.geometry.num_descriptors

    def settle(self, waiting: Collection[object]) -> bool:
        """Note what is complete; says whether there is something to tell."""
        while self._settled < self.taken and self._index(self._settled) not in waiting:
            self._settled += 1
        return self._settled > self._told

    def progress(self, message: bytes) -> bytes:
        """Return the answer that tells what has settled."""
        return self._tell(message, self._settled, _ACTIVE)

    def stop(self, message: bytes) -> bytes:
        """Return the answer that tells all that was taken, to be sent when it is complete."""
        return self._tell(message, self.taken, _STOPPED)

    def _tell(self, message: bytes, count: int, state: int) -> bytes:
        first = min(self._told, count - 1)
        self._told = count
        msgtype, _, envelope, sid, seq_num, ident, _, _, _ = _DRING_DATA.unpack_from(message)
        piece = self._index(first), self._index(count - 1)
        return _DRING_DATA.pack(msgtype, Subtype.ACK, envelope, sid, seq_num, ident, *piece, state)

    def _index(self, count: int) -> int:
        return (self._start + count) % self.geometry.num_descriptors


class RangeQueue(AnswerQueue):
    """The server's answers, where a message may be an open range and have several."""

    def __init__(self) -> None:
        super().__init__()
        self._ranges: Final[dict[int, _OpenRange]] = {}  # by batch; those that have not stopped

    def open_ended(self, message: bytes, start: int, geometry: RingGeometry) -> int:
        """Note a request for entries from ``start`` on and return its batch number.

        Raises: RingError (as many messages as descriptors are unanswered already): NACK and full reset.
        """
        batch = self.open(message, (), geometry.num_descriptors)
        self._of(batch).waiting.add(_LOOKING)
        self._ranges[batch] = _OpenRange(start, geometry)
        return batch

    def taken(self, batch: int, index: int) -> None:
        """Entry ``index``, the next one of the range, is in progress.

        Raises: LocalProtocolError (no open range, or not its next entry); RingError (an entry in progress or
            not told of was handed over again): NACK with its index and full reset.
        """
        open_range = self._range(batch)
        if index != open_range.next_index:
            raise LocalProtocolError(Layer.VIO, f"next comes descriptor {open_range.next_index}, not {index}")
        if open_range.is_full or self._descriptors >= open_range.geometry.num_descriptors:
            raise RingError(Layer.VIO, Reaction.RESET, f"descriptor {index} is READY before it was answered")
        open_range.taken += 1
        self._descriptors += 1
        self._of(batch).waiting.add(index)

    def progress(self, batch: int) -> bytes | None:
        """Return the answer that tells what is complete; None if there is nothing new, or it is not its turn.

        Raises: LocalProtocolError (no open range).
        """
        open_range = self._range(batch)
        pending = self._of(batch)
        if self._queue[0][1] is not pending or not open_range.settle(pending.waiting):
            return None
        return open_range.progress(pending.message)

    def stop(self, batch: int) -> None:
        """No more entries are taken; the last answer is due when those in progress are complete.

        Raises: LocalProtocolError (no open range).
        """
        open_range = self._range(batch)
        pending = self._of(batch)
        pending.answer = open_range.stop(pending.message)
        self._close(batch)

    def answer(self, batch: int, index: int, answer: bytes) -> None:
        """As for any message; an open range takes no more entries.

        If it is full, an ``index`` that was READY again stands for the one in progress as well, which is
        still waited for.
        """
        open_range = self._ranges.get(batch)
        if open_range is not None:
            self._close(batch)
            if open_range.is_full and index == open_range.next_index:
                self._of(batch).answer = answer
                return
        super().answer(batch, index, answer)

    def drained(self) -> Iterator[bytes]:
        """As for any message."""
        self._ranges.clear()
        return super().drained()

    def _close(self, batch: int) -> None:
        del self._ranges[batch]
        self._of(batch).waiting.remove(_LOOKING)

    def _range(self, batch: int) -> _OpenRange:
        open_range = self._ranges.get(batch)
        if open_range is None:
            raise LocalProtocolError(Layer.VIO, f"batch {batch} is no range that is open")
        return open_range


class ClientRange:
    """The client's open range: at most one, the last message sent; ``seq_num`` is its number, or None."""

    __slots__ = ("next_idx", "seq_num")

    def __init__(self) -> None:
        self.seq_num: int | None = None
        self.next_idx = 0  # the first entry that no answer has told

    def open(self, seq_num: int, start_idx: int) -> None:
        """The message was sent."""
        self.seq_num = seq_num
        self.next_idx = start_idx

    def answered(self, start_idx: int, end_idx: int, geometry: RingGeometry) -> bool:
        """Take the piece that an answer tells; says whether there is an entry in it.

        Raises: RingError (an index outside the ring; not the next piece): reset.
        """
        geometry.check_range(start_idx, end_idx)
        if start_idx == self.next_idx:
            self.next_idx = (end_idx + 1) % geometry.num_descriptors
            return True
        if start_idx == end_idx == (self.next_idx - 1) % geometry.num_descriptors:
            return False
        raise RingError(
            Layer.VIO, Reaction.RESET, f"descriptors {start_idx} to {end_idx}, next comes {self.next_idx}"
        )
