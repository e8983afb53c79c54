"""Mapped memory: cookies to bytes, permissions at each use, and memory that is not what it says."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hypervisor import memory as module
from hypervisor.memory import REGION_LIMIT, REQUIRED_SEALS, LocalMemory, MappedMemory
from hypervisor.ranges import merge_runs
from protocol.errors import CookieError, HvStatus, PacketError, Reaction
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission, build_mte

from .conftest import ALL, SIZE, SLOT, TABLE_ENTRIES, maps, refusal

pytestmark = pytest.mark.usefixtures("no_leak")

CR, CW = Permission.CR, Permission.CW


class Shared:
    """Memory of a client as both sides have it."""

    def __init__(self) -> None:
        self.local = LocalMemory(SIZE, TABLE_ENTRIES, shared=True)
        assert self.local.fd is not None
        self.mapped = MappedMemory(os.dup(self.local.fd), SIZE)
        self.mapped.set_map_table(0, TABLE_ENTRIES)

    def export(self, page: int, nbytes: int, permissions: int = ALL) -> tuple[Cookie, ...]:
        return tuple(self.local.export(page * PAGE_SIZE, nbytes, permissions))

    def write_slot(self, index: int, mte: int) -> None:
        self.local.view[index * SLOT : index * SLOT + 8] = mte.to_bytes(8, "big")


@pytest.fixture
def shared() -> Iterator[Shared]:
    """Return memory with both its ends."""
    both = Shared()
    yield both
    both.mapped.close()
    both.local.close()


def text(views: Sequence[memoryview]) -> bytes:
    return b"".join(views)


def memfd(size: int, seals: int, flags: int = os.MFD_ALLOW_SEALING) -> int:
    fd = os.memfd_create("test", flags)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def file_in(directory: Path) -> int:
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.ftruncate(fd, SIZE)
    return fd


SHRINK, GROW, SEAL = fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SEAL


class TestUnacceptableMemory:
    @pytest.mark.parametrize(
        ("make", "size", "why"),
        [
            (lambda tmp: file_in(tmp), SIZE, "no memory that can be sealed|not sealed"),
            (lambda tmp: file_in(Path("/dev/shm")), SIZE, "no memory that can be sealed|not sealed"),
            (lambda tmp: os.open("/dev/zero", os.O_RDWR), SIZE, "no memory that can be sealed"),
            (lambda tmp: os.open(tmp, os.O_RDONLY), SIZE, "no memory that can be sealed"),
            (lambda tmp: os.eventfd(0), SIZE, "no memory that can be sealed"),
            (lambda tmp: memfd(SIZE, 0), SIZE, "not sealed"),
            (lambda tmp: memfd(SIZE, 0, 0), SIZE, "not sealed"),
            (lambda tmp: memfd(SIZE, SHRINK), SIZE, "not sealed"),
            (lambda tmp: memfd(SIZE, GROW | SEAL), SIZE, "not sealed"),
            (lambda tmp: memfd(SIZE, SHRINK | SEAL), SIZE, "not sealed"),
            (lambda tmp: memfd(SIZE, SHRINK | GROW), SIZE, "not sealed"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), SIZE - PAGE_SIZE, "were announced"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), SIZE + PAGE_SIZE, "were announced"),
            (lambda tmp: memfd(0, REQUIRED_SEALS), SIZE, "were announced"),
            (lambda tmp: memfd(SIZE + 8, REQUIRED_SEALS), SIZE + 8, "in pages"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), 0, "in pages"),
            (lambda tmp: memfd(PAGE_SIZE, REQUIRED_SEALS), PAGE_SIZE, "in pages"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), 1, "in pages"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), 1 << 16, "were announced"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), (1 << 32) - 1, "in pages"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), (1 << 64) - PAGE_SIZE, "in pages"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS), REGION_LIMIT + PAGE_SIZE, "in pages"),
            (lambda tmp: memfd(SIZE, REQUIRED_SEALS | fcntl.F_SEAL_WRITE), SIZE, "cannot be mapped"),
        ],
    )
    def test_refused_and_closed(
        self, tmp_path: Path, make: Callable[[Path], int], size: int, why: str
    ) -> None:
        fd = make(tmp_path)
        with pytest.raises(PacketError, match=why) as caught:
            MappedMemory(fd, size)
        assert caught.value.reaction is Reaction.CLOSE
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    def test_huge_pages_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fd = memfd(SIZE, REQUIRED_SEALS)
        real = os.fstatvfs(fd)
        huge = os.statvfs_result((2 * 1024 * 1024, *tuple(real)[1:]))
        monkeypatch.setattr(os, "fstatvfs", lambda fd: huge)
        with pytest.raises(PacketError, match="ordinary pages"):
            MappedMemory(fd, SIZE)

    def test_limit_is_an_argument(self) -> None:
        MappedMemory(memfd(SIZE, REQUIRED_SEALS), SIZE, limit=SIZE).close()
        with pytest.raises(PacketError, match="in pages"):
            MappedMemory(memfd(SIZE, REQUIRED_SEALS), SIZE, limit=SIZE - PAGE_SIZE)

    def test_owner_cannot_take_pages_away(self, shared: Shared) -> None:
        """The seal holds: truncating fails, and punching a hole reads as zeros, without a signal."""
        fd = shared.local.fd
        assert fd is not None
        cookies = shared.export(4, PAGE_SIZE)
        views = shared.mapped.views(cookies, PAGE_SIZE, CR)
        shared.local.view[4 * PAGE_SIZE : 5 * PAGE_SIZE] = b"x" * PAGE_SIZE
        assert text(views) == b"x" * PAGE_SIZE
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        punch = ctypes.CDLL(None, use_errno=True).fallocate
        offset, length = ctypes.c_long(0), ctypes.c_long(SIZE)
        assert punch(fd, 3, offset, length) == 0  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        assert text(views) == bytes(PAGE_SIZE)
        views[0][:] = b"y" * PAGE_SIZE

    def test_unsealed_memory_would_have_killed_us(self) -> None:
        """What the seals are for: this is what happens to a process that maps unsealed memory."""
        code = (
            "import mmap, os\n"
            "fd = os.memfd_create('unsealed')\n"
            "os.ftruncate(fd, 16384)\n"
            "view = mmap.mmap(fd, 16384)\n"
            "os.ftruncate(fd, 0)\n"
            "view[0]\n"
        )
        child = subprocess.run([sys.executable, "-X", "faulthandler=0", "-c", code], capture_output=True)
        assert child.returncode == -7


class TestMapTable:
    @pytest.mark.parametrize(
        ("base", "nentries"),
        [
            (32, 64),
            (8, 64),
            (SIZE, 2),
            (SIZE - 64, 8),
            (SIZE - 64, 1 << 31),
            (0, SIZE // SLOT * 2),
            ((1 << 64) - 64, 2),
            (0, 3),
            (0, 1),
        ],
    )
    def test_table_outside_the_memory_closes(self, shared: Shared, base: int, nentries: int) -> None:
        reaction = None
        try:
            shared.mapped.set_map_table(base, nentries)
        except PacketError as error:
            reaction = error.reaction
        assert reaction is Reaction.CLOSE
        assert refusal(lambda: shared.mapped.views(((0, 8),), 8, CR)) is HvStatus.ENOMAP

    def test_table_may_lie_anywhere(self, shared: Shared) -> None:
        mte = build_mte(3 * PAGE_SIZE, ALL)
        base = SIZE - 64
        shared.local.view[base + SLOT : base + SLOT + 8] = mte.to_bytes(8, "big")
        shared.mapped.set_map_table(base, 4)
        shared.local.view[3 * PAGE_SIZE : 3 * PAGE_SIZE + 8] = b"elsewher"
        for _ in range(2):
            assert text(shared.mapped.views(((PAGE_SIZE, 8),), 8, CR)) == b"elsewher"

    def test_unbound_table_resolves_nothing(self, shared: Shared) -> None:
        cookies = shared.export(4, PAGE_SIZE)
        shared.mapped.views(cookies, 8, CR)
        shared.mapped.set_map_table(0, 0)
        assert refusal(lambda: shared.mapped.views(cookies, 8, CR)) is HvStatus.ENOMAP
        assert refusal(lambda: shared.mapped.map_ring(cookies[0], 8)) is HvStatus.ENOMAP


class TestViews:
    def test_pages_are_read_and_written_in_place(self, shared: Shared) -> None:
        cookies = shared.export(4, 3 * PAGE_SIZE)
        (view,) = shared.mapped.views(cookies, 3 * PAGE_SIZE, CW)
        view[:] = b"abc" * PAGE_SIZE
        assert bytes(shared.local.view[4 * PAGE_SIZE : 7 * PAGE_SIZE]) == b"abc" * PAGE_SIZE

    def test_neighbours_are_one_view(self, shared: Shared) -> None:
        one, two = shared.export(4, PAGE_SIZE)[0], shared.export(5, PAGE_SIZE)[0]
        assert len(shared.mapped.views((one, two), 2 * PAGE_SIZE, CR)) == 1
        assert len(shared.mapped.views((two, one), 2 * PAGE_SIZE, CR)) == 2

    def test_order_is_that_of_the_cookies(self, shared: Shared) -> None:
        cookies = [shared.export(page, 8)[0] for page in (9, 4, 6)]
        for page, word in ((9, b"first..."), (4, b"second.."), (6, b"third...")):
            shared.local.view[page * PAGE_SIZE : page * PAGE_SIZE + 8] = word
        assert text(shared.mapped.views(cookies, 24, CR)) == b"first...second..third..."

    @pytest.mark.parametrize("nbytes", [1, 7, 8, 9, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 2 * PAGE_SIZE])
    def test_length_is_exact(self, shared: Shared, nbytes: int) -> None:
        cookies = shared.export(4, 2 * PAGE_SIZE)
        for _ in range(2):
            assert len(text(shared.mapped.views(cookies, nbytes, CR))) == nbytes

    def test_cookies_beyond_what_is_needed_are_not_looked_at(self, shared: Shared) -> None:
        cookies = (*shared.export(4, 16), Cookie(1, -1))
        assert len(text(shared.mapped.views(cookies, 16, CR))) == 16

    def test_offset_in_the_page_is_kept(self, shared: Shared) -> None:
        (cookie,) = shared.local.export(4 * PAGE_SIZE + 512, 1024, ALL)
        shared.local.view[4 * PAGE_SIZE + 512 : 4 * PAGE_SIZE + 520] = b"offset.."
        assert text(shared.mapped.views((cookie,), 1024, CR))[:8] == b"offset.."

    def test_second_call_gives_the_same_views(self, shared: Shared) -> None:
        cookies = shared.export(4, 2 * PAGE_SIZE)
        first = shared.mapped.views(cookies, 100, CR)
        assert shared.mapped.views(cookies, 100, CR) is first
        assert shared.mapped.views(tuple((a, s) for a, s in cookies), 100, int(CR)) is first
        assert shared.mapped.views(cookies, 104, CR) is not first

    def test_list_of_cookies_will_do(self, shared: Shared) -> None:
        cookies = list(shared.export(4, PAGE_SIZE))
        assert shared.mapped.views(cookies, 8, CR) == shared.mapped.views(tuple(cookies), 8, CR)

    @pytest.mark.parametrize("again", [False, True], ids=["first", "remembered"])
    @pytest.mark.parametrize(
        ("mte", "status"),
        [
            (0, HvStatus.ENOMAP),
            (build_mte(4 * PAGE_SIZE, ALL & ~CR), HvStatus.ENOACCESS),
            (build_mte(4 * PAGE_SIZE, ALL) | 1, HvStatus.EBADPGSZ),
            (build_mte(SIZE, ALL), HvStatus.ENORADDR),
            (build_mte((1 << 56) - PAGE_SIZE, ALL), HvStatus.ENORADDR),
            ((1 << 64) - 1, HvStatus.EBADPGSZ),
        ],
    )
    def test_entry_is_looked_at_at_each_use(
        self, shared: Shared, mte: int, status: HvStatus, again: bool
    ) -> None:
        cookies = shared.export(4, 2 * PAGE_SIZE)
        if again:
            shared.mapped.views(cookies, 2 * PAGE_SIZE, CR)
        shared.write_slot(1, mte)
        assert refusal(lambda: shared.mapped.views(cookies, 2 * PAGE_SIZE, CR)) is status

    def test_moved_page_is_followed(self, shared: Shared) -> None:
        cookies = shared.export(4, PAGE_SIZE)
        shared.mapped.views(cookies, 8, CR)
        shared.local.view[9 * PAGE_SIZE : 9 * PAGE_SIZE + 8] = b"moved..."
        shared.write_slot(0, build_mte(9 * PAGE_SIZE, ALL))
        assert text(shared.mapped.views(cookies, 8, CR)) == b"moved..."

    def test_revoked_page_is_gone_and_comes_back(self, shared: Shared) -> None:
        cookies = shared.export(4, PAGE_SIZE)
        shared.mapped.views(cookies, 8, CR)
        shared.local.table.revoke(cookies[0])
        assert refusal(lambda: shared.mapped.views(cookies, 8, CR)) is HvStatus.ENOMAP
        shared.write_slot(0, build_mte(4 * PAGE_SIZE, ALL))
        assert shared.mapped.views(cookies, 8, CR)

    def test_permission_of_one_direction_is_not_that_of_the_other(self, shared: Shared) -> None:
        cookies = shared.export(4, PAGE_SIZE, CR)
        shared.mapped.views(cookies, 8, CR)
        assert refusal(lambda: shared.mapped.views(cookies, 8, CW)) is HvStatus.ENOACCESS

    @pytest.mark.parametrize(
        ("cookies", "nbytes", "status"),
        [
            ((), 8, HvStatus.EINVAL),
            (((0, 8),), 0, HvStatus.EINVAL),
            (((0, 8),), -8, HvStatus.EINVAL),
            (((0, 8),), 9, HvStatus.EINVAL),
            (((0, 8),), 1 << 63, HvStatus.EINVAL),
            (((0, 16), (16, 16)), 33, HvStatus.EINVAL),
            (((0, 0), (0, 8)), 8, HvStatus.EBADALIGN),
            (((0, -8),), 8, HvStatus.EBADALIGN),
            (((0, 12),), 8, HvStatus.EBADALIGN),
            (((4, 8),), 8, HvStatus.EBADALIGN),
            (((0, 4), (4, 4)), 8, HvStatus.EBADALIGN),
            (((0, (1 << 64) - 8),), (1 << 63) - 8, HvStatus.ENOMAP),
            (((PAGE_SIZE - 8, 16),), 16, HvStatus.ENOMAP),
            (((PAGE_SIZE, 8),), 8, HvStatus.ENOMAP),
            (((TABLE_ENTRIES * PAGE_SIZE, 8),), 8, HvStatus.ENOMAP),
            (((TABLE_ENTRIES * PAGE_SIZE - 8, 16),), 16, HvStatus.ENOMAP),
            ((((1 << 60) - 8, 8),), 8, HvStatus.ENOMAP),
            ((((1 << 60) - 8, 16),), 16, HvStatus.ENOMAP),
            (((1 << 60, 8),), 8, HvStatus.EBADPGSZ),
            (((7 << 60, 8),), 8, HvStatus.EBADPGSZ),
            (((15 << 60, 8),), 8, HvStatus.EBADPGSZ),
            ((((1 << 64) - 8, 8),), 8, HvStatus.EBADPGSZ),
            ((((1 << 64) - 8, 16),), 16, HvStatus.EBADPGSZ),
        ],
    )
    def test_refusals(
        self, shared: Shared, cookies: tuple[tuple[int, int], ...], nbytes: int, status: HvStatus
    ) -> None:
        shared.export(4, PAGE_SIZE)
        assert refusal(lambda: shared.mapped.views(cookies, nbytes, CR)) is status

    def test_every_entry_of_the_table_can_be_used(self, shared: Shared) -> None:
        for index in range(TABLE_ENTRIES):
            shared.write_slot(index, build_mte((TABLE_ENTRIES - 1 - index) * PAGE_SIZE, ALL))
        views = shared.mapped.views(((0, SIZE),), SIZE, CR)
        assert len(views) == TABLE_ENTRIES
        assert sum(map(len, views)) == SIZE

    def test_table_itself_may_be_exported(self, shared: Shared) -> None:
        """Harm to the client alone: what it takes back is seen all the same."""
        cookies = shared.export(0, PAGE_SIZE)
        (view,) = shared.mapped.views(cookies, PAGE_SIZE, CW)
        view[:] = bytes(PAGE_SIZE)
        assert refusal(lambda: shared.mapped.views(cookies, PAGE_SIZE, CW)) is HvStatus.ENOMAP

    def test_change_while_resolving_is_not_remembered(
        self, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cookies = shared.export(4, PAGE_SIZE)

        def racing(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
            shared.write_slot(0, build_mte(9 * PAGE_SIZE, ALL))
            return merge_runs(runs)

        monkeypatch.setattr(module, "merge_runs", racing)
        first = shared.mapped.views(cookies, 8, CR)
        monkeypatch.undo()
        shared.write_slot(0, build_mte(4 * PAGE_SIZE, ALL))
        assert shared.mapped.views(cookies, 8, CR) is not first

    def test_memory_of_the_past_is_bounded(self, shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "CACHE_LIMIT", 16)
        (cookie,) = shared.export(4, 8 * PAGE_SIZE)
        kept = shared.mapped.views((cookie,), 8, CR)
        for nbytes in range(9, 60):
            shared.mapped.views((cookie,), nbytes, CR)
        assert shared.mapped.views((cookie,), 8, CR) is not kept  # forgotten, not lost
        assert len(text(kept)) == 8


class TestRing:
    @pytest.mark.parametrize(
        "permissions", [ALL, Permission.R | Permission.W, CR | CW], ids=["all", "map", "copy"]
    )
    def test_ring_is_mapped_in_place(self, shared: Shared, permissions: Permission) -> None:
        (cookie,) = shared.export(4, 2 * PAGE_SIZE, permissions)
        ring = shared.mapped.map_ring(cookie, PAGE_SIZE + 8)
        assert len(ring) == PAGE_SIZE + 8
        ring[0] = 3
        assert shared.local.view[4 * PAGE_SIZE] == 3

    @pytest.mark.parametrize("permissions", [Permission.R, Permission.W, CR, CW, Permission.R | CW])
    def test_ring_must_be_readable_and_writable(self, shared: Shared, permissions: Permission) -> None:
        (cookie,) = shared.export(4, PAGE_SIZE, permissions)
        assert refusal(lambda: shared.mapped.map_ring(cookie, 64)) is HvStatus.ENOACCESS

    def test_ring_must_lie_in_one_piece(self, shared: Shared) -> None:
        (one,), _ = shared.export(9, PAGE_SIZE), shared.export(4, PAGE_SIZE)
        with pytest.raises(CookieError, match="one piece"):
            shared.mapped.map_ring(Cookie(one.addr, 2 * PAGE_SIZE), 2 * PAGE_SIZE)

    @pytest.mark.parametrize("nbytes", [0, -8, PAGE_SIZE + 8, 1 << 40])
    def test_ring_must_fit_its_cookie(self, shared: Shared, nbytes: int) -> None:
        (cookie,) = shared.export(4, PAGE_SIZE)
        assert refusal(lambda: shared.mapped.map_ring(cookie, nbytes)) is HvStatus.EINVAL

    def test_ring_outside_the_table_is_refused(self, shared: Shared) -> None:
        assert refusal(lambda: shared.mapped.map_ring(Cookie(PAGE_SIZE, PAGE_SIZE), 64)) is HvStatus.ENOMAP


class TestClose:
    def test_memory_is_unmapped_and_nothing_resolves(self, shared: Shared) -> None:
        cookies = shared.export(4, PAGE_SIZE)
        shared.mapped.views(cookies, 8, CR)
        gc.collect()
        before = maps().count("memfd:vdisk")
        shared.mapped.close()
        shared.mapped.close()
        assert maps().count("memfd:vdisk") == before - 1
        assert refusal(lambda: shared.mapped.views(cookies, 8, CR)) is HvStatus.ENOMAP

    def test_memory_stays_while_somebody_reads_it(self, shared: Shared) -> None:
        gc.collect()
        before = maps().count("memfd:vdisk")
        views = shared.mapped.views(shared.export(4, PAGE_SIZE), 8, CR)
        shared.mapped.close()
        assert text(views) == bytes(8)
        assert maps().count("memfd:vdisk") == before
        shared.mapped = MappedMemory(memfd(SIZE, REQUIRED_SEALS), SIZE)
        del views
        assert maps().count("memfd:vdisk") == before - 1

    def test_pages_are_those_of_the_machine(self) -> None:
        assert PAGE_SIZE % mmap.PAGESIZE == 0
