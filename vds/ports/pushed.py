"""The quick way of requests that came pushed (extension INLINE): one loop, and no object for any of them.

Whatever can be done at once is: the plain kind of request (one cookie, the whole disk, inside it) that no
request under way overlaps, and that the backend executes without blocking. A read goes straight into a buffer
from which it is sent when that is full, so that the guest has the first answers while the next are made; a
write comes straight out of the record that brought it. All that the long way checks is checked here, on the
fields as read from the shadow of the ring. Whatever is anything else stays READY for the long way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypervisor.pushing import UNSPLIT, Parcel
from hypervisor.records import PIECE
from protocol.ldc.cookie import ALIGNMENT
from protocol.vdisk.descriptor import PLAIN, PLAIN_AT, STATUS, STATUS_AT
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import Dstate, RingGeometry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypervisor.channel import Channel
    from hypervisor.copied import CopiedMemory
    from protocol.vdisk.attributes import DiskAttributes
    from vds.inline import Inline

__all__ = ["PushedWay"]

MAX_AT_ONCE: Final = 1024 * 1024
"""Longest transfer done at once; a longer one takes the long way."""

AT_ONCE: Final = 16
"""So many answers are sent as soon as another follows: half a usual queue. The guest goes on with them while
the rest is made; writes would never fill a record."""

CUT: Final = 4096
"""Reads that take more than one record are cut at multiples of it: the kernel's pages."""

# Plain ints: on the data path an enum member costs more than what is done with it.
READY: Final = int(Dstate.READY)
DONE: Final = int(Dstate.DONE)
READ: Final = int(Operation.BREAD)
WRITE: Final = int(Operation.BWRITE)
WHOLE: Final = SLICE_NONE

_fields: Final = PLAIN.unpack_from
_put_status: Final = STATUS.pack_into


class PushedWay:
    """Serves entries of ``ring``, whose shadow is ``entries``, with requests about ``disk``.

    What is to be sent is sent when it fills a record; the rest of it goes with :meth:`send`.
    """

    def __init__(
        self,
        entries: memoryview,
        ring: RingGeometry,
        memory: CopiedMemory,
        channel: Channel,
        inline: Inline,
        disk: DiskAttributes,
        glance: Callable[[], None],
    ) -> None:
        """``glance`` is called in the middle of long reads, for those who wait at other disks."""
        self._entries = entries
        self._stride = ring.descriptor_size
        self._count = ring.num_descriptors
        self._most = min(AT_ONCE, UNSPLIT // ring.descriptor_size)  # entries that arrive in one piece
        self._served = 0  # since something was sent
        self._memory = memory
        self._channel = channel
        self._inline = inline
        self._block_size = disk.block_size
        self._size = disk.size_blocks * disk.block_size
        self._writable = bool(disk.operations >> Operation.BWRITE & 1)
        self._glance = glance
        self._parcel = Parcel()
        self.moved = 0
        """Bytes read by the last :meth:`serve`. Those written do not count: what was pushed has to be used
        before the next is received."""
        self._least = CUT + PIECE.size + self._stride  # less room is not worth a look: send first

    def serve(self, index: int, most: int) -> int:
        """Serve up to ``most`` entries from ``index`` on, not beyond the ring's end, and return how many.

        Fewer: the entry after them is not READY, or not for us, or a record is full.
        Raises: ChannelLost.
        """
        entries, stride = self._entries, self._stride
        block_size, size, writable = self._block_size, self._size, self._writable
        inline, parcel = self._inline, self._parcel
        reserve, pushed = parcel.reserve, self._memory.pushed_at
        under_way, try_read = inline.under_way, inline.try_read
        read, write = inline.read, inline.write
        self.moved = 0
        first = at = index * stride
        end = min(index + min(most, self._most), self._count) * stride
        cost = PIECE.size + stride  # of a read in a record, besides its data
        room = parcel.left()  # beside the piece of the entries
        if room < self._least or self._served >= AT_ONCE:
            self.send()
            room = parcel.left()
        while at < end and room >= stride:
            operation, slice_, _, addr, nbytes, ncookies, cookie, length = _fields(entries, at + PLAIN_AT)
            offset = addr * block_size
            if (
                entries[at] != READY
                or slice_ != WHOLE
                or ncookies != 1
                or not 0 < nbytes <= MAX_AT_ONCE
                or offset + nbytes > size
                or nbytes > length
                or (cookie | length | nbytes) % ALIGNMENT
            ):
                break
            if operation == READ:
                room -= nbytes + cost
                if room < 0:
                    if at > first or not self._read_long(offset, nbytes, cookie):
                        break
                    room = parcel.left() - stride
                else:
                    part = (reserve(cookie, nbytes),)
                    try:
                        done = read(offset, nbytes, part) if under_way else try_read(part, offset)
                    except OSError:
                        done = -1
                    if done != nbytes:
                        parcel.undo(nbytes)
                        break
                self.moved += nbytes
            elif operation == WRITE and writable:
                data = pushed(cookie, nbytes)
                if data is None or write(offset, nbytes, data) != nbytes:
                    break
                room -= stride
            else:
                break
            _put_status(entries, at + STATUS_AT, 0)
            entries[at] = DONE
            at += stride
        self._served += (at - first) // stride
        if at > first:
            where, answers = self._memory.ring_piece(first, at - first)
            reserve(where, len(answers))[:] = answers
        return (at - first) // stride

    def _read_long(self, offset: int, nbytes: int, cookie: int) -> bool:
        """Read what does not fit into this record; False: not possible at once, or not all of it."""
        parcel = self._parcel
        spare = PIECE.size + self._stride  # for the entry
        while nbytes:
            part = min(nbytes, (parcel.left() - spare) & -CUT)
            if part <= 0:
                self.send()
                self._glance()
                continue
            if self._inline.read(offset, part, (parcel.reserve(cookie, part),)) != part:
                parcel.undo(part)
                return False
            offset, nbytes, cookie = offset + part, nbytes - part, cookie + part
        return True

    @property
    def pending(self) -> bool:
        """Whether there is something to :meth:`send`."""
        return len(self._parcel) > 0

    def send(self, packets: Sequence[bytes] = ()) -> None:
        """Send what there is, with ``packets``. Raises: ChannelLost."""
        self._served = 0
        self._channel.send_parcel(self._parcel, packets)
