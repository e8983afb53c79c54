"""Local memory: what is shared of it, and what a COPY of the peer may reach."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
from collections.abc import Iterator

import pytest

from hypervisor.memory import REQUIRED_SEALS, LocalMemory
from hypervisor.records import COPY_LIMIT, Copy, CopyDirection, CopyDone
from protocol.errors import HvStatus, LocalProtocolError
from protocol.ldc.cookie import PAGE_SIZE, Permission, build_mte

from .conftest import ALL, SIZE, SLOT, TABLE_ENTRIES, maps, refusal

pytestmark = pytest.mark.usefixtures("no_leak")

IN, OUT = CopyDirection.IN, CopyDirection.OUT
CR, CW = Permission.CR, Permission.CW


@pytest.fixture
def local() -> Iterator[LocalMemory]:
    """Return private memory: the map table in page 0."""
    memory = LocalMemory(SIZE, TABLE_ENTRIES, shared=False)
    yield memory
    memory.close()


class TestLocalMemory:
    def test_shared_memory_is_sealed_allocated_and_closed_on_exec(self) -> None:
        memory = LocalMemory(SIZE, TABLE_ENTRIES, shared=True)
        assert memory.fd is not None
        assert fcntl.fcntl(memory.fd, fcntl.F_GET_SEALS) == REQUIRED_SEALS
        status = os.fstat(memory.fd)
        assert (status.st_size, status.st_blocks * 512) == (SIZE, SIZE)
        assert not os.get_inheritable(memory.fd)
        memory.close()
        memory.close()
        assert memory.fd is None

    def test_private_memory_has_no_descriptor(self, local: LocalMemory) -> None:
        assert local.fd is None
        assert len(local.view) == local.size == SIZE

    @pytest.mark.parametrize("size", [0, TABLE_ENTRIES * SLOT, PAGE_SIZE + 8, -PAGE_SIZE])
    def test_unusable_size(self, size: int) -> None:
        with pytest.raises(ValueError, match="whole pages"):
            LocalMemory(size, TABLE_ENTRIES, shared=False)

    def test_no_memory_is_an_error_and_no_signal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(fd: int, offset: int, length: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space left"):
            LocalMemory(SIZE, TABLE_ENTRIES, shared=True)

    @pytest.mark.parametrize(
        ("ra", "length"), [(SIZE, 8), (SIZE - 8, 16), (-8, 8), (0, -8), (1 << 60, 8), (0, 1 << 60)]
    )
    def test_only_its_own_memory_is_exported(self, local: LocalMemory, ra: int, length: int) -> None:
        with pytest.raises(LocalProtocolError):
            local.export(ra, length, ALL)

    def test_memory_outlives_close_while_a_view_is_held(self) -> None:
        memory = LocalMemory(SIZE, TABLE_ENTRIES, shared=True)
        part = memory.view[PAGE_SIZE : 2 * PAGE_SIZE]
        memory.close()
        part[:4] = b"here"
        assert bytes(part[:4]) == b"here"
        assert "memfd:vdisk" in maps()
        del part, memory
        gc.collect()
        assert "memfd:vdisk" not in maps()


class TestCopy:
    def test_in_and_out(self, local: LocalMemory) -> None:
        (cookie,) = local.export(PAGE_SIZE, PAGE_SIZE, ALL)
        assert local.copy(Copy(1, OUT, cookie.addr + 8, 8, b"12345678")) == CopyDone(1, HvStatus.EOK, 8)
        assert bytes(local.view[PAGE_SIZE : PAGE_SIZE + 24]) == bytes(8) + b"12345678" + bytes(8)
        done = local.copy(Copy(2, IN, cookie.addr, 24))
        assert (done.id, done.status, done.length) == (2, HvStatus.EOK, 24)
        assert bytes(done.data) == bytes(8) + b"12345678" + bytes(8)

    def test_several_pages_at_once(self, local: LocalMemory) -> None:
        (cookie,) = local.export(PAGE_SIZE + 16, 3 * PAGE_SIZE, ALL)
        data = os.urandom(3 * PAGE_SIZE)
        assert local.copy(Copy(1, OUT, cookie.addr, len(data), data)).length == len(data)
        assert bytes(local.view[PAGE_SIZE + 16 : 4 * PAGE_SIZE + 16]) == data
        assert bytes(local.copy(Copy(2, IN, cookie.addr, len(data))).data) == data

    def test_pages_that_are_not_neighbours(self, local: LocalMemory) -> None:
        (one,) = local.export(5 * PAGE_SIZE, PAGE_SIZE, ALL)
        (two,) = local.export(2 * PAGE_SIZE, PAGE_SIZE, ALL)
        assert two.addr == one.addr + PAGE_SIZE
        local.view[5 * PAGE_SIZE : 6 * PAGE_SIZE] = b"1" * PAGE_SIZE
        local.view[2 * PAGE_SIZE : 3 * PAGE_SIZE] = b"2" * PAGE_SIZE
        done = local.copy(Copy(1, IN, one.addr, 2 * PAGE_SIZE))
        assert bytes(done.data) == b"1" * PAGE_SIZE + b"2" * PAGE_SIZE

    @pytest.mark.parametrize("direction", [IN, OUT])
    def test_short_count_at_the_end_of_what_is_exported(
        self, local: LocalMemory, direction: CopyDirection
    ) -> None:
        (cookie,) = local.export(PAGE_SIZE, PAGE_SIZE, ALL)
        data = b"x" * (2 * PAGE_SIZE) if direction is OUT else b""
        done = local.copy(Copy(1, direction, cookie.addr + 64, 2 * PAGE_SIZE, data))
        assert (done.status, done.length) == (HvStatus.EOK, PAGE_SIZE - 64)
        assert local.copy(Copy(2, IN, cookie.addr + PAGE_SIZE, 8)).status == HvStatus.ENOMAP

    def test_longest_copy_is_short_and_fits_an_answer(self, local: LocalMemory) -> None:
        (cookie,) = local.export(PAGE_SIZE, 32 * PAGE_SIZE, ALL)
        done = local.copy(Copy(1, IN, cookie.addr, 32 * PAGE_SIZE))
        assert done.length == len(done.data) == COPY_LIMIT

    @pytest.mark.parametrize(
        ("direction", "addr", "length", "permissions", "status"),
        [
            (2, 0, 8, ALL, HvStatus.EINVAL),
            (0xFFFFFFFF, 0, 8, ALL, HvStatus.EINVAL),
            (IN, 0, 0, ALL, HvStatus.EINVAL),
            (IN, 4, 8, ALL, HvStatus.EBADALIGN),
            (IN, 0, 12, ALL, HvStatus.EBADALIGN),
            (OUT, 1, 1, ALL, HvStatus.EBADALIGN),
            (IN, PAGE_SIZE, 8, ALL, HvStatus.ENOMAP),
            (IN, TABLE_ENTRIES * PAGE_SIZE, 8, ALL, HvStatus.ENOMAP),
            (IN, (1 << 60) - 8, 8, ALL, HvStatus.ENOMAP),
            (IN, 1 << 60, 8, ALL, HvStatus.EBADPGSZ),
            (IN, (1 << 64) - 8, 8, ALL, HvStatus.EBADPGSZ),
            (IN, 0, 8, ALL & ~CR, HvStatus.ENOACCESS),
            (OUT, 0, 8, ALL & ~CW, HvStatus.ENOACCESS),
            (IN, PAGE_SIZE, 2 * PAGE_SIZE, ALL, HvStatus.ENOMAP),
        ],
    )
    def test_refusals(
        self, local: LocalMemory, direction: int, addr: int, length: int, permissions: int, status: HvStatus
    ) -> None:
        (cookie,) = local.export(PAGE_SIZE, PAGE_SIZE, permissions)
        data = bytes(length) if direction == OUT else b""
        assert local.copy(Copy(9, direction, cookie.addr + addr, length, data)) == CopyDone(9, status, 0)
        assert bytes(local.view[PAGE_SIZE : 2 * PAGE_SIZE]) == bytes(PAGE_SIZE)

    def test_entry_that_points_outside_is_refused(self, local: LocalMemory) -> None:
        local.view[0:8] = build_mte(SIZE, ALL).to_bytes(8, "big")
        assert local.copy(Copy(1, IN, 0, 8)).status == HvStatus.ENORADDR

    def test_revoked_page_is_gone(self, local: LocalMemory) -> None:
        (cookie,) = local.export(PAGE_SIZE, PAGE_SIZE, ALL)
        local.table.revoke(cookie)
        assert local.copy(Copy(1, IN, cookie.addr, 8)).status == HvStatus.ENOMAP

    def test_apply_needs_permission_to_copy_out(self, local: LocalMemory) -> None:
        (cookie,) = local.export(PAGE_SIZE, PAGE_SIZE, Permission.CR | Permission.W)
        assert refusal(lambda: local.apply([(cookie.addr, bytes(8))])) is HvStatus.ENOACCESS
