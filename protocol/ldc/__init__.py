"""Logical domain channels: 64-byte packets, the link over them in three modes, and memory cookies.

Source: Solaris ldc.c, ldc_shm.c, sys/ldc_impl.h; FWARC 2006/571 (link protocol), 2008/424 (map table);
Hypervisor API 3.0, chapters "LDC services" and "LDC infrastructure".
"""

from .channel import VDISK_MTU, DeviceClass, count_queue_entries
from .cookie import (
    PAGE_SIZE,
    Cookie,
    CookieLayout,
    MapTable,
    MapTableSlot,
    MapTableSlotLayout,
    MapType,
    MemoryPermission,
    PageSizeCode,
    Permission,
    map_permissions,
    split_cookie,
)
from .events import (
    LinkDown,
    LinkEvent,
    LinkReset,
    LinkState,
    LinkUp,
    MessageReceived,
    QueueConfigured,
    StreamReceived,
)
from .hypervisor import CopyDirection, FastTrap, InterruptState
from .link import Link
from .packet import (
    PACKET_SIZE,
    Mode,
    PacketCtrl,
    PacketStype,
    PacketType,
    RawPacket,
    RawPacketLayout,
    ReliablePacket,
    ReliablePacketLayout,
    UnreliablePacket,
    UnreliablePacketLayout,
    VersionPacket,
    VersionPacketLayout,
)
from .raw import RawLink
from .reliable import ReliableLink
from .state import LinkStatus, TransportState

__all__ = [
    "PACKET_SIZE",
    "PAGE_SIZE",
    "VDISK_MTU",
    "Cookie",
    "CookieLayout",
    "CopyDirection",
    "DeviceClass",
    "FastTrap",
    "InterruptState",
    "Link",
    "LinkDown",
    "LinkEvent",
    "LinkReset",
    "LinkState",
    "LinkStatus",
    "LinkUp",
    "MapTable",
    "MapTableSlot",
    "MapTableSlotLayout",
    "MapType",
    "MemoryPermission",
    "MessageReceived",
    "Mode",
    "PacketCtrl",
    "PacketStype",
    "PacketType",
    "PageSizeCode",
    "Permission",
    "QueueConfigured",
    "RawLink",
    "RawPacket",
    "RawPacketLayout",
    "ReliableLink",
    "ReliablePacket",
    "ReliablePacketLayout",
    "StreamReceived",
    "TransportState",
    "UnreliablePacket",
    "UnreliablePacketLayout",
    "VersionPacket",
    "VersionPacketLayout",
    "count_queue_entries",
    "map_permissions",
    "split_cookie",
]
