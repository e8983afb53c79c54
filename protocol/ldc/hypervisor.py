"""Numbers of the hypervisor's LDC services: calls, interrupt states, copy directions.

Nothing here calls a hypervisor: this is what an emulation of one, or a trace of a real one, speaks in. The
status of a call is :class:`protocol.errors.HvStatus`, the state of a channel
:class:`protocol.ldc.events.LinkState`.

Source: Hypervisor API 3.0, chapters "LDC services" and "LDC infrastructure"; FWARC 2008/424, 2010/104;
    Solaris sys/hypervisor_api.h.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CopyDirection", "FastTrap", "InterruptState"]


class FastTrap(IntEnum):
    """Function numbers of the LDC calls, API group 0x101.

    Source: sys/hypervisor_api.h, LDC_TX_QCONF and following.
    """

    TX_QCONF = 0xE0  # configure the transmit queue, 0 entries to unconfigure
    TX_QINFO = 0xE1  # base and entries of the transmit queue
    TX_GET_STATE = 0xE2  # head, tail and channel state
    TX_SET_QTAIL = 0xE3  # send what stands before the new tail
    RX_QCONF = 0xE4  # configure the receive queue; the peer sees a reset
    RX_QINFO = 0xE5  # base and entries of the receive queue
    RX_GET_STATE = 0xE6  # head, tail and channel state
    RX_SET_QHEAD = 0xE7  # what stands before the new head is read
    SET_MAP_TABLE = 0xEA  # register the map table, 0 entries to unbind
    GET_MAP_TABLE = 0xEB  # base and entries of the map table
    COPY = 0xEC  # copy between own memory and an exported page
    MAPIN = 0xED  # map an exported page in; API version 1.1 and up, as the next two
    UNMAP = 0xEE  # give it back
    REVOKE = 0xEF  # take a page back that the peer has mapped in
    MAPIN_SIZE_MAX = 0x187  # how much may be mapped in; API version 1.2


class InterruptState(IntEnum):
    """State of one interrupt of a channel. Source: OpenSPARC T2 hypervisor, ldc.s."""

    IDLE = 0  # the guest has cleared it: the next cause is delivered
    RECEIVED = 1  # there is a cause, not yet delivered
    DELIVERED = 2  # delivered; nothing more comes until the guest clears it


class CopyDirection(IntEnum):
    """Direction of COPY. Source: FWARC 2008/424, LDC_COPY_IN and LDC_COPY_OUT."""

    IN = 0  # exported page to the importer; needs permission CR
    OUT = 1  # importer's data to the exported page; needs permission CW
