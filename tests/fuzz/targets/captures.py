"""Capture files: what is read, and what is said about it.

Input: one byte says which conversation the file begins with (0: the input is the file itself), then changes
to it, each a place of two bytes and the byte there, and after a place of 0 frames that follow: a byte for the
length, its top bit the direction, and the frame. The file is refused in the end or explained to its end, and
every line that is said can be printed.
"""

from __future__ import annotations

import functools
from typing import Final, get_args

from protocol.capture import Direction, build_frame
from protocol.explain import Trace, render
from protocol.ldc.packet import PACKET_SIZE
from tests.fuzz.tape import Tape, attempt
from tests.support.stackdisk import Mode
from tests.support.talk import End
from tests.support.traced import TracedDisk

__all__ = ["CONVERSATIONS", "fuzz_one"]

CONVERSATIONS: Final[tuple[tuple[End, Mode], ...]] = tuple(
    (end, mode) for end in get_args(End) for mode in get_args(Mode)
)
"""What the first byte chooses from, counted from 1."""

LONG: Final = 0x40  # a length of this and more means a packet


@functools.cache
def _conversation(number: int) -> bytes:
    end, mode = CONVERSATIONS[number]
    disk = TracedDisk(bytearray(8192), end=end, mode=mode)
    disk.pread(0, 1024)
    disk.pwrite(0, bytes(512))
    return disk.file.bytes()


def _file(tape: Tape) -> bytes:
    chosen = tape.byte()
    if not chosen:
        return tape.rest()
    file = bytearray(_conversation(chosen % len(CONVERSATIONS)))
    while place := tape.number(2):
        file[place % len(file)] = tape.byte()
    while tape:
        length = tape.byte()
        direction = Direction.INBOUND if length & 0x80 else Direction.OUTBOUND
        size = PACKET_SIZE if length & LONG else length & (LONG - 1)
        file += b"".join(build_frame(0, 0, direction, tape.take(size)))
    return bytes(file)


def _explain(file: bytes) -> None:
    trace = Trace()
    paragraphs = attempt(lambda: list(trace.receive_data(file))) or []
    for paragraph in (*paragraphs, *trace.summaries()):
        assert all(line.isprintable() for line in render(paragraph.lines))


def fuzz_one(data: bytes) -> None:
    """Read one file and have it explained."""
    _explain(_file(Tape(data)))
