"""Data messages of one session: their numbers, the ring they name, and one answer for each in order.

An open range has several answers, each of which tells a piece of it; the pieces are checked as by the client.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from protocol.errors import RemoteProtocolError
from protocol.vdisk.descriptor import INBAND
from protocol.vio.dring import MAX_DESCRIPTORS, RingGeometry
from protocol.vio.messages import (
    OPEN_ENDED,
    DoorbellLayout,
    DringDataLayout,
    Envelope,
    ProcState,
    Subtype,
)
from protocol.vio.ranges import ClientRange
from protocol.vio.sequence import RequestSequence

from .lines import Line, duration, remark, say, warn
from .message import is_doorbell
from .request import Ask, ask_of_message
from .rules import Rule
from .structure import Values, values_of

__all__ = ["DataWatch", "Pending", "Piece"]

MAX_PENDING: Final = MAX_DESCRIPTORS
"""Messages remembered until they are answered: no client can have more requests outstanding."""

_COUNT_MASK: Final = 0xFFFF_FFFF  # doorbells count modulo 2**32
_MAX_ADVANCE: Final = MAX_DESCRIPTORS * 1024
"""What a count of completions may grow by from one doorbell to the next; more is one that runs backwards."""


class Piece(NamedTuple):
    """What an answer that is not the last one tells of an open range: ``length`` entries, or none."""

    start_idx: int
    length: int

    def has(self, index: int, ring: RingGeometry) -> bool:
        """Say whether entry ``index`` is told."""
        return (index - self.start_idx) % ring.num_descriptors < self.length


class Pending(NamedTuple):
    """A data message that is not answered yet: its entries, or what it asks for in-band.

    ``pieces`` is how far an open range is told, None for a range with an end; ``piece`` what an answer tells
    of it that is not the last one.
    """

    seq_num: int
    time_ns: int
    start_idx: int
    end_idx: int
    ask: Ask | None = None
    pieces: ClientRange | None = None
    piece: Piece | None = None


class DataWatch:
    """The data messages of a session; ``ident`` is its ring's, None if it is not known.

    After :meth:`question` and :meth:`answer`, ``pending`` is the message that was asked or answered, None for
    a doorbell or if there is no such message.
    """

    def __init__(self, *, is_known: bool) -> None:
        """``is_known``: the session is seen from its beginning."""
        self.ident: int | None = None
        self._is_known: Final = is_known
        self.is_polled = False
        self.pending: Pending | None = None
        self._requests: Final = RequestSequence()
        self._queue: Final[OrderedDict[int, Pending]] = OrderedDict()  # by number, oldest first
        self._answered: int | None = None  # number of the last answer
        self._opened: int | None = None  # number of the last open range
        self._counts: Final = [0, 0]  # completions told by client and server

    def find(self, seq_num: int) -> Pending | None:
        """Return the message ``seq_num`` if it is not answered yet."""
        return self._queue.get(seq_num)

    def _ask(self, pending: Pending) -> None:
        if len(self._queue) >= MAX_PENDING:
            self._queue.popitem(last=False)
        self._queue[pending.seq_num] = self.pending = pending

    # -- from the client -------------------------------------------------------------------------------------

    def question(
        self, message: bytes, envelope: int, time_ns: int, ring: RingGeometry | None
    ) -> Iterator[Line]:
        """Take a message of the client; yield what is wrong with it."""
        self.pending = None
        if envelope == Envelope.DESC_DATA and len(message) >= INBAND.size:
            values = dict(zip(INBAND.fields, INBAND.unpack_from(message), strict=False))
            yield from self._request_number(values["seq_num"])
            ask = ask_of_message(message)._replace(cookies=())  # as little as will do
            self._ask(Pending(values["seq_num"], time_ns, 0, 0, ask))
        elif envelope == Envelope.DRING_DATA and len(message) >= DringDataLayout.size:
            values = values_of(DoorbellLayout, message)
            yield from self._request_number(values["seq_num"])
            yield from self._place(values, ring)
            if is_doorbell(message):
                self.is_polled = True
                yield from self._completions(0, values)
            else:
                yield from self._range(values, time_ns)

    def _range(self, values: Values, time_ns: int) -> Iterator[Line]:
        """Take a message about entries; the client sends none while a range of its own is open."""
        seq_num, start, end = values["seq_num"], values["start_idx"], values["end_idx"]
        if self._opened in self._queue:
            yield warn(Rule.OPEN_RANGE, f"the range of message {self._opened} has not stopped")
        pieces = None
        if end == OPEN_ENDED:
            self._opened = seq_num
            pieces = ClientRange()
            pieces.open(seq_num, start)
        self._ask(Pending(seq_num, time_ns, start, end, pieces=pieces))

    def _request_number(self, seq_num: int) -> Iterator[Line]:
        try:
            self._requests.check(seq_num)
        except RemoteProtocolError as error:
            yield warn(Rule.REQUEST_NUMBER, error.reason)
            self._requests.last = seq_num

    def _place(self, values: Values, ring: RingGeometry | None) -> Iterator[Line]:
        """Check which entries of which ring a message is about."""
        if self.ident is not None and values["dring_ident"] != self.ident:
            yield warn(Rule.IDENT, f"ring {values['dring_ident']}, registered is {self.ident}")
        start, end = values["start_idx"], values["end_idx"]
        if ring is not None:
            try:
                ring.check_range(start, start if end == OPEN_ENDED else end)
            except RemoteProtocolError as error:
                yield warn(Rule.RANGE, error.reason)

    def _completions(self, end: int, values: Values) -> Iterator[Line]:
        told, self._counts[end] = self._counts[end], values["completions"]
        if (values["completions"] - told) & _COUNT_MASK > _MAX_ADVANCE and self._is_known:
            yield warn(Rule.DOORBELL, f"{values['completions']} completions, {told} before")

    # -- from the server -------------------------------------------------------------------------------------

    def answer(
        self, message: bytes, envelope: int, subtype: int, time_ns: int, ring: RingGeometry | None
    ) -> Iterator[Line]:
        """Take an answer of the server; yield what is wrong with it."""
        self.pending = None
        if envelope == Envelope.DESC_DATA and len(message) >= INBAND.size:
            values = dict(zip(INBAND.fields, INBAND.unpack_from(message), strict=False))
            yield from self._answer_number(values["seq_num"], time_ns)
        elif envelope == Envelope.DRING_DATA and len(message) >= DringDataLayout.size:
            values = values_of(DoorbellLayout, message)
            yield from self._place(values, ring)
            if self._opened in self._queue or not (self.is_polled or is_doorbell(message)):
                yield from self._answer_number(values["seq_num"], time_ns)
                if subtype == Subtype.ACK:
                    yield from self._told(values, ring)
            elif subtype == Subtype.ACK:
                yield from self._server_doorbell(values)

    def _told(self, values: Values, ring: RingGeometry | None) -> Iterator[Line]:
        """Take an answer, if it is one to an open range: the next piece, and others follow unless STOPPED."""
        pending = self.pending
        if pending is None or pending.pieces is None:
            return
        pieces = pending.pieces
        start, end, state = values["start_idx"], values["end_idx"], values["proc_state"]
        length = 0
        if ring is not None:
            try:
                length = ring.span(start, end) if pieces.answered(start, end, ring) else 0
            except RemoteProtocolError as error:
                yield warn(Rule.OPEN_RANGE, error.reason)
                pieces.next_idx = (end + 1) % max(1, ring.num_descriptors)
            else:
                yield say(f"tells entries {start} to {end}" if length else "tells no entry")
        if state == ProcState.ACTIVE:
            yield say("the server goes on looking")
            self.pending = pending._replace(piece=Piece(start, length))
            self._queue[pending.seq_num] = pending
            self._queue.move_to_end(pending.seq_num, last=False)
        elif state == ProcState.STOPPED:
            yield say("the server looks no more")
        else:
            yield warn(Rule.OPEN_RANGE, f"the processing state is {state}")

    def _server_doorbell(self, values: Values) -> Iterator[Line]:
        self.is_polled = True
        last = self._requests.last or 0
        if self._is_known and values["seq_num"] > last:
            yield warn(Rule.DOORBELL, f"doorbell {values['seq_num']} is answered, {last} sent")
        elif values["seq_num"] < last:
            yield remark(f"crosses doorbell {last} of the client, and says nothing any more")
        yield from self._completions(1, values)

    def _answer_number(self, seq_num: int, time_ns: int) -> Iterator[Line]:
        before, self._answered = self._answered, seq_num
        oldest = next(iter(self._queue.values()), None)
        if seq_num in self._queue:
            self.pending = self._queue.pop(seq_num)
            if oldest is not None and seq_num != oldest.seq_num:
                yield warn(Rule.ANSWER_NUMBER, f"answer {seq_num} before that of message {oldest.seq_num}")
        elif not self._is_known:
            return
        elif oldest is None:
            yield warn(Rule.ANSWER_NUMBER, f"answer {seq_num}, all messages are answered")
            return
        elif seq_num == (before or 0) + 1:
            yield remark(f"answer {seq_num} is that of message {oldest.seq_num} (OpenBSD counts answers)")
            self.pending = self._queue.pop(oldest.seq_num)
        else:
            yield warn(Rule.ANSWER_NUMBER, f"answer {seq_num}, message {oldest.seq_num} waits for one")
            return
        yield say(f"answers message {self.pending.seq_num} after {duration(time_ns - self.pending.time_ns)}")
