"""What a link tells the layer above, and the one thing besides packets that it tells the channel below."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, TypeAlias

__all__ = [
    "EventCode",
    "LinkDown",
    "LinkEvent",
    "LinkReset",
    "LinkState",
    "LinkUp",
    "MessageReceived",
    "QueueConfigured",
    "StreamReceived",
]


class LinkState(IntEnum):
    """State of the peer's receive queue as the hypervisor reports it.

    Source: Hypervisor API 3.0, LDC_RX_GET_STATE; OpenSPARC T2 hypervisor ldc.s, where RESET comes from.
    """

    DOWN = 0  # not configured: the peer is not there
    UP = 1  # configured, nothing changed
    RESET = 2  # configured again since the last look: the peer has reset its end


class EventCode(IntFlag):
    """What a Solaris driver's callback is given for an event; ``code`` of each below. Source: sys/ldc.h."""

    DOWN = 0x01  # LDC_EVT_DOWN
    RESET = 0x02  # LDC_EVT_RESET
    UP = 0x04  # LDC_EVT_UP
    READ = 0x08  # LDC_EVT_READ
    WRITE = 0x10  # LDC_EVT_WRITE: defined and never given


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The handshake is done and ``up()`` was called: messages may be sent. Given each time it becomes so."""

    code: ClassVar = EventCode.UP


@dataclass(frozen=True, slots=True)
class LinkReset:
    """The link is ready for a handshake, whatever went before is void; call ``up()`` when done with it.

    Also given when the peer appears. Source: Solaris sys/ldc.h, LDC_EVT_RESET.
    """

    code: ClassVar = EventCode.RESET
    cause: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The peer is gone; wait for :class:`LinkReset`. Source: Solaris sys/ldc.h, LDC_EVT_DOWN."""

    code: ClassVar = EventCode.DOWN


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole message has arrived; in raw mode, one packet. Source: Solaris sys/ldc.h, LDC_EVT_READ."""

    code: ClassVar = EventCode.READ
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamReceived:
    """The next bytes of the stream have arrived, 1 or more; where they are cut means nothing.

    Source: Solaris sys/ldc.h, LDC_EVT_READ; ldc.c, i_ldc_read_stream.
    """

    code: ClassVar = EventCode.READ
    data: bytes


LinkEvent: TypeAlias = LinkUp | LinkReset | LinkDown | MessageReceived | StreamReceived


@dataclass(frozen=True, slots=True)
class QueueConfigured:
    """Output: this end has configured its receive queue again.

    The channel carries it to the peer, in order with the packets, as :attr:`LinkState.RESET`. It is not given
    when the reset began with the peer, which knows.
    """
