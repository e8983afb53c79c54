"""A client and a server joined in one process through ``protocol`` alone: it reads what was written."""

from __future__ import annotations

import errno
import random

import pytest

from protocol.errors import CookieError, DiskError, HvStatus
from protocol.ldc.cookie import Cookie, Permission
from protocol.stack import QueueConfigured
from protocol.vdisk.descriptor import Request
from protocol.vdisk.operations import Operation
from protocol.vdisk.status import to_wire
from tests.support.stackdisk import RING, RING_AT, Mode, StackDisk, Wire

SIZE = 1 << 19
MODES: list[Mode] = ["plain", "polled", "inband", "open"]

by_mode = pytest.mark.parametrize("mode", MODES)


def _backend(size: int = SIZE) -> bytearray:
    return bytearray(random.Random(1).randbytes(size))


@by_mode
def test_facts(mode: Mode) -> None:
    disk = StackDisk(_backend(3147264), mode=mode)
    assert (disk.size, disk.block_size, disk.max_xfer, disk.version) == (3147264, 512, 32768, (1, 2))
    assert not disk.read_only
    assert disk.capacity() == (512, 6147)
    geometry = disk.geometry()
    assert (geometry.ncyl, geometry.acyl, geometry.nhead, geometry.nsect, geometry.pcyl) == (8, 2, 1, 600, 10)


@by_mode
@pytest.mark.parametrize("block_size", [512, 4096])
def test_what_was_written_is_read(mode: Mode, block_size: int) -> None:
    backend = _backend()
    model = bytearray(backend)
    disk = StackDisk(backend, mode=mode, block_size=block_size, order=lambda indices: indices[::-1])
    dice = random.Random(2)
    for _ in range(60):
        blocks = SIZE // block_size
        start = dice.randrange(blocks)
        length = min(dice.choice([1, 2, 8, 200, blocks]), blocks - start) * block_size
        offset = start * block_size
        if dice.random() < 0.5:
            data = dice.randbytes(length)
            model[offset : offset + length] = data
            disk.pwrite(offset, data)
        assert disk.pread(offset, length) == model[offset : offset + length]
    assert backend == model
    assert disk.sessions == 1


@by_mode
@pytest.mark.parametrize("version", [(1, 0), (1, 1), (1, 2), (1, 9)])
def test_every_version_reads_and_writes(mode: Mode, version: tuple[int, int]) -> None:
    backend = _backend(6 * 600 * 512)
    disk = StackDisk(backend, mode=mode, versions=[version])
    assert disk.version == min(version, (1, 2))
    assert disk.size == len(backend)  # at 1.0 by the geometry, whose cylinders happen to fill this disk
    assert disk.request(Operation.BREAD, addr=3, nbytes=1024) == backend[3 * 512 : 5 * 512]
    disk.request(Operation.BWRITE, addr=0, nbytes=512)
    assert backend[:512] == bytes(512)
    disk.flush()
    assert disk.flushes == 1


@by_mode
def test_a_client_that_begins_too_high_goes_down(mode: Mode) -> None:
    backend = _backend()
    disk = StackDisk(backend, mode=mode, versions=[(7, 3), (1, 1)])
    assert disk.version == (1, 1)
    assert disk.pread(0, 4096) == backend[:4096]


@by_mode
def test_a_read_only_disk(mode: Mode) -> None:
    backend = _backend()
    disk = StackDisk(backend, mode=mode, read_only=True)
    assert disk.read_only
    assert disk.pread(0, 512) == backend[:512]
    with pytest.raises(DiskError) as caught:
        disk.pwrite(0, bytes(512))
    assert caught.value.errno == errno.ENOTSUP
    assert backend == _backend()
    disk.flush()
    assert disk.flushes == 0


@by_mode
def test_bounds(mode: Mode) -> None:
    disk = StackDisk(_backend(), mode=mode)
    for offset, nbytes in ((1, 512), (0, 511), (-512, 512), (SIZE, 512), (SIZE - 512, 1024)):
        with pytest.raises(ValueError, match="bytes at"):
            disk.pread(offset, nbytes)
    assert disk.pread(SIZE, 0) == b""
    for addr in (SIZE // 512, 2**64 - 1):
        with pytest.raises(DiskError) as caught:  # status 0, but short: the test's own client minds
            disk.request(Operation.BREAD, addr=addr, nbytes=512)
        assert caught.value.errno == errno.EIO


@by_mode
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.ENOTSUP, errno.ECANCELED])
def test_a_status_is_an_error_of_its_request_alone(mode: Mode, number: int) -> None:
    backend = _backend()
    disk = StackDisk(backend, mode=mode)
    disk.on_request = lambda request: to_wire(number) if request.addr == 8 else 0
    with pytest.raises(DiskError) as caught:
        disk.request(Operation.BREAD, addr=8, nbytes=512)
    assert (caught.value.errno, caught.value.addr, caught.value.nbytes) == (number, 8, 512)
    assert disk.pread(0, 512) == backend[:512]
    assert disk.sessions == 1


@by_mode
@pytest.mark.parametrize("operation", [0, 6, 0x0A, 0x0B, 0x55, 0xFF])
def test_what_is_not_offered_is_answered(mode: Mode, operation: int) -> None:
    disk = StackDisk(_backend(), mode=mode)
    with pytest.raises(DiskError) as caught:
        disk.request(operation, nbytes=336)
    assert caught.value.errno == errno.ENOTSUP
    assert disk.sessions == 1


@by_mode
def test_a_fault_of_memory_ends_the_session_and_the_request_is_sent_again(mode: Mode) -> None:
    backend = _backend()
    disk = StackDisk(backend, mode=mode)
    revoked: list[Cookie] = []

    def once(request: Request) -> int:
        if not revoked:
            revoked.append(request.cookies[0])
            raise CookieError(HvStatus.ENOMAP, "gone")
        return 0

    disk.on_request = once
    assert disk.pread(4096, 4096) == backend[4096:8192]
    assert disk.sessions == 2
    assert [reset.full for reset in disk.server.resets] == [True]
    assert len(disk.lost) == 1
    assert "refused" in disk.lost[0]


@by_mode
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("number", range(8))
def test_a_damaged_packet_is_a_reset_and_nothing_is_lost(mode: Mode, direction: str, number: int) -> None:
    """The n-th packet arrives out of sequence; what is read and written is as if nothing had been."""
    backend = _backend()
    disk = StackDisk(backend, mode=mode)
    wire = disk.to_server if direction == "to_server" else disk.to_client
    victim = wire.carried + number
    damaged: list[bytes] = []

    def hand(carrier: Wire, packet: bytes | QueueConfigured) -> bytes | QueueConfigured:
        if damaged or carrier is not wire or wire.carried < victim or isinstance(packet, QueueConfigured):
            return packet
        damaged.append(packet)
        return packet[:7] + bytes([packet[7] ^ 0x80]) + packet[8:]  # the lowest octet of seqid

    disk.on_packet = hand
    for _ in range(6):
        data = random.Random(number).randbytes(5 * disk.max_xfer)
        disk.pwrite(1024, data)
        assert disk.pread(1024, len(data)) == data == backend[1024 : 1024 + len(data)]
    assert damaged
    assert disk.sessions == 2
    assert len(disk.lost) == 1
    assert disk.pread(0, SIZE) == backend


def test_two_ends_need_no_more_messages_than_work() -> None:
    """A polled ring wakes once a batch, a plain one tells and answers each, an open range is told once."""
    counts = {}
    for mode in MODES:
        disk = StackDisk(_backend(), mode=mode)
        before = disk.to_server.carried, disk.to_client.carried
        disk.pread(0, RING.num_descriptors * disk.max_xfer)
        counts[mode] = (disk.to_server.carried - before[0], disk.to_client.carried - before[1])
    assert counts == {"plain": (8, 8), "polled": (1, 1), "inband": (16, 16), "open": (1, 8)}


def test_the_ring_is_free_again_afterwards() -> None:
    disk = StackDisk(_backend())
    disk.pread(0, SIZE)
    states = disk.guest.memory[RING_AT : RING_AT + RING.nbytes : RING.descriptor_size]
    assert states == bytes([1] * RING.num_descriptors)


def test_resolving_needs_permission_and_enough_bytes() -> None:
    disk = StackDisk(_backend())
    (cookie,) = disk.guest.table.export(2 * 8192, 512, Permission.CR)
    assert disk.guest.views([cookie], 512, Permission.CR)
    for need, nbytes in ((Permission.CW, 512), (Permission.CR, 520)):
        with pytest.raises(CookieError):
            disk.guest.views([cookie], nbytes, need)
    with pytest.raises(CookieError):
        disk.guest.ring(cookie, 512)
