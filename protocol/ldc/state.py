"""States of an LDC link and everything that moves between them, as tables.

Theory of operation. A link climbs four states: OPEN, READY, VREADY, UP. Being READY is the peer's doing: it
has configured its receive queue. From there the handshake goes on, each step answered by the next:

    VER INFO → VER ACK → RTS → RTR → RDX

Either end may start, and usually both do at once; then each sends all five in this order. An end is UP when
it has sent RDX or received it, whichever comes first. A reset, from either end and at any time, throws it
back to READY, or to OPEN if the peer is gone; it must climb again.

Two flags stand beside the state. IN_RESET says that the layer above has not yet called ``up()`` since the
last reset: the handshake runs all the same, but nothing is told and received data waits. The handshake
flags say which packets have passed; ``up()`` does nothing when any has, and a second RDX is told from the
first by them.

What is not in a table is ignored: the packet is consumed and nothing happens. The tables do not know which
end we are, nor whether the mode is unreliable or reliable: that much is the same in both.

In raw mode there is no handshake and no version: ``up()`` leads from READY to UP. The rest holds.

Source: Solaris ldc.c, i_ldc_ctrlmsg, i_ldc_process_VER and its neighbours; FWARC 2006/571.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, IntFlag
from types import MappingProxyType
from typing import Final

from protocol.ldc.packet import PacketCtrl, PacketStype

__all__ = [
    "RAW_TRANSITIONS",
    "RECEIVED",
    "STATUS",
    "TRANSITIONS",
    "Action",
    "Handshake",
    "LinkStatus",
    "Move",
    "TransportFlag",
    "TransportState",
]


class TransportFlag(IntFlag):
    """What has been done to bring a link up, one bit each. Source: sys/ldc_impl.h, TS_TXQ_RDY and on."""

    TXQ_RDY = 0x01  # transmit queue allocated
    RXQ_RDY = 0x02  # receive queue allocated
    QCONF_RDY = 0x04  # both configured
    CNEX_RDY = 0x08  # registered with the channel nexus
    LINK_READY = 0x10  # the peer has configured its receive queue
    VER_DONE = 0x20  # version agreed
    HSHAKE_DONE = 0x40  # RDX sent or received
    IN_RESET = 0x100  # no ``up()`` since the last reset; stands beside the state


class TransportState(IntEnum):
    """How far the link is up; each has the bits of the one before. Source: sys/ldc_impl.h, TS_OPEN and on."""

    OPEN = (  # waits for the peer to configure its receive queue
        TransportFlag.TXQ_RDY | TransportFlag.RXQ_RDY | TransportFlag.QCONF_RDY | TransportFlag.CNEX_RDY
    )
    READY = OPEN | TransportFlag.LINK_READY  # waits for ``up()``, or for the peer's handshake if there is one
    VREADY = READY | TransportFlag.VER_DONE  # version agreed; waits for RTS, RTR or RDX
    UP = VREADY | TransportFlag.HSHAKE_DONE  # data flows


class LinkStatus(IntEnum):
    """What a driver's client is told of the state. Source: sys/ldc.h, ldc_status_t."""

    INIT = 1  # queues not configured; not a state that a link here is ever in
    OPEN = 2  # queues configured, the peer is not there
    READY = 3  # the peer is there
    UP = 4  # data flows


class Handshake(IntFlag):
    """Which packets of the handshake have passed. Source: sys/ldc_impl.h, TS_SENT_VER and following."""

    NONE = 0
    SENT_VER = 0x01
    SENT_RTS = 0x02
    RCVD_RTR = 0x04
    SENT_RDX = 0x08
    RCVD_VER = 0x10
    RCVD_RTS = 0x20
    SENT_RTR = 0x40
    RCVD_RDX = 0x80


class Move(Enum):
    """What makes a link change its state."""

    PEER_PRESENT = "peer present"  # the peer's receive queue is configured
    VERSION_AGREED = "version agreed"  # VER ACK sent or received
    EXCHANGED = "exchanged"  # RDX sent or received; in raw mode, ``up()``
    RESET = "reset"  # back to the start, peer present
    PEER_ABSENT = "peer absent"  # back to the start, peer gone


_OPEN, _READY, _VREADY, _UP = TransportState

TRANSITIONS: Final[Mapping[tuple[TransportState, Move], TransportState]] = MappingProxyType(
    {
        (_OPEN, Move.PEER_PRESENT): _READY,
        (_OPEN, Move.VERSION_AGREED): _VREADY,
        (_READY, Move.VERSION_AGREED): _VREADY,
        (_VREADY, Move.VERSION_AGREED): _VREADY,
        (_VREADY, Move.EXCHANGED): _UP,
        (_UP, Move.EXCHANGED): _UP,
        **{(state, Move.RESET): _READY for state in TransportState},
        **{(state, Move.PEER_ABSENT): _OPEN for state in TransportState},
    }
)

RAW_TRANSITIONS: Final[Mapping[tuple[TransportState, Move], TransportState]] = MappingProxyType(
    {
        (_OPEN, Move.PEER_PRESENT): _READY,
        (_READY, Move.EXCHANGED): _UP,
        **{(state, Move.RESET): _READY for state in (_OPEN, _READY, _UP)},
        **{(state, Move.PEER_ABSENT): _OPEN for state in (_OPEN, _READY, _UP)},
    }
)

STATUS: Final[Mapping[TransportState, LinkStatus]] = MappingProxyType(
    {
        _OPEN: LinkStatus.OPEN,
        _READY: LinkStatus.READY,
        _VREADY: LinkStatus.READY,
        _UP: LinkStatus.UP,
    }
)


class Action(Enum):
    """What a received control packet makes a link do."""

    ANSWER_VERSION = "answer version"  # ACK or NACK the version offered
    ADOPT_VERSION = "adopt version"  # record the version agreed and send RTS
    CONFIRM_VERSION = "confirm version"  # must equal the one recorded; send RTS
    OFFER_AGAIN = "offer again"  # offer another version, or give up
    RESTART = "restart"  # the peer has started again: forget all, then take this packet as READY
    ANSWER_RTS = "answer RTS"  # adopt the sequence number and send RTR
    ANSWER_RTR = "answer RTR"  # adopt the sequence number and send RDX
    ACCEPT_RDX = "accept RDX"  # the first is the end of the handshake, a second a violation
    RESET = "reset"  # the peer refuses or contradicts itself


_VER, _RTS, _RTR, _RDX = PacketCtrl
_INFO, _ACK, _NACK = PacketStype

RECEIVED: Final[Mapping[tuple[int, int, TransportState], Action]] = MappingProxyType(
    {
        (_VER, _INFO, _OPEN): Action.ANSWER_VERSION,
        (_VER, _INFO, _READY): Action.ANSWER_VERSION,
        (_VER, _INFO, _VREADY): Action.RESTART,
        (_VER, _INFO, _UP): Action.RESTART,
        (_VER, _ACK, _OPEN): Action.ADOPT_VERSION,
        (_VER, _ACK, _READY): Action.ADOPT_VERSION,
        (_VER, _ACK, _VREADY): Action.CONFIRM_VERSION,
        (_VER, _ACK, _UP): Action.RESTART,
        (_VER, _NACK, _OPEN): Action.OFFER_AGAIN,
        (_VER, _NACK, _READY): Action.OFFER_AGAIN,
        (_VER, _NACK, _VREADY): Action.OFFER_AGAIN,
        (_VER, _NACK, _UP): Action.RESTART,
        (_RTS, _INFO, _VREADY): Action.ANSWER_RTS,
        (_RTS, _ACK, _VREADY): Action.RESET,
        (_RTS, _NACK, _VREADY): Action.RESET,
        (_RTR, _INFO, _VREADY): Action.ANSWER_RTR,
        (_RTR, _ACK, _VREADY): Action.RESET,
        (_RTR, _NACK, _VREADY): Action.RESET,
        (_RDX, _INFO, _VREADY): Action.ACCEPT_RDX,
        (_RDX, _INFO, _UP): Action.ACCEPT_RDX,
        (_RDX, _ACK, _VREADY): Action.RESET,
        (_RDX, _ACK, _UP): Action.RESET,
        (_RDX, _NACK, _VREADY): Action.RESET,
        (_RDX, _NACK, _UP): Action.RESET,
    }
)
