"""One end of a link, under any packets, link states and calls from above; each step leaves it in order.

Input: one byte for the mode, then instructions. An instruction with bit 7 set is a well-formed packet: its
low five bits say which, bit 6 that its number comes too late by one, bit 5 that the peer counts it anyway.
The others are looked up in a table by their low three bits. In the end a peer that behaves itself comes up
with the link, whatever went before, and a message gets through both ways.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from protocol.errors import LocalProtocolError
from protocol.ldc.events import (
    LinkEvent,
    LinkReset,
    LinkState,
    LinkUp,
    MessageReceived,
    QueueConfigured,
    StreamReceived,
)
from protocol.ldc.fragment import MAX_MESSAGE_SIZE, QUEUE_PACKETS
from protocol.ldc.link import Link
from protocol.ldc.packet import (
    ENV_START,
    ENV_STOP,
    PACKET_SIZE,
    RELIABLE_PAYLOAD,
    UNRELIABLE_PAYLOAD,
    Mode,
    PacketCtrl,
    PacketStype,
    PacketType,
    UnreliablePacketLayout,
    VersionPacketLayout,
)
from protocol.ldc.raw import RawLink
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import TransportState
from tests.fuzz.tape import Tape, attempt

__all__ = ["MODES", "PACKETS", "LinkDriver", "fuzz_one"]

Output: TypeAlias = bytes | QueueConfigured


class AnyLink(Protocol):
    """What the links of all modes have in common."""

    @property
    def is_up(self) -> bool:
        """Whether messages may be sent."""

    @property
    def in_reset(self) -> bool:
        """Whether there was a reset since the last ``up()``."""

    @property
    def state(self) -> TransportState:
        """How far the handshake is."""

    def next_event(self) -> LinkEvent | None:
        """Return the next event."""

    def next_output(self) -> Output | None:
        """Return the next packet or mark."""

    def up(self) -> None:
        """Ask for a handshake."""

    def down(self) -> None:
        """Take the link down."""

    def send(self, message: bytes, /) -> int | None:
        """Queue a message; of a stream return how many of its bytes."""

    def link_state(self, state: LinkState, /) -> None:
        """Take the hypervisor's report."""

    def receive_packet(self, packet: bytes, /) -> None:
        """Take a packet."""


class Facts(NamedTuple):
    """What a mode promises: how long a queue is, which messages fit, one that does, and what may be told."""

    make: Callable[[], AnyLink]
    queue_packets: int
    fits: Callable[[int], bool]
    message: bytes
    most: int  # bytes of one event


MODES: Final[Mapping[int, Facts]] = {
    Mode.RAW: Facts(
        RawLink, 511, lambda size: size > 0 and size % 64 == 0 and size <= 511 * 64, bytes(128), 64
    ),
    Mode.UNRELIABLE: Facts(
        Link,
        QUEUE_PACKETS,
        lambda size: 0 < size <= MAX_MESSAGE_SIZE,
        bytes(UNRELIABLE_PAYLOAD + 1),
        MAX_MESSAGE_SIZE,
    ),
    Mode.RELIABLE: Facts(ReliableLink, 1023, lambda size: True, bytes(RELIABLE_PAYLOAD + 1), 8192),
}
"""Mode number → its facts. A number that is not here stands for the mode of vDisk."""


class Form(NamedTuple):
    """A well-formed packet: its header, and a version or a payload."""

    type: int
    stype: int
    ctrl: int = 0
    env: int = 0
    version: tuple[int, int] = (0, 0)


_CTRL, _DATA, _ERR = PacketType.CTRL, PacketType.DATA, PacketType.ERR
_INFO, _ACK, _NACK = PacketStype
_FULL: Final = UNRELIABLE_PAYLOAD

PACKETS: Final = (
    Form(_CTRL, _INFO, PacketCtrl.VER, version=(1, 0)),
    Form(_CTRL, _ACK, PacketCtrl.VER, version=(1, 0)),
    Form(_CTRL, _INFO, PacketCtrl.RTS, Mode.UNRELIABLE),
    Form(_CTRL, _INFO, PacketCtrl.RTR, Mode.UNRELIABLE),
    Form(_CTRL, _INFO, PacketCtrl.RDX),
    Form(_DATA, _INFO, env=ENV_START | ENV_STOP | 7),
    Form(_DATA, _INFO, env=ENV_START | _FULL),
    Form(_DATA, _INFO, env=_FULL),
    Form(_DATA, _INFO, env=ENV_STOP | 1),
    Form(_DATA, _NACK),
    Form(_CTRL, _NACK, PacketCtrl.VER, version=(1, 0)),
    Form(_CTRL, _NACK, PacketCtrl.VER, version=(0, 0)),
    Form(_CTRL, _NACK, PacketCtrl.VER, version=(7, 3)),
    Form(_CTRL, _INFO, PacketCtrl.VER, version=(1, 9)),
    Form(_CTRL, _INFO, PacketCtrl.VER, version=(3, 0)),
    Form(_CTRL, _INFO, PacketCtrl.VER, version=(0, 5)),
    Form(_CTRL, _ACK, PacketCtrl.VER, version=(2, 1)),
    Form(_CTRL, _INFO, PacketCtrl.RTS, Mode.RELIABLE),
    Form(_CTRL, _INFO, PacketCtrl.RTR, Mode.RAW),
    Form(_CTRL, _NACK, PacketCtrl.RTS),
    Form(_CTRL, _NACK, PacketCtrl.RTR),
    Form(_CTRL, _NACK, PacketCtrl.RDX),
    Form(_CTRL, _ACK, PacketCtrl.RDX),
    Form(_DATA, _ACK),
    Form(_DATA, _INFO, env=ENV_START | ENV_STOP),
    Form(_DATA, _INFO, env=ENV_START | 0x3F),
    Form(_ERR, _INFO),
    Form(_CTRL, _INFO, 9),
    Form(_CTRL | _DATA, _INFO | _NACK, PacketCtrl.RDX),
)
"""What the low five bits of a packet instruction choose from; the handshake and data come first."""

SEQID_MASK: Final = 0xFFFF_FFFF
FEW_EVENTS: Final = 4  # what one input means by itself, beside what was held back
REST: Final = 200  # deliveries after which two ends that behave themselves are done


class LinkDriver:
    """The link, what the peer counts, and the checks after each step."""

    def __init__(self, tape: Tape) -> None:
        mode = tape.byte()
        self.mode: Final = mode if mode in MODES else int(Mode.UNRELIABLE)
        self.facts: Final = MODES[self.mode]
        self.link: Final = self.facts.make()
        self.tape: Final = tape
        self.peer = LinkState.DOWN
        self.seqid = 0  # of the last packet the peer has sent
        self.seen = 0  # of the last packet it has received
        self.lazy = False  # output stays where it is
        self.ups = 0  # steps after which the link was up

    def packet(self, instruction: int) -> None:
        """Give a well-formed packet."""
        form = PACKETS[(instruction & 0x1F) % len(PACKETS)]
        late = instruction >> 6 & 1
        seqid = (self.seqid + 1 + late) & SEQID_MASK
        if not late or instruction & 0x20:
            self.seqid = seqid
        if form.ctrl == PacketCtrl.VER:
            packet = VersionPacketLayout.codec.pack(*form[:4], seqid, *form.version)
        else:
            form = form._replace(env=self.mode) if form.env == Mode.UNRELIABLE else form  # of RTS and RTR
            payload = bytes(4) + self.seen.to_bytes(4, "big") + b"payload"  # in reliable mode: an ackid
            packet = UnreliablePacketLayout.codec.pack(*form[:4], seqid, payload)
        self.link.receive_packet(packet)

    def raw(self) -> None:
        """Give any 64 bytes; the peer counts on from their number."""
        packet = self.tape.take(PACKET_SIZE)
        self.seqid = int.from_bytes(packet[4:8], "big")
        self.link.receive_packet(packet)

    def wrong_size(self) -> None:
        """Give what is no packet: refused, and nothing has changed."""
        size = self.tape.byte()
        if size != PACKET_SIZE:
            before = self.link.state, self.link.is_up
            assert attempt(self.link.receive_packet, bytes(size)) is None
            assert (self.link.state, self.link.is_up) == before

    def report(self) -> None:
        """Report a state of the peer's queue."""
        self.peer = self.tape.pick(tuple(LinkState))
        self.link.link_state(self.peer)

    def up(self) -> None:
        """Ask for a handshake, if the peer is there."""
        if self.peer is not LinkState.DOWN:
            self.link.up()

    def down(self) -> None:
        """Take the link down."""
        self.link.down()

    def send(self) -> None:
        """Send a message; refused if the link is not up, it is too long, or output was left in the queue."""
        size = self.tape.number(2) % (MAX_MESSAGE_SIZE + 2)
        legal = self.link.is_up and self.facts.fits(size)
        try:
            taken = self.link.send(bytes(size))
        except LocalProtocolError:
            assert not legal or self.lazy
        else:
            assert legal
            assert taken is None or taken <= size

    def turn_lazy(self) -> None:
        """Begin to leave output in the queue, or stop that."""
        self.lazy = not self.lazy

    def look(self) -> None:
        """Take what the link says, as far as it is not left there, and check that it is in order."""
        link = self.link
        assert link.is_up == (link.state is TransportState.UP and not link.in_reset)
        count = 0
        self.ups += link.is_up
        while (event := link.next_event()) is not None:
            count += 1
            if isinstance(event, MessageReceived | StreamReceived):
                assert 0 < len(event.data) <= self.facts.most
        assert count <= self.facts.queue_packets + FEW_EVENTS
        if self.lazy:
            return
        outputs = _take(link)
        assert len(outputs) <= self.facts.queue_packets + 1
        for output in outputs:
            if not isinstance(output, QueueConfigured):
                assert len(output) == PACKET_SIZE
                self.seen = int.from_bytes(output[4:8], "big")

    def play(self) -> None:
        """Do what the tape says."""
        while self.tape:
            instruction = self.tape.byte()
            if instruction & 0x80:
                self.packet(instruction)
            else:
                INSTRUCTIONS[instruction & 7](self)
            self.look()

    def finish(self) -> None:
        """A new peer appears and both ends come up; a message gets through each way."""
        self.lazy = False
        _take(self.link)
        self.link.link_state(LinkState.RESET)
        pair = _Pair(self.link, self.facts.make())
        for end in pair.ends:
            end.link_state(LinkState.UP)
        pair.settle()
        assert pair.ends[0].is_up
        assert pair.ends[1].is_up
        for number, end in enumerate(pair.ends):
            end.send(self.facts.message)
            pair.settle()
            assert pair.received[1 - number] == self.facts.message


INSTRUCTIONS: Final[tuple[Callable[[LinkDriver], None], ...]] = (
    LinkDriver.report,
    LinkDriver.up,
    LinkDriver.down,
    LinkDriver.send,
    LinkDriver.raw,
    LinkDriver.wrong_size,
    LinkDriver.turn_lazy,
    LinkDriver.look,
)
"""What the low three bits of any other instruction choose from."""


class _Pair:
    """Two links back to back."""

    def __init__(self, *ends: AnyLink) -> None:
        self.ends: Final = ends
        self.received: Final = (bytearray(), bytearray())
        self.queues: Final[tuple[deque[Output], deque[Output]]] = (deque(), deque())  # towards each end

    def settle(self) -> None:
        """Deliver until nothing moves."""
        for number in (0, 1):
            self._take(number)
        for _ in range(REST):
            if not any(self.queues):
                return
            for number, queue in enumerate(self.queues):
                if queue:
                    self._give(number, queue.popleft())
        raise AssertionError("two links do not come to rest")

    def _give(self, number: int, output: Output) -> None:
        if isinstance(output, QueueConfigured):
            self.ends[number].link_state(LinkState.RESET)
            self.ends[number].link_state(LinkState.UP)
        else:
            self.ends[number].receive_packet(output)
        self._take(number)

    def _take(self, number: int) -> None:
        end = self.ends[number]
        while (event := end.next_event()) is not None:
            if isinstance(event, MessageReceived | StreamReceived):
                self.received[number].extend(event.data)
            elif isinstance(event, LinkReset):
                end.up()
            else:
                assert isinstance(event, LinkUp)
        self.queues[1 - number].extend(_take(end))


def _take(link: AnyLink) -> list[Output]:
    """Take all output."""
    found = []
    while (output := link.next_output()) is not None:
        found.append(output)
    return found


def fuzz_one(data: bytes) -> None:
    """Run a program against one link."""
    driver = LinkDriver(Tape(data))
    driver.play()
    driver.finish()
