"""A client that breaks one rule at a time, each on a connection of its own, and sees how it is taken.

After a NACK comes one of two: a soft reset, where the session is forgotten and the link stays, so that the
next VER_INFO is answered at once; or a full one, where the server resets the channel too. The answer is the
message itself with its subtype changed. Sources: Solaris ``vds.c`` (``vd_process_msg``: which errors do
what; ``vd_process_ver_msg``, ``_attr_msg``, ``_dring_reg_msg``, ``_dring_unreg_msg``, ``_dring_msg``,
``vd_process_element``), ``ldc.c`` (``i_ldc_check_seqid``, ``i_ldc_rx_process_hvq``); what this server
takes more strictly: ``docs/choices.md``.

Run: ``python -m tests.vectors.client_faults --help``.
"""

import struct
from collections.abc import Callable

from tests.vectors import runner
from tests.vectors.link import Link
from tests.vectors.memory import CR, CW, PAGE, Memory, R, W
from tests.vectors.octets import raw
from tests.vectors.rendezvous import Channel
from tests.vectors.ring import Ring
from tests.vectors.scenario import ABSOLUTE, BLOCK, BREAD, BWRITE, Image

SLOTS = 512
RING_RA = PAGE
BUFFER_RA = 2 * PAGE
SIZE = BUFFER_RA + 2 * PAGE
BUFFER_SLOT = 8

SID = "0b ad 1d ea"
OTHER_SID = "0b ad 1d eb"
ACK, NACK = "02", "04"
SHAPE = "00 00 00 20  00 00 00 b0  00 03 00 00  00 00 00 01"  # 32 of 176, TX and RX, one cookie
COOKIE = "00 00 00 00 00 00 20 00  00 00 00 00 00 00 16 00"  # slot 1; 32 * 176


def version(subtype: str, number: str = "00 01 00 01", device: str = "03", sid: str = SID) -> bytes:
    """VER_INFO."""
    return raw(f"01 {subtype} 00 01 {sid} {number} {device}", 56)


def wish(subtype: str, mode: str = "03", largest: str = "80", sid: str = SID) -> bytes:
    """ATTR_INFO as a client sends it."""
    return raw(f"01 {subtype} 00 02 {sid} {mode} 00 00 00  00 00 02 00" + "00" * 23 + largest, 56)


def attributes(mode: str = "03", phys_block_size: str = "") -> bytes:
    """The ACK of ATTR_INFO."""
    disk = "02 01 00  00 00 02 00  00 00 00 00 00 02 01 0e  00 00 00 00 00 00 18 03"
    return raw(f"01 02 00 02 {SID} {mode} {disk}" + runner.MAX_XFER + phys_block_size, 56)


def registration(subtype: str, shape: str = SHAPE, cookie: str = COOKIE, ident: str = "00") -> bytes:
    """DRING_REG."""
    return raw(f"01 {subtype} 00 03 {SID} 00 00 00 00 00 00 00 {ident} {shape} {cookie}")


def short(subtype: str, envelope: str) -> bytes:
    """DRING_UNREG (of ring 0) or RDX."""
    return raw(f"01 {subtype} 00 {envelope} {SID}", 56)


class Session:
    """One connection, brought as far as a case wants it."""

    def __init__(self, link: Link[Channel], memory: Memory) -> None:
        self.link = link
        self.memory = memory
        for slot in range(SLOTS):
            memory.unmap(slot)
        memory.map_page(1, RING_RA, CR | CW | R | W)
        link.answer_handshake()

    def begin(self) -> None:
        """As far as the version."""
        self.refuse(version("01"), version(ACK, device="04"))

    def agree(self) -> None:
        """As far as the attributes."""
        self.begin()
        self.refuse(wish("01"), attributes())

    def register(self) -> None:
        """As far as the ring."""
        self.agree()
        self.refuse(registration("01"), registration(ACK, ident="01"))

    def run(self) -> Ring:
        """As far as data."""
        self.register()
        self.refuse(short("01", "05"), short(ACK, "05"))
        ring = Ring(self.link, self.memory, RING_RA, count=32, stride=176)
        ring.sid = bytes.fromhex(SID)
        return ring

    def refuse(self, message: bytes, answer: bytes) -> None:
        """Send ``message`` and expect exactly ``answer``."""
        self.link.send(message)
        self.link.expect(f"answer to {message[:12].hex(' ')}", answer)

    def soft(self) -> None:
        """The link must have stayed up, and the session be forgotten."""
        self.begin()

    def full(self) -> None:
        """The channel must be reset, and come back."""
        self.link.expect_reset()
        self.link.answer_handshake()
        self.begin()


Case = Callable[[Session], None]


def attributes_before_version(session: Session) -> None:
    session.refuse(wish("01"), wish(NACK))
    session.soft()


def network_client(session: Session) -> None:
    session.refuse(version("01", device="01"), version(NACK, device="01"))
    session.soft()


def version_too_old(session: Session) -> None:
    session.refuse(version("01", "00 00 00 09"), version(NACK, "00 00 00 00", device="04"))
    session.soft()


def minor_too_new(session: Session) -> None:
    session.refuse(version("01", "00 01 00 06"), version(ACK, "00 01 00 02", device="04"))
    session.refuse(wish("01", mode="04"), attributes("04", runner.PHYS_BLOCK_SIZE))


def another_session_id(session: Session) -> None:
    session.begin()
    session.refuse(wish("01", sid=OTHER_SID), wish(NACK, sid=OTHER_SID))
    session.soft()


def nothing_to_transfer(session: Session) -> None:
    session.begin()
    session.refuse(wish("01", largest="00"), wish(NACK, largest="00"))
    session.soft()


def packet_mode(session: Session) -> None:
    session.begin()
    session.refuse(wish("01", mode="01"), wish(NACK, mode="01"))
    session.soft()


def ring_of_1_2_at_1_1(session: Session) -> None:
    session.begin()
    session.refuse(wish("01", mode="04"), wish(NACK, mode="04"))
    session.soft()


def ready_without_ring(session: Session) -> None:
    session.agree()
    session.refuse(short("01", "05"), short(NACK, "05"))
    session.soft()


def entries_without_cookie(session: Session) -> None:
    session.agree()
    shape = "00 00 00 20  00 00 00 38  00 03 00 00  00 00 00 01"  # 56 octets
    session.refuse(registration("01", shape), registration(NACK, shape))
    session.soft()


def ring_of_nothing(session: Session) -> None:
    session.agree()
    shape = "00 00 00 00  00 00 00 b0  00 03 00 00  00 00 00 01"
    session.refuse(registration("01", shape), registration(NACK, shape))
    session.soft()


def ring_that_is_not_there(session: Session) -> None:
    missing_ring(session, "00 00 00 00 00 00 40 00")  # slot 2 is empty


def ring_beyond_the_table(session: Session) -> None:
    missing_ring(session, "00 00 00 00 00 40 00 00")  # slot 512 of 512


def missing_ring(session: Session, addr: str) -> None:
    """Shared memory is mapped at once; a shadow is filled when an entry is wanted, and finds out then.

    Source: Solaris ``ldc_shm.c``, ``ldc_mem_dring_map`` and ``i_ldc_mem_acquire_release``.
    """
    session.agree()
    cookie = f"{addr} 00 00 00 00 00 00 16 00"
    if session.memory.fd is not None:
        session.refuse(registration("01", cookie=cookie), registration(NACK, cookie=cookie))
    else:
        session.refuse(registration("01", cookie=cookie), registration(ACK, cookie=cookie, ident="01"))
        session.refuse(short("01", "05"), short(ACK, "05"))
        ring = Ring(session.link, session.memory, RING_RA, count=32, stride=176)
        ring.sid = bytes.fromhex(SID)
        ring.expect_nack("an entry of it", ring.announce(5), 5, 5)
    session.full()


def second_ring(session: Session) -> None:
    session.register()
    session.refuse(registration("01"), registration(NACK))
    session.soft()


def unregistration(session: Session) -> None:
    session.register()
    session.refuse(short("01", "04"), short(NACK, "04"))
    session.soft()


def index_beyond_the_ring(session: Session) -> None:
    ring = session.run()
    ring.expect_nack("index 32 of 32", ring.announce(32), 32, 32)
    session.full()


def open_end(session: Session) -> None:
    ring = session.run()
    ring.expect_nack("end -1", ring.announce(0, -1), 0, -1)
    session.full()


def another_ring(session: Session) -> None:
    ring = session.run()
    ring.ident = 2
    ring.expect_nack("ring 2", ring.announce(0), 0, 0)
    session.soft()


def no_permission(session: Session) -> None:
    ring = session.run()
    cookie = session.memory.map_range(BUFFER_SLOT, BUFFER_RA, BLOCK, CR)
    ring.post(3, BREAD, ABSOLUTE, 0, BLOCK, [(cookie, BLOCK)])
    ring.expect_nack("a read into a page that may be read only", ring.announce(3), 3, 3)
    session.full()


def page_revoked(session: Session) -> None:
    ring = session.run()
    ring.post(3, BWRITE, ABSOLUTE, 0, BLOCK, [(BUFFER_SLOT * PAGE, BLOCK)])
    ring.expect_nack("a write from a page that is not there", ring.announce(3), 3, 3)
    session.full()


def cookies_too_short(session: Session) -> None:
    ring = session.run()
    cookie = session.memory.map_range(BUFFER_SLOT, BUFFER_RA, BLOCK, CR | CW)
    ring.post(3, BWRITE, ABSOLUTE, 0, 2 * BLOCK, [(cookie, BLOCK)])
    ring.expect_nack("two blocks in a cookie of one", ring.announce(3), 3, 3)
    session.full()


def cookies_beyond_the_entry(session: Session) -> None:
    ring = session.run()
    ring.post(3, BREAD, ABSOLUTE, 0, BLOCK, [(BUFFER_SLOT * PAGE, BLOCK)], ncookies=9)  # room for 8
    ring.expect_nack("nine cookies in 176 octets", ring.announce(3), 3, 3)
    session.full()


def half_a_range(session: Session) -> None:
    """Two entries are served, the third is not READY: one NACK that names it."""
    ring = session.run()
    for index in (30, 31):
        cookie = session.memory.map_range(BUFFER_SLOT + index, BUFFER_RA, BLOCK, CW)
        ring.post(index, BREAD, ABSOLUTE, 0, BLOCK, [(cookie, BLOCK)])
    ring.expect_nack("the third of a range that wraps", ring.announce(30, 0), 30, 0)
    session.full()


def half_a_tag(session: Session) -> None:
    """A message without a whole tag cannot be answered."""
    session.begin()
    session.link.send(raw("01 01 00 02 0b ad 1d"))
    session.full()


def gap_in_the_packets(session: Session) -> None:
    """A packet is missing: a NACK of the packet's type, whose ackid is the last packet taken.

    We reset then, as every driver does; the server must be fit for a new handshake.
    """
    session.begin()
    link = session.link
    link.sent += 1
    link.send(wish("01"))
    nack = struct.pack(">BBBBIII", 0x02, 0x04, 0x00, 0x00, link.received + 1, 0, 1)  # DATA NACK
    link.expect_packet("NACK of a packet out of order", nack.ljust(64, b"\0"))
    link.reset()
    link.answer_handshake()
    session.begin()


CASES: tuple[Case, ...] = (
    attributes_before_version,
    network_client,
    version_too_old,
    minor_too_new,
    another_session_id,
    nothing_to_transfer,
    packet_mode,
    ring_of_1_2_at_1_1,
    ready_without_ring,
    entries_without_cookie,
    ring_of_nothing,
    ring_that_is_not_there,
    ring_beyond_the_table,
    second_ring,
    unregistration,
    index_beyond_the_ring,
    open_end,
    another_ring,
    no_permission,
    page_revoked,
    cookies_too_short,
    cookies_beyond_the_entry,
    half_a_range,
    half_a_tag,
    gap_in_the_packets,
)


def converse(link: Link[Channel], memory: Memory, image: Image) -> None:
    """All cases, each on a connection of its own."""
    for case in CASES:
        with runner.naming(case.__name__):
            case(Session(link, memory))
        link.renew(link.channel.again())
    image.check("at the end")


if __name__ == "__main__":
    runner.main(converse, size=SIZE, slots=SLOTS, link=Link)
