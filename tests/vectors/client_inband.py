"""An in-band client, as boot firmware: no ring, each descriptor is a message of two LDC packets and more.

Message: tag, seq_num, desc_handle, then the payload of a ring entry. One cookie makes 80 octets, so packets
of 56 and 24; none makes 64, eight make 192. The answer is the message itself with its subtype, status and
nbytes changed. (Solaris vds sends the original back for what it finishes at once, its one defect here.)
Sources: Solaris ``sys/vio_mailbox.h`` (``vio_inband_desc_msg_hdr_t``), ``sys/vdsk_mailbox.h``
(``vd_dring_inband_msg_t``), ``vds.c`` (``vd_process_desc_msg``); FWARC 2010/054, in-band descriptors.

Run: ``python -m tests.vectors.client_inband --help``.
"""

import struct

from tests.vectors import runner
from tests.vectors.link import Link
from tests.vectors.memory import PAGE, SLOT, Cookie, Memory, pages
from tests.vectors.octets import raw
from tests.vectors.rendezvous import Channel
from tests.vectors.scenario import Client, Image, Request, everything

SLOTS = 512
BUFFER_RA = SLOTS * SLOT
SIZE = BUFFER_RA + 10 * PAGE

SID = "de ad be ef"
VER_INFO = raw(f"01 01 00 01 {SID}  00 01 00 01  03", 56)
VER_ACK = raw(f"01 02 00 01 {SID}  00 01 00 01  04", 56)
ATTR_INFO = raw(f"01 01 00 02 {SID}  02 00 00 00  00 00 02 00" + "00" * 16 + "00 00 00 00 00 00 00 80", 56)
ATTR_ACK = raw(
    f"01 02 00 02 {SID}  02 02 01 00  00 00 02 00  00 00 00 00 00 02 01 0e  00 00 00 00 00 00 18 03"
    + runner.MAX_XFER,
    56,
)
RDX_INFO = raw(f"01 01 00 05 {SID}", 56)
RDX_ACK = raw(f"01 02 00 05 {SID}", 56)


class Firmware(Client):
    """One request at a time, a cookie for every page."""

    def __init__(self, link: Link[Channel], memory: Memory) -> None:
        super().__init__(memory, BUFFER_RA)
        self.link = link
        self.seq = 1
        self.next_slot = 0

    def export(self, ra: int, nbytes: int, permissions: int) -> list[Cookie]:
        cookies = []
        for at, size in pages(ra, nbytes):
            cookies.append((self.memory.map_range(self.next_slot, at, size, permissions), size))
            self.next_slot = (self.next_slot + 7) % SLOTS
        return cookies

    def request(self, request: Request) -> None:
        cookies = request.cookies
        if request.stale_ncookies is not None:  # a message's length must fit: the stale ones are there
            cookies = [(number * PAGE, PAGE) for number in range(request.stale_ncookies)]
        handle = 0xF00D_0000_0000_0000 | self.seq
        head = bytes.fromhex(SID) + struct.pack(
            ">QQQBB2x", self.seq, handle, ~self.seq & 0xFFFF, request.operation, request.part
        )
        tail = struct.pack(">I4x", len(cookies)) + b"".join(struct.pack(">QQ", *cookie) for cookie in cookies)
        sent = struct.pack(">IQQ", 0xFFFFFFFF, request.addr, request.nbytes)
        received = struct.pack(">IQQ", request.status, request.addr, request.answered)
        self.link.send(raw("02 01 00 41") + head + sent + tail)
        self.link.expect(f"{request.what}: ACK", raw("02 02 00 41") + head + received + tail)
        self.seq += 1


def converse(link: Link[Channel], memory: Memory, image: Image) -> None:
    """The whole life of the client."""
    link.cross_handshake()
    link.send(VER_INFO)
    link.expect("VER_INFO ACK", VER_ACK)
    link.send(ATTR_INFO)
    link.expect("ATTR_INFO ACK", ATTR_ACK)
    link.send(RDX_INFO)
    link.expect("RDX ACK", RDX_ACK)
    everything(Firmware(link, memory), image, capacity=True)


if __name__ == "__main__":
    runner.main(converse, size=SIZE, slots=SLOTS, link=Link)
