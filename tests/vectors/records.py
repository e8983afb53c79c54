"""The datagrams of an established connection, typed from ``docs/transport.md``; both ends are built on it.

A datagram of exactly 64 octets is an LDC packet, any other a record: type (2), flags (2), length (4), then
its fields. What a hypervisor would keep for a domain is kept here: the receive queue, and the link state as
it was last asked for.
"""

import array
import select
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from tests.vectors.octets import Mismatch, compare, raw

HELLO, ANSWER, QUEUE_CONFIGURED, MAP_TABLE, COPY, COPY_DONE = 1, 2, 3, 4, 5, 6
MAGIC = raw("4c 44 6f 6d")  # LDom
TRANSPORT = {"shm": 1, "socket": 2}
IN, OUT = 0, 1  # directions of COPY, as whoever asks sees it
PATIENCE_S = 30  # a peer that says nothing for so long has failed

DOWN, UP, RESET = 0, 1, 2  # link states, numbered as the hypervisor does


class HungUp(Mismatch):
    """The peer closed the connection; a server awaits that, for a client it is a fault."""


def open_socket() -> socket.socket:
    """A socket of the kind that carries channels."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(PATIENCE_S)
    return sock


class Connection(ABC):
    """LDC packets and records, out and in; a subclass serves the records of its side."""

    def __init__(self, sock: socket.socket, queue_entries: int) -> None:
        self.sock = sock
        self.queue_entries = queue_entries  # what our side says of its receive queue
        self.queue: deque[bytes] = deque()  # packets received and not yet looked at
        self.copies = 0
        self.resets = 0  # times the peer configured its queue after the first
        self._peer = DOWN
        self._reset = False

    def send_record(self, kind: int, body: bytes, fds: Sequence[int] = ()) -> None:
        """Send a record."""
        record = struct.pack(">HHI", kind, 0, 8 + len(body)) + body
        if len(record) == 64:
            record += bytes(8)  # it would pass for a packet
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._send(record, rights)

    def send_packet(self, packet: bytes) -> None:
        """Send one LDC packet of 64 octets."""
        assert len(packet) == 64
        self._send(packet, [])

    def _send(self, datagram: bytes, rights: list[tuple[int, int, "array.array[int]"]]) -> None:
        try:
            self.sock.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise HungUp(f"the peer hung up: {error.strerror}") from error

    def configure_queue(self) -> None:
        """(Re)configure the receive queue: what was in it is gone, and the peer is told."""
        self.queue.clear()
        self.send_record(QUEUE_CONFIGURED, struct.pack(">I4x", self.queue_entries))

    def link_state(self) -> int:
        """What the hypervisor says of the peer's queue; RESET is said once."""
        reset, self._reset = self._reset, False
        return RESET if reset else self._peer

    def pump(self, *, wait: bool = True) -> bool:
        """Take one datagram: a packet into the queue, or a record, which is served.

        Returns whether there was one. Raises: HungUp; Mismatch (a record that has no place here).
        """
        if not wait and not select.select([self.sock], [], [], 0)[0]:
            return False
        try:
            datagram = self.sock.recv(65536)
        except ConnectionResetError as error:
            raise HungUp("the peer hung up with data unread") from error
        if len(datagram) == 64:
            self.queue.append(datagram)
        elif datagram:
            self._serve(datagram)
        else:
            raise HungUp("the peer hung up")
        return True

    def receive_packet(self) -> bytes:
        """The next LDC packet; records that come before it are served. Raises: as pump; TimeoutError."""
        while not self.queue:
            self.pump()
        return self.queue.popleft()

    def receive_reset(self) -> None:
        """Wait until the peer has reconfigured its queue: the link state RESET."""
        before = self.resets
        while self.resets == before:
            self.pump()
            if self.queue:
                raise Mismatch(f"a packet where a reset was due: {self.queue[0].hex(' ')}")

    def _serve(self, datagram: bytes) -> None:
        if len(datagram) < 16:
            raise Mismatch(f"record of {len(datagram)} octets")
        kind, flags, length = struct.unpack_from(">HHI", datagram)
        compare("padding of a record", datagram[length:], bytes(8) if length == 64 else b"")
        if flags:
            raise Mismatch(f"record {kind} with flags {flags:#x}")
        if kind == QUEUE_CONFIGURED:
            self._peer_queue(datagram)
        else:
            self.serve(kind, datagram[8:length])

    @abstractmethod
    def serve(self, kind: int, body: bytes) -> None:
        """Act on a record. Raises: Mismatch (it has no place here)."""

    def _peer_queue(self, record: bytes) -> None:
        compare("QUEUE_CONFIGURED", record[:8] + record[12:], raw("00 03 00 00  00 00 00 10  00 00 00 00"))
        (entries,) = struct.unpack_from(">I", record, 8)
        if entries < 2 or entries & (entries - 1):
            raise Mismatch(f"a queue of {entries} entries")
        self.resets += self._peer == UP
        self._reset = self._peer == UP
        self._peer = UP

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
