"""Versions and the attribute message.

Sources: Solaris sys/vdsk_mailbox.h, vds.c (vd_process_attr_msg), vdc.c (vdc_handle_attr_msg); Linux
asm/vio.h, sunvdc.c; FWARC 2010/054.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import NegotiationError
from protocol.vdisk.attributes import UNKNOWN_SIZE, DiskAttributes, attributes_from
from protocol.vdisk.operations import MediaType, operations_mask
from tests.support.stackdisk import StackDisk
from tests.support.vioscript import ATTRIBUTES, SID, ServerScript, octets


def _attributes(minor: int, disk: DiskAttributes = ATTRIBUTES, *, mode: int = 3, wish: str = "") -> bytes:
    """Return a server's ACK at version 1.``minor``."""
    script = ServerScript(disk)
    script.say(f"01 01 00 01 {SID} 0001 {minor:04x} 03")
    wish = wish or f"00000200 {'00' * 16} 0000000000000100"
    (answer,) = script.send(octets(f"01 01 00 02 {SID} {mode:02x} 00 00 00 {wish}"))
    assert answer[:8] == bytes.fromhex(f"01 02 00 02 {SID}")
    return answer


def _known(answer: bytes, minor: int = 1, *, mode: int = 3) -> DiskAttributes:
    """Return what a client believes."""
    return attributes_from(answer, (1, minor), xfer_mode=mode, max_xfer_bytes=1 << 20)


# -- versions ------------------------------------------------------------------------------------------------


def test_1_0_has_no_capacity_and_no_size_for_its_client() -> None:
    """FWARC 2010/054: operations 0x01-0x09 and 0x0b-0x0d; the client computes the size from the geometry."""
    disk = StackDisk(bytearray(12 * 200 * 512), versions=[(1, 0)])
    assert disk.ready.attributes.size_blocks == UNKNOWN_SIZE
    assert disk.ready.attributes.operations == 0x10E
    assert disk.size == 12 * 200 * 512
    with pytest.raises(OSError, match="Errno 95"):
        disk.capacity()


def test_1_0_is_told_size_and_media_type_all_the_same() -> None:
    """vds.c writes vdisk_size and vdisk_mtype at 1.0 as well."""
    answer = _attributes(0)
    assert answer[10] == MediaType.FIXED
    assert answer[24:32] == (0x1803).to_bytes(8, "big")


def test_1_1_has_size_media_type_and_capacity() -> None:
    """FWARC 2010/054."""
    disk = StackDisk(bytearray(1 << 16), versions=[(1, 1)])
    assert disk.size == 1 << 16
    assert disk.capacity() == (512, 128)


def test_1_2_has_a_physical_block_size() -> None:
    """Linux asm/vio.h: u32 at offset 40, reserved before."""
    disk = replace(ATTRIBUTES, phys_block_size=4096)
    assert _attributes(2, disk)[40:44] == (4096).to_bytes(4, "big")
    for minor in (0, 1):
        assert _attributes(minor, disk)[40:] == bytes(16)


# -- the server's word ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("minor", [0, 1, 2])
def test_the_answer_octet_by_octet(minor: int) -> None:
    """vd_attr_msg_t: xfer_mode, type, media, block size, operations, size, largest transfer."""
    operations = "000000000000010e" if minor == 0 else "000000000002010e"
    phys = "00000200" if minor == 2 else "00000000"
    assert _attributes(minor) == octets(
        f"01 02 00 02 {SID} 03 02 01 00 00000200 {operations} 0000000000001803 0000000000000800 {phys}"
    )


def test_the_server_answers_its_own_block_size_and_largest_transfer() -> None:
    """vds.c does not take the minimum; the client must lower its own."""
    answer = _attributes(1, wish=f"00001000 {'00' * 16} 0000000000000001")
    assert answer[12:16] == (512).to_bytes(4, "big")
    assert answer[32:40] == (0x800).to_bytes(8, "big")


def test_the_client_lowers_its_own_largest_transfer() -> None:
    """vdc.c: the lower of both."""
    answer = _attributes(1)
    low = attributes_from(answer, (1, 1), xfer_mode=3, max_xfer_bytes=65536)
    high = attributes_from(answer, (1, 1), xfer_mode=3, max_xfer_bytes=1 << 30)
    assert (low.max_xfer_blocks, high.max_xfer_blocks) == (128, 0x800)


def test_block_size_0_means_a_largest_transfer_in_bytes() -> None:
    """vdsk_mailbox.h: 0 = no minimum. In-band: a message has 9 cookies for 64 KiB, and no more."""
    head = f"02 01 00 41 {SID} 0000000000000001 {'00' * 32} 0000000000000200 {{:08x}} 00000000"
    for cookies, answers in ((9, 0), (10, 1)):
        script = ServerScript()
        script.say(f"01 01 00 01 {SID} 0001 0001 03")
        script.say(f"01 01 00 02 {SID} 02 00 00 00 00000000 {'00' * 16} 0000000000010000")
        script.say(f"01 01 00 05 {SID}")
        data = bytes.fromhex(head.format(cookies)) + bytes(16 * cookies)
        assert len(script.send(data)) == answers


def test_every_backend_is_a_disk() -> None:
    """vds.c answers vdisk_type 2, single slices included."""
    assert _attributes(1)[9] == 2


def test_xfer_mode_is_the_clients() -> None:
    """vds.c: same."""
    for minor, mode in ((0, 2), (1, 3), (2, 4)):
        assert _attributes(minor, mode=mode)[8] == mode


# -- what a client refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (8, "02"),  # transfer mode
        (9, "03"),  # disk type
        (12, "00000000"),  # block size, while the size is known
        (12, "00000100"),
        (12, "00000600"),
        (16, "0000000000000000"),  # operations
        (24, "0000000000000000"),  # size
        (24, "8000000000000000"),
        (24, "fffffffffffffffe"),
        (32, "0000000000000000"),  # largest transfer
    ],
)
def test_the_client_refuses(offset: int, value: str) -> None:
    """vdc.c, vdc_handle_attr_msg: EINVAL and a reset."""
    data = bytes.fromhex(value)
    answer = _attributes(1)
    with pytest.raises(NegotiationError):
        _known(answer[:offset] + data + answer[offset + len(data) :])


@pytest.mark.parametrize("block_size", [0, 512])
def test_an_unknown_size_is_taken(block_size: int) -> None:
    """vdc.c: all ones; a reserved SCSI disk, whose block size may then be 0."""
    answer = _attributes(1)
    known = _known(answer[:12] + block_size.to_bytes(4, "big") + answer[16:24] + b"\xff" * 8 + answer[32:])
    assert (known.size_blocks, known.block_size) == (UNKNOWN_SIZE, block_size)


def test_a_disk_of_4096_byte_blocks() -> None:
    """vdc.c: 512 times a power of two."""
    disk = StackDisk(bytearray(range(256)) * 256, block_size=4096)
    assert (disk.block_size, disk.size, disk.capacity()) == (4096, 65536, (4096, 16))
    assert disk.pread(4096, 8192) == bytes(range(256)) * 32


def test_a_disk_without_writing_is_read_only() -> None:
    """vdc.c: opening for writing needs BWRITE in the mask."""
    disk = replace(ATTRIBUTES, operations=operations_mask((1, 2), read_only=True))
    assert _known(_attributes(1, disk)).read_only
    assert not _known(_attributes(1)).read_only
