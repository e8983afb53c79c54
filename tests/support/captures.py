"""Capture files as tests look at them: every frame in its order, packets and notes told apart."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from protocol.capture import Direction, Frame, How, Interface, Note, NoteKind, Reader, parse_note
from protocol.vdisk.descriptor import Entry, EntryLayout

__all__ = ["CaptureFile", "Step"]


class Step(NamedTuple):
    """A frame: ``packet`` or ``note``, the other is None."""

    interface: int
    direction: Direction
    packet: bytes | None
    note: Note | None


class CaptureFile:
    """All that is in the file at ``path``."""

    def __init__(self, path: Path) -> None:
        reader = Reader()
        reader.receive_data(path.read_bytes())
        self.interfaces: list[Interface] = []
        self.steps: list[Step] = []
        self.times: list[int] = []
        while (event := reader.next_event()) is not None:
            if isinstance(event, Interface):
                self.interfaces.append(event)
            else:
                self._add(event)
        self.is_cut_short = reader.is_cut_short

    def _add(self, frame: Frame) -> None:
        packet = frame.data if frame.is_packet else None
        note = None if frame.is_packet else parse_note(frame.data)
        self.steps.append(Step(frame.interface.number, frame.direction, packet, note))
        self.times.append(frame.time_ns)

    def packets(self, direction: Direction, interface: int = 0) -> list[bytes]:
        """The packets that went this way."""
        return [
            step.packet
            for step in self.steps
            if step.packet is not None and step[:2] == (interface, direction)
        ]

    def notes(self, kind: NoteKind, interface: int | None = None) -> list[Note]:
        """The notes of a kind, in order."""
        return [
            step.note
            for step in self.steps
            if step.note is not None and step.note.kind is kind and interface in (None, step.interface)
        ]

    def entries(self, kind: NoteKind, interface: int | None = None) -> list[Entry]:
        """The ring entries in the notes of a kind, in order."""
        return [EntryLayout.parse(note.entry) for note in self.notes(kind, interface)]

    def ways(self) -> set[How]:
        """How entries were handed over."""
        return {step.note.how for step in self.steps if step.note is not None and step.note.entry}
