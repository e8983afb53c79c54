"""What a capture says besides packets: a descriptor was handed over, a receive queue was configured.

A note is a frame of any length but 64: 24 bytes, and the ring entry as it was at that moment. The entry has
48 bytes and 16 for each cookie, so that no note is ever as long as a packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.vdisk.descriptor import COOKIE, ENTRY
from protocol.vio.dring import MAX_DESCRIPTOR_SIZE

__all__ = ["How", "Note", "NoteKind", "NoteLayout", "build_note", "parse_note", "used_part"]

VERSION: Final = 1
"""Of the notes; a reader refuses any other."""


class NoteKind(IntEnum):
    """What happened."""

    SUBMITTED = 1  # the client made the entry READY; outbound at the client
    TAKEN = 2  # the server made it ACCEPTED; inbound at the server
    FINISHED = 3  # the server made it DONE; outbound at the server
    ANSWERED = 4  # the client took the answer; inbound at the client
    QUEUE_CONFIGURED = 5  # an end (re)configured its receive queue; the other sees the link reset


class How(IntEnum):
    """How the other end learns of the entry."""

    MESSAGE = 0  # it belongs to the DRING_DATA message with the note's ``seq_num``
    POLLING = 1  # by looking at the ring, without a message; ``seq_num`` is 0


@wire.structure("capture_note", size=24, layer=Layer.HYPERVISOR)
class _Note:
    """What a note begins with; the ring entry follows."""

    version: int = wire.field(wire.Int8ub, doc="1")
    kind: NoteKind = wire.field(wire.Int8ub, enum=NoteKind, doc="what happened")
    how: How = wire.field(wire.Int8ub, enum=How, doc="by message or by polling")
    resv1 = wire.reserved(1)
    index: int = wire.field(wire.Int32ub, doc="the ring entry; for QUEUE_CONFIGURED entries of the queue")
    seq_num: int = wire.field(wire.Int64ub, doc="of the DRING_DATA message; 0 by polling")
    length: int = wire.field(wire.Int32ub, doc="bytes of the ring entry that follows")
    resv2 = wire.reserved(4)


NoteLayout: Final = wire.layout(_Note)
_pack: Final = NoteLayout.codec.pack
_NCOOKIES_AT: Final = ENTRY.fields.index("ncookies")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened to a ring entry, or to a receive queue, at the end that captures.

    ``entry`` is the ring entry as it was then: 48 bytes and its cookies; empty for QUEUE_CONFIGURED.
    """

    kind: NoteKind
    how: How
    index: int
    seq_num: int
    entry: bytes = b""


def build_note(note: Note) -> bytes:
    """Return the frame of ``note``.

    Raises: LocalProtocolError (a number does not fit its field; no entry where one belongs, or the reverse).
    """
    length = len(note.entry)
    if not _fits(note.kind, length) or note.index >> 32 or note.seq_num >> 64:
        raise LocalProtocolError(Layer.HYPERVISOR, f"no such note can be: {note}")
    return _pack(VERSION, note.kind, note.how, note.index, note.seq_num, length) + note.entry


def parse_note(data: wire.Buffer) -> Note:
    """Return the note in a frame of any length but 64.

    Raises: PacketError (unknown version, kind or way; no entry where one belongs, or the reverse; not as long
        as it says).
    """
    head = NoteLayout.parse(data, trailing=True)
    if head.version != VERSION:
        raise _malformed(f"a note of version {head.version}")
    if len(data) != NoteLayout.size + head.length or not _fits(head.kind, head.length):
        raise _malformed(f"{head.kind.name} in {len(data)} bytes, with an entry of {head.length}")
    return Note(head.kind, head.how, head.index, head.seq_num, bytes(data[NoteLayout.size :]))


def used_part(entry: wire.Buffer) -> bytes:
    """Return what a note has of a ring entry: 48 bytes and its cookies, as far as they fit the entry."""
    ncookies = ENTRY.unpack_from(entry)[_NCOOKIES_AT]
    room = (min(len(entry), MAX_DESCRIPTOR_SIZE) - ENTRY.size) // COOKIE.size
    return bytes(entry[: ENTRY.size + COOKIE.size * min(ncookies, room)])


def _fits(kind: NoteKind, length: int) -> bool:
    """Say whether a note of this kind may have an entry of this length."""
    if kind is NoteKind.QUEUE_CONFIGURED:
        return length == 0
    return ENTRY.size <= length <= MAX_DESCRIPTOR_SIZE and (length - ENTRY.size) % COOKIE.size == 0


def _malformed(reason: str) -> PacketError:
    return PacketError(Layer.HYPERVISOR, Reaction.CLOSE, reason)
