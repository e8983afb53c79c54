"""What a channel is opened with: class of device, mtu, and the queue sizes that follow from it.

Source: Solaris sys/ldc.h, ldc_attr_t and ldc_dev_t; sys/ldc_impl.h; ldc.c, ldc_init.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from protocol.errors import Layer, LocalProtocolError

__all__ = [
    "DEFAULT_MTU",
    "MAP_TABLE_ENTRIES",
    "MAX_RETRIES",
    "MTU_MESSAGES",
    "QUEUE_ENTRIES_MIN",
    "RETRY_DELAY_US",
    "VDISK_MTU",
    "DeviceClass",
    "count_queue_entries",
]

DEFAULT_MTU: Final = 8192  # bytes; LDC_DEFAULT_MTU of Solaris, where Linux has 256
VDISK_MTU: Final = 256  # bytes; VD_LDC_MTU of vdsk_common.h
MTU_MESSAGES: Final = 4  # a queue holds this many messages of one mtu; LDC_MTU_MSGS
QUEUE_ENTRIES_MIN: Final = 512  # but no fewer packets than this; LDC_QUEUE_ENTRIES
MAP_TABLE_ENTRIES: Final = 8192  # slots of a map table; LDC_MTBL_ENTRIES
MAX_RETRIES: Final = 1000  # how often drivers repeat a call that would block; LDC_MAX_RETRIES
RETRY_DELAY_US: Final = 1  # what they wait before each; LDC_DELAY


class DeviceClass(IntEnum):
    """What a channel serves. Source: sys/ldc.h, ldc_dev_t."""

    GENERIC = 1  # none of the below
    BLK = 2  # block device, client: vdc
    BLK_SVC = 3  # block device, server: vds
    NT = 4  # network device
    NT_SVC = 5  # network switch
    SERIAL = 6  # console
    PCIV = 7  # PCIe virtual function; Solaris 11 only


def count_queue_entries(mtu: int, payload: int) -> int:
    """Return how many packets, a power of two, each queue of a channel is configured for.

    ``mtu``, the longest message, and ``payload``, that of one packet in the channel's mode, are bytes.

    Raises: LocalProtocolError (no mtu).
    Source: Solaris ldc.c, ldc_init.
    """
    if mtu < 1:
        raise LocalProtocolError(Layer.LDC, f"an mtu of {mtu} bytes")
    wanted = max(QUEUE_ENTRIES_MIN, mtu * MTU_MESSAGES // payload)
    return 1 << (wanted - 1).bit_length()
