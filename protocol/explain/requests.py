"""Requests from the moment they are handed over until they are answered, as the notes of a capture tell.

At a client a request is SUBMITTED and ANSWERED, at a server TAKEN and FINISHED; in-band it is in the messages
themselves. What was open when a session ended is lost; a server still finishes it, a client submits it again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Final, NamedTuple, TypeAlias

from protocol.capture import Direction, How, Note, NoteKind
from protocol.vio.dring import ENTRY_STEPS, MAX_DESCRIPTORS, Dstate, EntryStep, RingGeometry

from .data import Pending
from .lines import Line, duration, remark, say, warn
from .request import (
    Ask,
    ask_of_entry,
    ask_of_message,
    explain_entry,
    explain_refusal,
    explain_result,
)
from .rules import Rule
from .session import SessionWatch
from .structure import status_words
from .tally import Tally

__all__ = ["Ledger", "RequestWatch", "note_title"]

MAX_OUTSTANDING: Final = MAX_DESCRIPTORS
"""Requests remembered: over all channels, to be known when submitted again, and of each channel in-band."""

MAX_LISTED: Final = 16
"""Entries that a message is said to announce; the rest is counted."""

Place: TypeAlias = tuple[int, int]  # which channel, and its how-manieth session


class Ledger:
    """Requests that are not answered, over all channels: who submits one again is recognised here."""

    def __init__(self) -> None:
        self._open: Final[OrderedDict[tuple[object, ...], Place]] = OrderedDict()

    def submit(self, disk: str, ask: Ask, place: Place) -> bool:
        """Note a request of ``disk``; says whether it was submitted in another session before."""
        key = (disk, *ask.identity)
        before = self._open.pop(key, place)
        if len(self._open) >= MAX_OUTSTANDING:
            self._open.popitem(last=False)
        self._open[key] = place
        return before != place

    def answer(self, disk: str, ask: Ask) -> None:
        """Forget a request that is answered."""
        self._open.pop((disk, *ask.identity), None)


class _Kind(NamedTuple):
    """What a note of one kind says: the step, whether it opens a request, where it stands, in what state."""

    title: str
    opens: bool
    direction: Direction
    dstate: Dstate


_KINDS: Final[Mapping[NoteKind, _Kind]] = {
    NoteKind.SUBMITTED: _Kind(
        "the client submits", True, Direction.OUTBOUND, ENTRY_STEPS[Dstate.FREE, EntryStep.POST]
    ),
    NoteKind.TAKEN: _Kind(
        "the server takes", True, Direction.INBOUND, ENTRY_STEPS[Dstate.READY, EntryStep.TAKE]
    ),
    NoteKind.FINISHED: _Kind(
        "the server finishes", False, Direction.OUTBOUND, ENTRY_STEPS[Dstate.ACCEPTED, EntryStep.FINISH]
    ),
    NoteKind.ANSWERED: _Kind(
        "the client takes the answer of",
        False,
        Direction.INBOUND,
        ENTRY_STEPS[Dstate.ACCEPTED, EntryStep.FINISH],  # freed a moment later
    ),
}


def note_title(note: Note) -> str:
    """Return what a note about an entry says, in a few words."""
    kind, ask = _KINDS[note.kind], ask_of_entry(note.entry)
    ended = "" if kind.opens else f", {status_words(ask.status)}"
    return f"{kind.title} entry {note.index}: {ask}{ended}"


class _Open(NamedTuple):
    """A request that was handed over."""

    ask: Ask
    time_ns: int
    seq_num: int | None  # of its message; None: found by looking at the ring


class RequestWatch:
    """The requests of one channel, which belongs to ``disk``; ``tally`` counts them."""

    def __init__(self, disk: str, channel: int, ledger: Ledger, tally: Tally) -> None:
        self._disk: Final = disk
        self._channel: Final = channel
        self._ledger: Final = ledger
        self._tally: Final = tally
        self._session = 0
        self._open: dict[int, _Open] = {}  # by entry, of which a ring has MAX_DESCRIPTORS at most
        self._old: dict[int, _Open] = {}  # of the session before; a server still finishes them
        self._inband: OrderedDict[int, Pending] = OrderedDict()
        self._walk: tuple[int, int] | None = None  # number of an open range, and its entry that is taken next
        self._unfinished: Counter[int | None] = (
            Counter()
        )  # entries in progress, by number of message; none is 0
        self.has_notes = False
        """Whether this session has any: then requests are counted by them, not by messages."""

    @property
    def unanswered(self) -> int:
        """How many requests are open."""
        return len(self._open) + len(self._inband)

    def reset(self) -> None:
        """The session is over, and what is open lost."""
        self._tally.lost += self.unanswered
        self._session += 1
        self._old, self._open = self._open or self._old, {}
        self._inband.clear()
        self._walk = None
        self._unfinished.clear()
        self.has_notes = False

    # -- notes -----------------------------------------------------------------------------------------------

    def note(self, note: Note, direction: Direction, time_ns: int, session: SessionWatch) -> Iterator[Line]:
        """Take a note about an entry; yield what it says and what is wrong with it."""
        kind = _KINDS[note.kind]
        self.has_notes = True
        yield from explain_entry(note.entry)
        if direction is not kind.direction:
            yield warn(Rule.NOTE, f"{note.kind.name} is noted as {direction.name.lower()}")
        if note.entry[0] != kind.dstate:
            yield warn(Rule.DSTATE, f"{note.kind.name} in state {note.entry[0]}, not {kind.dstate.name}")
        offered = session.ring.num_descriptors if session.ring is not None else MAX_DESCRIPTORS
        count = min(offered, MAX_DESCRIPTORS)
        if note.index >= count:
            yield warn(Rule.RANGE, f"entry {note.index} of a ring of {count}")
        elif kind.opens:
            yield from self._opened(note, time_ns, session)
        else:
            yield from self._closed(note, time_ns, session)

    def _opened(self, note: Note, time_ns: int, session: SessionWatch) -> Iterator[Line]:
        ask = ask_of_entry(note.entry)
        if self._pop(note.index) is not None:
            yield warn(Rule.ENTRY_OWNER, f"entry {note.index} is still in progress")
        seq_num = note.seq_num if note.how is How.MESSAGE else None
        pending = session.data.find(note.seq_num) if note.kind is NoteKind.TAKEN else None
        if pending is not None and not self._announces(pending, note.index, session.ring):
            yield warn(Rule.ANNOUNCED, f"entry {note.index} is not one of message {note.seq_num}")
        elif pending is not None and seq_num is not None:
            yield say(f"announced by message {seq_num}, {duration(time_ns - pending.time_ns)} ago")
        self._open[note.index] = _Open(ask._replace(cookies=()), time_ns, seq_num)  # as little as will do
        self._unfinished[seq_num] += 1
        yield from self._submitted(ask, session)

    def _announces(self, pending: Pending, index: int, ring: RingGeometry | None) -> bool:
        """Say whether ``index`` is one of the entries of a message, or it cannot be told.

        Of an open range any may be, and each has its turn.
        """
        if ring is None or not _is_within(pending, ring):
            return True
        if pending.pieces is None:
            return (index - pending.start_idx) % ring.num_descriptors < _span(pending, ring)
        seq_num, due = self._walk or (None, 0)
        if seq_num != pending.seq_num:
            due = pending.start_idx
        self._walk = pending.seq_num, (index + 1) % ring.num_descriptors
        return index == due

    def _submitted(self, ask: Ask, session: SessionWatch) -> Iterator[Line]:
        self._tally.asked(ask)
        if self._ledger.submit(self._disk, ask, (self._channel, self._session)):
            self._tally.resubmitted += 1
            yield remark("submitted again: the session before has not answered it")
        if session.export is not None:
            yield from explain_refusal(ask, session.export)

    def _closed(self, note: Note, time_ns: int, session: SessionWatch) -> Iterator[Line]:
        done = ask_of_entry(note.entry)
        opened = self._pop(note.index)
        if opened is not None:
            yield say(f"in progress for {duration(time_ns - opened.time_ns)}")
            yield from self._answered(opened.ask, done, time_ns - opened.time_ns)
        elif self._old.pop(note.index, None) is not None:
            yield remark("of the session before the reset")
        elif session.is_known:
            yield warn(Rule.ENTRY_OWNER, f"entry {note.index} was not handed over")

    def _pop(self, index: int) -> _Open | None:
        """Forget the request in an entry; returns it, or None if there is none."""
        opened = self._open.pop(index, None)
        if opened is not None:
            self._unfinished[opened.seq_num] -= 1
            if self._unfinished[opened.seq_num] <= 0:  # below: its message was answered too early
                del self._unfinished[opened.seq_num]
        return opened

    def _answered(self, asked: Ask, done: Ask, time_ns: int) -> Iterator[Line]:
        self._ledger.answer(self._disk, asked)
        self._tally.answered(done, time_ns)
        yield from explain_result(done, asked.nbytes)

    # -- messages --------------------------------------------------------------------------------------------

    def asked(self, pending: Pending, session: SessionWatch, *, is_client: bool) -> Iterator[Line]:
        """Take a data message of the client; ``is_client``: the capture is made at that end."""
        if pending.ask is not None:
            if len(self._inband) >= MAX_OUTSTANDING:
                self._inband.popitem(last=False)
            self._inband[pending.seq_num] = pending
            yield from self._submitted(pending.ask, session)
        elif is_client and self.has_notes:
            yield from self._announced(pending, session)

    def _announced(self, pending: Pending, session: SessionWatch) -> Iterator[Line]:
        ring = session.ring
        if ring is None or not _is_within(pending, ring):
            return
        is_open = pending.pieces is not None
        count = self._submitted_from(pending.start_idx, ring) if is_open else _span(pending, ring)
        for step in range(min(count, MAX_LISTED)):
            index = (pending.start_idx + step) % ring.num_descriptors
            if index in self._open:
                yield say(f"announces entry {index}: {self._open[index].ask}")
            else:
                yield warn(Rule.ANNOUNCED, f"entry {index} was not submitted")
        if count > MAX_LISTED:
            yield say(f"announces {count - MAX_LISTED} more")

    def _submitted_from(self, start: int, ring: RingGeometry) -> int:
        """Return how many entries from ``start`` on are in progress: what an open range finds."""
        around = ((start + step) % ring.num_descriptors for step in range(ring.num_descriptors))
        return sum(1 for _ in takewhile(self._open.__contains__, around))

    def answered(
        self, pending: Pending, message: bytes, time_ns: int, session: SessionWatch, *, is_client: bool
    ) -> Iterator[Line]:
        """Take the server's answer to the data message ``pending``."""
        if pending.ask is not None:
            self._inband.pop(pending.seq_num, None)
            yield from self._answered(pending.ask, ask_of_message(message), time_ns - pending.time_ns)
        elif not self.has_notes:
            if pending.pieces is None:  # otherwise the message does not tell when its requests were there
                self._tally.latency.add(max(0, time_ns - pending.time_ns))  # all that is known of them
        elif not is_client and (count := self._told_early(pending, session.ring)):
            yield warn(Rule.TOO_EARLY, f"{count} entries are not finished")
        if pending.piece is None:
            self._unfinished.pop(pending.seq_num, None)

    def _told_early(self, pending: Pending, ring: RingGeometry | None) -> int:
        """Return how many of the entries that an answer tells are in progress."""
        seq_num, piece = pending.seq_num, pending.piece
        count = self._unfinished[seq_num]
        if piece is None or not count:
            return count
        if ring is None:
            return 0
        return sum(each.seq_num == seq_num and piece.has(index, ring) for index, each in self._open.items())


def _is_within(pending: Pending, ring: RingGeometry) -> bool:
    """Say whether a message names entries of the ring; an open range does if its first one is."""
    count = ring.num_descriptors
    return pending.start_idx < count and (pending.pieces is not None or 0 <= pending.end_idx < count)


def _span(pending: Pending, ring: RingGeometry) -> int:
    return ring.span(pending.start_idx, pending.end_idx)
