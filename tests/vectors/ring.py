"""A descriptor ring written by hand, one DRING_DATA message per descriptor.

Ring entry: dstate, ack flag and six reserved octets, then req_id (8), operation, slice, two reserved,
status (4), addr (8, blocks), nbytes (8), ncookies (4), four reserved, and cookies of 16 octets: 48 octets
and the cookies. Sources: Solaris ``sys/vio_common.h`` (``vio_dring_entry_hdr_t``), ``sys/vdsk_common.h``
(``vd_dring_payload_t``), ``sys/vio_mailbox.h`` (``vio_dring_msg_t``), ``vds.c`` (``vd_mark_elem_done``);
Linux ``asm/vio.h``.
"""

import struct
from collections.abc import Sequence

from tests.vectors.link import Link
from tests.vectors.memory import Cookie, Memory
from tests.vectors.octets import compare
from tests.vectors.rendezvous import Channel

FREE, READY, ACCEPTED, DONE = 1, 2, 3, 4


class Ring:
    """``count`` entries of ``stride`` octets at real address ``ra`` of ``memory``."""

    def __init__(
        self, link: Link[Channel], memory: Memory, ra: int, count: int, stride: int, *, reserved: int = 0
    ) -> None:
        """``reserved`` fills the reserved octets of entries and messages, and the state that nobody sets."""
        self.link = link
        self.memory = memory
        self.ra = ra
        self.count = count
        self.stride = stride
        self.sid = b""  # of the session, four octets
        self.ident = 1  # what the server gave the ring; Solaris vds says 1 always
        self.ack_flag = 0x80  # a bit-field, from the top: Solaris, OpenBSD. Linux writes 0x01
        self.reserved = reserved
        self.proc_state = reserved  # no disk client sets it, and the server echoes it
        self.seq = 1
        self.entries: dict[int, bytes] = {}
        for index in range(count):
            memory.write(ra + index * stride, bytes([FREE]) + bytes([self.reserved]) * (stride - 1))

    def post(
        self,
        index: int,
        operation: int,
        part: int,
        addr: int,
        nbytes: int,
        cookies: Sequence[Cookie],
        *,
        req_id: int = 0,
        ncookies: int | None = None,
    ) -> None:
        """Fill the entry and make it READY; ``ncookies``, if given, is a stale number.

        Cookies beyond those of this request stay as an earlier one left them, as in every driver.
        """
        dirty = bytes([self.reserved])
        entry = bytes([FREE, self.ack_flag]) + dirty * 6
        entry += struct.pack(">QBB", req_id, operation, part) + dirty * 2
        entry += struct.pack(">IQQ", 0xFFFFFFFF, addr, nbytes)
        entry += struct.pack(">I", len(cookies) if ncookies is None else ncookies) + dirty * 4
        entry += b"".join(struct.pack(">QQ", *cookie) for cookie in cookies)
        at = self.ra + index * self.stride
        entry += self.memory.read(at + len(entry), self.stride - len(entry))
        self.memory.write(at, entry)
        self.memory.write(at, bytes([READY]))
        self.entries[index] = entry

    def message(self, subtype: int, seq: int, start: int, end: int, reserved: int) -> bytes:
        """A DRING_DATA message, 56 octets; subtype INFO 1, ACK 2 or NACK 4."""
        octets = struct.pack(">BBH", 0x02, subtype, 0x0042) + self.sid  # DATA, env DRING_DATA
        octets += struct.pack(">QQIi", seq, self.ident, start, end)
        return octets + bytes([self.proc_state]) + bytes([reserved]) * 23

    def announce(self, start: int, end: int | None = None) -> int:
        """Tell the server of the entries ``start`` to ``end``; the number of the message."""
        seq = self.seq
        self.link.send(self.message(1, seq, start, start if end is None else end, self.reserved))
        self.seq = (self.seq + 1) & 0xFFFF_FFFF_FFFF_FFFF
        return seq

    def expect_ack(self, what: str, seq: int, start: int, end: int | None = None) -> None:
        """The server's ACK: everything echoed, reserved octets zero."""
        self.link.expect(f"{what}: ACK", self.message(2, seq, start, start if end is None else end, 0))

    def expect_nack(self, what: str, seq: int, start: int, end: int) -> None:
        """The server's NACK: a fault of the transport, not of the disk."""
        self.link.expect(f"{what}: NACK", self.message(4, seq, start, end, 0))

    def reap(self, what: str, index: int, status: int, nbytes: int) -> None:
        """Free the entry; it must be DONE, with this ``status`` and ``nbytes``, otherwise as we wrote it."""
        at = self.ra + index * self.stride
        expected = bytearray(self.entries.pop(index))
        expected[0] = DONE
        expected[20:24] = struct.pack(">I", status)
        expected[32:40] = struct.pack(">Q", nbytes)
        compare(f"{what}: entry {index}", self.memory.read(at, self.stride), bytes(expected))
        self.memory.write(at, bytes([FREE]))
