"""What a link tells the layer above, and the one thing besides packets that it tells the channel below."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

__all__ = [
    "LinkDown",
    "LinkEvent",
    "LinkReset",
    "LinkState",
    "LinkUp",
    "MessageReceived",
    "QueueConfigured",
]


class LinkState(Enum):
    """State of the peer's receive queue as the hypervisor reports it.

    Source: Hypervisor API 3.0, LDC_RX_GET_STATE; OpenSPARC T2 hypervisor ldc.s, where RESET comes from.
    """

    DOWN = 0  # not configured: the peer is not there
    UP = 1  # configured, nothing changed
    RESET = 2  # configured again since the last look: the peer has reset its end


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The handshake is done and ``up()`` was called: messages may be sent. Given each time it becomes so."""


@dataclass(frozen=True, slots=True)
class LinkReset:
    """The link is ready for a handshake, whatever went before is void; call ``up()`` when done with it.

    Also given when the peer appears. Source: Solaris sys/ldc.h, LDC_EVT_RESET.
    """

    cause: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The peer is gone; wait for :class:`LinkReset`. Source: Solaris sys/ldc.h, LDC_EVT_DOWN."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole message has arrived. Source: Solaris sys/ldc.h, LDC_EVT_READ."""

    data: bytes


LinkEvent: TypeAlias = LinkUp | LinkReset | LinkDown | MessageReceived


@dataclass(frozen=True, slots=True)
class QueueConfigured:
    """Output: this end has configured its receive queue again.

    The channel carries it to the peer, in order with the packets, as :attr:`LinkState.RESET`. It is not given
    when the reset began with the peer, which knows.
    """
