"""Every error this project raises on purpose; the first module of the stack, it imports nothing of ours.

ProtocolError               abstract; layer, reaction, reason
  LocalProtocolError        we asked for what this state forbids; raised before any state changes
  RemoteProtocolError       the peer broke the rules; the driver carries out ``reaction``
    PacketError             wrong size, unknown number, count out of bounds
    SequenceError           a sequence number, session id or message out of turn
    NegotiationError        no common version, unusable attributes
    RingError               ring index, geometry or descriptor state
    CookieError             a memory cookie that does not resolve; hv_status
ChannelError                the link is gone or unusable, and nobody broke a rule
  ChannelLost
  NegotiationTimeout
DiskError(OSError)          one request failed: errno, operation, slice, addr, nbytes
ConfigError(ValueError)     file, key, value, why
"""

from __future__ import annotations

import errno as _errno
from enum import Enum, IntEnum

__all__ = [
    "ChannelError",
    "ChannelLost",
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
]


class Layer(Enum):
    """The layer whose rule was broken, lowest first."""

    HYPERVISOR = "hypervisor"  # rendezvous, records, shared memory
    LDC = "ldc"  # packets and link
    VIO = "vio"  # handshake and descriptor ring
    VDISK = "vdisk"  # attributes and requests


class Reaction(Enum):
    """What the driver does about a :class:`RemoteProtocolError`, mildest first."""

    NACK = "nack"  # refuse this message; the session lives on
    RESET = "reset"  # reset the channel; the peer may come up again on it
    CLOSE = "close"  # close the socket; no LDC peer could have sent this


class HvStatus(IntEnum):
    """Status of a hypervisor call. Source: Hypervisor API 3.0, error codes; hypervisor_api.h."""

    EOK = 0  # success
    ENOCPU = 1  # invalid CPU id
    ENORADDR = 2  # invalid real address
    ENOINTR = 3  # invalid interrupt id
    EBADPGSZ = 4  # the cookie's page size is not that of the map table entry
    EBADTSB = 5  # invalid TSB description
    EINVAL = 6  # invalid argument
    EBADTRAP = 7  # invalid function number
    EBADALIGN = 8  # address or length not a multiple of 8
    EWOULDBLOCK = 9  # would block; try again
    ENOACCESS = 10  # the map table entry lacks the permission
    EIO = 11  # I/O error
    ECPUERROR = 12  # CPU in error state
    ENOTSUPPORTED = 13  # not implemented
    ENOMAP = 14  # no table, index outside it, or entry invalid
    ETOOMANY = 15  # too many items or limit reached
    ECHANNEL = 16  # invalid channel
    EBUSY = 17  # resource busy


class ProtocolError(Exception):
    """A protocol rule was broken, by us or by the peer; never raised itself, only its subclasses are.

    ``layer`` says whose rule, ``reaction`` what follows for the channel (``None``: nothing), ``reason`` is a
    sentence for people.
    """

    def __init__(self, layer: Layer, reaction: Reaction | None, reason: str) -> None:
        super().__init__(layer, reaction, reason)
        self.layer = layer
        self.reaction = reaction
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.layer.value}: {self.reason}"


class LocalProtocolError(ProtocolError):
    """We asked for what the present state or a limit forbids; nothing was sent, no state has changed."""

    def __init__(self, layer: Layer, reason: str) -> None:
        super().__init__(layer, None, reason)
        self.args = (layer, reason)


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule; whoever drives the channel carries out ``reaction``."""

    reaction: Reaction

    def __init__(self, layer: Layer, reaction: Reaction, reason: str) -> None:
        super().__init__(layer, reaction, reason)


class PacketError(RemoteProtocolError):
    """Bytes that are no such structure: wrong size, unknown enumerated number, count out of bounds."""


class SequenceError(RemoteProtocolError):
    """A sequence number, session id or message that is not the next one."""


class NegotiationError(RemoteProtocolError):
    """The handshake cannot end well: no common version, unusable attributes or ring."""


class RingError(RemoteProtocolError):
    """A ring index, ring geometry or descriptor state that the rules forbid."""


class CookieError(RemoteProtocolError):
    """A memory cookie that does not resolve in the peer's map table; ``hv_status`` is the call's status.

    A cookie fault ends the session (reaction RESET): the peer's idea of its own memory cannot be trusted.
    Source: FWARC 2008/424, LDC_COPY errors; Solaris vds.c, vd_process_element.
    """

    def __init__(self, hv_status: HvStatus, reason: str) -> None:
        super().__init__(Layer.HYPERVISOR, Reaction.RESET, reason)
        self.args = (hv_status, reason)
        self.hv_status = hv_status

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.hv_status.name})"


class ChannelError(Exception):
    """The channel is gone or unusable, and nobody broke a rule; ``reason`` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ChannelLost(ChannelError):
    """The peer went away, or the channel was closed under us."""


class NegotiationTimeout(ChannelError):
    """The peer did not finish the rendezvous or the handshake in time."""


class DiskError(OSError):
    """One request failed; the channel and the disk stay usable.

    ``errno`` is a number of this host, never the wire's. ``operation`` and ``slice`` are as sent, ``addr``
    counts blocks, ``nbytes`` is the length asked for.
    """

    def __init__(self, errno: int, operation: int, *, slice: int, addr: int, nbytes: int) -> None:
        super().__init__(errno, _errno.errorcode.get(errno, "unknown error"))
        self.operation = operation
        self.slice = slice
        self.addr = addr
        self.nbytes = nbytes

    def __str__(self) -> str:
        name = self.operation.name if isinstance(self.operation, Enum) else f"operation {self.operation:#x}"
        where = f"slice {self.slice:#x}, block {self.addr}, {self.nbytes} bytes"
        return f"[Errno {self.errno}] {name} failed with {self.strerror} ({where})"


class ConfigError(ValueError):
    """A setting that cannot be used: ``file`` (``None``: command line), ``key``, ``value`` and ``why``."""

    def __init__(self, file: str | None, key: str, value: object, why: str) -> None:
        super().__init__(file, key, value, why)
        self.file = file
        self.key = key
        self.value = value
        self.why = why

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file is not None else ""
        return f"{where}{self.key}={self.value}: {self.why}"
