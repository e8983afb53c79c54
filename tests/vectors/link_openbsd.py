"""OpenBSD's side of an LDC link: a state for each step of the handshake, and every surprise is a reset.

It differs from Solaris' where a peer can see it: it never looks at a sequence number, RDX carries the mode as
RTS and RTR do, a VER ACK after having ACKed the peer's VER resets the channel, and a control packet is
silently not sent while the link state is RESET. A client starts whenever it sees the link come UP, and throws
away what its queue holds; a server never starts. Sources: OpenBSD ``sys/arch/sparc64/dev/ldc.c`` 1.7 to 1.14
(``ldc_rx_ctrl_*``, ``ldc_send_*``, ``ldc_reset``), ``vdsk.c`` 1.33 (``vdsk_attach``, ``vdsk_rx_intr``),
``vdsp.c`` 1.36 (``vdsp_rx_intr``, ``vdsp_ldc_start``).

What the driver does not check is compared all the same: these scripts are there to see our side.
"""

import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from tests.vectors.link import RDX, RTR, RTS, VER_ACK, VER_INFO, Channels, Link
from tests.vectors.octets import Mismatch, compare, raw
from tests.vectors.records import DOWN, RESET, UP

POLL_S = 0.001
MOST_RESETS = 3  # of one handshake; a pair that needs more will never agree

OUR_RTS = raw("01 01 02 01  00 00 00 00", 64)
OUR_RTR = raw("01 01 03 01  00 00 00 00", 64)
OUR_RDX = raw("01 01 04 01  00 00 00 01", 64)  # env is the mode here too


class State(Enum):
    """``lc_state``: the last packet of the handshake that was sent, or answered."""

    IDLE = auto()
    SND_VERS = auto()
    RCV_VERS = auto()
    SND_RTS = auto()
    SND_RTR = auto()
    SND_RDX = auto()


class OpenbsdLink(Link[Channels]):
    """A link driven by interrupts: take a datagram (``channel.pump``), then call :meth:`interrupt`."""

    def __init__(self, channel: Channels) -> None:
        super().__init__(channel)
        self.resets = 0  # that this side made, ever
        self.refused = 0  # control packets silently not sent, ever
        self.seen = DOWN  # lc_rx_state
        self.forget()

    def forget(self) -> None:
        """The link is where its handshake begins."""
        self.state = State.IDLE
        self.is_up = False
        self.sent = -1  # lc_tx_seqid, less one
        self.received = 0

    def renew(self, channel: Channels) -> None:
        """Go on over a new connection: the old one is DOWN first."""
        super().renew(channel)
        self.seen = DOWN
        self.forget()

    def reset(self) -> None:
        """Reconfigure the queue, as upon everything unexpected."""
        self.channel.configure_queue()
        self.forget()
        self.seen = DOWN
        self.resets += 1

    def interrupt(self) -> bytes | None:
        """Look at the link state, else take one packet; a message if it ended one."""
        state = self.channel.link_state()
        if state != self.seen:
            self.seen = state
            self.link_changed(state)
            return None
        if self.seen == DOWN or not self.channel.queue:
            return None
        packet = self.channel.queue.popleft()
        if packet[0] == 0x01:
            self._control(packet)
            return None
        if packet[:2] != raw("02 01") or not self.is_up:
            raise Mismatch(f"a packet of another kind, or too early: {packet.hex(' ')}")
        return self.unwrap(packet)

    def link_changed(self, state: int) -> None:
        """A server: DOWN and RESET end everything, UP means nothing."""
        if state in (DOWN, RESET):
            self.forget()

    def start(self) -> None:
        """Send VER INFO; a client's move."""
        self._answer(VER_INFO, State.SND_VERS)

    def _answer(self, packet: bytes, state: State) -> None:
        """Send a control packet, unless the link state is not UP."""
        if self.channel.link_state() != UP:
            self.refused += 1
            return
        self.channel.send_packet(packet)
        self.state = state

    def _control(self, packet: bytes) -> None:
        name, expected, state, action = _RECEIVED.get((packet[2], packet[1]), _UNKNOWN)
        compare(name, packet, expected)
        self.checked += 1
        if state not in (None, self.state):
            self.reset()
        else:
            action(self)

    def _version(self) -> None:
        self._answer(VER_ACK, State.RCV_VERS)

    def _version_agreed(self) -> None:
        self._answer(OUR_RTS, State.SND_RTS)

    def _rts(self) -> None:
        self._answer(OUR_RTR, State.SND_RTR)
        self.sent, self.received = 0, 0

    def _rtr(self) -> None:
        self._answer(OUR_RDX, State.SND_RDX)
        self.sent, self.received = 1, 0
        self.is_up = True

    def _rdx(self) -> None:
        self.received = 1
        self.is_up = True


class VdskLink(OpenbsdLink[Channels]):
    """The client's: it starts whenever the link comes up."""

    def link_changed(self, state: int) -> None:
        """Whatever happened, begin at the beginning and throw the queue's contents away."""
        self.forget()
        if state == UP:
            self.start()
        self.channel.queue.clear()

    def come_up(self, *, polls: bool) -> None:
        """Attach; ends when the link is up.

        ``polls``: as while the system boots, where the interrupt handler is called every millisecond, so
        that all that was under way is there by then. Otherwise each datagram is an interrupt as it comes.
        """
        before = self.resets
        self.start()
        while not self.is_up:
            if polls:
                time.sleep(POLL_S)
                while self.channel.pump(wait=False):
                    pass
            elif not self.channel.queue:
                self.channel.pump()
            self.interrupt()
            if self.resets - before > MOST_RESETS:
                raise Mismatch(f"{self.resets - before} resets of the link and no end")


_Action = Callable[[OpenbsdLink[Any]], None]
_UNKNOWN: tuple[str, bytes, State | None, _Action] = ("a control packet", b"", None, OpenbsdLink.reset)
_RECEIVED: dict[tuple[int, int], tuple[str, bytes, State | None, _Action]] = {
    (1, 1): ("LDC VER INFO", VER_INFO, None, OpenbsdLink._version),
    (1, 2): ("LDC VER ACK", VER_ACK, State.SND_VERS, OpenbsdLink._version_agreed),
    (2, 1): ("LDC RTS", RTS, State.RCV_VERS, OpenbsdLink._rts),
    (3, 1): ("LDC RTR", RTR, State.SND_RTS, OpenbsdLink._rtr),
    (4, 1): ("LDC RDX", RDX, State.SND_RTR, OpenbsdLink._rdx),
}
"""Control packets: name, octets, the state that awaits them (None: any), what is done. Else: a reset."""
