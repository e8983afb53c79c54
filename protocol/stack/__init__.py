"""A whole vDisk session without I/O: link, handshake, ring and disk joined, for a server and for a client.

Feed it packets and link states, drain its events and outputs after every call, do what the events say. It is
all that an embedder needs: no socket, no event loop, no clock.
"""

from protocol.ldc.events import LinkState, QueueConfigured
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

from .client import Client
from .events import (
    AttributesReceived,
    ClientEvent,
    InbandDone,
    RequestReceived,
    ServerEvent,
    SessionReady,
)
from .server import VERSIONS, Server

__all__ = [
    "VERSIONS",
    "AttributesReceived",
    "ChannelUp",
    "Client",
    "ClientEvent",
    "DescriptorsDone",
    "DescriptorsReady",
    "DoorbellRung",
    "InbandDone",
    "LinkState",
    "Negotiated",
    "QueueConfigured",
    "RangeOpened",
    "RangeStopped",
    "RequestReceived",
    "RingOffered",
    "Server",
    "ServerEvent",
    "SessionLost",
    "SessionReady",
    "SessionReset",
    "Woken",
]
