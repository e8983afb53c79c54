"""Solaris' vds: version 1.1, a file as a disk without a label.

Both sides begin the link. The ring is mapped where the memory is shared, and a shadow otherwise; data go
through a shadow of the buffer, which begins as zeros and is copied out whole, whatever became of the read. An
entry is ACCEPTED before it is copied, and DONE last. A message is its own answer with fields replaced. What
waited in the queue is behind short packets. Sources: Solaris 11 ``uts/sun4v/io/vds.c``
(``vd_process_ver_msg``, ``vd_process_attr_msg``, ``vd_process_dring_reg_msg``, ``vd_process_element``,
``vd_mark_elem_done``, ``vd_process_task``, ``vd_do_process_rw``, ``vd_build_default_label``,
``vd_set_exported_operations``, ``vd_process_msg``), ``ldc.c``, ``ldc_shm.c``.

Run: ``python -m tests.vectors.server_solaris --help``.
"""

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from tests.vectors import server_runner
from tests.vectors.disk_server import (
    ACCEPTED,
    BLOCK,
    BREAD,
    BWRITE,
    DONE,
    FLUSH,
    GET_CAPACITY,
    GET_DISKGEOM,
    GET_VTOC,
    NBYTES_AT,
    STATUS_AT,
    Backend,
    Descriptor,
    Record,
    Session,
    parse_entry,
)
from tests.vectors.link import RDX_WITH_ACKID, Link
from tests.vectors.listener import Guest, MappedGuest, ServerChannel
from tests.vectors.memory import R, W
from tests.vectors.octets import Mismatch, raw
from tests.vectors.records import UP

DIRT = 0xA5  # what lies behind a short message in the queue
MAX_XFER = 256  # blocks: maxphys of 128 KiB
OPERATIONS = raw("00 00 00 00 00 02 3b fe")  # READ, WRITE and GET_CAPACITY: an image that may be written
EINVAL, ENOTSUP = 22, 48


class Ring(ABC):
    """The client's ring, an entry at a time."""

    @abstractmethod
    def acquire(self, index: int) -> memoryview:
        """An entry to look at and to change."""

    @abstractmethod
    def release(self, index: int) -> None:
        """The entry was changed."""


class DirectRing(Ring):
    """Mapped: a store is seen at once."""

    def __init__(self, guest: MappedGuest, cookie: int, count: int, stride: int) -> None:
        self.octets = guest.map(cookie, count * stride, R | W)
        self.stride = stride

    def acquire(self, index: int) -> memoryview:
        return self.octets[index * self.stride : (index + 1) * self.stride]

    def release(self, index: int) -> None:
        pass


class ShadowRing(Ring):
    """A private copy: the whole entry is copied in, and out again."""

    def __init__(self, guest: Guest, cookie: int, count: int, stride: int) -> None:
        self.guest = guest
        self.cookie = cookie
        self.stride = stride
        self.octets = memoryview(bytearray(count * stride))

    def acquire(self, index: int) -> memoryview:
        entry = self.octets[index * self.stride : (index + 1) * self.stride]
        entry[:] = self.guest.copy_in(self.cookie + index * self.stride, self.stride)
        return entry

    def release(self, index: int) -> None:
        entry = self.octets[index * self.stride : (index + 1) * self.stride]
        self.guest.copy_out(self.cookie + index * self.stride, bytes(entry))


class Vds(Session):
    """One session with Solaris' server."""

    def __init__(self, channel: ServerChannel, backend: Backend, record: Record) -> None:
        super().__init__(channel, backend, record)
        self._link = Link(channel, DIRT)
        self.ring: Ring | None = None

    @property
    def link(self) -> Link[ServerChannel]:
        return self._link

    def batches(self) -> Iterator[list[bytes]]:
        self.channel.configure_queue()
        while self.channel.link_state() != UP:
            self.channel.pump()
        self.link.cross_handshake(RDX_WITH_ACKID, first=True)
        while True:
            messages = [self.link.receive()]
            while self.channel.pump(wait=False):
                pass
            while self.channel.queue:
                messages.append(self.link.receive())
            yield messages

    # -- handshake: a message is its own answer --------------------------------------------------------------

    def version_ack(self, message: bytes) -> bytes:
        return raw("01 02") + message[2:8] + raw("00 01 00 01  04") + message[13:]

    def attributes_ack(self, message: bytes) -> bytes:
        disk = raw("02 01") + message[11:12] + struct.pack(">I", BLOCK) + OPERATIONS  # a disk, fixed
        disk += struct.pack(">QQ", self.backend.nblocks, MAX_XFER)
        return raw("01 02") + message[2:9] + disk + message[40:]

    def ring_ack(self, message: bytes) -> bytes:
        guest = self.channel.guest
        kind = DirectRing if isinstance(guest, MappedGuest) else ShadowRing
        self.ring = kind(guest, self.ring_cookie, self.count, self.stride)  # type: ignore[arg-type]
        self.ident = 1
        return raw("01 02") + message[2:8] + struct.pack(">Q", self.ident) + message[16:]

    def rdx_ack(self, message: bytes) -> bytes:
        return raw("01 02") + message[2:]

    # -- requests --------------------------------------------------------------------------------------------

    def accept(self, index: int) -> Descriptor:
        assert self.ring is not None
        entry = self.ring.acquire(index)
        request = parse_entry(bytes(entry))
        entry[0] = ACCEPTED
        self.ring.release(index)
        return request

    def execute(self, message: bytes, index: int, request: Descriptor) -> None:
        operation = _OPERATIONS.get(request.operation)
        status, nbytes = ENOTSUP, request.nbytes
        if operation is not None:
            exact, act = operation
            if exact is not None and request.nbytes != exact:
                self._refuse(message)
            status, nbytes = act(self, request) if request.nbytes or exact == 0 else (EINVAL, 0)
        self._finish(index, status, nbytes)
        self.link.send(raw("02 02") + message[2:])  # end_idx is the entry's: the message's own

    def _refuse(self, message: bytes) -> None:
        """A length that an operation cannot have: NACK and full reset. Raises: HungUp."""
        self.record.refused += 1
        self.link.send(self.nack(message))
        self.link.reset()
        self.wait_for_hangup()

    def _finish(self, index: int, status: int, nbytes: int) -> None:
        """Length, status, then DONE; nobody may have touched the entry."""
        assert self.ring is not None
        entry = self.ring.acquire(index)
        if entry[0] != ACCEPTED:
            raise Mismatch(f"entry {index} became {entry[0]} while it was executed")
        struct.pack_into(">Q", entry, NBYTES_AT, nbytes)
        struct.pack_into(">I", entry, STATUS_AT, status)
        entry[0] = DONE
        self.ring.release(index)

    def _answer(self, request: Descriptor, octets: bytes) -> tuple[int, int]:
        """Copy the whole shadow of a buffer out: what was not filled is zeros."""
        self.buffer_out(request, octets.ljust(request.nbytes + 7 & ~7, b"\0"))
        return 0, request.nbytes

    def _read(self, request: Descriptor) -> tuple[int, int]:
        octets = self.backend.read(request.addr, request.nbytes)
        self._answer(request, octets)
        return 0, len(octets)

    def _write(self, request: Descriptor) -> tuple[int, int]:
        octets = self.buffer_in(request)[: request.nbytes]
        return 0, self.backend.write(request.addr, octets)

    def _flush(self, request: Descriptor) -> tuple[int, int]:
        self.backend.flush()
        return 0, 0

    def _geometry(self, request: Descriptor) -> tuple[int, int]:
        """From the size alone; 7200 turns a minute."""
        data, alternate, heads, sectors = self.backend.geometry()
        words = (data, alternate, 0, heads, sectors, 0, 0, 7200, data + alternate, 0, 0)
        return self._answer(request, struct.pack(">11H", *words))

    def _vtoc(self, request: Descriptor) -> tuple[int, int]:
        """Without a label: made up, and answered as if it were there; the text begins at offset 12."""
        data, alternate, heads, sectors = self.backend.geometry()
        size = self.backend.nblocks * BLOCK
        shift, unit = next(
            (s, u) for s, u in ((10, "K"), (20, "M"), (30, "G"), (40, "T")) if size < 1024 << s
        )
        text = f"SUN-DiskImage-{size >> shift}{unit}B cyl {data} alt {alternate} hd {heads} sec {sectors}"
        vtoc = struct.pack(">8xHH128s4x", BLOCK, 8, text.encode())  # sector size, partitions
        whole = struct.pack(">HH4xQQ", 5, 0, 0, data * heads * sectors)  # tag: the whole disk
        return self._answer(request, vtoc + bytes(2 * 24) + whole)

    def _capacity(self, request: Descriptor) -> tuple[int, int]:
        return self._answer(request, struct.pack(">I4xQ", BLOCK, self.backend.nblocks))


_OPERATIONS: dict[int, tuple[int | None, Callable[[Vds, Descriptor], tuple[int, int]]]] = {
    BREAD: (None, Vds._read),
    BWRITE: (None, Vds._write),
    FLUSH: (0, Vds._flush),
    GET_VTOC: (336, Vds._vtoc),
    GET_DISKGEOM: (24, Vds._geometry),
    GET_CAPACITY: (16, Vds._capacity),
}
"""What is done here, and the length it must have, if only one will do. The rest is ENOTSUP: that of the mask
is write cache, which an image has none of, and labels, which nobody sets."""

if __name__ == "__main__":
    server_runner.main(Vds, queue_entries=512, faults=("reset", "nack", "hangup", "die"))
