"""The way to a server and the records beside the LDC packets, typed from ``docs/transport.md``.

A datagram of exactly 64 octets is an LDC packet, any other a record: type (2), flags (2), length (4), then
its fields. A foreign peer offers no extension, so three records are all it meets after the rendezvous:
QUEUE_CONFIGURED, and on the socket transport COPY, which it serves by itself, and COPY_DONE, with which it
answers.
"""

import array
import socket
import struct

from tests.vectors.memory import CR, CW, Memory
from tests.vectors.octets import Mismatch, compare, raw

HELLO, ANSWER, QUEUE_CONFIGURED, MAP_TABLE, COPY, COPY_DONE = 1, 2, 3, 4, 5, 6
MAGIC = raw("4c 44 6f 6d")  # LDom
TRANSPORT = {"shm": 1, "socket": 2}
QUEUE_ENTRIES = 512
PATIENCE_S = 30  # a server that says nothing for so long has failed


class Channel:
    """One connection: LDC packets out and in, records handled on the way."""

    def __init__(self, path: str, volume: str, memory: Memory) -> None:
        """Connect, be welcomed, register the map table and the receive queue."""
        self.path = path
        self.volume = volume
        self.memory = memory
        self.copies = 0
        self.resets = 0  # times the server configured its queue after the first
        self._configured = False
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(path)
        self._greet(volume)
        self._send_record(MAP_TABLE, struct.pack(">I4xQ", memory.slots, 0))
        self.configure_queue()

    def _greet(self, volume: str) -> None:
        shared = self.memory.fd is not None
        name = volume.encode()
        body = MAGIC + struct.pack(">HHHH", 1, 0, TRANSPORT["shm" if shared else "socket"], len(name))
        body += struct.pack(">IQ", 0, self.memory.size if shared else 0)  # no extensions
        body += raw("f0 e1 d2 c3 b4 a5 96 87 78 69 5a 4b 3c 2d 1e 0f")  # client id
        body += raw("00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff")  # secret
        self._send_record(HELLO, body + name, [self.memory.fd] if self.memory.fd is not None else [])
        answer = self.sock.recv(4096)
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

    def _send_record(self, kind: int, body: bytes, fds: list[int] | None = None) -> None:
        record = struct.pack(">HHI", kind, 0, 8 + len(body)) + body
        if len(record) == 64:
            record += bytes(8)  # it would pass for a packet
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([record], rights)

    def configure_queue(self) -> None:
        """Say that the receive queue was (re)configured."""
        self._send_record(QUEUE_CONFIGURED, struct.pack(">I4x", QUEUE_ENTRIES))

    def send_packet(self, packet: bytes) -> None:
        """Send one LDC packet of 64 octets."""
        self.sock.sendall(packet)

    def receive_packet(self) -> bytes:
        """The next LDC packet; records that come before it are served.

        Raises: Mismatch (a record that has no place here, the end of the connection); TimeoutError.
        """
        while True:
            datagram = self.sock.recv(65536)
            if len(datagram) == 64:
                return datagram
            self._serve(datagram)

    def receive_reset(self) -> None:
        """Wait until the server has reconfigured its queue: the link state RESET."""
        before = self.resets
        while self.resets == before:
            datagram = self.sock.recv(65536)
            if len(datagram) == 64:
                raise Mismatch(f"a packet where a reset was due: {datagram.hex(' ')}")
            self._serve(datagram)

    def _serve(self, record: bytes) -> None:
        if not record:
            raise Mismatch("the server hung up")
        if len(record) < 8:
            raise Mismatch(f"record of {len(record)} octets")
        kind, flags, length = struct.unpack_from(">HHI", record)
        compare("padding of a record", record[length:], bytes(8) if length == 64 else b"")
        if flags:
            raise Mismatch(f"record {kind} with flags {flags:#x}")
        if kind == QUEUE_CONFIGURED:
            self._peer_queue(record)
        elif kind == COPY:
            self._copy(record[:length])
        else:
            raise Mismatch(f"record of type {kind}: {record[:64].hex(' ')}")

    def _peer_queue(self, record: bytes) -> None:
        compare("QUEUE_CONFIGURED", record[:8] + record[12:], raw("00 03 00 00  00 00 00 10  00 00 00 00"))
        (entries,) = struct.unpack_from(">I", record, 8)
        if entries < 2 or entries & (entries - 1):
            raise Mismatch(f"a queue of {entries} entries")
        self.resets += self._configured
        self._configured = True

    def _copy(self, record: bytes) -> None:
        """Serve a COPY as the hypervisor would: at most to the end of the page, the peer loops."""
        if self.memory.fd is not None:
            raise Mismatch("COPY on the shared memory transport")
        ident, direction, cookie, nbytes, reserved = struct.unpack_from(">IIQI4s", record, 8)
        compare("COPY: reserved", reserved, bytes(4))
        if direction not in (0, 1) or (cookie | nbytes) & 7 or not nbytes:
            raise Mismatch(f"COPY in direction {direction} of {nbytes} at {cookie:#x}")
        if len(record) != 32 + (nbytes if direction else 0):
            raise Mismatch(f"COPY of {nbytes} in direction {direction} with {len(record)} octets")
        self.copies += 1
        status, ra, length = self.memory.resolve(cookie, nbytes, CW if direction else CR)
        data = b""
        if direction:
            self.memory.write(ra, record[32 : 32 + length])
        else:
            data = self.memory.read(ra, length)
        self._send_record(COPY_DONE, struct.pack(">III4x", ident, status, length) + data)

    def again(self) -> "Channel":
        """Hang up and connect anew, as the same client."""
        self.close()
        channel = Channel(self.path, self.volume, self.memory)
        channel.copies = self.copies
        return channel

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
