"""The LDC link in unreliable mode, spoken by hand: packets, handshake, fragments, sequence numbers.

Packet: type, stype, ctrl, env, seqid (4 octets), then 56 octets of payload. Sources: Solaris
``sys/ldc_impl.h`` (packet, ``LDC_INIT_SEQID``), ``ldc.c`` (``i_ldc_process_VER``, ``_RTS``, ``_RTR``,
``_RDX``, ``i_ldc_check_seqid``); FWARC 2006/571.
"""

import struct
from typing import Generic, TypeVar

from tests.vectors.octets import compare, raw
from tests.vectors.records import Connection

Channels = TypeVar("Channels", bound=Connection)

PAYLOAD = 56  # octets of a message in one packet of unreliable mode
START = 0x40
STOP = 0x80

VER_INFO = raw("01 01 01 00  00 00 00 00  00 01 00 00", 64)  # CTRL INFO VER, link version 1.0
VER_ACK = raw("01 02 01 00  00 00 00 00  00 01 00 00", 64)  # CTRL ACK VER, 1.0
RTS = raw("01 01 02 01  00 00 00 00", 64)  # CTRL INFO RTS, env = mode 1, unreliable; seqid 0
RTR = raw("01 01 03 01  00 00 00 00", 64)  # CTRL INFO RTR, the same
RDX = raw("01 01 04 00  00 00 00 01", 64)  # CTRL INFO RDX, seqid 1
# RDX as Solaris builds it carries an ackid at offset 12, in every mode; to be ignored.
RDX_WITH_ACKID = raw("01 01 04 00  00 00 00 01  00 00 00 00  00 00 00 07", 64)


def header(env: int, seqid: int) -> bytes:
    """What precedes the payload of a data packet: DATA INFO, ctrl 0."""
    return struct.pack(">BBBBI", 0x02, 0x01, 0x00, env, seqid)


class Link(Generic[Channels]):
    """Either end of the link; ``sent`` and ``received`` are the last sequence ids of either direction."""

    def __init__(self, channel: Channels, stale: int = 0) -> None:
        """``stale`` fills what a data packet leaves unused; Solaris sends what lay in its queue there."""
        self.channel = channel
        self.stale = stale
        self.sent = 0
        self.received = 0
        self.checked = 0

    def renew(self, channel: Channels) -> None:
        """Go on over a new connection, from the beginning."""
        self.channel = channel
        self.sent = self.received = 0

    def expect_packet(self, what: str, expected: bytes) -> None:
        """Receive one packet and compare all 64 octets."""
        compare(what, self.channel.receive_packet(), expected)
        self.checked += 1

    def answer_handshake(self) -> None:
        """Come up without ever sending a VER INFO: the server starts, we only answer.

        A side that never sent an RDX begins its data at seqid 1, the other, which did, at 2.
        """
        self.expect_packet("LDC VER INFO", VER_INFO)
        self.channel.send_packet(VER_ACK)
        self.expect_packet("LDC RTS", RTS)
        self.channel.send_packet(RTR)
        self.expect_packet("LDC RDX", RDX)
        self.sent, self.received = 0, 1

    def begin_handshake(self) -> None:
        """Come up as a client that was first: the server only answers, and its data begin at seqid 1.

        If the machine is so slow that the server has begun after all, both do.
        """
        self.channel.send_packet(VER_INFO)
        packet = self.channel.receive_packet()
        self.channel.queue.appendleft(packet)
        if packet == VER_INFO:
            self.expect_packet("LDC VER INFO", VER_INFO)
            self._both_begun(RDX)
            return
        self.expect_packet("LDC VER ACK", VER_ACK)
        self.channel.send_packet(RTS)
        self.expect_packet("LDC RTR", RTR)
        self.channel.send_packet(RDX)
        self.sent, self.received = 1, 0

    def cross_handshake(self, rdx: bytes = RDX, *, first: bool = False) -> None:
        """Come up as two drivers do that both called ``ldc_up``: each sends VER, ACK, RTS, RTR and RDX.

        ``first``: our VER INFO does not wait for the peer's.
        """
        if first:
            self.channel.send_packet(VER_INFO)
        self.expect_packet("LDC VER INFO", VER_INFO)
        if not first:
            self.channel.send_packet(VER_INFO)
        self._both_begun(rdx)

    def _both_begun(self, rdx: bytes) -> None:
        self.expect_packet("LDC VER ACK", VER_ACK)
        self.channel.send_packet(VER_ACK)
        self.expect_packet("LDC RTS", RTS)
        self.channel.send_packet(RTS)
        self.expect_packet("LDC RTR", RTR)
        self.channel.send_packet(RTR)
        self.expect_packet("LDC RDX", RDX)
        self.channel.send_packet(rdx)
        self.sent, self.received = 1, 1

    def send(self, message: bytes) -> None:
        """Send one message, in as many packets as it takes; only the last may be part full."""
        pieces = [message[at : at + PAYLOAD] for at in range(0, len(message), PAYLOAD)]
        for number, piece in enumerate(pieces):
            env = len(piece) | (START if number == 0 else 0) | (STOP if number == len(pieces) - 1 else 0)
            self.sent = (self.sent + 1) & 0xFFFFFFFF
            stale = bytes([self.stale]) * (PAYLOAD - len(piece))
            self.channel.send_packet(header(env, self.sent) + piece + stale)

    def expect(self, what: str, message: bytes) -> None:
        """Receive one message and compare every octet of its packets; what they leave unused must be zero."""
        pieces = [message[at : at + PAYLOAD] for at in range(0, len(message), PAYLOAD)]
        for number, piece in enumerate(pieces):
            env = len(piece) | (START if number == 0 else 0) | (STOP if number == len(pieces) - 1 else 0)
            self.received = (self.received + 1) & 0xFFFFFFFF
            expected = header(env, self.received) + piece.ljust(PAYLOAD, b"\0")
            self.expect_packet(f"{what}, packet {number + 1}", expected)

    def receive(self) -> bytes:
        """Receive one message of one packet: its header and what it leaves unused are compared."""
        return self.unwrap(self.channel.receive_packet())

    def unwrap(self, packet: bytes) -> bytes:
        """The message in a data packet that is the next one and holds a whole message."""
        length = packet[3] & 0x3F
        self.received = (self.received + 1) & 0xFFFFFFFF
        expected = header(START | STOP | length, self.received) + packet[8 : 8 + length]
        compare("a packet of data", packet, expected.ljust(64, b"\0"))
        self.checked += 1
        return packet[8 : 8 + length]

    def discard_data(self) -> int:
        """Wait for a control packet; data that come before it are of the old link. Returns how many."""
        discarded = 0
        while (packet := self.channel.receive_packet())[0] == 0x02:
            discarded += 1
        self.channel.queue.appendleft(packet)
        return discarded

    def reset(self) -> None:
        """Reset the channel ourselves; our peer knows, and does not reset it once more.

        Solaris does (``ldc.c``, ``i_ldc_reset``), to empty a queue; on an ordered socket nothing is in it.
        """
        self.channel.configure_queue()
        self.sent = self.received = 0

    def expect_reset(self) -> None:
        """The server resets the channel: link state RESET. We were up, so we reconfigure our queue as well.

        That throws away what lay in it, the server's first VER INFO; and the server, which sees it as
        RESET, begins again without another reset of its own, so that this goes to and fro once only.
        Source: Solaris ``ldc.c``, ``i_ldc_reset`` and ``i_ldc_process_intr``.
        """
        self.channel.receive_reset()
        self.expect_packet("LDC VER INFO after a reset", VER_INFO)
        self.channel.configure_queue()
        self.sent = self.received = 0
