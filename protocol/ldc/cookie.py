"""Memory cookies and the map table: how one endpoint names the memory that it exports to the other.

The exporter fills slots of its map table, one for each page, and hands out cookies that are ranges of the
table. The importer turns a cookie back into real addresses by reading the table, anew at each use: that is
what makes revocation work. Real addresses mean whatever the two sides agree on (here: offsets in the
exporter's memory).

Pages have eight sizes, 8 KiB to 16 GiB; every cookie and every table entry says of which size its page is.
All drivers export pages of 8 KiB only.

Source: FWARC 2008/424 (map table); Solaris ldc_shm.c and sys/ldc_impl.h, ldc_mte_t and LDC cookies.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import Final, NamedTuple

from protocol import wire
from protocol.errors import CookieError, HvStatus, Layer, LocalProtocolError

__all__ = [
    "ALIGNMENT",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "Cookie",
    "CookieLayout",
    "MapTable",
    "MapTableSlot",
    "MapTableSlotLayout",
    "MapType",
    "MemoryPermission",
    "PageSizeCode",
    "Permission",
    "build_mte",
    "map_permissions",
    "page_shift",
    "split_cookie",
]

PAGE_SHIFT: Final = 13
PAGE_SIZE: Final = 1 << PAGE_SHIFT  # 8 KiB, the sun4v base page
ALIGNMENT: Final = 8  # addresses and lengths of exports and copies are multiples of it
SLOT_SIZE: Final = 16

_CODE_SHIFT: Final = 60  # cookie address: page size code in bits 63:60 (Solaris masks 62:60)
_INDEX_MASK: Final = (1 << _CODE_SHIFT) - 1
_MTE_CODE_MASK: Final = 0xF  # map table entry, bits 3:0
_MTE_VALID_MASK: Final = 0x7F0  # bits 10:4; an entry without any permission is invalid
_RA_LIMIT: Final = 1 << 56  # map table entry, bits 55:13 hold the real address


class Permission(IntFlag):
    """What the peer may do with an exported page; the bits of the map table entry."""

    R = 0x10  # map and load
    W = 0x20  # map and store
    X = 0x40  # map and execute
    IR = 0x80  # read through its IOMMU
    IW = 0x100  # write through its IOMMU
    CR = 0x200  # copy from the page
    CW = 0x400  # copy into the page


class PageSizeCode(IntEnum):
    """Size of a page: 8 KiB times 8 to the power of the code. Source: FWARC 2008/424, page sizes."""

    SIZE_8K = 0  # the only one that a driver uses
    SIZE_64K = 1
    SIZE_512K = 2
    SIZE_4M = 3
    SIZE_32M = 4
    SIZE_256M = 5
    SIZE_2G = 6
    SIZE_16G = 7


_PAGE_SIZE_CODES: Final = frozenset(map(int, PageSizeCode))


class MapType(IntFlag):
    """How the peer will use exported memory, in drivers' words. Source: sys/ldc.h, LDC_SHADOW_MAP and on."""

    SHADOW = 1  # by copies
    DIRECT = 2  # mapped in
    IO = 4  # through its IOMMU


class MemoryPermission(IntFlag):
    """What the peer may do with exported memory, in drivers' words. Source: sys/ldc.h, LDC_MEM_R and on."""

    R = 1  # read
    W = 2  # write
    X = 4  # execute


_PERMISSIONS: Final[Mapping[tuple[MapType, MemoryPermission], Permission]] = MappingProxyType(
    {
        (MapType.SHADOW, MemoryPermission.R): Permission.CR,
        (MapType.SHADOW, MemoryPermission.W): Permission.CW,
        (MapType.DIRECT, MemoryPermission.R): Permission.R,
        (MapType.DIRECT, MemoryPermission.W): Permission.W,
        (MapType.DIRECT, MemoryPermission.X): Permission.X,
        (MapType.IO, MemoryPermission.R): Permission.IR,
        (MapType.IO, MemoryPermission.W): Permission.IW,
    }
)


def map_permissions(types: MapType, permissions: MemoryPermission) -> Permission:
    """Return the bits of the map table entry for memory used in all of ``types`` with ``permissions``.

    Source: Solaris ldc_shm.c, i_ldc_mem_bind_handle.
    """
    bits = Permission(0)
    for (type_, permission), bit in _PERMISSIONS.items():
        if types & type_ and permissions & permission:
            bits |= bit
    return bits


class Cookie(NamedTuple):
    """A range of exported memory: ``addr`` is a place in the map table, ``size`` counts bytes."""

    addr: int
    size: int


CookieLayout: Final = wire.describe(
    "ldc_mem_cookie",
    Cookie,
    {
        "addr": wire.field(wire.Int64ub, doc="page size code 63:60, table index, offset in the page"),
        "size": wire.field(wire.Int64ub, doc="bytes"),
    },
    size=16,
)


@wire.structure("ldc_map_table_slot", size=SLOT_SIZE)
class MapTableSlot:
    """One slot of a map table. Source: sys/ldc_impl.h, ldc_mte_slot_t."""

    mte: int = wire.field(wire.Int64ub, doc="map table entry: real address, permissions, page size code")
    revocation_cookie: int = wire.field(wire.Int64ub, doc="hypervisor: not 0 while the peer has it mapped in")


MapTableSlotLayout: Final = wire.layout(MapTableSlot)


def page_shift(page_size_code: int) -> int:
    """Return the number of address bits within a page."""
    return PAGE_SHIFT + 3 * page_size_code


def build_mte(ra: int, permissions: int, page_size_code: int = PageSizeCode.SIZE_8K) -> int:
    """Return the map table entry for the page at real address ``ra``.

    Raises: LocalProtocolError (``ra`` not aligned to its page or not below 2**56).
    Source: FWARC 2008/424, map table entry.
    """
    page_mask = (1 << page_shift(page_size_code)) - 1
    if ra & page_mask or not 0 <= ra < _RA_LIMIT:
        raise LocalProtocolError(Layer.HYPERVISOR, f"real address {ra:#x} is no page")
    return ra | int(permissions) | page_size_code


def split_cookie(addr: int) -> tuple[int, int, int]:
    """Return (page size code, table index, offset in the page) of a cookie's address.

    Source: Solaris sys/ldc_impl.h, LDC_COOKIE_PGSZC and neighbours; FWARC 2008/424.
    """
    code = addr >> _CODE_SHIFT
    shift = page_shift(code)
    rest = addr & _INDEX_MASK
    return code, rest >> shift, rest & ((1 << shift) - 1)


class MapTable:
    """A map table in memory that both sides can see; serves the exporter and the importer.

    ``view`` is the table's memory as bytes, ``nentries`` a power of two, at least 2. What is exported is
    remembered here too, because the peer may be able to write the table: an exporter starts with a table of
    zeros and is the only one to fill it.

    Raises: CookieError (what SET_MAP_TABLE refuses: EINVAL for ``nentries``, ENORADDR for memory too short).
    """

    def __init__(self, view: memoryview, nentries: int) -> None:
        if nentries < 2 or nentries & (nentries - 1):
            raise CookieError(HvStatus.EINVAL, f"a map table has no {nentries} entries")
        if len(view) < nentries * SLOT_SIZE:
            raise CookieError(HvStatus.ENORADDR, f"{len(view)} bytes hold no {nentries} map table entries")
        self.view: Final = view
        self.nentries: Final = nentries
        self._unpack: Final = MapTableSlotLayout.codec.unpack_from
        self._used: Final = bytearray(nentries)  # 1 + page size code: exported by us and not revoked
        self._free = nentries
        self._next = 0  # where the search for a free slot starts

    def export(
        self, ra: int, length: int, permissions: int, page_size_code: int = PageSizeCode.SIZE_8K
    ) -> list[Cookie]:
        """Export ``length`` bytes at real address ``ra`` and return the cookies, in order of address.

        Slots are taken round robin, one for each page; slots in a row share one cookie, and the first cookie
        keeps the offset of ``ra`` in its page. Pages are exported whole, as far as the map table goes: the
        cookies say how much of them is meant.

        Raises: LocalProtocolError (not multiples of 8, empty, no permission, no such page size, too few free
            slots); nothing is exported then.
        Source: Solaris ldc_shm.c, i_ldc_mem_bind_handle, for 8 KiB; FWARC 2008/424, map table entry.
        """
        if page_size_code not in _PAGE_SIZE_CODES:
            raise LocalProtocolError(Layer.HYPERVISOR, f"there is no page size code {page_size_code}")
        shift = page_shift(page_size_code)
        offset = ra & ((1 << shift) - 1)
        if length <= 0 or (ra | length) % ALIGNMENT:
            raise LocalProtocolError(Layer.HYPERVISOR, f"cannot export {length} bytes at {ra:#x}")
        if not permissions & _MTE_VALID_MASK or permissions & ~_MTE_VALID_MASK:
            raise LocalProtocolError(Layer.HYPERVISOR, f"cannot export with permissions {permissions:#x}")
        npages = (offset + length + (1 << shift) - 1) >> shift
        if npages > self._free:
            raise LocalProtocolError(
                Layer.HYPERVISOR, f"{self._free} map table entries free, {npages} needed"
            )
        mte = build_mte(ra - offset, permissions, page_size_code)
        build_mte(ra - offset + ((npages - 1) << shift), permissions)  # the last page has an address too
        return self._fill(mte, npages, offset, length)

    def _fill(self, mte: int, npages: int, offset: int, length: int) -> list[Cookie]:
        """Fill ``npages`` slots with consecutive pages; the caller has made sure that they are free."""
        pack_into = MapTableSlotLayout.codec.pack_into
        code = mte & _MTE_CODE_MASK
        shift = page_shift(code)
        page_size = 1 << shift
        cookies: list[Cookie] = []
        start, previous, size = 0, -2, 0  # the cookie being grown: first address, last slot, bytes
        for _ in range(npages):
            slot = self._take(code)
            pack_into(self.view, slot * SLOT_SIZE, mte, 0)
            mte += page_size
            piece = min(length, page_size - offset)
            if slot != previous + 1:
                if size:
                    cookies.append(Cookie(start, size))
                start, size = (code << _CODE_SHIFT) + (slot << shift) + offset, 0
            previous, size = slot, size + piece
            length, offset = length - piece, 0
        cookies.append(Cookie(start, size))
        return cookies

    def _take(self, page_size_code: int) -> int:
        """Take the next free slot, from the one after the last taken, and return its index."""
        slot = self._used.find(0, self._next)
        if slot < 0:
            slot = self._used.find(0)
        self._used[slot] = 1 + page_size_code
        self._free -= 1
        self._next = (slot + 1) & (self.nentries - 1)
        return slot

    def revoke(self, cookie: Cookie) -> None:
        """Take back what ``cookie`` covers: from now on it does not resolve.

        Raises: LocalProtocolError (not exported by this table, or revoked before); nothing is revoked then.
        Source: Solaris ldc_shm.c, i_ldc_mem_unbind_handle.
        """
        code, first, offset = split_cookie(cookie.addr)
        shift = page_shift(code)
        npages = (offset + cookie.size + (1 << shift) - 1) >> shift
        last = first + npages
        if cookie.size <= 0 or last > self.nentries or self._used.count(1 + code, first, last) != npages:
            raise LocalProtocolError(Layer.HYPERVISOR, f"{cookie} is not exported")
        self.view[first * SLOT_SIZE : last * SLOT_SIZE] = bytes(npages * SLOT_SIZE)
        self._used[first:last] = bytes(npages)
        self._free += npages

    def page(self, index: int) -> int:
        """Return the raw 64-bit map table entry ``index``, 0 if it is not in use.

        Raises: CookieError (ENOMAP: the table has no such entry).
        """
        if not 0 <= index < self.nentries:
            raise CookieError(HvStatus.ENOMAP, f"map table index {index} of {self.nentries}")
        mte: int = self._unpack(self.view, index * SLOT_SIZE)[0]
        return mte

    def resolve(self, addr: int, length: int, need: int) -> list[tuple[int, int]]:
        """Return the (real address, length) runs behind ``length`` bytes at cookie address ``addr``.

        ``need`` are the :class:`Permission` bits that every page must have; a plain int is a little faster.
        Adjacent pages are merged. The table is read at each call. That the addresses are memory at all is for
        the caller to check.

        Raises: CookieError (EBADALIGN, ENOMAP, EBADPGSZ, ENOACCESS).
        Source: FWARC 2008/424, LDC_COPY.
        """
        if (addr | length) & (ALIGNMENT - 1) or addr < 0:
            raise CookieError(HvStatus.EBADALIGN, f"{length} bytes at cookie {addr:#x}")
        need = int(need)  # an IntFlag would make each & below cost a microsecond
        offset = addr & (PAGE_SIZE - 1)
        index = addr >> PAGE_SHIFT
        if 0 < length <= PAGE_SIZE - offset and index < self.nentries:  # one page of 8 KiB
            mte: int = self._unpack(self.view, index * SLOT_SIZE)[0]
            if mte & need == need and not mte & _MTE_CODE_MASK and mte & _MTE_VALID_MASK:
                return [((mte & (_RA_LIMIT - PAGE_SIZE)) + offset, length)]
        return self._resolve_pages(addr, length, need)

    def _resolve_pages(self, addr: int, length: int, need: int) -> list[tuple[int, int]]:
        """Resolve the general case: many pages, larger pages, and everything that is an error."""
        code, first, offset = split_cookie(addr)
        if code not in _PAGE_SIZE_CODES:
            raise CookieError(HvStatus.EBADPGSZ, f"cookie {addr:#x}: page size code {code}")
        page_size = 1 << page_shift(code)
        count = (offset + length + page_size - 1) // page_size
        if length <= 0 or first + count > self.nentries:
            raise CookieError(HvStatus.ENOMAP, f"{length} bytes at cookie {addr:#x}")
        ra_mask = _RA_LIMIT - page_size
        runs: list[tuple[int, int]] = []
        start, size = -1, 0
        table = self.view[first * SLOT_SIZE : (first + count) * SLOT_SIZE]
        for mte, _ in MapTableSlotLayout.codec.iter_unpack(table):
            if mte & need != need or mte & _MTE_CODE_MASK != code or not mte & _MTE_VALID_MASK:
                raise _refusal(mte, addr, code)
            ra = (mte & ra_mask) + offset
            piece = min(length, page_size - offset)
            if ra != start + size:
                if size:
                    runs.append((start, size))
                start, size = ra, 0
            size += piece
            length, offset = length - piece, 0
        runs.append((start, size))
        return runs


def _refusal(mte: int, addr: int, code: int) -> CookieError:
    """Return why a map table entry does not serve: invalid, other page size, or permission missing."""
    if not mte & _MTE_VALID_MASK:
        return CookieError(HvStatus.ENOMAP, f"cookie {addr:#x}: map table entry is not valid")
    if mte & _MTE_CODE_MASK != code:
        return CookieError(HvStatus.EBADPGSZ, f"cookie {addr:#x}: page size code {mte & _MTE_CODE_MASK}")
    return CookieError(HvStatus.ENOACCESS, f"cookie {addr:#x}: permissions {mte & _MTE_VALID_MASK:#x}")
