"""What a client says to a server that is fuzzed: each message as it should be, with numbers by the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from protocol.ldc.cookie import Cookie
from protocol.vdisk.attributes import build_wish
from protocol.vdisk.descriptor import InbandMessage, InbandMessageLayout
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import RingGeometry
from protocol.vio.messages import (
    OPEN_ENDED,
    DeviceClass,
    DoorbellLayout,
    DoorbellMessage,
    DringRegisterLayout,
    DringRegisterMessage,
    DringUnregisterLayout,
    DringUnregisterMessage,
    Envelope,
    MessageType,
    ProcState,
    RdxLayout,
    RdxMessage,
    Subtype,
    TagLayout,
    VersionLayout,
    VersionMessage,
)
from tests.fuzz.driver import SID

if TYPE_CHECKING:
    from tests.fuzz.targets.server_stack import ServerDriver

__all__ = [
    "CLOSED",
    "MESSAGES",
    "build_rdx",
    "build_registration",
    "build_ring_data",
    "build_unregistration",
    "build_version",
    "build_wish_message",
]

CLOSED: Final = 0x80
"""From this byte on a range has an end, where open ones were agreed."""


def build_version(major: int, minor: int, dev_class: int = DeviceClass.DISK) -> bytes:
    return VersionLayout.build(VersionMessage(sid=SID, major=major, minor=minor, dev_class=dev_class))


def build_wish_message(version: tuple[int, int], mode: int) -> bytes:
    return build_wish(version, SID, xfer_mode=mode, block_size=512, max_xfer_blocks=128)


def build_registration(geometry: RingGeometry, *cookies: Cookie) -> bytes:
    found = cookies or (Cookie(0x2000, geometry.nbytes),)
    return DringRegisterLayout.build(
        DringRegisterMessage(
            sid=SID,
            num_descriptors=geometry.num_descriptors,
            descriptor_size=geometry.descriptor_size,
            ncookies=len(found),
            cookie=found,
        )
    )


def _version(driver: ServerDriver) -> bytes:
    return build_version(1, driver.tape.byte())


def _version_of_any_kind(driver: ServerDriver) -> bytes:
    tape = driver.tape
    return build_version(tape.byte(), tape.byte(), tape.byte())


def _wish(driver: ServerDriver) -> bytes:
    return build_wish_message(driver.stack.version, driver.tape.byte())


def _registration(driver: ServerDriver) -> bytes:
    """A small ring: its entries are 64 bytes, their number by the tape."""
    return build_registration(RingGeometry(driver.tape.byte(), 64))


def _large_registration(driver: ServerDriver) -> bytes:
    tape = driver.tape
    geometry = RingGeometry(tape.number(3), tape.number(2))
    return build_registration(geometry, *[Cookie(tape.number(4), tape.number(4))] * (tape.byte() % 4))


def build_unregistration(driver: ServerDriver) -> bytes:
    """Return a message that is refused in every state."""
    return DringUnregisterLayout.build(DringUnregisterMessage(sid=SID, dring_ident=1))


def build_rdx(driver: ServerDriver) -> bytes:
    return RdxLayout.build(RdxMessage(sid=SID))


def build_ring_data(driver: ServerDriver) -> bytes:
    """A range of the ring, with or without an end; on a polled ring a doorbell."""
    tape = driver.tape
    start, end, completions = tape.byte(), tape.byte(), tape.byte()
    is_open = driver.polled or (driver.opens and end < CLOSED)
    return DoorbellLayout.build(
        DoorbellMessage(
            sid=SID,
            seq_num=driver.next_number(),
            dring_ident=1,
            start_idx=start,
            end_idx=OPEN_ENDED if is_open else end & ~CLOSED if driver.opens else end,
            proc_state=ProcState(1 + (end & 1)) if driver.polled else 0,
            completions=completions,
        )
    )


def _wrong_number(driver: ServerDriver) -> bytes:
    driver.seq_num += driver.tape.byte()
    return build_ring_data(driver)


def _inband_data(driver: ServerDriver) -> bytes:
    tape = driver.tape
    cookies = tuple(Cookie(n << 13, 8192) for n in range(tape.byte() % 12))
    return InbandMessageLayout.build(
        InbandMessage(
            MessageType.DATA,
            Subtype.INFO,
            Envelope.DESC_DATA,
            SID,
            driver.next_number(),
            desc_handle=driver.seq_num,
            req_id=0,
            operation=1 + tape.byte() % max(Operation),
            slice=SLICE_NONE,
            status=0,
            addr=tape.byte(),
            nbytes=512 * tape.byte(),
            ncookies=len(cookies),
            cookie=cookies,
        )
    )


def _tag(driver: ServerDriver) -> bytes:
    tape = driver.tape
    return TagLayout.codec.pack(tape.byte(), tape.byte(), tape.byte(), SID) + tape.take(tape.byte())


MESSAGES: Final[tuple[Callable[[ServerDriver], bytes], ...]] = (
    _version,
    _wish,
    _registration,
    build_rdx,
    build_ring_data,
    _inband_data,
    _wrong_number,
    _large_registration,
    build_unregistration,
    _version_of_any_kind,
    _tag,
)
"""What the low five bits of a message instruction choose from."""
