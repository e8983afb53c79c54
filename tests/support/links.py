"""A fake wire between two LDC links of any mode, and packets typed by hand.

Nothing here uses the layouts of ``protocol``: the bytes are written from the figures of the sources.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from protocol.ldc.events import LinkEvent, LinkReset, LinkState, MessageReceived, QueueConfigured
from protocol.ldc.link import Link
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import TransportState
from protocol.ldc.transport import Transport

CTRL, DATA, ERR = 0x01, 0x02, 0x10
INFO, ACK, NACK = 0x01, 0x02, 0x04
VER, RTS, RTR, RDX = 1, 2, 3, 4
START, STOP = 0x40, 0x80
UNRELIABLE, RELIABLE = 1, 3

Output = bytes | QueueConfigured
Link2 = tuple[Transport, Transport]


def packet(
    type_: int, stype: int, ctrl: int = 0, env: int = 0, seqid: int = 0, payload: bytes = b""
) -> bytes:
    """Return a packet of unreliable mode, its unused payload zero."""
    return struct.pack(">BBBBI56s", type_, stype, ctrl, env, seqid, payload)


def version(stype: int, major: int = 1, minor: int = 0) -> bytes:
    """Return a version packet."""
    return packet(CTRL, stype, VER, payload=struct.pack(">HH", major, minor))


def numbered(type_: int, stype: int, ctrl: int, seqid: int, ackid: int) -> bytes:
    """Return a packet as the generic sender builds it: with an ackid at offset 12."""
    return packet(type_, stype, ctrl, 0, seqid, struct.pack(">II", 0, ackid))


def rts(seqid: int = 0, mode: int = UNRELIABLE) -> bytes:
    """Return RTS."""
    return packet(CTRL, INFO, RTS, mode, seqid)


def rtr(seqid: int = 0, mode: int = UNRELIABLE) -> bytes:
    """Return RTR."""
    return packet(CTRL, INFO, RTR, mode, seqid)


def rdx(seqid: int = 1) -> bytes:
    """Return RDX."""
    return packet(CTRL, INFO, RDX, 0, seqid)


def data(seqid: int, payload: bytes = b"message", flags: int = START | STOP) -> bytes:
    """Return one piece of a message; ``flags`` are START and STOP."""
    return packet(DATA, INFO, 0, flags | len(payload), seqid, payload)


def piece(seqid: int, payload: bytes = b"bytes", flags: int = START | STOP, ackid: int = 0) -> bytes:
    """Return one piece of a write in reliable mode; ``flags`` are START and STOP."""
    rest = struct.pack(">II48s", 0, ackid, payload)
    return packet(DATA, INFO, 0, flags | len(payload), seqid, rest)


def ack(seqid: int, ackid: int) -> bytes:
    """Return DATA/ACK of reliable mode."""
    return numbered(DATA, ACK, 0, seqid, ackid)


MARK: Final = QueueConfigured()


def events(link: Transport) -> list[LinkEvent]:
    """Take all events."""
    found = []
    while (event := link.next_event()) is not None:
        found.append(event)
    return found


def outputs(link: Transport) -> list[Output]:
    """Take all outputs."""
    found = []
    while (output := link.next_output()) is not None:
        found.append(output)
    return found


def feed(link: Transport, *packets: bytes) -> list[Output]:
    """Give packets and take all outputs."""
    for each in packets:
        link.receive_packet(each)
    return outputs(link)


def ready() -> Link:
    """Return a link whose peer has just appeared: READY."""
    link = Link()
    link.link_state(LinkState.UP)
    assert events(link) == [LinkReset("peer appeared")]
    return link


def vready() -> Link:
    """Return a link that has agreed to the peer's version 1.0: VREADY."""
    link = ready()
    assert feed(link, version(INFO)) == [version(ACK)]
    return link


def responder() -> Link:
    """Return a link that is UP because it has received RDX; it never sent one."""
    link = vready()
    assert feed(link, rts()) == [rtr()]
    feed(link, rdx())
    events(link)
    return link


def initiator() -> Link:
    """Return a link that is UP because it has sent RDX; it has received none."""
    link = ready()
    link.up()
    assert outputs(link) == [version(INFO)]
    assert feed(link, version(ACK)) == [rts()]
    assert feed(link, rtr()) == [numbered(CTRL, INFO, RDX, 1, 0)]
    events(link)
    return link


def stream(mtu: int = 8192) -> ReliableLink:
    """Return a reliable link that is UP because it has received RDX: its first data is 1, the peer's 2."""
    link = ReliableLink(mtu)
    link.link_state(LinkState.UP)
    assert feed(link, version(INFO), rts(mode=RELIABLE)) == [version(ACK), rtr(mode=RELIABLE)]
    assert feed(link, rdx()) == []
    assert link.is_up
    events(link)
    return link


def in_state(state: TransportState) -> Link:
    """Return a link in ``state``, nothing left to take from it."""
    makers = {
        TransportState.OPEN: Link,
        TransportState.READY: ready,
        TransportState.VREADY: vready,
        TransportState.UP: responder,
    }
    link = makers[state]()
    assert link.state is state
    return link


class FakeWire:
    """Two links back to back; what each sends waits in a queue until it is delivered.

    A :class:`QueueConfigured` mark travels in order with the packets, as the channel carries it. The layer
    above is as simple as can be: it answers each LinkReset with ``up()`` if its side is in ``eager``, and
    keeps the messages.
    """

    def __init__(self, *, eager: tuple[int, ...] = (0, 1), make: Callable[[], Transport] = Link) -> None:
        self.links: Link2 = (make(), make())
        self.queues: tuple[deque[Output], deque[Output]] = (deque(), deque())  # towards 0, towards 1
        self.events: tuple[list[LinkEvent], list[LinkEvent]] = ([], [])
        self.eager = eager
        for side in (0, 1):
            self.links[side].link_state(LinkState.UP)
            self.collect(side)

    def collect(self, side: int) -> None:
        """Take what a link says: events to the layer above, outputs onto the wire."""
        link = self.links[side]
        while (event := link.next_event()) is not None:
            self.events[side].append(event)
            if isinstance(event, LinkReset) and side in self.eager:
                link.up()
        self.queues[1 - side].extend(outputs(link))

    def deliver(self, side: int) -> None:
        """Give ``side`` the next thing from the wire, if there is one."""
        if self.queues[side]:
            self.give(side, self.queues[side].popleft())

    def give(self, side: int, output: Output) -> None:
        """Give ``side`` a packet or mark."""
        if isinstance(output, QueueConfigured):
            self.links[side].link_state(LinkState.RESET)
        else:
            self.links[side].receive_packet(output)
        self.collect(side)

    def act(self, side: int, verb: str, *arguments: bytes) -> None:
        """Call ``up``, ``down`` or ``send`` of one link and put what it sends onto the wire."""
        getattr(self.links[side], verb)(*arguments)
        self.collect(side)

    def settle(self, limit: int = 10_000) -> None:
        """Deliver until nothing is under way; fails if that takes more than ``limit`` deliveries."""
        while any(self.queues):
            for side in (0, 1):
                limit -= bool(self.queues[side])
                self.deliver(side)
            assert limit > 0, "the links do not come to rest"

    def messages(self, side: int) -> list[bytes]:
        """Return the messages that ``side`` has received."""
        return [event.data for event in self.events[side] if isinstance(event, MessageReceived)]
