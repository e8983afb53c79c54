"""The memory that one connection shares with its server: map table, descriptor ring, data buffers.

A connection has memory of its own, so that whatever a lost server still does can reach nothing that a later
connection uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypervisor.captured import CapturedClientRing
from hypervisor.memory import LocalMemory
from protocol.ldc.cookie import PAGE_SIZE, Permission
from protocol.vdisk.descriptor import ENTRY_ONE
from protocol.vdisk.ring import ClientRing
from protocol.vio.dring import Dstate, RingGeometry

from .buffers import Arena

if TYPE_CHECKING:
    from hypervisor.capture import Tap

__all__ = ["ARENA_AT", "RING", "TABLE_ENTRIES", "GuestMemory"]

RING: Final = RingGeometry(num_descriptors=256, descriptor_size=ENTRY_ONE.size)
"""A chunk is contiguous, so one cookie always does; 256 outlast the deepest queue that two cores can use."""

ARENA_SIZE: Final = 16 * 1024 * 1024
"""Room for sixteen of the longest transfers; less starves 1 MiB streams, more makes connecting slower."""

TABLE_ENTRIES: Final = 4096
"""Map table slots of 16 bytes: a power of two that covers ring and arena in pages of 8 KiB."""

_RING_AT: Final = TABLE_ENTRIES * 16
ARENA_AT: Final = _RING_AT + -(-RING.nbytes // PAGE_SIZE) * PAGE_SIZE
_PERMISSIONS: Final = Permission.R | Permission.W | Permission.CR | Permission.CW


class GuestMemory:
    """Memory of one connection. ``shared``: a sealed descriptor that the server can map.

    Everything is exported once, for reading and writing, as OpenBSD does; chunks of the arena are addressed
    relative to its one cookie.
    """

    __slots__ = (
        "_dstates",
        "_memory",
        "arena",
        "arena_cookie",
        "data",
        "entries",
        "exported",
        "fd",
        "pages",
        "ring",
        "ring_cookie",
        "size",
    )

    def __init__(self, *, shared: bool) -> None:
        self.exported = LocalMemory(ARENA_AT + ARENA_SIZE, TABLE_ENTRIES, shared=shared)
        self.fd = self.exported.fd
        self.size = self.exported.size if shared else 0
        (self.ring_cookie,) = self.exported.export(_RING_AT, RING.nbytes, _PERMISSIONS)
        (arena,) = self.exported.export(ARENA_AT, ARENA_SIZE, _PERMISSIONS)
        self.arena_cookie = arena.addr
        self.arena = Arena(ARENA_SIZE)
        view = self.exported.view
        self.data = view[ARENA_AT:]
        """The arena's bytes; a chunk is a slice of them."""
        self.pages = self.exported.pages
        """All of the memory, the arena from ARENA_AT on; slices of it are copies, and made quickly."""
        self.entries = view[_RING_AT : _RING_AT + RING.nbytes]
        """The ring's bytes."""
        self.ring: ClientRing = ClientRing(self.entries, RING)
        self._dstates = self.entries[:: RING.descriptor_size]

    def capture(self, tap: Tap, *, polled: bool) -> CapturedClientRing:
        """Tell ``tap`` from now on what becomes of the ring's entries; nothing was submitted yet."""
        self.ring = captured = CapturedClientRing(self.entries, RING, tap, polled=polled)
        return captured

    def dstates(self) -> bytes:
        """The state bytes of all ring entries, in order, as they are now."""
        return self._dstates.tobytes()

    def close(self) -> None:
        """Give the memory up; what the server has not taken from the ring is withdrawn, so that it never
        will be."""
        for offset in range(0, RING.nbytes, RING.descriptor_size):
            self.entries[offset] = Dstate.FREE
        for view in (self._dstates, self.entries, self.data):
            view.release()
        self.exported.close()
