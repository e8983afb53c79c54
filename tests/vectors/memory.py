"""The memory of a foreign peer: a real address is an offset, a map table says what its server may touch.

Map table slot, 16 octets: a word with the page's real address and the permission bits, then a revocation
cookie, which is the hypervisor's. Cookie address with pages of 8 KiB: index of the slot times 8192, plus
the offset in the page; a cookie runs on into the slots that follow. Sources: Solaris ``sys/ldc_impl.h``
(``ldc_mte_slot_t``, ``LDC_MTE_*``), FWARC 2008/424; COPY and its errors: FWARC 2008/424, OpenSPARC T2
hypervisor ``ldc.s``.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator

PAGE = 8192
SLOT = 16

R = 0x10  # the peer may map the page and load
W = 0x20  # the peer may map the page and store
IR = 0x80  # the peer's IOMMU may read
IW = 0x100  # the peer's IOMMU may write
CR = 0x200  # the peer may COPY from the page
CW = 0x400  # the peer may COPY to the page

EOK = 0
ENOACCESS = 10
ENOMAP = 14

Cookie = tuple[int, int]


def resolve(
    octets: mmap.mmap, table: int, slots: int, cookie: int, nbytes: int, permission: int
) -> tuple[int, int, int]:
    """What one COPY may touch, by the map table of ``slots`` slots at ``table``: status, address, length.

    Never across a page, as the hypervisor does it: whoever copies sees a short length and loops.
    """
    slot, offset = divmod(cookie, PAGE)
    if slot >= slots:
        return ENOMAP, 0, 0
    (word,) = struct.unpack_from(">Q", octets, table + slot * SLOT)
    if not word & 0x7F0:
        return ENOMAP, 0, 0
    if not word & permission:
        return ENOACCESS, 0, 0
    return EOK, (word & 0x00FF_FFFF_FFFF_E000) + offset, min(nbytes, PAGE - offset)


def pages(ra: int, nbytes: int) -> Iterator[tuple[int, int]]:
    """Cut a buffer, rounded up to 8 octets, where its pages end: address and size of each piece."""
    end = ra + (nbytes + 7 & ~7)
    while ra < end:
        size = min(end - ra, PAGE - ra % PAGE)
        yield ra, size
        ra += size


class Memory:
    """``size`` octets, of which ``slots`` slots of map table lie at real address 0."""

    def __init__(self, size: int, slots: int, *, shared: bool) -> None:
        """``shared`` makes it a memfd that can neither shrink nor grow, whose descriptor is ``fd``."""
        self.size = size
        self.slots = slots
        self.fd: int | None = None
        if shared:
            self.fd = os.memfd_create("foreign-peer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.posix_fallocate(self.fd, 0, size)
            self.seal(self.fd)
            self.octets = mmap.mmap(self.fd, size)
        else:
            self.octets = mmap.mmap(-1, size)

    @staticmethod
    def seal(fd: int) -> None:
        """Forbid shrinking, growing and any further seal."""
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)

    def read(self, ra: int, nbytes: int) -> bytes:
        """``nbytes`` octets at real address ``ra``."""
        return self.octets[ra : ra + nbytes]

    def write(self, ra: int, octets: bytes) -> None:
        """Put ``octets`` at real address ``ra``."""
        self.octets[ra : ra + len(octets)] = octets

    def map_page(self, slot: int, ra: int, permissions: int) -> None:
        """Fill a slot: the page at ``ra``, 8 KiB (size code 0), may be used as ``permissions`` say."""
        self.write(slot * SLOT, struct.pack(">QQ", ra | permissions, 0))

    def map_range(self, slot: int, ra: int, nbytes: int, permissions: int) -> int:
        """Fill consecutive slots for the pages of ``ra`` to ``ra + nbytes``; the cookie address of ``ra``."""
        first = ra & ~(PAGE - 1)
        for number, page in enumerate(range(first, ra + nbytes, PAGE)):
            self.map_page(slot + number, page, permissions)
        return slot * PAGE + (ra - first)

    def unmap(self, slot: int) -> None:
        """Empty a slot: nothing may be touched through it any more."""
        self.write(slot * SLOT, bytes(SLOT))

    def resolve(self, cookie: int, nbytes: int, permission: int) -> tuple[int, int, int]:
        """What one COPY may touch: status, real address and length."""
        return resolve(self.octets, 0, self.slots, cookie, nbytes, permission)

    def close(self) -> None:
        """Give the memory back."""
        self.octets.close()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
