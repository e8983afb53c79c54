"""The far end of a stack's channel, packet by packet: what a driver of another make sends, octet by octet.

Nothing here answers by itself. A test says each packet and compares each output, so that it reads like a
trace of the wire.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from protocol.ldc.cookie import MapTable
from protocol.ldc.events import LinkState
from protocol.stack import Client, Server
from tests.support.links import (
    ACK,
    CTRL,
    INFO,
    RDX,
    Output,
    data,
    numbered,
    outputs,
    rtr,
    rts,
    version,
)

__all__ = ["FarEnd", "map_table"]

Stack = TypeVar("Stack", Server, Client)


def map_table(nentries: int, words: dict[int, int]) -> MapTable:
    """Return a map table whose slots ``words`` were filled by another driver, word by word."""
    memory = bytearray(16 * nentries)
    for slot, word in words.items():
        memory[16 * slot : 16 * slot + 8] = word.to_bytes(8, "big")
    return MapTable(memoryview(memory), nentries)


class FarEnd(Generic[Stack]):
    """The other end of ``stack``; ``seqid`` is the number of the last packet it has numbered."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack
        self.seqid = 0

    def give(self, *items: bytes | LinkState) -> list[Output]:
        """Give packets and what the hypervisor reports; return everything the stack sends for it."""
        for item in items:
            if isinstance(item, LinkState):
                self.stack.link_state(item)
            else:
                self.stack.receive_packet(item)
        return outputs(self.stack)

    def reset(self) -> list[Output]:
        """Configure our receive queue again, as every reset of every driver does."""
        self.seqid = 0
        return self.give(LinkState.RESET, LinkState.UP)

    def say(self, *messages: bytes) -> list[bytes]:
        """Send messages of one packet each; return what is answered, each in one packet."""
        answers = []
        for message in messages:
            self.seqid += 1
            for output in self.give(data(self.seqid, message)):
                assert isinstance(output, bytes), "a reset, not an answer"
                assert output[:3] == bytes.fromhex("02 01 00")
                assert output[3] & 0xC0 == 0xC0, "not the whole message"
                answers.append(output[8 : 8 + (output[3] & 0x3F)])
        return answers

    def events(self) -> list[object]:
        """Return what the stack has reported."""
        found: list[object] = []
        while (event := self.stack.next_event()) is not None:
            found.append(event)
        return found

    def cross(self) -> None:
        """Do the link handshake that both ends have started, ours first, octet by octet."""
        assert self.give(version(INFO)) == [version(ACK)]
        assert self.give(version(ACK)) == [rts()]
        assert self.give(rts()) == [rtr()]
        assert self.give(rtr()) == [numbered(CTRL, INFO, RDX, 1, 0)]
        assert self.give(numbered(CTRL, INFO, RDX, 1, 0)) == []
        self.seqid = 1

    def answer(self) -> None:
        """Do the link handshake that the stack has started alone: this end only answers."""
        assert self.give(version(ACK)) == [rts()]
        assert self.give(rtr()) == [numbered(CTRL, INFO, RDX, 1, 0)]
        self.seqid = 0
