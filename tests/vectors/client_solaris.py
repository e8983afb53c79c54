"""Solaris' vdc: version 1.1, one message per descriptor, 512 entries, dirty padding.

What Solaris leaves on the stack or in the queue is 0xa5 here: reserved octets of every message and entry,
the processing state, and what a packet does not use. Entry 0 is kept for probes, messages count from 1.
A refused version is offered again with the same session id, and the attributes are sent without waiting for
the answer. What was unanswered at a reset is sent again, one by one, before anything else.
Sources: Solaris 11 ``uts/sun4v/io/vdc.c`` (``vdc_init_ver_negotiation``, ``vdc_handle_ver_msg``,
``vdc_init_attr_negotiation``, ``vdc_init_dring_negotiate``, ``vdc_send_request``,
``vdc_map_to_shared_dring``, ``vdc_setup_devid``, ``vdc_validate_geometry``, ``vdc_resubmit_backup_dring``),
``sys/vdc.h``, ``ldc_shm.c``, ``vds.c`` (``vd_check_seq_num``, ``vd_process_dring_msg``,
``vd_process_msg``).

Run: ``python -m tests.vectors.client_solaris --help``.
"""

from collections.abc import Sequence

from tests.vectors import runner
from tests.vectors.link import RDX_WITH_ACKID, Link
from tests.vectors.memory import CR, CW, IR, IW, PAGE, Cookie, Memory, R, W, pages
from tests.vectors.octets import Mismatch, compare, raw
from tests.vectors.rendezvous import Channel
from tests.vectors.ring import Ring
from tests.vectors.ring_client import RingClient
from tests.vectors.scenario import (
    ABSOLUTE,
    BLOCK,
    BREAD,
    BWRITE,
    CAPACITY,
    ENOTSUP,
    FLUSH,
    GEOMETRY,
    GET_CAPACITY,
    GET_DEVID,
    GET_DISKGEOM,
    GET_EFI,
    GET_VTOC,
    Image,
    Request,
    everything,
    pattern,
    read,
    refused,
    write,
)

DIRT = 0xA5
SLOTS = 512  # what Solaris falls back to; small, so that it goes round
ENTRIES = 512
STRIDE = 2096  # 64 + 16 * (128 - 1): cookies for 1 MiB
RING_PAGES = 131  # 512 * 2096 octets exactly
RING_RA = PAGE
BUFFER_RA = RING_RA + RING_PAGES * PAGE
SIZE = BUFFER_RA + 10 * PAGE
RING_SLOT = 300  # round robin: the ring lies where the last export ended

RING_COOKIE = "00 00 00 00 00 25 80 00  00 00 00 00 00 10 60 00"  # slot 300 * 8192; 512 * 2096


def control(envelope: str, sid: str, body: str = "") -> bytes:
    """A control message as Solaris sends it, with what was on the stack in its reserved octets."""
    return raw(f"01 01 {envelope} {sid} {body}", 56, DIRT)


def answer(envelope: str, sid: str, body: str = "") -> bytes:
    """The ACK of a control message, reserved octets zero."""
    return raw(f"01 02 {envelope} {sid} {body}", 56)


# mode 3; type, media type and a reserved octet; blocks of 512; operations and size
WISH = "03 00 00 a5  00 00 02 00" + "00" * 16
MAXPHYS = "00 00 00 00 00 00 01 00"  # 256 blocks at a time, until a server has told its own
DISK = (
    "03 02 01 00  00 00 02 00"  # ring, a disk, fixed, blocks of 512
    "00 00 00 00 00 02 01 0e"  # BREAD BWRITE FLUSH GET_DISKGEOM GET_CAPACITY
    "00 00 00 00 00 00 18 03" + runner.MAX_XFER  # 6147 blocks
)


def refused_version(link: Link[Channel], sid: str) -> None:
    """A newer vdc is refused its major version, and goes on as if it had been accepted.

    The refusal is sent back as an INFO with the version that both know, its session id and reserved octets as
    they came; then ATTR_INFO at once. What comes next is an ACK of the wrong kind, and the channel is reset.
    """
    link.send(control("00 01", sid, "00 02 00 00  03"))
    link.expect("VER_INFO 2.0 NACK", raw(f"01 04 00 01 {sid}  00 01 00 02  04", 56))
    link.send(raw(f"01 01 00 01 {sid}  00 01 00 01  03", 56))
    link.send(control("00 02", sid, WISH + MAXPHYS))
    link.expect("VER_INFO ACK", answer("00 01", sid, "00 01 00 01  04"))
    link.expect("ATTR_INFO ACK", answer("00 02", sid, DISK))
    link.reset()


def handshake(link: Link[Channel], sid: str, max_xfer: str) -> None:
    """VER, ATTR, DRING_REG and RDX."""
    link.send(control("00 01", sid, "00 01 00 01  03"))
    link.expect("VER_INFO ACK", answer("00 01", sid, "00 01 00 01  04"))
    link.send(control("00 02", sid, WISH + max_xfer))
    link.expect("ATTR_INFO ACK", answer("00 02", sid, DISK))
    shape = f"00 00 02 00  00 00 08 30  00 03 {{}}  00 00 00 01 {RING_COOKIE}"  # 512 of 2096, TX and RX
    link.send(raw(f"01 01 00 03 {sid} 00 00 00 00 00 00 00 00" + shape.format("a5 a5")))
    link.expect("DRING_REG ACK", raw(f"01 02 00 03 {sid} 00 00 00 00 00 00 00 01" + shape.format("00 00")))
    link.send(control("00 05", sid))
    link.expect("RDX ACK", answer("00 05", sid))


class Vdc(RingClient):
    """Binds buffers round robin to consecutive slots; a wrap of the table makes a second cookie."""

    def __init__(self, memory: Memory, ring: Ring) -> None:
        super().__init__(memory, BUFFER_RA, ring)
        self.next_entry = 1
        self.next_slot = RING_SLOT + RING_PAGES
        self.requests = 0

    def export(self, ra: int, nbytes: int, permissions: int) -> list[Cookie]:
        permissions |= (IR if permissions & CR else 0) | (IW if permissions & CW else 0)
        cookies: list[Cookie] = []
        for at, size in pages(ra, nbytes):
            if RING_SLOT <= self.next_slot < RING_SLOT + RING_PAGES:
                self.next_slot = RING_SLOT + RING_PAGES
            addr = self.memory.map_range(self.next_slot, at, size, permissions)
            if cookies and sum(cookies[-1]) == addr:
                cookies[-1] = (cookies[-1][0], cookies[-1][1] + size)
            else:
                cookies.append((addr, size))
            self.next_slot = (self.next_slot + 1) % SLOTS
        return cookies

    def revoke(self, cookies: Sequence[Cookie]) -> None:
        for addr, size in cookies:
            for slot in range(addr // PAGE, (addr + size - 1) // PAGE + 1):
                self.memory.unmap(slot)

    def entry(self) -> int:
        """The next entry of regular I/O: 1 to 511."""
        index = self.next_entry
        self.next_entry = index % (ENTRIES - 1) + 1
        return index

    def req_id(self) -> int:
        self.requests += 1
        return self.requests - 1

    def burst(self, image: Image, count: int) -> None:
        """``count`` reads announced before any answer is looked at; answers come in their order."""
        asked = []
        for number in range(count):
            cookies = self.export(self.buffer_ra + number * BLOCK, BLOCK, CW)
            index = self.entry()
            self.ring.post(index, BREAD, ABSOLUTE, number * 7, BLOCK, cookies)
            asked.append((index, self.ring.announce(index), cookies))
        for index, seq, _ in asked:
            self.ring.expect_ack("one of a burst", seq, index)
        for number, (index, _, cookies) in enumerate(asked):
            self.ring.reap("one of a burst", index, 0, BLOCK)
            self.revoke(cookies)
            got = self.memory.read(self.buffer_ra + number * BLOCK, BLOCK)
            compare("one of a burst", got, image.blocks(number * 7, 1))


def session(link: Link[Channel], memory: Memory, sid: str, max_xfer: str = runner.MAX_XFER) -> Vdc:
    """Shake hands and begin with a ring as after LDC UP: every entry FREE, messages from 1.

    The device id is asked for whatever the mask of operations says; not to have one is no fault.
    """
    handshake(link, sid, max_xfer)
    ring = Ring(link, memory, RING_RA, ENTRIES, STRIDE, reserved=DIRT)
    ring.sid = bytes.fromhex(sid)
    client = Vdc(memory, ring)
    refused(client, "GET_DEVID after a handshake", GET_DEVID, 144, ENOTSUP, part=0)
    return client


def discover(client: Vdc) -> None:
    """What an open of the disk asks: capacity, geometry, VTOC, and then the GPT's header."""
    compare("GET_CAPACITY", read(client, "GET_CAPACITY", GET_CAPACITY, 0, 16, part=0), CAPACITY)
    compare("GET_DISKGEOM", read(client, "GET_DISKGEOM", GET_DISKGEOM, 0, 24, part=0), GEOMETRY)
    refused(client, "GET_VTOC", GET_VTOC, 336, ENOTSUP, part=0)
    refused(client, "GET_EFI", GET_EFI, 536, ENOTSUP, part=0)  # 23 + 512, rounded up to 8


def close(client: Vdc) -> None:
    """The last close of a disk flushes it."""
    client.request(Request("FLUSH at the close", FLUSH, 0, 0, 0, [], status=0, answered=0))


def wrong_number(client: Vdc) -> None:
    """A number left out: NACK and a soft reset. The link stays up and the next VER_INFO is welcome."""
    ring = client.ring
    index = client.entry()
    ring.post(index, BREAD, ABSOLUTE, 0, 0, [])
    ring.seq += 1
    seq = ring.announce(index)
    ring.expect_nack("a number left out", seq, index, index)


def not_ready(client: Vdc) -> None:
    """An entry that is not READY: NACK with its index, and the server resets the channel."""
    seq = client.ring.announce(17)
    client.ring.expect_nack("an entry that is FREE", seq, 17, 17)


def resubmitted(client: Vdc, image: Image, link: Link[Channel], count: int) -> Vdc:
    """Reset the channel with ``count`` writes announced; send them again on the next session, one by one.

    Answers that were under way are of the old link and are thrown away.
    """
    data = [pattern(1000 + number, BLOCK) for number in range(count)]
    for number, octets in enumerate(data):
        ra = client.buffer_ra + number * BLOCK
        client.memory.write(ra, octets)
        client.ring.post(client.entry(), BWRITE, ABSOLUTE, 40 + number, BLOCK, client.export(ra, BLOCK, CR))
        client.ring.announce(client.next_entry - 1)
    link.reset()
    link.discard_data()
    link.cross_handshake(RDX_WITH_ACKID)
    client = session(link, client.memory, "7e 57 1d 00")
    for number, octets in enumerate(data):
        write(client, "a write sent again", 40 + number, octets, answered=BLOCK)
        image.model[(40 + number) * BLOCK : (41 + number) * BLOCK] = octets
    image.check("after all were sent again")
    return client


def converse(link: Link[Channel], memory: Memory, image: Image) -> None:
    """The whole life of the client, six sessions long."""
    for page in range(RING_PAGES):
        memory.map_page(RING_SLOT + page, RING_RA + page * PAGE, CR | CW | R | W)
    link.stale = DIRT
    link.cross_handshake(RDX_WITH_ACKID)
    refused_version(link, "00 00 00 01")
    link.cross_handshake(RDX_WITH_ACKID)
    client = session(link, memory, "00 00 00 02", MAXPHYS)
    discover(client)
    everything(client, image, capacity=True)
    for _ in range(8):
        client.burst(image, 100)
    wrong_number(client)
    client = session(link, memory, "ff ff ff fe")
    client.burst(image, 3)
    not_ready(client)
    link.expect_reset()
    link.answer_handshake()
    client = session(link, memory, "12 34 56 78")
    client.burst(image, 3)
    client = resubmitted(client, image, link, 9)
    client.burst(image, 3)
    close(client)
    image.check("at the end")
    if link.channel.resets != 1:
        raise Mismatch(f"{link.channel.resets} resets of the channel, where one was due")


if __name__ == "__main__":
    runner.main(converse, size=SIZE, slots=SLOTS, link=Link)
