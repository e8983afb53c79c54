"""OpenBSD's vdsp: version 1.1, everything by COPY, nothing checked that it can do without.

It only ever answers the link handshake, and no sequence id is looked at. Attributes and ring are acknowledged
with messages of its own, of which only a few fields are set; rings are numbered on, over all sessions; RDX is
acknowledged with the 8 octets of a tag. An entry is copied in whole, whatever its state, and back whole with
DONE and the status. Answers have numbers of their own, from 1 in every session. Nothing is flushed, ever, and
nothing follows a NACK. Sources: OpenBSD ``sys/arch/sparc64/dev/vdsp.c`` 1.36
(``vdsp_rx_vio_*``, ``vdsp_open``, ``vdsp_alloc``, ``vdsp_vd_task``, ``vdsp_read_dring``,
``vdsp_write_dring``, ``vdsp_get_vtoc``, ``vdsp_get_diskgeom``, ``vdsp_ack_desc``, ``vdsp_close``), ``ldc.c``
1.14 (``ldc_send_unreliable``), ``viovar.h``, ``sys/errno.h``.

Run: ``python -m tests.vectors.server_openbsd --help``.
"""

import struct
from collections.abc import Callable, Iterator

from tests.vectors import server_runner
from tests.vectors.disk_server import (
    ACK,
    BLOCK,
    BREAD,
    BWRITE,
    DONE,
    FLUSH,
    GET_DISKGEOM,
    GET_VTOC,
    STATUS_AT,
    Backend,
    Descriptor,
    Record,
    Session,
    parse_entry,
)
from tests.vectors.link import Link
from tests.vectors.link_openbsd import OpenbsdLink
from tests.vectors.listener import ServerChannel
from tests.vectors.octets import raw
from tests.vectors.records import UP

MOST_ENTRIES, LONGEST_ENTRY = 1024, 512
MAX_XFER = 128  # blocks: MAXPHYS of 64 KiB
OPERATIONS = raw("00 00 00 00 00 00 01 fe")  # 0x01 to 0x08; of those GET_WCE and SET_WCE always fail
ENOTSUP = 91  # OpenBSD's own number, on the wire as it is


class VdspLink(OpenbsdLink[ServerChannel]):
    """The server's end: a message is silently not sent while the link state is not UP."""

    def send(self, message: bytes) -> None:
        """Send a message, or nothing."""
        if self.channel.link_state() == UP:
            super().send(message)
        else:
            self.refused += 1


class Vdsp(Session):
    """One session with OpenBSD's server."""

    rings = 0  # sc_dring_ident: of all sessions

    def __init__(self, channel: ServerChannel, backend: Backend, record: Record) -> None:
        super().__init__(channel, backend, record)
        self._link = VdspLink(channel)
        self.answered = 0  # sc_seq_no
        self.entries: dict[int, bytearray] = {}
        self.geometry = (0, 0, 0, 0)  # as last told: cylinders, alternate ones, heads, sectors

    @property
    def link(self) -> Link[ServerChannel]:
        return self._link

    def batches(self) -> Iterator[list[bytes]]:
        self.channel.configure_queue()
        while True:
            while self.channel.pump(wait=not self.channel.queue):
                pass
            messages = []
            while (message := self._link.interrupt()) is not None or self.channel.queue:
                if message is not None:
                    messages.append(message)
            yield messages

    # -- handshake -------------------------------------------------------------------------------------------

    def _fresh(self, envelope: str, body: bytes, size: int) -> bytes:
        """An ACK that is not the message it answers: what is not set is zero."""
        return (raw(f"01 02 {envelope}") + self.sid + body).ljust(size, b"\0")

    def version_ack(self, message: bytes) -> bytes:
        return raw("01 02") + message[2:8] + raw("00 01 00 01  04") + message[13:]

    def attributes_ack(self, message: bytes) -> bytes:
        disk = message[8:9] + raw("02 01 00") + struct.pack(">I", BLOCK) + OPERATIONS  # a disk, fixed
        return self._fresh("00 02", disk + struct.pack(">QQ", self.backend.nblocks, MAX_XFER), 56)

    def ring_ack(self, message: bytes) -> bytes:
        if self.count > MOST_ENTRIES or self.stride > LONGEST_ENTRY:
            self.record.refused += 1
            return self.nack(message)
        Vdsp.rings += 1
        self.ident = Vdsp.rings
        return self._fresh("00 03", struct.pack(">Q", self.ident), 48)

    def rdx_ack(self, message: bytes) -> bytes:
        return raw("01 02") + message[2:8]

    # -- requests --------------------------------------------------------------------------------------------

    def accept(self, index: int) -> Descriptor:
        entry = self.channel.guest.copy_in(self.ring_cookie + index * self.stride, self.stride)
        self.entries[index] = bytearray(entry)
        return parse_entry(entry)

    def execute(self, message: bytes, index: int, request: Descriptor) -> None:
        status = _OPERATIONS.get(request.operation, Vdsp._unimplemented)(self, request)
        entry = self.entries.pop(index)
        entry[0] = DONE
        struct.pack_into(">I", entry, STATUS_AT, status)  # nbytes stays what was asked for
        self.channel.guest.copy_out(self.ring_cookie + index * self.stride, bytes(entry))
        self.answered += 1
        answer = struct.pack(">BBH", 0x02, ACK, 0x0042) + self.sid
        answer += struct.pack(">QQII", self.answered, self.ident, index, index)
        self.link.send(answer.ljust(56, b"\0"))

    def _read(self, request: Descriptor) -> int:
        self.buffer_out(request, self.backend.read(request.addr, request.nbytes).ljust(request.nbytes, b"\0"))
        return 0

    def _write(self, request: Descriptor) -> int:
        self.backend.write(request.addr, self.buffer_in(request)[: request.nbytes])
        return 0

    def _flush(self, request: Descriptor) -> int:
        return 0  # and nothing else

    def _unimplemented(self, request: Descriptor) -> int:
        return ENOTSUP

    def _disk_geometry(self, request: Descriptor) -> int:
        """From the size alone; 3600 turns a minute. 64 octets are copied, as far as the cookies go."""
        self.geometry = data, alternate, heads, sectors = self.backend.geometry()
        words = (data, alternate, 0, heads, sectors, 0, 0, 3600, data + alternate, 0, 0)
        self.buffer_out(request, struct.pack(">11H42x", *words))
        return 0

    def _vtoc(self, request: Descriptor) -> int:
        """Without a label: made up from the geometry asked for last; the text begins at offset 16."""
        cylinders, alternate, heads, sectors = self.geometry
        size, unit = self.backend.nblocks * BLOCK >> 10, "K"
        for larger in "MG":
            if size > 2 << 10:
                size, unit = size >> 10, larger
        text = f"OpenBSD-DiskImage-{size}{unit}B cyl {cylinders} alt {alternate} hd {heads} sec {sectors}"
        vtoc = struct.pack(">8xHH4x128s", BLOCK, 8, text.encode())  # sector size, partitions
        whole = struct.pack(">HH4xQQ", 5, 0, 0, cylinders * heads * sectors)  # tag: the whole disk
        self.buffer_out(request, (vtoc + bytes(2 * 24) + whole).ljust(384, b"\0"))
        return 0


_OPERATIONS: dict[int, Callable[[Vdsp, Descriptor], int]] = {
    BREAD: Vdsp._read,
    BWRITE: Vdsp._write,
    FLUSH: Vdsp._flush,
    GET_VTOC: Vdsp._vtoc,
    GET_DISKGEOM: Vdsp._disk_geometry,
}
"""What our clients may ask for; the rest is unimplemented, whether or not the mask has it."""

if __name__ == "__main__":
    server_runner.main(Vdsp, queue_entries=64, faults=("reset", "hangup", "die"))
