"""Cutting memory contents into PUSH records (extension INLINE)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from protocol import wire
from protocol.ldc.cookie import ALIGNMENT
from protocol.ldc.packet import PACKET_SIZE

from .records import PIECE, PUSH, RECORD_LIMIT, Push

__all__ = ["GROUP", "PACKETS_LIMIT", "UNSPLIT", "cut_push", "groups"]

UNSPLIT: Final = 32 * 1024
"""Pieces up to this length are never cut: a ring entry, or a run of them, arrives whole."""

PACKETS_LIMIT: Final = 512
"""Packets in one PUSH: a queue full of them, half of a record."""

GROUP: Final = 8 * 1024 * 1024
"""Bytes of one group, half of what a receiver takes: a long answer becomes several groups."""

_ROOM: Final = RECORD_LIMIT - PUSH.size


def groups(
    pieces: Sequence[tuple[int, wire.Buffer]], packets: Sequence[bytes]
) -> Iterator[tuple[Sequence[tuple[int, wire.Buffer]], Sequence[bytes]]]:
    """Yield ``pieces`` in runs of about ``GROUP`` bytes, in order; ``packets`` go with the last.

    A receiver bounds what it keeps of a group until its packets come, so that no sender can fill its memory.
    """
    start = size = 0
    for index, (_, data) in enumerate(pieces):
        if size and size + len(data) > GROUP:
            yield pieces[start:index], ()
            start, size = index, 0
        size += len(data)
    yield pieces[start:], packets


def cut_push(pieces: Sequence[tuple[int, wire.Buffer]], packets: Sequence[bytes]) -> Iterator[Push]:
    """Yield the records that carry ``pieces`` in order and, in the last one, at most 512 ``packets``.

    Lengths are rounded up to 8 with zeros, empty pieces left out. Addresses are multiples of 8.
    """
    record: list[tuple[int, wire.Buffer]] = []
    used = 0
    for addr, data in pieces:
        rest = memoryview(_rounded(data))
        while rest:
            length = len(rest)
            room = _ROOM - used - PIECE.size
            if length > room:
                if length <= UNSPLIT or room < ALIGNMENT:
                    yield Push(record, [], more=True)
                    record, used = [], 0
                    continue
                length = room & -ALIGNMENT
            record.append((addr, rest[:length]))
            used += PIECE.size + length
            addr, rest = addr + length, rest[length:]
    if record and used + PACKET_SIZE * len(packets) > _ROOM:
        yield Push(record, [], more=True)
        record = []
    yield Push(record, packets)


def _rounded(data: wire.Buffer) -> wire.Buffer:
    """Return ``data``, with zeros after it up to a multiple of 8."""
    missing = -len(data) % ALIGNMENT
    return bytes(data) + bytes(missing) if missing else data
