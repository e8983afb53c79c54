"""Captures of one end's messages, put together by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocol.capture import Direction
from protocol.ldc.fragment import split_message
from tests.support.recorded import CLIENT, Recording
from tests.support.tshark import layers
from tests.support.vioscript import octets

SID = "00000007"


class Talk:
    """A recording of one end; what the peer sends comes in, what this end sends goes out."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.numbers = {Direction.INBOUND: 0, Direction.OUTBOUND: 0}

    def say(self, message: bytes, direction: Direction = Direction.OUTBOUND) -> None:
        """Add the packets of a message."""
        packets = split_message(message, self.numbers[direction] + 1)
        self.numbers[direction] += len(packets)
        for packet in packets:
            self.recording.add(CLIENT, direction, packet)

    def answer(self, message: bytes) -> None:
        """Add the packets of the peer's message."""
        self.say(message, Direction.INBOUND)

    def agree(self, minor: int) -> None:
        """Agree on version 1.``minor``."""
        self.say(octets(f"01 01 0001 {SID} 0001 {minor:04x} 03"))
        self.answer(octets(f"01 02 0001 {SID} 0001 {minor:04x} 04"))


def last(path: Path) -> dict[str, Any]:
    """Return the layers of the last frame."""
    return layers(path)[-1]
