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
end we are.

Source: Solaris ldc.c, i_ldc_ctrlmsg, i_ldc_process_VER and its neighbours; FWARC 2006/571.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, IntFlag
from types import MappingProxyType
from typing import Final

from protocol.ldc.packet import PacketCtrl, PacketStype

__all__ = ["RECEIVED", "TRANSITIONS", "Action", "Handshake", "Move", "TransportState"]


class TransportState(IntEnum):
    """How far the link is up; the numbers are the sums of Solaris' bits. Source: sys/ldc_impl.h, TS_*."""

    OPEN = 0x0F  # waits for the peer to configure its receive queue
    READY = 0x1F  # waits for ``up()`` here or a version packet from the peer
    VREADY = 0x3F  # version agreed; waits for RTS, RTR or RDX
    UP = 0x7F  # data flows


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
    EXCHANGED = "exchanged"  # RDX sent or received
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
