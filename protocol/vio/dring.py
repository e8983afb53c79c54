"""The descriptor ring: index arithmetic and the states of an entry; knows no disk, imports only errors.

Theory of operation. The client exports one array of equal entries. Each begins with a state byte that says
whose entry it is, and each side writes only what is its own; ``ENTRY_STEPS`` has who moves an entry on. The
state is one byte and is stored last by whoever hands the entry over, so the other side may poll it: a
byte cannot be seen half written, a wider big-endian word stored by Python can. The server copies the entry
out once, right after it has taken it, and looks at the shared one no more. If the client touches an entry
that it has handed over, only its own session suffers.
Source: Solaris sys/vio_common.h (VIO_DESC_*); vds.c, vd_process_element, vd_mark_elem_done; vdc.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from protocol.errors import Layer, LocalProtocolError, Reaction, RingError

__all__ = [
    "DSTATE_MASK",
    "ENTRY_STEPS",
    "MAX_DESCRIPTORS",
    "MAX_DESCRIPTOR_SIZE",
    "MIN_DESCRIPTOR_SIZE",
    "Dstate",
    "EntryStep",
    "ExportedRing",
    "ImportedRing",
    "RingGeometry",
]

MAX_DESCRIPTORS: Final = 65536
"""Entries a ring may have: 128 times what any driver uses (512), and few enough that a table per entry is
small. Source: Solaris sys/vdsk_common.h, VD_DRING_LEN."""

MIN_DESCRIPTOR_SIZE: Final = 64
"""An entry with room for one memory cookie. Source: Solaris sys/vdsk_common.h, vd_dring_entry_t."""

MAX_DESCRIPTOR_SIZE: Final = 16384
"""Bytes of an entry: room for 8 MiB in cookies of one page each, and the most that is copied per request.
Solaris makes at most 576, Linux 336."""

ALIGNMENT: Final = 8
"""An entry's size is a multiple of this. Source: Solaris ldc_shm.c, ldc_mem_dring_create."""


DSTATE_MASK: Final = 0xF
"""The bits of the state byte that are the state. Source: Solaris sys/vio_common.h, VIO_DESC_MASK."""


class Dstate(IntEnum):
    """State of a ring entry. Source: Solaris sys/vio_common.h, VIO_DESC_*."""

    FREE = 1  # the client's, unused
    READY = 2  # handed to the server
    ACCEPTED = 3  # the server's, in progress
    DONE = 4  # handed back, answered
    INITIALIZING = 5  # network only: being filled


class EntryStep(Enum):
    """Who moves an entry on, and how. Source: Solaris vdc.c; vds.c, vd_process_element, vd_mark_elem_done."""

    POST = "client posts"  # all fields are in place, the state byte is stored last
    TAKE = "server takes"  # the state byte is stored before the entry is copied
    FINISH = "server finishes"  # nbytes and status, then the state byte
    REAP = "client reaps"  # status and nbytes have been read


ENTRY_STEPS: Final[Mapping[tuple[Dstate, EntryStep], Dstate]] = {
    (Dstate.FREE, EntryStep.POST): Dstate.READY,
    (Dstate.READY, EntryStep.TAKE): Dstate.ACCEPTED,
    (Dstate.ACCEPTED, EntryStep.FINISH): Dstate.DONE,
    (Dstate.DONE, EntryStep.REAP): Dstate.FREE,
}
"""All that may happen to an entry of a disk. A server that finds it in another state refuses it (RingError):
the client has changed what was not its own."""


# Plain ints: an IntEnum member costs twice as much to compare and to store.
_FREE: Final = int(Dstate.FREE)
_READY: Final = int(Dstate.READY)
_ACCEPTED: Final = int(Dstate.ACCEPTED)
_DONE: Final = int(Dstate.DONE)


class RingGeometry(NamedTuple):
    """How many entries, how many bytes from one to the next."""

    num_descriptors: int
    descriptor_size: int

    @property
    def nbytes(self) -> int:
        """Bytes the ring occupies. Solaris multiplies in 32 bits here and overflows (ldc_shm.c)."""
        return self.num_descriptors * self.descriptor_size

    def offset(self, index: int) -> int:
        """Return where entry ``index`` begins."""
        return index * self.descriptor_size

    def indices(self, start: int, end: int) -> Sequence[int]:
        """Return the entries from ``start`` to ``end``, both included, in order; ``end < start`` wraps.

        Both are below ``num_descriptors``. Source: Solaris vds.c, vd_process_element_range.
        """
        if start <= end:
            return range(start, end + 1)
        return (*range(start, self.num_descriptors), *range(end + 1))

    def span(self, start: int, end: int) -> int:
        """Return how many entries :meth:`indices` has."""
        return (end - start) % self.num_descriptors + 1

    def check_range(self, start: int, end: int) -> None:
        """Check a range that a peer sent.

        Raises: RingError (an index outside the ring; -1, an open end, is one of them): NACK and full reset.
        Source: Solaris vds.c, vd_process_dring_msg, which refuses -1 as well.
        """
        count = self.num_descriptors
        if not (0 <= start < count and 0 <= end < count):
            raise RingError(Layer.VIO, Reaction.RESET, f"descriptors {start} to {end} of a ring of {count}")

    def validate(self) -> None:
        """Check what a peer announced.

        Raises: RingError (no entries, too many, entry size out of bounds or not a multiple of 8): NACK.
        Source: Solaris vds.c, vd_process_dring_reg_msg, which checks less than it should.
        """
        if not 1 <= self.num_descriptors <= MAX_DESCRIPTORS:
            self._refuse(f"{self.num_descriptors} descriptors, must be 1 to {MAX_DESCRIPTORS}")
        size = self.descriptor_size
        if not MIN_DESCRIPTOR_SIZE <= size <= MAX_DESCRIPTOR_SIZE or size % ALIGNMENT:
            self._refuse(
                f"descriptors of {size} bytes, must be a multiple of {ALIGNMENT} "
                f"from {MIN_DESCRIPTOR_SIZE} to {MAX_DESCRIPTOR_SIZE}"
            )

    @staticmethod
    def _refuse(why: str) -> None:
        raise RingError(Layer.VIO, Reaction.NACK, why)


class _Ring:
    """What both ends have: the memory and the geometry."""

    __slots__ = ("_memory", "_stride", "geometry")

    def __init__(self, memory: memoryview, geometry: RingGeometry) -> None:
        """Work on ``memory``, which stays the caller's: writable bytes, at least ``geometry.nbytes``.

        Raises: LocalProtocolError (read-only, not bytes, too small).
        """
        if memory.readonly or memory.format != "B" or len(memory) < geometry.nbytes:
            raise LocalProtocolError(
                Layer.VIO, f"a ring needs {geometry.nbytes} writable bytes, not {memory!r} of {len(memory)}"
            )
        self.geometry: Final = geometry
        self._memory: Final = memory
        self._stride: Final = geometry.descriptor_size

    def dstate(self, index: int) -> int:
        """Return the state byte of entry ``index`` as it is now; a peer may have stored any number."""
        return self._memory[index * self._stride]


class ImportedRing(_Ring):
    """The server's end: takes READY entries; the device class adds how an entry is answered."""

    __slots__ = ()

    def is_ready(self, index: int) -> bool:
        """Say whether the client has handed entry ``index`` over."""
        return self._memory[index * self._stride] == _READY

    def take(self, index: int) -> bytes:
        """Accept entry ``index`` and return a private copy of all of it, made once; use nothing but the copy.

        Raises: RingError (the entry is not READY): NACK with its index, then full reset.
        Source: Solaris vds.c, vd_process_element.
        """
        memory = self._memory
        stride = self._stride
        offset = index * stride
        if memory[offset] != _READY:
            self._unexpected(index, Dstate.READY)
        memory[offset] = _ACCEPTED  # before the copy: from here on the client must leave the entry alone
        return bytes(memory[offset : offset + stride])

    def _unexpected(self, index: int, wanted: Dstate) -> None:
        raise RingError(
            Layer.VIO,
            Reaction.RESET,
            f"descriptor {index} is in state {self.dstate(index)}, not {wanted.name}",
        )


class ExportedRing(_Ring):
    """The client's end: fills entries; the device class adds how an answer is read.

    The caller keeps its own table of what it posted: nothing in shared memory is believed.
    """

    __slots__ = ()

    def post(self, index: int, entry: bytes) -> None:
        """Store ``entry`` at ``index`` and hand it over. Its own state byte is FREE, and it fits the entry.

        Tell the server next. Source: Solaris vdc.c, vdc_populate_descriptor.
        """
        memory = self._memory
        offset = index * self._stride
        memory[offset : offset + len(entry)] = entry
        memory[offset] = _READY  # last: everything else is in place

    def is_done(self, index: int) -> bool:
        """Say whether the server has handed entry ``index`` back."""
        return self._memory[index * self._stride] == _DONE
