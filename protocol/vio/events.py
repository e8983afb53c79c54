"""What the VIO layer reports to whoever drives a session; ``protocol.stack`` adds the events of disks.

Each says what happened; its docstring says what the driver does next. Events of the data path are not
frozen, or tuples, because a frozen dataclass costs three times as much to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from protocol.ldc.cookie import Cookie

from .dring import RingGeometry
from .messages import Version

__all__ = [
    "ChannelUp",
    "DescriptorsDone",
    "DescriptorsReady",
    "DoorbellRung",
    "Negotiated",
    "RangeOpened",
    "RangeStopped",
    "RingOffered",
    "SessionLost",
    "SessionReset",
    "Woken",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """Server: version and attributes are agreed. ``max_xfer`` is what the client wants at most, in bytes."""

    version: Version
    xfer_mode: int
    block_size: int
    max_xfer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RingOffered:
    """Server: the client's ring is at ``cookie``; map it, then accept_ring() or refuse_ring()."""

    cookie: Cookie
    geometry: RingGeometry


@dataclass(slots=True)
class DescriptorsReady:
    """Server, plain ring: take ``count`` entries from ``start_idx`` on, wrapping; complete() each of them."""

    batch: int
    start_idx: int
    count: int


@dataclass(slots=True)
class RangeOpened:
    """Server, open range: from ``start_idx`` on, while an entry is READY, taken(), take and complete() it.

    Then stopped(), or progress() while you go on looking. Whatever message comes meanwhile is answered after
    this one: be stopped() before you take what it announces.
    """

    batch: int
    start_idx: int


@dataclass(frozen=True, slots=True)
class DoorbellRung:
    """Server, polled ring: look at the ring from the private index on, then end_of_batch()."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReset:
    """Server: the session is over. Drain, flush, forget the ring, drop exclusive access; then reset_done().

    Answers to what is drained may still be given. ``full``: the channel goes down with it.
    """

    cause: str
    full: bool


@dataclass(frozen=True, slots=True)
class ChannelUp:
    """Client: the link is up; start() the handshake."""


class DescriptorsDone(NamedTuple):
    """Client, plain ring: the server has processed these entries; reap those that are DONE."""

    start_idx: int
    end_idx: int


class RangeStopped(NamedTuple):
    """Client, open range: the server looks no more. If ``next_idx`` is READY, announce() from there."""

    next_idx: int


@dataclass(frozen=True, slots=True)
class Woken:
    """Client, polled ring: look at the ring, then ring() before sleeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLost:
    """Client: the session is over, with all that was unanswered; forget the ring, then reset_done()."""

    cause: str
