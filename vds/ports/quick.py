"""The quick way of a request: one loop over the ring for what can be done at once, without an object for any.

A request goes it when it is of the plain kind (one cookie, the whole disk, inside it), no request under way
overlaps it, and the backend does it without blocking. All that the long way checks is checked here too, on
the fields as read, each once. Whatever is anything else stays in the ring as it is, READY, for the long way.

An entry goes from READY to DONE without ACCEPTED in between: that state says that the server has copied the
entry and needs it no more, which does not matter while nobody but the server may touch it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from protocol.errors import CookieError
from protocol.ldc.cookie import Permission
from protocol.vdisk.descriptor import PLAIN, PLAIN_AT, STATUS, STATUS_AT
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import Dstate, RingGeometry

if TYPE_CHECKING:
    from hypervisor.memory import MappedMemory
    from protocol.vdisk.attributes import DiskAttributes
    from vds.inline import Inline

__all__ = ["LONG", "MAX_AT_ONCE", "Others", "Serve", "quick_way"]

MAX_AT_ONCE: Final = 1024 * 1024
"""Longest transfer done between two looks at the ring; a longer one takes the long way."""
LONG: Final = 128 * 1024
"""After so many bytes others have their turn, and in the middle of a longer transfer a glance: about 20 µs,
ten requests of 4 KiB."""

# Plain ints: on the data path an enum member costs more than what is done with it.
READY: Final = int(Dstate.READY)
DONE: Final = int(Dstate.DONE)
READ: Final = int(Operation.BREAD)
WRITE: Final = int(Operation.BWRITE)
COPY_IN: Final = int(Permission.CR)
COPY_OUT: Final = int(Permission.CW)

Transfer: TypeAlias = Callable[[int, int, Sequence[memoryview]], int]

Serve: TypeAlias = Callable[[int, int, int], int]
"""Serve up to so many READY entries from byte ``at`` of the ring on, each of up to so many bytes, and return
how many. Fewer: that was enough for one turn, or the entry after them is not READY, or not for us. None: the
first has to go the long way."""


class Others(Protocol):
    """Those who wait while a long transfer goes on: the poller."""

    def others(self, disk: object) -> bool:
        """Whether there are any."""

    def glance(self, disk: object) -> None:
        """Serve what they have that is short."""


def quick_way(
    entries: memoryview,
    ring: RingGeometry,
    memory: MappedMemory,
    inline: Inline,
    disk: DiskAttributes,
    others: Others,
) -> Serve:
    """Return what serves the ring in ``entries``, whose requests are about ``disk``, its memory ``memory``'s.

    ``others`` knows the disk by its ``inline``. A closure: what it works with is at hand at each call, where
    an object would look it all up again.
    """
    stride, end = ring.descriptor_size, ring.nbytes
    block_size = disk.block_size
    size = disk.size_blocks * block_size
    writable = bool(disk.operations >> Operation.BWRITE & 1)
    fields, put_status = PLAIN.unpack_from, STATUS.pack_into
    known, words, resolve = memory.known[COPY_OUT].get, memory.words, memory.views
    read, write, under_way = inline.read, inline.write, inline.under_way
    in_parts = _in_parts(inline, others)

    def serve(at: int, most: int, longest: int) -> int:
        try_read = inline.try_read
        left = LONG
        for served in range(most):
            if entries[at] != READY:
                return served
            operation, slice_, _, addr, nbytes, ncookies, cookie, length = fields(entries, at + PLAIN_AT)
            offset = addr * block_size
            if slice_ != SLICE_NONE or ncookies != 1 or not 0 < nbytes <= longest or offset + nbytes > size:
                return served
            try:
                if operation == READ:
                    page = known(cookie)
                    if page and page[0] == nbytes and page[1] == length and words[page[2]] == page[3]:
                        buffers = page[4]
                    else:
                        buffers = resolve(((cookie, length),), nbytes, COPY_OUT)
                    if nbytes > LONG:
                        done = in_parts(read, offset, nbytes, buffers)
                    else:
                        done = read(offset, nbytes, buffers) if under_way else try_read(buffers, offset)
                elif operation == WRITE and writable:
                    buffers = resolve(((cookie, length),), nbytes, COPY_IN)
                    if nbytes > LONG:
                        done = in_parts(write, offset, nbytes, buffers)
                    else:
                        done = write(offset, nbytes, buffers)
                else:
                    return served
            except (CookieError, OSError):
                return served
            if done != nbytes or entries[at] != READY:
                return served
            put_status(entries, at + STATUS_AT, 0)
            entries[at] = DONE  # last: the client may be polling it
            at += stride
            if at == end:
                at = 0
            left -= nbytes
            if left < 0:
                return served + 1
        return most

    return serve


def _in_parts(inline: Inline, others: Others) -> Callable[[Transfer, int, int, Sequence[memoryview]], int]:
    """Return what does a long transfer, with a glance at the others between its parts if there are any."""

    def in_parts(transfer: Transfer, offset: int, nbytes: int, buffers: Sequence[memoryview]) -> int:
        if len(buffers) > 1 or not others.others(inline):
            return transfer(offset, nbytes, buffers)
        (whole,) = buffers
        for at in range(0, nbytes, LONG):
            if at:
                others.glance(inline)
            part = whole[at : at + LONG]
            if transfer(offset + at, len(part), (part,)) != len(part):
                return -1
        return nbytes

    return in_parts
