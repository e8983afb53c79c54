"""Notes: what they look like, which can be, and what of an entry they have."""

from __future__ import annotations

import pytest

from protocol.capture import How, Note, NoteKind, build_note, parse_note, used_part
from protocol.errors import LocalProtocolError, PacketError, Reaction
from protocol.ldc.cookie import Cookie
from protocol.ldc.packet import PACKET_SIZE
from protocol.vdisk.descriptor import Request, build_entry
from protocol.vdisk.operations import Operation

ENTRY = build_entry(Request(7, Operation.BREAD, 0xFF, 9, 512, (Cookie(0x2000, 512),)), 64)
NOTE = Note(NoteKind.TAKEN, How.MESSAGE, 5, 0x0102030405060708, ENTRY)


def test_bytes_of_a_note() -> None:
    assert build_note(NOTE).hex(" ", 4) == (
        "01020000 00000005 01020304 05060708 00000040 00000000 " + ENTRY.hex(" ", 4)
    )


def test_bytes_of_a_queue_configuration() -> None:
    note = build_note(Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, 512, 0))
    assert note.hex(" ", 4) == "01050000 00000200 00000000 00000000 00000000 00000000"


@pytest.mark.parametrize("kind", NoteKind)
@pytest.mark.parametrize("how", How)
def test_what_was_built_is_read(kind: NoteKind, how: How) -> None:
    note = Note(kind, how, 0xFFFFFFFF, 2**64 - 1, b"" if kind is NoteKind.QUEUE_CONFIGURED else ENTRY)
    assert parse_note(build_note(note)) == note


@pytest.mark.parametrize(
    "note",
    [
        Note(NoteKind.SUBMITTED, How.POLLING, 0, 0),
        Note(NoteKind.SUBMITTED, How.POLLING, 0, 0, bytes(47)),
        Note(NoteKind.SUBMITTED, How.POLLING, 0, 0, bytes(56)),
        Note(NoteKind.SUBMITTED, How.POLLING, 0, 0, bytes(16400)),
        Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, 512, 0, ENTRY),
        Note(NoteKind.TAKEN, How.MESSAGE, -1, 0, ENTRY),
        Note(NoteKind.TAKEN, How.MESSAGE, 1 << 32, 0, ENTRY),
        Note(NoteKind.TAKEN, How.MESSAGE, 0, -1, ENTRY),
        Note(NoteKind.TAKEN, How.MESSAGE, 0, 1 << 64, ENTRY),
    ],
    ids=repr,
)
def test_what_cannot_be_is_not_built(note: Note) -> None:
    with pytest.raises(LocalProtocolError, match="no such note"):
        build_note(note)


def test_no_note_is_as_long_as_a_packet() -> None:
    lengths = [len(build_note(Note(NoteKind.TAKEN, How.POLLING, 0, 0, bytes(48 + 16 * n)))) for n in range(9)]
    assert PACKET_SIZE not in lengths
    assert len(build_note(Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, 0, 0))) != PACKET_SIZE


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, 2, "version 2"),
        (1, 0, "0 is not a valid NoteKind"),
        (1, 6, "6 is not a valid NoteKind"),
        (2, 2, "2 is not a valid How"),
        (1, NoteKind.QUEUE_CONFIGURED, "QUEUE_CONFIGURED in 88 bytes, with an entry of 64"),
        (19, 48, "TAKEN in 88 bytes, with an entry of 48"),
        (19, 80, "TAKEN in 88 bytes, with an entry of 80"),
        (19, 0, "TAKEN in 88 bytes, with an entry of 0"),
        (16, 1, "with an entry of 16777280"),
    ],
)
def test_what_cannot_be_is_not_read(at: int, value: int, why: str) -> None:
    data = bytearray(build_note(NOTE))
    data[at] = value
    with pytest.raises(PacketError, match=why) as caught:
        parse_note(data)
    assert caught.value.reaction is Reaction.CLOSE


@pytest.mark.parametrize("length", [0, 1, 23])
def test_short_notes_are_not_read(length: int) -> None:
    with pytest.raises(PacketError, match="must be 24"):
        parse_note(build_note(NOTE)[:length])


def test_an_entry_of_an_odd_length_is_not_read() -> None:
    data = build_note(NOTE)
    with pytest.raises(PacketError, match="with an entry of 56"):
        parse_note(data[:19] + bytes([56]) + data[20:80])


@pytest.mark.parametrize(
    ("size", "ncookies", "used"),
    [
        (64, 0, 48),
        (64, 1, 64),
        (64, 2, 64),  # a peer may say anything: only what is there
        (72, 2, 64),
        (128, 2, 80),
        (64, 0xFFFFFFFF, 64),
        (16384, 2000, 16384),
        (20000, 2000, 16384),
    ],
)
def test_used_part_of_an_entry(size: int, ncookies: int, used: int) -> None:
    entry = bytearray(range(256)) * 80
    del entry[size:]
    entry[40:44] = ncookies.to_bytes(4, "big")
    assert used_part(entry) == entry[:used]
    build_note(Note(NoteKind.TAKEN, How.POLLING, 0, 0, used_part(entry)))
