"""A capture, explained frame by frame while it is read: bytes in, paragraphs out.

What is kept is bounded: one block of the file, the state of each channel, and no more channels than
:data:`MAX_CHANNELS`; of one that falls out the summary is given early.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, NamedTuple

from protocol.capture import Direction, Frame, How, Interface, Note, NoteKind, Reader, parse_note
from protocol.errors import PacketError
from protocol.wire import Buffer

from .lines import Line, head, remark, say, warn
from .link import LinkWatch
from .message import explain_message, message_title
from .packet import Header, explain_header, explain_packet, title_of
from .requests import Ledger, RequestWatch, note_title
from .rules import Rule
from .session import SessionWatch
from .tally import Tally

__all__ = ["MAX_CHANNELS", "Paragraph", "Trace"]

MAX_CHANNELS: Final = 4096
"""Channels watched at a time, as many as vds serves; of one more, the one quiet for longest is dropped."""

_MAX_NAME: Final = 64  # characters of a name that are shown
_SECOND_NS: Final = 1_000_000_000
_DIRECTIONS: Final = {
    Direction.UNKNOWN: "either way",
    Direction.INBOUND: "received",
    Direction.OUTBOUND: "sent",
}
_NEAR: Final = 1  # the end that captures, which sends what is outbound
_ENDS: Final = {Direction.INBOUND: 1 - _NEAR, Direction.OUTBOUND: _NEAR}  # direction to sender


class Paragraph(NamedTuple):
    """What is said about one frame, or a summary; its first line is its title."""

    lines: list[Line]
    is_summary: bool = False

    @property
    def warnings(self) -> int:
        """How many rules are broken."""
        return sum(line.rule is not None for line in self.lines)


class _Channel:
    """One channel at one end: its frames in order."""

    def __init__(self, interface: Interface, number: int, ledger: Ledger) -> None:
        self.number: Final = number
        self.name: Final = _printable(interface.name) or f"channel {interface.number}"
        self._description: Final = _printable(interface.description)
        self._link: Final = LinkWatch()
        self._session: Final = SessionWatch()
        self._sessions = 0
        self._tally: Final = Tally()
        end = self._description.split(" ")[0]  # a merged capture has both ends of the same disk
        disk = f"{self.name.split('#')[0]} {end}"  # each end names its connections disk#1, disk#2, …
        self._requests: Final = RequestWatch(disk, number, ledger, self._tally)

    def frame(self, frame: Frame) -> Iterator[Line]:
        """Yield what a frame means, its title first."""
        lines = list(self._packet(frame) if frame.is_packet else self._note(frame))
        self._tally.warnings += sum(line.rule is not None for line in lines)
        yield from lines

    def summary(self) -> Iterator[Line]:
        """Yield what there was over all."""
        described = f" ({self._description})" if self._description else ""
        yield Line(0, f"summary of {self.name}{described}")
        version = self._session.version
        now = "up" if self._link.is_up else "down"
        facts = {
            "link": f"came up {_times(self._link.times_up)}, {now} at the end",
            "version": "none agreed at the end" if version is None else str(version),
        }
        yield from self._tally.lines(self._requests.unanswered, facts)

    # -- packets ---------------------------------------------------------------------------------------------

    def _packet(self, frame: Frame) -> Iterator[Line]:
        sender = _ENDS.get(frame.direction)
        if sender is None:
            yield from explain_packet(frame.data)
            yield remark("the capture does not tell the direction: judged by itself alone")
            return
        self._tally.packets[sender == _NEAR] += 1
        header = Header(frame.data)
        linked = list(self._link.packet(sender, header))
        message = self._link.message
        yield Line(0, title_of(header) if message is None else message_title(message))
        yield from explain_header(frame.data, header)
        yield from linked
        if self._link.was_reset:
            self._session.reset()
        if message is not None:
            yield from explain_message(message, self._session.version)
            yield from self._message(sender, message, frame.time_ns)
        self._settle()

    def _message(self, sender: int, message: bytes, time_ns: int) -> Iterator[Line]:
        session = self._session
        yield from session.message(sender, message, time_ns)
        self._settle()
        pending, session.data.pending = session.data.pending, None
        if pending is None:
            return
        is_client = session.client == _NEAR
        if sender == session.client:
            yield from self._requests.asked(pending, session, is_client=is_client)
        else:
            yield from self._requests.answered(pending, message, time_ns, session, is_client=is_client)

    def _settle(self) -> None:
        """Tell the requests when their session is over."""
        if self._sessions != self._session.number:
            self._sessions = self._session.number
            self._requests.reset()

    # -- notes -----------------------------------------------------------------------------------------------

    def _note(self, frame: Frame) -> Iterator[Line]:
        try:
            note = parse_note(frame.data)
        except PacketError as error:
            yield Line(0, f"{len(frame.data)} bytes, neither packet nor note")
            yield warn(Rule.NOTE, error.reason)
            return
        if note.kind is NoteKind.QUEUE_CONFIGURED:
            yield from self._configured(frame.direction, note)
            return
        yield Line(0, note_title(note))
        yield head("note", f"{note.kind.name}, entry {note.index}, {_how(note)}")
        yield from self._requests.note(note, frame.direction, frame.time_ns, self._session)

    def _configured(self, direction: Direction, note: Note) -> Iterator[Line]:
        whose = "the peer's" if direction is Direction.INBOUND else "our"
        yield Line(0, f"{whose} receive queue is configured")
        yield head("note", f"{note.kind.name}, {note.index} packets")
        if self._link.is_up:
            yield say("the link is reset")
        self._link.configured()
        self._session.reset()
        self._settle()


def _how(note: Note) -> str:
    return f"message {note.seq_num}" if note.how is How.MESSAGE else "by polling"


class Trace:
    """Bytes of a capture in, in pieces of any size; paragraphs out, in the order of the file.

    Call :meth:`receive_data` and go through what it yields, to the end of the file; then :meth:`summaries`.
    """

    def __init__(self) -> None:
        self._reader: Final = Reader()
        self._ledger: Final = Ledger()
        self._channels: Final[OrderedDict[int, _Channel]] = OrderedDict()  # by interface; the last used last
        self._started_ns: int | None = None
        self._count = 0  # of channels, over all sections

    @property
    def is_cut_short(self) -> bool:
        """Whether the file ends in the middle of something, or is empty; ask at its end."""
        return self._reader.is_cut_short

    def receive_data(self, data: Buffer) -> Iterator[Paragraph]:
        """Take the next bytes of the file; yield a paragraph for each frame in them.

        Raises: PacketError (no capture, or one that contradicts itself).
        """
        self._reader.receive_data(data)
        while (event := self._reader.next_event()) is not None:
            if isinstance(event, Frame):
                yield from self._frame(event)
            elif event.number == 0:  # another section: the numbers begin again
                yield from self.summaries()

    def summaries(self) -> Iterator[Paragraph]:
        """Yield the summary of each channel that has had any frame, and forget them."""
        for channel in sorted(self._channels.values(), key=lambda channel: channel.number):
            yield Paragraph(list(channel.summary()), is_summary=True)
        self._channels.clear()

    def _frame(self, frame: Frame) -> Iterator[Paragraph]:
        number = frame.interface.number
        channel = self._channels.get(number)
        if channel is None:
            if len(self._channels) >= MAX_CHANNELS:
                _, quiet = self._channels.popitem(last=False)
                yield Paragraph(list(quiet.summary()), is_summary=True)
            self._count += 1
            channel = self._channels[number] = _Channel(frame.interface, self._count, self._ledger)
        self._channels.move_to_end(number)
        if self._started_ns is None:
            self._started_ns = frame.time_ns
        title, *lines = channel.frame(frame)
        when = _time(frame.time_ns - self._started_ns)
        where = f"{when}  {channel.name}  {_DIRECTIONS[frame.direction]:<8}"
        yield Paragraph([Line(0, f"{where}  {title.text}"), *lines])


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _time(time_ns: int) -> str:
    """Return a time since the first frame; clocks that are set back make it negative."""
    seconds, rest = divmod(abs(time_ns), _SECOND_NS)
    return f"{'-' if time_ns < 0 else ''}{seconds}.{rest:09}"


def _printable(text: str) -> str:
    """Return a text of the capture as it may go to a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:_MAX_NAME])
