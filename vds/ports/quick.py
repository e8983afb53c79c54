"""The quick way of a request: one loop over the ring for what can be done at once, without an object for any.

A request goes it when it is of the plain kind (one cookie, the whole disk, inside it), no request under way
overlaps it, and the backend does it without blocking. All that the long way checks is checked here too, on
the fields as read, each once. Whatever is anything else stays in the ring as it is, READY, for the long way.

An entry goes from READY to DONE without ACCEPTED in between: that state says that the server has copied the
entry and needs it no more, which does not matter while nobody but the server may touch it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.errors import CookieError
from protocol.ldc.cookie import Permission
from protocol.vdisk.descriptor import PLAIN, PLAIN_AT, STATUS, STATUS_AT
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import Dstate, RingGeometry

if TYPE_CHECKING:
    from hypervisor.memory import MappedMemory
    from protocol.vdisk.attributes import DiskAttributes
    from vds.inline import Inline

__all__ = ["Serve", "quick_way"]

MAX_AT_ONCE: Final = 1024 * 1024
"""Longest transfer done between two looks at the ring; a longer one takes the long way."""
LONG: Final = 128 * 1024
"""A transfer longer than this is the last one before others have their turn; it takes about 20 µs."""

# Plain ints: on the data path an enum member costs more than what is done with it.
READY: Final = int(Dstate.READY)
DONE: Final = int(Dstate.DONE)
READ: Final = int(Operation.BREAD)
WRITE: Final = int(Operation.BWRITE)
COPY_IN: Final = int(Permission.CR)
COPY_OUT: Final = int(Permission.CW)

Serve: TypeAlias = Callable[[int, int], int]
"""Serve up to so many READY entries from byte ``at`` of the ring on, and return how many. Fewer: the last one
was long, or the entry after them is not READY. None: it has to go the long way."""


def quick_way(
    entries: memoryview, ring: RingGeometry, memory: MappedMemory, inline: Inline, disk: DiskAttributes
) -> Serve:
    """Return what serves the ring in ``entries``, whose requests are about ``disk``, its memory ``memory``'s.

    A closure: what it works with is at hand at each call, where an object would look it all up again.
    """
    stride, end = ring.descriptor_size, ring.nbytes
    block_size = disk.block_size
    size = disk.size_blocks * block_size
    writable = bool(disk.operations >> Operation.BWRITE & 1)
    fields, put_status = PLAIN.unpack_from, STATUS.pack_into
    known, words, resolve = memory.known[COPY_OUT].get, memory.words, memory.views
    read, write, under_way = inline.read, inline.write, inline.under_way

    def serve(at: int, most: int) -> int:
        try_read = inline.try_read
        for served in range(most):
            if entries[at] != READY:
                return served
            operation, slice_, _, addr, nbytes, ncookies, cookie, length = fields(entries, at + PLAIN_AT)
            offset = addr * block_size
            if (
                slice_ != SLICE_NONE
                or ncookies != 1
                or not 0 < nbytes <= MAX_AT_ONCE
                or offset + nbytes > size
            ):
                return served
            try:
                if operation == READ:
                    page = known(cookie)
                    if page and page[0] == nbytes and page[1] == length and words[page[2]] == page[3]:
                        buffers = page[4]
                    else:
                        buffers = resolve(((cookie, length),), nbytes, COPY_OUT)
                    done = read(offset, nbytes, buffers) if under_way else try_read(buffers, offset)
                elif operation == WRITE and writable:
                    done = write(offset, nbytes, resolve(((cookie, length),), nbytes, COPY_IN))
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
            if nbytes > LONG:
                return served + 1
        return most

    return serve
