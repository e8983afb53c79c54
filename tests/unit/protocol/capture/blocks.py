"""pcapng blocks typed from the specification, in either byte order, for the reader to read."""

from __future__ import annotations

import struct

from protocol.capture import Event, Reader

LITTLE = "<"
BIG = ">"


def block(order: str, kind: int, body: bytes) -> bytes:
    """A block of any kind: type, length, body, length."""
    length = 12 + len(body)
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def option(order: str, code: int, value: bytes) -> bytes:
    """An option, padded."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) & 3)


def section(order: str, major: int = 1, options: bytes = b"") -> bytes:
    """A section header."""
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1) + options
    return block(order, 0x0A0D0D0A, body)


def interface(order: str, options: bytes = b"", linktype: int = 147) -> bytes:
    """An interface description."""
    return block(order, 1, struct.pack(order + "HHI", linktype, 0, 0) + options)


def packet(
    order: str,
    data: bytes,
    *,
    number: int = 0,
    time: int = 0,
    options: bytes = b"",
    original: int | None = None,
) -> bytes:
    """An enhanced packet."""
    original = len(data) if original is None else original
    head = struct.pack(order + "IIIII", number, time >> 32, time & 0xFFFFFFFF, len(data), original)
    return block(order, 6, head + data + bytes(-len(data) & 3) + options)


def read(data: bytes, step: int = 1 << 20) -> tuple[list[Event], bool]:
    """All that a reader finds in a file given in pieces of ``step`` bytes, and whether it is cut short."""
    reader = Reader()
    events: list[Event] = []
    for at in range(0, len(data), step):
        reader.receive_data(data[at : at + step])
        while (event := reader.next_event()) is not None:
            events.append(event)
    return events, reader.is_cut_short
