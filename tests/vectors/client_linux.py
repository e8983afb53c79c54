"""A client as Linux' sunvdc: version 1.2, ack flag 0x01, 512 entries of 336 octets, scattered pages.

Its message numbers start where the port's life began and go on through a new session; here just below 2^32.
It first offers a version nobody has, and restarts its handshake in mid-session without a reset. Sources:
Linux ``drivers/block/sunvdc.c`` (``vdc_versions``, ``vdc_send_attr``, ``__vdc_tx_trigger``,
``__send_request``), ``arch/sparc/kernel/viohs.c`` (``vio_send_sid``, ``process_ver_nack``),
``arch/sparc/kernel/ldc.c`` (``perm_to_mte``, ``fill_cookies``); phys_block_size at offset 40:
``asm/vio.h``, ``struct vio_disk_attr_info``.

Run: ``python -m tests.vectors.client_linux --help``.
"""

from tests.vectors import runner
from tests.vectors.link import Link
from tests.vectors.memory import CR, CW, IR, IW, PAGE, SLOT, Cookie, Memory, R, W, pages
from tests.vectors.octets import compare, raw
from tests.vectors.rendezvous import Channel
from tests.vectors.ring import Ring
from tests.vectors.ring_client import RingClient
from tests.vectors.scenario import ABSOLUTE, BLOCK, BREAD, Image, Request, everything, whole_disk

SLOTS = 8192
ENTRIES = 512
STRIDE = 336  # 48 + 16 * 18
RING_PAGES = 21  # 512 * 336 octets exactly
RING_RA = SLOTS * SLOT  # slots 0 to 20
BUFFER_RA = RING_RA + RING_PAGES * PAGE
SIZE = BUFFER_RA + 10 * PAGE

RING_COOKIE = "00 00 00 00 00 00 00 00  00 00 00 00 00 02 a0 00"


def versions(link: Link[Channel], sid: str) -> None:
    """A major above the server's is refused with what it has; the next offer is that."""
    link.send(raw(f"01 01 00 01 {sid}  00 03 00 00  03", 56))
    link.expect("VER_INFO 3.0 NACK", raw(f"01 04 00 01 {sid}  00 01 00 02  04", 56))


def handshake(link: Link[Channel], sid: str) -> None:
    """VER 1.2, ATTR with 256 blocks at a time, DRING_REG, RDX."""
    link.send(raw(f"01 01 00 01 {sid}  00 01 00 02  03", 56))
    link.expect("VER_INFO ACK", raw(f"01 02 00 01 {sid}  00 01 00 02  04", 56))
    link.send(raw(f"01 01 00 02 {sid}  03 00 00 00  00 00 02 00" + "00" * 16 + "00 00 00 00 00 00 01 00", 56))
    link.expect(
        "ATTR_INFO ACK",
        raw(
            f"01 02 00 02 {sid}  03 02 01 00  00 00 02 00"
            "00 00 00 00 00 02 01 0e  00 00 00 00 00 00 18 03" + runner.MAX_XFER + runner.PHYS_BLOCK_SIZE,
            56,
        ),
    )
    shape = f"00 00 02 00  00 00 01 50  00 01 00 00  00 00 00 01 {RING_COOKIE}"  # 512 of 336, TX only
    link.send(raw(f"01 01 00 03 {sid} 00 00 00 00 00 00 00 00" + shape))
    link.expect("DRING_REG ACK", raw(f"01 02 00 03 {sid} 00 00 00 00 00 00 00 01" + shape))
    link.send(raw(f"01 01 00 05 {sid}", 56))
    link.expect("RDX ACK", raw(f"01 02 00 05 {sid}", 56))


class Sunvdc(RingClient):
    """Pages lie scattered in the table (every third slot), so each has a cookie of its own."""

    def __init__(self, memory: Memory, ring: Ring) -> None:
        super().__init__(memory, BUFFER_RA, ring)
        self.prod = 0
        self.next_slot = RING_PAGES

    def export(self, ra: int, nbytes: int, permissions: int) -> list[Cookie]:
        permissions |= (IR | R if permissions & CR else 0) | (IW | W if permissions & CW else 0)
        cookies = []
        for at, size in pages(ra, nbytes):
            cookies.append((self.memory.map_range(self.next_slot, at, size, permissions), size))
            self.next_slot += 3
            if self.next_slot >= SLOTS:
                self.next_slot = RING_PAGES
        return cookies

    def entry(self) -> int:
        self.prod += 1
        return (self.prod - 1) % ENTRIES

    def req_id(self) -> int:
        return self.prod - 1

    def once_round(self, image: Image) -> None:
        """One read more than the ring has entries, so that the last index is followed by the first."""
        for number in range(ENTRIES + 1):
            cookies = self.export(self.buffer_ra, BLOCK, CW)
            self.request(Request("round the ring", BREAD, ABSOLUTE, number, BLOCK, cookies, 0, BLOCK))
            self.revoke(cookies)
            compare("round the ring", self.memory.read(self.buffer_ra, BLOCK), image.blocks(number, 1))


def converse(link: Link[Channel], memory: Memory, image: Image) -> None:
    """Two sessions on one link, the second begun without a reset."""
    for page in range(RING_PAGES):
        memory.map_page(page, RING_RA + page * PAGE, CR | CW | R | W)
    ring = Ring(link, memory, RING_RA, ENTRIES, STRIDE)
    ring.ack_flag = 0x01
    ring.seq = 0xFFFF_FFF0
    link.begin_handshake()
    versions(link, "00 00 00 2a")
    handshake(link, "00 00 00 2b")
    ring.sid = bytes.fromhex("00 00 00 2b")
    client = Sunvdc(memory, ring)
    everything(client, image, capacity=True)
    client.once_round(image)

    handshake(link, "00 00 00 2c")
    ring.sid = bytes.fromhex("00 00 00 2c")
    whole_disk(client, image)


if __name__ == "__main__":
    runner.main(converse, size=SIZE, slots=SLOTS, queue_entries=128, link=Link)
