"""A server's end of the rendezvous and of a connection, typed from ``docs/transport.md``.

The server agrees to no extension and never polls. What the client exports it reaches as a hypervisor lets
it: through the client's map table, a page at a time, in memory that the client passed or by COPY records.
"""

import fcntl
import mmap
import os
import socket
import struct
from abc import ABC, abstractmethod
from itertools import pairwise

from tests.vectors.memory import CR, CW, EOK, PAGE, SLOT, resolve
from tests.vectors.octets import Mismatch, compare, raw
from tests.vectors.records import (
    ANSWER,
    COPY,
    COPY_DONE,
    IN,
    MAGIC,
    MAP_TABLE,
    OUT,
    PATIENCE_S,
    TRANSPORT,
    Connection,
    HungUp,
)

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
INSTANCE = raw("0f 1e 2d 3c 4b 5a 69 78 87 96 a5 b4 c3 d2 e1 f0")  # the same contents, whoever serves them


class Guest(ABC):
    """The memory of a client, as far as its map table lets a server at it."""

    def __init__(self) -> None:
        self.slots = 0
        self.table = 0

    @abstractmethod
    def copy_in(self, cookie: int, nbytes: int) -> bytes:
        """``nbytes`` octets at a cookie address; needs CR on every page."""

    @abstractmethod
    def copy_out(self, cookie: int, octets: bytes) -> None:
        """Put ``octets`` at a cookie address; needs CW on every page."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


class MappedGuest(Guest):
    """Memory that came with the hello, mapped."""

    def __init__(self, fd: int, size: int) -> None:
        super().__init__()
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise Mismatch("the memory is not sealed")
        if os.fstat(fd).st_size != size or size % PAGE or not 16384 <= size <= 64 << 20:
            raise Mismatch(f"memory of {os.fstat(fd).st_size} octets, {size} announced")
        self.octets = mmap.mmap(fd, size)
        self._mapped: list[memoryview] = []
        os.close(fd)

    def _pieces(self, cookie: int, nbytes: int, permission: int) -> list[slice]:
        """Where ``nbytes`` at a cookie address lie, by the map table as it is now."""
        pieces = []
        while nbytes:
            status, ra, length = resolve(self.octets, self.table, self.slots, cookie, nbytes, permission)
            if status != EOK:
                raise Mismatch(f"cookie {cookie:#x}, permission {permission:#x}: hypervisor status {status}")
            at = self.table + cookie // PAGE * SLOT
            slot = self.octets[at : at + SLOT]
            compare(
                "map table slot: reserved bits", bytes([slot[0], slot[6] & 0x18, slot[7] & 0xF]), bytes(3)
            )
            compare("map table slot: revocation cookie", slot[8:], bytes(8))
            if ra + length > len(self.octets):
                raise Mismatch(f"real address {ra:#x} is not in the memory")
            pieces.append(slice(ra, ra + length))
            cookie, nbytes = cookie + length, nbytes - length
        return pieces

    def copy_in(self, cookie: int, nbytes: int) -> bytes:
        return b"".join(self.octets[piece] for piece in self._pieces(cookie, nbytes, CR))

    def copy_out(self, cookie: int, octets: bytes) -> None:
        """The first word of a piece goes last: it may be a ring entry's state, which the client looks at."""
        for piece in self._pieces(cookie, len(octets), CW):
            word = piece.start + 8
            length = piece.stop - piece.start
            self.octets[word : piece.stop] = octets[8:length]
            self.octets[piece.start : word] = octets[:8]
            octets = octets[length:]

    def map(self, cookie: int, nbytes: int, permission: int) -> memoryview:
        """Map an area that lies in one piece, as a ring does."""
        pieces = self._pieces(cookie, nbytes, permission)
        for before, after in pairwise(pieces):
            if before.stop != after.start:
                raise Mismatch(f"the area at {cookie:#x} is in pieces")
        with memoryview(self.octets) as octets:
            self._mapped.append(octets[pieces[0].start : pieces[-1].stop])
        return self._mapped[-1]

    def close(self) -> None:
        for area in self._mapped:
            area.release()
        self.octets.close()


class CopiedGuest(Guest):
    """Memory of the client's own, reached by COPY records: never across a page, as a hypervisor copies."""

    def __init__(self, channel: "ServerChannel") -> None:
        super().__init__()
        self.channel = channel

    def copy_in(self, cookie: int, nbytes: int) -> bytes:
        octets = b""
        while len(octets) < nbytes:
            length = min(nbytes - len(octets), PAGE - cookie % PAGE)
            copied = self.channel.copy(IN, cookie, length)
            octets += copied
            cookie += len(copied)
        return octets

    def copy_out(self, cookie: int, octets: bytes) -> None:
        while octets:
            piece = octets[: PAGE - cookie % PAGE]
            length = int.from_bytes(self.channel.copy(OUT, cookie, len(piece), piece), "big")
            cookie, octets = cookie + length, octets[length:]

    def close(self) -> None:
        pass


class ServerChannel(Connection):
    """One client's connection, from the go-ahead on."""

    def __init__(self, sock: socket.socket, queue_entries: int, hello: bytes, fds: list[int]) -> None:
        super().__init__(sock, queue_entries)
        self.client = hello[32:64]  # id and secret
        self._copied: bytes | None = None
        size = int.from_bytes(hello[24:32], "big")
        self.guest: Guest = MappedGuest(fds[0], size) if fds else CopiedGuest(self)

    def serve(self, kind: int, body: bytes) -> None:
        """Take MAP_TABLE and COPY_DONE."""
        if kind == MAP_TABLE:
            slots, reserved, base = struct.unpack(">I4sQ", body)
            compare("MAP_TABLE: reserved", reserved, bytes(4))
            if slots < 2 or slots & (slots - 1) or base % 64:
                raise Mismatch(f"a map table of {slots} slots at {base:#x}")
            self.guest.slots, self.guest.table = slots, base
        elif kind == COPY_DONE and self._copied is None and self.copies:
            self._copied = body
        else:
            raise Mismatch(f"record of type {kind}: {body[:64].hex(' ')}")

    def copy(self, direction: int, cookie: int, nbytes: int, octets: bytes = b"") -> bytes:
        """One COPY: the octets read, or how many were written, as four octets; perhaps fewer than asked."""
        self.copies += 1
        self._copied = None
        body = struct.pack(">IIQI4x", self.copies, direction, cookie, nbytes)
        self.send_record(COPY, body + octets)
        answer = self._answer()
        ident, status, copied, reserved = struct.unpack_from(">III4s", answer)
        if (ident, status, reserved) != (self.copies, EOK, bytes(4)):
            raise Mismatch(f"COPY {self.copies} of {nbytes} at {cookie:#x}: {answer[:16].hex(' ')}")
        if not 0 < copied <= nbytes or copied % 8 or len(answer) != 16 + (copied if direction == IN else 0):
            raise Mismatch(f"COPY of {nbytes}: {copied} copied, an answer of {len(answer)} octets")
        return answer[16:] if direction == IN else answer[8:12]

    def _answer(self) -> bytes:
        """Wait for the COPY_DONE of a COPY; packets that come before it wait in the queue."""
        while self._copied is None:
            self.pump()
        return self._copied

    def close(self) -> None:
        """Hang up and let go of the client's memory."""
        super().close()
        self.guest.close()


class Listener:
    """The socket that clients of one volume connect to."""

    def __init__(self, path: str, volume: str, transport: str) -> None:
        self.volume = volume.encode()
        self.transport = TRANSPORT[transport]
        self.clients: dict[bytes, bytes] = {}  # id to secret
        if os.path.exists(path):
            os.unlink(path)  # of a server that was killed
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.bind(path)
        self.sock.listen(16)

    def accept(self, queue_entries: int) -> ServerChannel:
        """Wait for a client, look at its hello, and let it in. Raises: Mismatch; HungUp."""
        sock, _ = self.sock.accept()
        sock.settimeout(PATIENCE_S)
        hello, fds, flags, _ = socket.recv_fds(sock, 65536, 4)
        if not hello:
            sock.close()
            raise HungUp("no hello")
        self._check(hello, fds, flags)
        channel = ServerChannel(sock, queue_entries, hello, fds)
        # type, flags, length, magic, version 1.0, no error, no extensions, never polls, no sentence, reserved
        answer = raw("00 01 00 00  00 00 00 00  00 00 00 00  00 00 00 00  00 00 00 00")
        channel.send_record(ANSWER, MAGIC + answer + INSTANCE + bytes(24))
        return channel

    def _check(self, hello: bytes, fds: list[int], flags: int) -> None:
        """Every octet of a hello."""
        name = hello[64:]
        kind = raw("00 01 00 00") + struct.pack(">I", 64 + len(name))
        shared = self.transport == TRANSPORT["shm"]
        head = kind + MAGIC + struct.pack(">HHHH", 1, 0, self.transport, len(name))
        compare("HELLO", hello[:20], head)
        compare("HELLO: volume", name, self.volume)
        if len(fds) != shared or flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise Mismatch(f"{len(fds)} descriptors with a hello for transport {self.transport}")
        if not shared:
            compare("HELLO: memory_size", hello[24:32], bytes(8))
        client, secret = hello[32:48], hello[48:64]
        if not any(client) or not any(secret):
            raise Mismatch("a client without id or secret")
        compare("HELLO: secret of a client that returns", secret, self.clients.setdefault(client, secret))
