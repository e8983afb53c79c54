"""A client's way to a server, typed from ``docs/transport.md``.

A foreign peer offers no extension, so two records are all it meets after the rendezvous: QUEUE_CONFIGURED,
and on the socket transport COPY, which it serves by itself and answers with COPY_DONE.
"""

import struct

from tests.vectors.memory import CR, CW, Memory
from tests.vectors.octets import Mismatch, compare, raw
from tests.vectors.records import (
    COPY,
    COPY_DONE,
    HELLO,
    IN,
    MAGIC,
    MAP_TABLE,
    OUT,
    TRANSPORT,
    Connection,
    HungUp,
    open_socket,
)

QUEUE_ENTRIES = 512  # as Solaris; Linux has 128, OpenBSD 32


class Channel(Connection):
    """One connection: LDC packets out and in, COPYs served on the way."""

    def __init__(self, path: str, volume: str, memory: Memory, queue_entries: int = QUEUE_ENTRIES) -> None:
        """Connect, be welcomed, register the map table and the receive queue."""
        super().__init__(open_socket(), queue_entries)
        self.path = path
        self.volume = volume
        self.memory = memory
        self.sock.connect(path)
        self._greet(volume)
        self.send_record(MAP_TABLE, struct.pack(">I4xQ", memory.slots, 0))
        self.configure_queue()

    def _greet(self, volume: str) -> None:
        shared = self.memory.fd is not None
        name = volume.encode()
        body = MAGIC + struct.pack(">HHHH", 1, 0, TRANSPORT["shm" if shared else "socket"], len(name))
        body += struct.pack(">IQ", 0, self.memory.size if shared else 0)  # no extensions
        body += raw("f0 e1 d2 c3 b4 a5 96 87 78 69 5a 4b 3c 2d 1e 0f")  # client id
        body += raw("00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff")  # secret
        self.send_record(HELLO, body + name, [self.memory.fd] if self.memory.fd is not None else [])
        answer = self.sock.recv(4096)
        if not answer:
            raise HungUp("no answer to the hello")
        if len(answer) < 72:
            raise Mismatch(f"answer of {len(answer)} octets: {answer.hex(' ')}")
        status = answer[16:20]
        if any(status):
            raise Mismatch(
                f"refused with {int.from_bytes(status, 'big')}: {answer[72:].decode(errors='replace')}"
            )
        # type, flags, length, magic, version 1.0, no error, no extensions;
        # the server's poll_us; no sentence; the volume's instance; 24 reserved
        expected = raw("00 02 00 00  00 00 00 48  4c 44 6f 6d  00 01 00 00  00 00 00 00  00 00 00 00")
        expected += answer[24:28] + bytes(4) + answer[32:48] + bytes(24)
        compare("answer", answer, expected)

    def serve(self, kind: int, body: bytes) -> None:
        """Serve a COPY as the hypervisor would: at most to the end of the page, the peer loops."""
        if kind != COPY:
            raise Mismatch(f"record of type {kind}: {body[:64].hex(' ')}")
        if self.memory.fd is not None:
            raise Mismatch("COPY on the shared memory transport")
        ident, direction, cookie, nbytes, reserved = struct.unpack_from(">IIQI4s", body)
        compare("COPY: reserved", reserved, bytes(4))
        if direction not in (IN, OUT) or (cookie | nbytes) & 7 or not nbytes:
            raise Mismatch(f"COPY in direction {direction} of {nbytes} at {cookie:#x}")
        if len(body) != 24 + (nbytes if direction == OUT else 0):
            raise Mismatch(f"COPY of {nbytes} in direction {direction} with {len(body)} octets")
        self.copies += 1
        status, ra, length = self.memory.resolve(cookie, nbytes, CW if direction == OUT else CR)
        data = b""
        if direction == OUT:
            self.memory.write(ra, body[24 : 24 + length])
        else:
            data = self.memory.read(ra, length)
        self.send_record(COPY_DONE, struct.pack(">III4x", ident, status, length) + data)

    def again(self) -> "Channel":
        """Hang up and connect anew, as the same client."""
        self.close()
        channel = Channel(self.path, self.volume, self.memory, self.queue_entries)
        channel.copies = self.copies
        return channel
