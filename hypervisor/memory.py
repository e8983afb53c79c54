"""Exported and imported memory: the only place where a cookie becomes bytes.

The client exports: :class:`LocalMemory` is its memory, with the map table at real address 0; a real address
is an offset in it. The server imports, in one of two ways: :class:`MappedMemory` maps the client's sealed
memory and reads or writes pages in place; :class:`~hypervisor.copied.CopiedMemory` reaches it by COPY
records.

Permissions are checked at each use, against the map table as it is then (the exporter may revoke at any
time). The importer trusts nothing else in that memory: sealed against shrinking, it cannot take pages away
under us, and what it contains is the exporter's word only.

Source: FWARC 2008/424; Solaris ldc_shm.c; Linux memfd_create(2), fcntl(2) File Sealing.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from protocol import wire
from protocol.errors import CookieError, HvStatus, Layer, LocalProtocolError
from protocol.ldc.cookie import (
    ALIGNMENT,
    PAGE_SHIFT,
    PAGE_SIZE,
    Cookie,
    MapTable,
    MapTableSlotLayout,
    Permission,
    split_cookie,
)

from .copied import CopiedMemory
from .ranges import cut_cookies, merge_runs, trim_runs
from .records import COPY_LIMIT, Copy, CopyDirection, CopyDone, refuse

__all__ = ["REGION_LIMIT", "REGION_MINIMUM", "CopiedMemory", "LocalMemory", "MappedMemory"]

REGION_LIMIT: Final = 64 * 1024 * 1024
"""Most memory mapped for one client unless configured: a 512-entry ring and 60 requests of 1 MiB under
way."""

REGION_MINIMUM: Final = 2 * PAGE_SIZE
"""Least memory that can hold a map table and a ring, each in pages of its own."""

REQUIRED_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Without SHRINK the owner could truncate the file and kill us with SIGBUS; SEAL and GROW keep it as it
is."""

TABLE_ALIGNMENT: Final = 64
"""Of the map table's real address. Source: OpenSPARC T2 hypervisor, ldc.s, set_map_table."""

CACHE_LIMIT: Final = 16 * 1024
"""Most that is remembered of one client's cookies, in views and 64-byte lines of map table words (about 200
bytes each, so 3 MiB): every 4 KiB place in an arena of 64 MiB."""

CACHE_LINE: Final = 64

_SLOT_SIZE: Final = MapTableSlotLayout.size
_WORD: Final = struct.Struct("=Q")
_COPY_PERMISSIONS: Final[dict[int, Permission]] = {
    CopyDirection.IN: Permission.CR,
    CopyDirection.OUT: Permission.CW,
}
_RING_PERMISSIONS: Final = (Permission.R | Permission.W, Permission.CR | Permission.CW)


class LocalMemory:
    """Memory of our own that the peer reaches through the map table at its beginning.

    ``size`` is a multiple of 8 KiB; ``table_entries`` a power of two, at 16 bytes each. ``shared``: sealed
    memory whose ``fd`` is passed in the rendezvous; otherwise private, ``fd`` is None. All pages are
    allocated at once, so that running out of memory is an error here and not a signal later. ``view`` is
    all of it, ``pages`` the same as an mmap, ``table`` the map table.

    Raises: ValueError (sizes); OSError (ENOSPC, ENOMEM, EMFILE).
    """

    def __init__(self, size: int, table_entries: int, *, shared: bool) -> None:
        if size <= table_entries * _SLOT_SIZE or size % PAGE_SIZE:
            raise ValueError(f"{size} bytes: must be whole pages of {PAGE_SIZE} and more than the map table")
        self.size: Final = size
        self.fd: int | None = _sealed(size) if shared else None
        self.pages = mmap.mmap(-1 if self.fd is None else self.fd, size)
        self.view: Final = memoryview(self.pages)
        self.table: Final = MapTable(self.view[: table_entries * _SLOT_SIZE], table_entries)
        self._known: dict[tuple[int, int], tuple[bytes, int]] = {}

    def export(self, ra: int, length: int, permissions: int) -> list[Cookie]:
        """Export ``length`` bytes at offset ``ra`` and return their cookies, in order.

        Raises: LocalProtocolError (not multiples of 8, outside the memory, too few free slots).
        """
        if not 0 <= ra <= ra + length <= self.size:
            raise LocalProtocolError(Layer.HYPERVISOR, f"{length} bytes at {ra:#x} are not in this memory")
        return self.table.export(ra, length, permissions)

    def copy(self, record: Copy) -> CopyDone:
        """Carry out a COPY of the peer and return the answer; it may move fewer bytes than asked for.

        Everything up to the end of the first page is copied, and more if the following pages allow it.
        Source: FWARC 2008/424, LDC_COPY; OpenSPARC T2 hypervisor, ldc.s (one page, short count).
        """
        try:
            runs = self._runs(record)
        except CookieError as error:
            return CopyDone(record.id, error.hv_status, 0)
        pieces = [self.view[ra : ra + length] for ra, length in runs]
        if record.direction == CopyDirection.IN:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            return CopyDone(record.id, HvStatus.EOK, len(data), data)
        done = _fill(pieces, record.data)
        return CopyDone(record.id, HvStatus.EOK, done)

    def _runs(self, record: Copy) -> list[tuple[int, int]]:
        """Return (real address, length) of what a COPY may move, at least up to the end of its first page.

        Raises: CookieError.
        """
        need = _COPY_PERMISSIONS.get(record.direction)
        if need is None or record.length <= 0:
            raise CookieError(HvStatus.EINVAL, f"COPY of {record.length} bytes, direction {record.direction}")
        if (record.addr | record.length) % ALIGNMENT:
            raise CookieError(HvStatus.EBADALIGN, f"COPY of {record.length} bytes at {record.addr:#x}")
        length = min(record.length, COPY_LIMIT)
        try:
            return self._resolve(record.addr, length, need)
        except CookieError:
            first = min(length, PAGE_SIZE - record.addr % PAGE_SIZE)
            if first == length:
                raise
            return self._resolve(record.addr, first, need)

    def _resolve(self, addr: int, length: int, need: Permission) -> list[tuple[int, int]]:
        runs = self.table.resolve(addr, length, need)
        _check_inside(runs, self.size)
        return runs

    def apply(self, pieces: Iterable[tuple[int, wire.Buffer]]) -> None:
        """Write what the peer pushed, in order; every piece needs permission CW.

        Where pages lie is remembered together with the map table words that say so, which are read again
        and compared for every piece.

        Raises: CookieError (the pieces before the faulty one are written).
        """
        known, table, view = self._known, self.pages, self.view
        for addr, data in pieces:
            nbytes = len(data)
            first, last = addr >> PAGE_SHIFT, (addr + nbytes - 1) >> PAGE_SHIFT
            place = known.get((first, last))
            if place is not None and table[first * _SLOT_SIZE : (last + 1) * _SLOT_SIZE] == place[0]:
                start = place[1] + addr
                view[start : start + nbytes] = data
            else:
                self._apply(addr, data, first, last)

    def _apply(self, addr: int, data: wire.Buffer, first: int, last: int) -> None:
        """Write ``data`` at ``addr``; remember where its pages, ``first`` to ``last``, lie if in a row."""
        runs = merge_runs(self._resolve(addr, len(data), Permission.CW))
        _fill([self.view[ra : ra + length] for ra, length in runs], data)
        if len(runs) == 1 and last < self.table.nentries:  # else pages of another size
            if len(self._known) >= CACHE_LIMIT:
                self._known.clear()
            words = self.pages[first * _SLOT_SIZE : (last + 1) * _SLOT_SIZE]
            self._known[first, last] = words, runs[0][0] - addr

    def close(self) -> None:
        """Give the memory up. Views of it that others still hold stay valid and keep it alive until they
        are gone."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        self.table.view.release()
        self.view.release()
        with contextlib.suppress(BufferError):
            self.pages.close()


def _sealed(size: int) -> int:
    """Return the descriptor of ``size`` bytes of memory that are allocated and cannot be truncated or
    grown."""
    fd = os.memfd_create("vdisk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, REQUIRED_SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def _fill(pieces: Sequence[memoryview], data: wire.Buffer) -> int:
    """Copy ``data`` into ``pieces`` and return how much of it they took."""
    offset = 0
    for piece in pieces:
        piece[:] = data[offset : offset + len(piece)]
        offset += len(piece)
    return offset


def _check_inside(runs: Iterable[tuple[int, int]], size: int) -> None:
    """Refuse real addresses outside a memory of ``size`` bytes."""
    for ra, length in runs:
        if ra + length > size:
            raise CookieError(HvStatus.ENORADDR, f"real address {ra:#x} is outside the memory")


Known: TypeAlias = tuple[int, int, int, int, list[memoryview]]
"""What is remembered of a cookie within one page: bytes asked for, its size, where in ``words`` its map
table entry stands, what that said, and the memory. It holds while the first two are asked for and the third
says the fourth."""

_Words: TypeAlias = tuple[int, int, bytes]
"""Where map table words stand in the memory (from, to), and what they said."""


class MappedMemory:
    """The peer's sealed memory, mapped; transport SHM. Takes ``fd`` over and closes it, whatever happens.

    ``size`` is what the hello announced, at most ``limit``. Views that it hands out are its own: they are
    read and written, not released, and not kept beyond the request. Used from one thread; the views from any.

    Raises: PacketError (not memory of exactly this size, not sealed, too large or too small).
    """

    def __init__(self, fd: int, size: int, *, limit: int = REGION_LIMIT) -> None:
        try:
            _check_sealed(fd, size, limit)
            self._map = mmap.mmap(fd, size)
        except OSError as error:
            raise refuse(f"memory cannot be mapped: {error.strerror}") from error
        finally:
            os.close(fd)
        self.size: Final = size
        self._root = memoryview(self._map)
        self.words: Final = self._root.cast("Q")
        """The memory as words of this machine, to compare with what was remembered."""
        self.known: Final[dict[int, dict[int, Known]]] = {Permission.CR: {}, Permission.CW: {}}
        """By permission and cookie address: the data path's way past :meth:`views`."""
        self._table: MapTable | None = None
        self._base = self._entries = 0
        self._cache: dict[
            tuple[Sequence[tuple[int, int]], int, int], tuple[list[_Words], list[memoryview]]
        ] = {}
        self._cached = 0

    def set_map_table(self, base: int, nentries: int) -> None:
        """Use the map table at real address ``base``; 0 entries: none, nothing resolves any more.

        Raises: PacketError (not aligned, not inside the memory, entries not a power of two).
        """
        self._drop_table()
        if not nentries:
            return
        end = base + nentries * _SLOT_SIZE
        if base % TABLE_ALIGNMENT or end > self.size:
            raise refuse(f"map table of {nentries} entries at {base:#x} is not in the memory")
        try:
            self._table = MapTable(self._root[base:end], nentries)
        except CookieError as error:
            raise refuse(error.reason) from error
        self._base, self._entries = base, nentries

    def views(self, cookies: Sequence[tuple[int, int]], nbytes: int, need: int) -> list[memoryview]:
        """Return the memory behind ``nbytes`` bytes at ``cookies``, in order, each page with permissions
        ``need``.

        Needs CR for what is read here, CW for what is written. The list belongs to us: do not change it.
        The cookies may cover more than ``nbytes``, never less than that rounded up to 8.

        The result is remembered together with the map table words it rests on; they are read again, once, at
        every call and compared, so that what was revoked is refused.

        Raises: CookieError (no table; ENOMAP, ENOACCESS, EBADPGSZ, EBADALIGN of a page; ENORADDR: outside
            the memory; EINVAL: ``nbytes`` not positive, cookies too short).
        """
        entry = self._cache.get((cookies, nbytes, need)) if type(cookies) is tuple else None
        if entry is not None:
            read = self._map
            for start, stop, seen in entry[0]:
                if read[start:stop] != seen:
                    break
            else:
                return entry[1]
        return self._resolve(tuple(cookies), nbytes, need)

    def _resolve(self, cookies: tuple[tuple[int, int], ...], nbytes: int, need: int) -> list[memoryview]:
        """Resolve afresh, and remember the result if the table stood still meanwhile."""
        words: list[_Words] = []
        runs: list[tuple[int, int]] = []
        for addr, length in cut_cookies(cookies, nbytes):
            words.append(
                self._words(addr, length)
            )  # before it is resolved: a change in between is seen below
            runs.extend(self._runs(addr, length, need))
        views = [self._root[ra : ra + length] for ra, length in trim_runs(merge_runs(runs), nbytes)]
        if all(self._map[start:stop] == seen for start, stop, seen in words):
            cost = len(views) + sum(stop - start for start, stop, _ in words) // CACHE_LINE
            if self._cached + cost > CACHE_LIMIT:
                self._forget()
            self._cached += cost
            self._cache[cookies, nbytes, int(need)] = words, views
            self._know(cookies, nbytes, int(need), words, views)
        return views

    def _know(
        self,
        cookies: tuple[tuple[int, int], ...],
        nbytes: int,
        need: int,
        words: list[_Words],
        views: list[memoryview],
    ) -> None:
        """Remember the usual kind, one cookie within one page, in the quickest form as well."""
        (start, stop, seen), *others = words
        if not others and len(cookies) == 1 and stop - start == _SLOT_SIZE and need in self.known:
            (addr, size), at = cookies[0], start // _WORD.size
            self.known[need][addr] = nbytes, size, at, _WORD.unpack_from(seen)[0], views

    def _words(self, addr: int, length: int) -> _Words:
        """Return the map table words that a range of cookie addresses rests on, as they are now.

        Raises: CookieError (ENOMAP).
        """
        code, first, offset = split_cookie(addr)
        count = ((offset + length - 1) >> (PAGE_SHIFT + 3 * code)) + 1
        if first + count > self._entries:
            raise CookieError(HvStatus.ENOMAP, f"{length} bytes at cookie {addr:#x}")
        start = self._base + first * _SLOT_SIZE
        stop = start + count * _SLOT_SIZE
        return start, stop, self._map[start:stop]

    def _runs(self, addr: int, length: int, need: int) -> list[tuple[int, int]]:
        """Return the (real address, length) runs of a range of cookie addresses, inside the memory."""
        if self._table is None:
            raise CookieError(HvStatus.ENOMAP, "no map table")
        runs = self._table.resolve(addr, length, need)
        _check_inside(runs, self.size)
        return runs

    def map_ring(self, cookie: tuple[int, int], nbytes: int) -> memoryview:
        """Return the memory of a descriptor ring, to read and write in place until :meth:`close`.

        Permissions R and W, or CR and CW, on every page; it must lie in one piece. As with a mapped-in
        page, a later change of the map table does not take it away.

        Raises: CookieError (as :meth:`views`; EINVAL: the cookie is shorter than the ring, or not in one
            piece).
        """
        (addr, length), *_ = cut_cookies((cookie,), nbytes)
        try:
            runs = self._runs(addr, length, _RING_PERMISSIONS[0])
        except CookieError as error:
            if error.hv_status is not HvStatus.ENOACCESS:
                raise
            runs = self._runs(addr, length, _RING_PERMISSIONS[1])
        if len(runs) != 1:
            raise CookieError(HvStatus.EINVAL, "the ring is not in one piece")
        return self._root[runs[0][0] : runs[0][0] + nbytes]

    def _forget(self) -> None:
        self._cache.clear()
        for known in self.known.values():
            known.clear()
        self._cached = 0

    def _drop_table(self) -> None:
        self._forget()
        self._table = None
        self._base = self._entries = 0

    def close(self) -> None:
        """Unmap. Where a worker or the ring's owner still holds a view, the memory goes with the last of
        them.

        Nothing resolves afterwards. Harmless when done twice.
        """
        self._drop_table()
        self.words.release()
        self._root.release()
        with contextlib.suppress(BufferError):
            self._map.close()


def _check_sealed(fd: int, size: int, limit: int) -> None:
    """Refuse what could shrink under a mapping, or is not the memory that was announced.

    Raises: PacketError; OSError (not even a file).
    """
    if not REGION_MINIMUM <= size <= limit or size % PAGE_SIZE:
        raise refuse(f"memory of {size} bytes: must be {REGION_MINIMUM} to {limit}, in pages of {PAGE_SIZE}")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        raise refuse(f"the descriptor is no memory that can be sealed: {error.strerror}") from error
    if seals & REQUIRED_SEALS != REQUIRED_SEALS:
        raise refuse(f"memory is not sealed against SHRINK, GROW and SEAL (seals {seals:#x})")
    if os.fstat(fd).st_size != size:
        raise refuse(f"memory has {os.fstat(fd).st_size} bytes, {size} were announced")
    if os.fstatvfs(fd).f_bsize != mmap.PAGESIZE:
        raise refuse("memory is not made of ordinary pages")  # a huge page pool can run dry: SIGBUS
