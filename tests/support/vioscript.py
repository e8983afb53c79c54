"""Scripted conversations with one end of a stack: raw VIO messages in, raw messages out, no sockets.

The script is the other end of the link. Messages are octets in hexadecimal, padded with zeroes to the 56 of
nearly every message, so that a test reads like the figures of the specification.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from protocol.ldc.events import LinkState, LinkUp, MessageReceived, QueueConfigured
from protocol.ldc.link import Link
from protocol.stack import Client, Server
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.operations import operations_mask
from protocol.vio.extensions import NO_EXTENSION, Extension

__all__ = ["ATTRIBUTES", "SID", "ClientScript", "ServerScript", "octets"]

Stack = TypeVar("Stack", Server, Client)

ATTRIBUTES = DiskAttributes(
    size_blocks=0x1803, max_xfer_blocks=2048, operations=operations_mask((1, 2), read_only=False)
)

SID = "00 00 00 2a"


def octets(text: str, size: int = 56) -> bytes:
    """Return hexadecimal ``text`` as bytes, zeroes behind it up to ``size``."""
    data = bytes.fromhex(text)
    return data + bytes(size - len(data))


class _Script(Generic[Stack]):
    """The other end of ``stack``'s link; ``resets`` counts how often the stack reconfigured its queue."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack
        self.link = Link()
        self.received: list[bytes] = []
        self.resets = 0
        stack.link_state(LinkState.UP)
        self.link.link_state(LinkState.UP)
        self.link.up()
        self.carry()

    def carry(self) -> None:
        """Carry packets both ways until the line is quiet."""
        busy = True
        while busy:
            busy = False
            while (output := self.link.next_output()) is not None:
                busy = True
                if isinstance(output, QueueConfigured):
                    self.stack.link_state(LinkState.RESET)
                    self.stack.link_state(LinkState.UP)
                else:
                    self.stack.receive_packet(output)
            while (output := self.stack.next_output()) is not None:
                busy = True
                if isinstance(output, QueueConfigured):
                    self.resets += 1
                    self.link.link_state(LinkState.RESET)
                    self.link.link_state(LinkState.UP)
                else:
                    self.link.receive_packet(output)
            while (event := self.link.next_event()) is not None:
                if isinstance(event, MessageReceived):
                    self.received.append(event.data)
                elif not isinstance(event, LinkUp):
                    self.link.up()
                    busy = True

    def reset(self) -> None:
        """Take the link down from our end, and ask for a new one."""
        self.link.down()
        self.carry()
        self.link.up()
        self.received.clear()

    def send(self, *messages: bytes) -> list[bytes]:
        """Send ``messages`` in one go and return what was answered."""
        for message in messages:
            self.link.send(message)
        return self.answers()

    def answers(self) -> list[bytes]:
        """Return what has come since the last look."""
        self.carry()
        received, self.received = self.received, []
        return received

    def say(self, text: str, size: int = 56) -> list[str]:
        """Send one message in hexadecimal; return the answers in hexadecimal."""
        return [answer.hex(" ") for answer in self.send(octets(text, size))]


class ServerScript(_Script[Server]):
    """A client's script against a server."""

    def __init__(
        self,
        attributes: DiskAttributes = ATTRIBUTES,
        *,
        extensions: Extension = NO_EXTENSION,
        polls: bool = False,
    ) -> None:
        super().__init__(Server(attributes, extensions=extensions, polls=polls))

    def events(self) -> list[object]:
        """Return what the server reported since the last look."""
        self.carry()
        found: list[object] = []
        while (event := self.stack.next_event()) is not None:
            found.append(event)
        return found

    def agree(self, minor: int = 2, xfer_mode: int = 3) -> None:
        """Do VER_INFO and ATTR_INFO."""
        assert len(self.say(f"01 01 00 01 {SID} 00 01 {minor:04x} 03")) == 1
        answers = self.say(
            f"01 01 00 02 {SID} {xfer_mode:02x} 00 00 00 00 00 02 00" + "00" * 16 + "00" * 7 + "80"
        )
        assert [answer[3:5] for answer in answers] == ["02"]

    def register(self, num_descriptors: int = 8, descriptor_size: int = 64) -> None:
        """Do DRING_REG; the driver accepts."""
        size = 8192 * -(-num_descriptors * descriptor_size // 8192)
        ring = f"{num_descriptors:08x} {descriptor_size:08x} 0003 0000 00000001"
        self.say(f"01 01 00 03 {SID} {'00' * 8} {ring} {0x2000:016x} {size:016x}", 48)
        self.events()
        self.stack.accept_ring()
        assert [answer[1] for answer in self.answers()] == [2]

    def data(self, minor: int = 2) -> None:
        """Do the whole handshake of a ring client and forget its events."""
        self.agree(minor)
        self.register()
        self.say(f"01 01 00 05 {SID}")
        assert self.stack.is_ready
        self.events()

    def inband(self) -> None:
        """Do the whole handshake of an in-band client and forget its events."""
        self.agree(xfer_mode=2)
        self.say(f"01 01 00 05 {SID}")
        assert self.stack.is_ready
        self.events()

    def ring(
        self, seq_num: int, start: int, end: int, *, state: int = 0, sid: str = SID, completions: int = 0
    ) -> bytes:
        """Return a DRING_DATA INFO."""
        body = (
            f"{seq_num:016x} {1:016x} {start:08x} {end & 0xFFFFFFFF:08x} {state:02x} 000000 {completions:08x}"
        )
        return octets(f"02 01 00 42 {sid} {body}")


class ClientScript(_Script[Client]):
    """A server's script against a client."""

    def __init__(self, **options: object) -> None:
        super().__init__(Client(max_xfer_blocks=256, **options))  # type: ignore[arg-type]  # tests name options

    def events(self) -> list[object]:
        """Return what the client reported since the last look."""
        self.carry()
        found: list[object] = []
        while (event := self.stack.next_event()) is not None:
            found.append(event)
        return found
