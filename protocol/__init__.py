"""The wire of LDoms virtual disks, pure: LDC packets and link, VIO handshake and ring, vDisk requests.

Nothing in this package does I/O, reads a clock or draws random numbers: bytes go in, events and bytes come
out.

protocol.stack        a whole session, client and server; begin here (docs/embed.md)
protocol.ldc          packets, links in three modes, cookies and map tables
protocol.vio          messages, handshake, descriptor ring
protocol.vdisk        attributes, requests, payloads, labels, status numbers
protocol.structures   every structure by its name: tables, and values as plain objects
protocol.capture      captures: what was said and done, as pcapng
protocol.explain      what packets and captures mean, in words
protocol.wire         how a structure is declared
protocol.errors       everything that is raised
"""

from .errors import (
    ChannelError,
    ChannelLost,
    ConfigError,
    CookieError,
    DiskError,
    HvStatus,
    Layer,
    LocalProtocolError,
    NegotiationError,
    NegotiationTimeout,
    PacketError,
    ProtocolError,
    Reaction,
    RemoteProtocolError,
    RingError,
    SequenceError,
)
from .stack import Client, Server

__all__ = [
    "ChannelError",
    "ChannelLost",
    "Client",
    "ConfigError",
    "CookieError",
    "DiskError",
    "HvStatus",
    "Layer",
    "LocalProtocolError",
    "NegotiationError",
    "NegotiationTimeout",
    "PacketError",
    "ProtocolError",
    "Reaction",
    "RemoteProtocolError",
    "RingError",
    "SequenceError",
    "Server",
]
