"""What a stack reports: the events of the VIO layer, and those that speak of disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request
from protocol.vio.events import (
    ChannelUp,
    DescriptorsDone,
    DescriptorsReady,
    DoorbellRung,
    Negotiated,
    RangeOpened,
    RangeStopped,
    RingOffered,
    SessionLost,
    SessionReset,
    Woken,
)
from protocol.vio.messages import Version

__all__ = [
    "AttributesReceived",
    "ClientEvent",
    "InbandDone",
    "RequestReceived",
    "ServerEvent",
    "SessionReady",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReady:
    """Both: the handshake is done, requests flow. ``attributes`` are what the server announced."""

    version: Version
    attributes: DiskAttributes


class RequestReceived(NamedTuple):
    """Server, in-band: execute ``request``, then complete_inband()."""

    batch: int
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributesReceived:
    """Client: the disk is known; register_ring(), or start_data() in in-band mode."""

    attributes: DiskAttributes
    version: Version


class InbandDone(NamedTuple):
    """Client, in-band: the request sent with ``handle`` was answered."""

    handle: int
    status: int
    nbytes: int


ServerEvent: TypeAlias = (
    Negotiated
    | RingOffered
    | SessionReady
    | DescriptorsReady
    | RangeOpened
    | DoorbellRung
    | RequestReceived
    | SessionReset
)
ClientEvent: TypeAlias = (
    ChannelUp
    | AttributesReceived
    | SessionReady
    | DescriptorsDone
    | RangeStopped
    | Woken
    | InbandDone
    | SessionLost
)
