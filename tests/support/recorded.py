"""Captures without daemons: frames written down by hand, or what happens on a :class:`StackDisk`."""

from __future__ import annotations

from pathlib import Path

from protocol.capture import (
    Direction,
    How,
    Note,
    NoteKind,
    build_frame,
    build_interface,
    build_note,
    build_section,
    used_part,
)
from protocol.ldc.fragment import QUEUE_ENTRIES
from protocol.stack import QueueConfigured

from .stackdisk import Mode, Packet, StackDisk, Wire

__all__ = ["CLIENT", "SERVER", "Recording", "recorded_disk"]

CLIENT, SERVER = 0, 1
"""The interfaces of a recording."""

_BEGAN_NS = 1_700_000_000_000_000_000
_STEP_NS = 1_000


class Recording:
    """A capture in the making, of both ends of a channel; every frame is a microsecond after the last."""

    def __init__(self) -> None:
        self._blocks = [
            build_section("tests", ""),
            build_interface("vdc", "disk0"),
            build_interface("vds", "disk0"),
        ]
        self.frames: list[tuple[int, Direction, bytes]] = []

    def add(self, interface: int, direction: Direction, data: bytes) -> None:
        """Add a frame: a packet if it has 64 bytes, else a note."""
        time_ns = _BEGAN_NS + len(self.frames) * _STEP_NS
        self.frames.append((interface, direction, data))
        self._blocks += build_frame(interface, time_ns, direction, data)

    def carry(self, wire: Wire, packet: Packet, to_server: bool) -> Packet:
        """Add a packet at both ends, as it passes, or the note of a queue at the end that configured it."""
        source, target = (CLIENT, SERVER) if to_server else (SERVER, CLIENT)
        if isinstance(packet, QueueConfigured):
            note = Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, QUEUE_ENTRIES, 0)
            self.add(source, Direction.OUTBOUND, build_note(note))
        else:
            self.add(source, Direction.OUTBOUND, packet)
            self.add(target, Direction.INBOUND, packet)
        return packet

    def entry(self, kind: NoteKind, index: int, seq_num: int, entry: memoryview) -> None:
        """Add the note of a step of a ring entry, at the end that made it."""
        interface, direction = {
            NoteKind.SUBMITTED: (CLIENT, Direction.OUTBOUND),
            NoteKind.TAKEN: (SERVER, Direction.INBOUND),
            NoteKind.FINISHED: (SERVER, Direction.OUTBOUND),
            NoteKind.ANSWERED: (CLIENT, Direction.INBOUND),
        }[kind]
        how = How.MESSAGE if seq_num else How.POLLING
        self.add(interface, direction, build_note(Note(kind, how, index, seq_num, used_part(entry))))

    def write(self, path: Path) -> Path:
        """Write the capture and return ``path``."""
        path.write_bytes(b"".join(self._blocks))
        return path


def recorded_disk(recording: Recording, mode: Mode, minor: int = 2) -> StackDisk:
    """Return a disk of 1 MiB whose every packet and ring entry goes into ``recording``, the handshake too."""
    wires: list[Wire] = []

    def carry(wire: Wire, packet: Packet) -> Packet:
        if not wires:
            wires.append(wire)  # the client's packets are carried first
        return recording.carry(wire, packet, wire is wires[0])

    return StackDisk(
        bytearray(1 << 20),
        mode=mode,
        versions=((1, minor),),
        on_packet=carry,
        on_entry=recording.entry,
    )
