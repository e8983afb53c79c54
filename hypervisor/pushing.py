"""Cutting memory contents into PUSH records (extension INLINE)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Final

from protocol import wire
from protocol.ldc.cookie import ALIGNMENT
from protocol.ldc.packet import PACKET_SIZE

from .records import PIECE, PUSH, RECORD_LIMIT, Push, RecordType, padded

__all__ = ["GROUP", "PACKETS_LIMIT", "UNSPLIT", "Parcel", "cut_push", "groups"]

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
        length = len(data)
        if length and not length % ALIGNMENT and used + PIECE.size + length <= _ROOM:
            record.append((addr, data))  # as nearly all do
            used += PIECE.size + length
            continue
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


class Parcel:
    """One PUSH record in the making, a group of its own: contents are written where they are sent from."""

    def __init__(self) -> None:
        pages = memoryview(mmap.mmap(-1, 2 * RECORD_LIMIT))  # takes no memory before it is used
        self._table, self._data = pages[:RECORD_LIMIT], pages[RECORD_LIMIT:]
        self._table_end = PUSH.size
        self._used = 0

    def __len__(self) -> int:
        """Bytes of contents."""
        return self._used

    def left(self) -> int:
        """Return how many bytes one more piece may have; negative: none."""
        return _PARCEL_ROOM - self._table_end - self._used - PIECE.size

    def reserve(self, addr: int, nbytes: int) -> memoryview:
        """Add a piece of ``nbytes``, at most what is :meth:`left`, and return the place of its contents.

        Both are multiples of 8.
        """
        used, at = self._used, self._table_end
        _put_piece(self._table, at, addr, nbytes)
        self._table_end = at + PIECE.size
        self._used = end = used + nbytes
        return self._data[used:end]

    def undo(self, nbytes: int) -> None:
        """Take the last piece back; it had ``nbytes``."""
        self._table_end -= PIECE.size
        self._used -= nbytes

    def take(self, packets: Sequence[bytes] = ()) -> list[wire.Buffer]:
        """Return the datagram in parts, with ``packets`` at its end, for which there must be room; send it at
        once, since the parcel is empty again.

        Raises: LocalProtocolError (longer than a record).
        """
        table_end, used = self._table_end, self._used
        npieces = (table_end - PUSH.size) // PIECE.size
        length = table_end + used + PACKET_SIZE * len(packets)
        PUSH.pack_into(self._table, 0, RecordType.PUSH, 0, length, npieces, len(packets))
        self._table_end, self._used = PUSH.size, 0
        return padded([self._table[:table_end], self._data[:used], *packets])


PARCEL_PACKETS: Final = 4
"""Packets that a parcel always has room for."""

_PARCEL_ROOM: Final = RECORD_LIMIT - PARCEL_PACKETS * PACKET_SIZE
_put_piece: Final = PIECE.pack_into
