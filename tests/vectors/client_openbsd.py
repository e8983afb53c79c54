"""A version 1.0 client, as OpenBSD's vdsk once was: 32 entries of 176 octets, a cookie for every page.

It never takes a number for granted that 1.0 does not define: size and media type in the attribute ACK are
the server's own generosity. Sources: OpenBSD ``sys/arch/sparc64/dev/vdsk.c`` 1.9 (``vdsk_send_*``,
``vdsk_scsi_cmd``), ``ldc.c``, ``ldcvar.h``.

Run: ``python -m tests.vectors.client_openbsd --help``.
"""

from collections.abc import Sequence

from tests.vectors import runner
from tests.vectors.link import Link
from tests.vectors.memory import CR, CW, IR, IW, PAGE, SLOT, Cookie, Memory, R, W
from tests.vectors.octets import raw
from tests.vectors.rendezvous import Channel
from tests.vectors.ring import Ring
from tests.vectors.scenario import Client, Image, everything

SLOTS = 2048
RING_RA = SLOTS * SLOT  # one page
BUFFER_RA = RING_RA + PAGE
SIZE = BUFFER_RA + 10 * PAGE

SID = "5a c3 00 17"
VER_INFO = raw(f"01 01 00 01 {SID}  00 01 00 00  03", 56)  # 1.0, VDEV_DISK
VER_ACK = raw(f"01 02 00 01 {SID}  00 01 00 00  04", 56)  # VDEV_DISK_SERVER
ATTR_INFO = raw(f"01 01 00 02 {SID}  03 00 00 00  00 00 02 00" + "00" * 16 + "00 00 00 00 00 00 00 80", 56)
ATTR_ACK = raw(
    f"01 02 00 02 {SID}  03 02 01 00  00 00 02 00"  # ring, a disk, fixed, blocks of 512
    "00 00 00 00 00 00 01 0e"  # BREAD BWRITE FLUSH GET_DISKGEOM
    "00 00 00 00 00 00 18 03" + runner.MAX_XFER,  # 6147 blocks, told at 1.0 too
    56,
)
DRING_REG = raw(
    f"01 01 00 03 {SID}  00 00 00 00 00 00 00 00"
    "00 00 00 20  00 00 00 b0  00 03 00 00  00 00 00 01"  # 32 of 176, TX and RX, one cookie
    "00 00 00 00 00 00 00 00  00 00 00 00 00 00 20 00"  # slot 0, a whole page, more than the ring needs
)
DRING_ACK = raw(
    f"01 02 00 03 {SID}  00 00 00 00 00 00 00 01"
    "00 00 00 20  00 00 00 b0  00 03 00 00  00 00 00 01"
    "00 00 00 00 00 00 00 00  00 00 00 00 00 00 20 00"
)
RDX_INFO = raw(f"01 01 00 05 {SID}", 56)
RDX_ACK = raw(f"01 02 00 05 {SID}", 56)


class Vdsk(Client):
    """Takes the next free slot for every page and grants everything to it."""

    def __init__(self, memory: Memory, ring: Ring) -> None:
        super().__init__(memory, BUFFER_RA)
        self.ring = ring
        self.prod = 0
        self.next_slot = 1

    def export(self, ra: int, nbytes: int, permissions: int) -> list[Cookie]:
        cookies = []
        end = ra + nbytes
        while ra < end:
            size = min(end - ra, PAGE - ra % PAGE)
            addr = self.memory.map_range(self.next_slot, ra, size, CR | CW | IR | IW | R | W)
            cookies.append((addr, size))
            self.next_slot = self.next_slot + 1 if self.next_slot < SLOTS - 1 else 1
            ra += size
        return cookies

    def revoke(self, cookies: Sequence[Cookie]) -> None:
        for addr, _ in cookies:
            self.memory.unmap(addr // PAGE)

    def request(
        self,
        what: str,
        operation: int,
        part: int,
        addr: int,
        nbytes: int,
        cookies: Sequence[Cookie],
        *,
        stale_ncookies: int | None = None,
        status: int,
        answered: int,
    ) -> None:
        index = self.prod
        self.ring.post(index, operation, part, addr, nbytes, cookies, ncookies=stale_ncookies)
        seq = self.ring.announce(index)
        self.ring.expect_ack(what, seq, index)
        self.ring.reap(what, index, status, answered)
        self.prod = (self.prod + 1) % 32


def converse(link: Link[Channel], memory: Memory, image: Image) -> None:
    """The whole life of the client."""
    memory.map_page(0, RING_RA, CR | CW | R | W)
    ring = Ring(link, memory, RING_RA, count=32, stride=176)
    ring.sid = bytes.fromhex(SID)
    link.answer_handshake()
    link.send(VER_INFO)
    link.expect("VER_INFO ACK", VER_ACK)
    link.send(ATTR_INFO)
    link.expect("ATTR_INFO ACK", ATTR_ACK)
    link.send(DRING_REG)
    link.expect("DRING_REG ACK", DRING_ACK)
    link.send(RDX_INFO)
    link.expect("RDX ACK", RDX_ACK)
    everything(Vdsk(memory, ring), image, capacity=False)


if __name__ == "__main__":
    runner.main(converse, size=SIZE, slots=SLOTS)
