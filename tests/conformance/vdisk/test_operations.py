"""Operations, descriptors, slices, status and the default geometry.

Sources: Solaris sys/vdsk_common.h; vds.c (vd_do_process_task, vd_start_bio, vd_ioctl, vd_dskimg_rw,
vd_build_default_label); vdc.c; Linux sunvdc.c; FWARC 2010/054.
"""

from __future__ import annotations

import errno

import pytest

from protocol.errors import DiskError, RingError
from protocol.ldc.cookie import Cookie
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request, build_entry, parse_entry
from protocol.vdisk.operations import Operation, operations_mask
from protocol.vdisk.payloads import default_geometry
from protocol.vdisk.status import to_wire
from protocol.vdisk.validate import clip, validate
from tests.support.stackdisk import StackDisk

DISK = DiskAttributes(size_blocks=128, max_xfer_blocks=64)
WHOLE = 0xFF


@pytest.fixture
def disk() -> StackDisk:
    """Return a disk of 128 blocks."""
    return StackDisk(bytearray(range(256)) * 256)


# -- operations ----------------------------------------------------------------------------------------------


def test_the_mask_is_what_is_executed() -> None:
    """vds.c, vd_set_exported_operations, reduced to BREAD, BWRITE, FLUSH, GET_DISKGEOM and GET_CAPACITY."""
    masks = [operations_mask((1, minor), ro) for minor in (0, 1, 2) for ro in (False, True)]
    assert masks == [0x10E, 0x102, 0x2010E, 0x20102, 0x2010E, 0x20102]


def test_flush_is_a_write_operation() -> None:
    """vdsk_common.h, VD_OP_MASK_WRITE: a read-only disk does not offer it."""
    assert validate(Operation.FLUSH, 0, 0, 0, DISK) == 0
    read_only = DiskAttributes(size_blocks=1, max_xfer_blocks=1, operations=operations_mask((1, 1), True))
    assert validate(Operation.FLUSH, 0, 0, 0, read_only) == 48


@pytest.mark.parametrize("operation", [0, *range(4, 8), *range(9, 0x11), 0x12, 0x80, 0xFF])
def test_an_operation_not_in_the_mask_is_enotsup_with_an_ack(disk: StackDisk, operation: int) -> None:
    """vds.c, vd_do_process_task."""
    with pytest.raises(DiskError) as caught:
        disk.request(operation, nbytes=144)
    assert caught.value.errno == errno.ENOTSUP
    assert disk.lost == []


def test_get_devid_comes_even_if_it_is_not_offered(disk: StackDisk) -> None:
    """Solaris vdc.c sends it after every handshake without looking at the mask."""
    with pytest.raises(DiskError):
        disk.request(Operation.GET_DEVID, nbytes=144)
    assert disk.pread(0, 512) == bytes(range(256)) * 2
    assert disk.sessions == 1


# -- descriptor ----------------------------------------------------------------------------------------------


def test_nbytes_is_bytes_and_addr_is_blocks(disk: StackDisk) -> None:
    """FWARC 2010/054 says blocks for both; every implementation uses bytes for nbytes."""
    disk.backend[3 * 512 : 4 * 512] = b"\xaa" * 512
    assert disk.request(Operation.BREAD, addr=3, nbytes=512) == b"\xaa" * 512


def test_addr_is_relative_to_the_slice_and_0xff_is_the_disk() -> None:
    """vdsk_common.h, VD_SLICE_NONE."""
    assert validate(Operation.BREAD, WHOLE, 0, 512, DISK) == 0


def test_req_id_is_the_clients_own() -> None:
    """vds.c ignores it."""
    for req_id in (0, 7, 2**64 - 1):
        request = Request(req_id, 1, WHOLE, 0, 512, ())
        assert parse_entry(build_entry(request, 64).ljust(64, b"\0")) == request


@pytest.mark.parametrize("part", [0, 5, 7, 8, 0x77, 0xFF])
@pytest.mark.parametrize(
    ("operation", "nbytes"),
    [(Operation.FLUSH, 0), (Operation.GET_DISKGEOM, 24), (Operation.GET_CAPACITY, 16)],
)
def test_the_slice_of_other_operations_is_ignored(operation: Operation, nbytes: int, part: int) -> None:
    """vdc.c sends the minor's slice or 0."""
    assert validate(operation, part, 0, nbytes, DISK) == 0


def test_stale_cookies_of_a_request_without_bytes_are_ignored() -> None:
    """vdc.c does not clear ncookies."""
    stale = Request(1, Operation.FLUSH, 0, 0, 0, (Cookie(0x2000, 512),))
    assert parse_entry(build_entry(stale, 64)).cookies == ()


def test_cookies_smaller_than_nbytes_are_a_transport_error(disk: StackDisk) -> None:
    """vds.c: NACK and full reset, not a status."""
    with pytest.raises(AssertionError, match="never answered"):
        disk.request(Operation.BREAD, nbytes=disk.max_xfer + 512)
    assert {reset.full for reset in disk.server.resets} == {True}


def test_nbytes_that_is_no_multiple_of_8_is_legal(disk: StackDisk) -> None:
    """vds.c: buffers are rounded up."""
    assert disk.request(Operation.BREAD, addr=1, nbytes=100) == bytes(range(100))


# -- slices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(8))
def test_slice_io_without_a_label_is_eio(disk: StackDisk, part: int) -> None:
    """vds.c, 1.1; there are no labels yet."""
    with pytest.raises(DiskError) as caught:
        disk.request(Operation.BREAD, nbytes=512, slice=part)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("part", [8, 9, 0x7F, 0xFE])
def test_another_slice_is_einval(disk: StackDisk, part: int) -> None:
    """vds.c, vd_do_process_task."""
    with pytest.raises(DiskError) as caught:
        disk.request(Operation.BREAD, nbytes=512, slice=part)
    assert caught.value.errno == errno.EINVAL


# -- limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cookies", "size"), [(1, 64), (8, 176), (18, 336), (33, 576)])
def test_entries_of_every_driver_fit(cookies: int, size: int) -> None:
    """OpenBSD 176, Linux 336, Solaris 576: 48 + 16 * cookies."""
    request = Request(1, 1, WHOLE, 0, 512, tuple(Cookie(n << 13, 8192) for n in range(cookies)))
    entry = build_entry(request, size)
    assert len(entry) == size
    assert parse_entry(entry) == request


def test_more_cookies_than_the_entry_holds_are_a_transport_error() -> None:
    """vds.c, vd_process_element."""
    request = Request(1, 1, WHOLE, 0, 512, (Cookie(0, 8192), Cookie(8192, 8192)))
    with pytest.raises(RingError):
        parse_entry(build_entry(request, 80)[:64])


def test_nbytes_is_not_compared_with_max_xfer_sz() -> None:
    """vds.c does not."""
    assert validate(Operation.BREAD, WHOLE, 0, 1 << 40, DISK) == 0


# -- status --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "wire"),
    [
        (0, 0),
        (errno.ENOENT, 2),
        (errno.EIO, 5),
        (errno.ENXIO, 6),
        (errno.EAGAIN, 11),
        (errno.EACCES, 13),
        (errno.EINVAL, 22),
        (errno.ENOTTY, 25),
        (errno.ENOSPC, 28),
        (errno.EROFS, 30),
        (errno.ENOTSUP, 48),
        (errno.ENODATA, 61),
    ],
)
def test_status_is_a_solaris_errno(number: int, wire: int) -> None:
    """Solaris sys/errno.h: above 34 the numbers differ from Linux'."""
    assert to_wire(number) == wire


def test_nbytes_0_on_io_is_einval(disk: StackDisk) -> None:
    """vds.c, vd_start_bio."""
    for operation in (Operation.BREAD, Operation.BWRITE):
        with pytest.raises(DiskError) as caught:
            disk.request(operation, nbytes=0)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("operation", "nbytes"),
    [
        (Operation.FLUSH, 8),
        (Operation.GET_DISKGEOM, 16),
        (Operation.GET_DISKGEOM, 22),
        (Operation.GET_DISKGEOM, 32),
        (Operation.GET_CAPACITY, 8),
        (Operation.GET_CAPACITY, 24),
    ],
)
def test_a_wrong_nbytes_of_a_control_operation_is_einval(
    disk: StackDisk, operation: Operation, nbytes: int
) -> None:
    """vds.c makes it a transport error; EINVAL is friendlier, and all clients survive it."""
    with pytest.raises(DiskError) as caught:
        disk.request(operation, nbytes=nbytes)
    assert caught.value.errno == errno.EINVAL
    assert disk.lost == []


@pytest.mark.parametrize(("addr", "nbytes", "short"), [(127, 1024, 512), (100, 1 << 20, 28 * 512)])
def test_a_request_across_the_end_is_short_with_status_0(addr: int, nbytes: int, short: int) -> None:
    """vds.c, vd_dskimg_rw."""
    assert validate(Operation.BREAD, WHOLE, addr, nbytes, DISK) == 0
    assert clip(addr, nbytes, DISK) == short


@pytest.mark.parametrize("addr", [128, 129, 2**63, 2**64 - 1])
def test_a_request_at_or_beyond_the_end_is_nothing_with_status_0(addr: int) -> None:
    """vds.c, vd_dskimg_rw."""
    assert validate(Operation.BWRITE, WHOLE, addr, 512, DISK) == 0
    assert clip(addr, 512, DISK) == 0


def test_an_image_takes_any_number_of_bytes(disk: StackDisk) -> None:
    """vds.c: image files accept any byte length."""
    disk.request(Operation.BWRITE, addr=0, nbytes=3)
    assert disk.backend[:4] == b"\0\0\0\x03"


# -- default geometry ----------------------------------------------------------------------------------------

GIB, MIB = 1 << 30, 1 << 20


@pytest.mark.parametrize(
    ("size", "nhead", "nsect"),
    [
        (8 * GIB, 96, 768),
        (100 * GIB, 96, 768),
        (8 * GIB - 1, 1, 600),
        (2 * MIB, 1, 600),
        (2 * MIB - 1, 1, 200),
        (512, 1, 200),
    ],
)
def test_heads_and_sectors_by_size(size: int, nhead: int, nsect: int) -> None:
    """vds.c, vd_build_default_label."""
    geometry = default_geometry(size)
    assert (geometry.nhead, geometry.nsect) == (nhead, nsect)


@pytest.mark.parametrize(
    ("size", "pcyl", "acyl"),
    [
        (512, 1, 0),
        (2 * 200 * 512, 2, 0),
        (3 * 200 * 512, 3, 2),
        (4 * 200 * 512 - 1, 3, 2),
        (8 * GIB, 227, 2),
    ],
)
def test_cylinders_by_size(size: int, pcyl: int, acyl: int) -> None:
    """vds.c: pcyl at least 1; two alternates if there are more than two; the rest is data."""
    geometry = default_geometry(size)
    assert (geometry.pcyl, geometry.acyl, geometry.ncyl) == (pcyl, acyl, pcyl - acyl)


def test_pcyl_is_capped_at_its_16_bits() -> None:
    """vd_geom_t, pcyl is 16 bits: a larger disk's geometry covers only a part of it."""
    assert default_geometry(1 << 50).pcyl == 65535


def test_all_else_of_the_geometry_is_0_but_the_rpm(disk: StackDisk) -> None:
    """vds.c: 7200."""
    assert disk.request(Operation.GET_DISKGEOM, nbytes=24).hex(" ", 2) == (
        "0001 0000 0000 0001 00c8 0000 0000 1c20 0001 0000 0000 0000"
    )
