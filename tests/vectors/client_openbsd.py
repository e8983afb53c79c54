"""OpenBSD's vdsk: 32 entries of 176 octets, a cookie for every page of data, starting the link by itself.

Two generations of it, version 1.0 (vdsk.c 1.27) and 1.1 (1.33), each attached at boot, where it polls, and
later, where it is interrupted. At 1.0 it never takes a number for granted that 1.0 does not define: size and
media type in the attribute ACK are the server's own generosity. Sources: OpenBSD
``sys/arch/sparc64/dev/vdsk.c`` (``vdsk_attach``, ``vdsk_send_*``, ``vdsk_scsi_cmd``,
``vdsk_rx_vio_dring_data``), ``ldc.c``, ``ldcvar.h``.

Run: ``python -m tests.vectors.client_openbsd --help``.
"""

import struct

from tests.vectors import runner
from tests.vectors.link_openbsd import VdskLink
from tests.vectors.memory import CR, CW, IR, IW, PAGE, SLOT, Cookie, Memory, R, W
from tests.vectors.octets import Mismatch, raw
from tests.vectors.rendezvous import Channel
from tests.vectors.ring import Ring
from tests.vectors.ring_client import RingClient
from tests.vectors.scenario import Image, everything

SLOTS = 2048
RING_RA = SLOTS * SLOT  # one page
BUFFER_RA = RING_RA + PAGE
SIZE = BUFFER_RA + 10 * PAGE
QUEUE_ENTRIES = 32

MASKS = {0: "00 00 00 00 00 00 01 0e", 1: "00 00 00 00 00 02 01 0e"}
"""By minor version: BREAD BWRITE FLUSH GET_DISKGEOM; and GET_CAPACITY."""


def handshake(link: VdskLink[Channel], sid: str, minor: int) -> None:
    """VER, ATTR, DRING_REG and RDX, everything else zero."""
    link.send(raw(f"01 01 00 01 {sid}  00 01 00 0{minor}  03", 56))  # VDEV_DISK
    link.expect("VER_INFO ACK", raw(f"01 02 00 01 {sid}  00 01 00 0{minor}  04", 56))  # VDEV_DISK_SERVER
    link.send(raw(f"01 01 00 02 {sid}  03 00 00 00  00 00 02 00" + "00" * 16 + "00 00 00 00 00 00 00 80", 56))
    disk = "03 02 01 00  00 00 02 00"  # ring, a disk, fixed, blocks of 512
    disk += MASKS[minor] + "00 00 00 00 00 00 18 03" + runner.MAX_XFER  # 6147 blocks, told at 1.0 too
    link.expect("ATTR_INFO ACK", raw(f"01 02 00 02 {sid} {disk}", 56))
    # 32 of 176, TX and RX, one cookie: slot 0, a whole page, more than the ring needs
    shape = (
        "00 00 00 20  00 00 00 b0  00 03 00 00  00 00 00 01  00 00 00 00 00 00 00 00  00 00 00 00 00 00 20 00"
    )
    link.send(raw(f"01 01 00 03 {sid}  00 00 00 00 00 00 00 00 {shape}"))
    link.expect("DRING_REG ACK", raw(f"01 02 00 03 {sid}  00 00 00 00 00 00 00 01 {shape}"))
    link.send(raw(f"01 01 00 05 {sid}", 56))
    link.expect("RDX ACK", raw(f"01 02 00 05 {sid}", 56))


class Vdsk(RingClient):
    """Takes a free slot for every page of data and grants everything to it.

    A cookie has a page's size wherever in its page it begins, and so may run on into the next slot, which is
    that of the next page. The search goes on from the slot taken last, which is free again by then.
    """

    def __init__(self, memory: Memory, ring: Ring) -> None:
        super().__init__(memory, BUFFER_RA, ring)
        self.prod = 0
        self.next_slot = 1

    def export(self, ra: int, nbytes: int, permissions: int) -> list[Cookie]:
        cookies = []
        for start in range(ra, ra + nbytes, PAGE):
            while any(self.memory.read(self.next_slot * SLOT, 8)):
                self.next_slot = (self.next_slot + 1) % SLOTS
            self.memory.map_page(self.next_slot, start & ~(PAGE - 1), CR | CW | IR | IW | R | W)
            cookies.append((self.next_slot * PAGE + start % PAGE, min(PAGE, ra + nbytes - start)))
        return cookies

    def entry(self) -> int:
        index = self.prod
        self.prod = (index + 1) % 32
        return index


def session(link: VdskLink[Channel], memory: Memory, sid: str, minor: int) -> Vdsk:
    """Shake hands and begin with a ring as it was allocated."""
    handshake(link, sid, minor)
    ring = Ring(link, memory, RING_RA, count=32, stride=176)
    ring.sid = bytes.fromhex(sid)
    return Vdsk(memory, ring)


def converse(link: VdskLink[Channel], memory: Memory, image: Image) -> None:
    """Both generations, attached as at boot and again as later, when the server came back."""
    memory.map_page(0, RING_RA, CR | CW | R | W)
    attachments = [(minor, polls) for minor in MASKS for polls in (True, False)]
    for number, (minor, polls) in enumerate(attachments):
        link.renew(link.channel.again())
        link.come_up(polls=polls)
        client = session(link, memory, struct.pack(">I", 0x5AC30017 + number).hex(), minor)
        everything(client, image, capacity=minor >= 1)
    if link.resets >= len(attachments):  # a slow machine may make the server begin once, not always
        raise Mismatch(f"{link.resets} resets of the link: the server begins as well")


if __name__ == "__main__":
    runner.main(converse, size=SIZE, slots=SLOTS, queue_entries=QUEUE_ENTRIES, link=VdskLink)
