"""An NBD client of raw bytes, typed from the protocol's text; it shares no line with the server under test.

Source: NetworkBlockDevice ``doc/proto.md``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path
from typing import NamedTuple

__all__ = ["Answer", "Chunk", "NbdClient", "OptionReply", "option", "request", "string"]

IHAVEOPT = b"IHAVEOPT"
OPTION_REPLY_MAGIC = bytes.fromhex("0003e889045565a9")
REQUEST_MAGIC = bytes.fromhex("25609513")
SIMPLE_MAGIC = bytes.fromhex("67446698")
CHUNK_MAGIC = bytes.fromhex("668e33ef")

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY, LIST_META, SET_META = (
    1,
    2,
    3,
    5,
    6,
    7,
    8,
    9,
    10,
)
ACK, SERVER, REP_INFO = 1, 2, 3
ERR_UNSUP, ERR_INVALID, ERR_UNKNOWN, ERR_TOO_BIG = 0x80000001, 0x80000003, 0x80000006, 0x80000009


class OptionReply(NamedTuple):
    """One reply to an option."""

    option: int
    kind: int
    data: bytes


class Chunk(NamedTuple):
    """One structured reply."""

    flags: int
    kind: int
    cookie: int
    data: bytes


class Answer(NamedTuple):
    """One simple reply, without the data that follows a read's."""

    error: int
    cookie: int


def string(text: str | bytes) -> bytes:
    """A counted string."""
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(4, "big") + raw


def option(number: int, data: bytes = b"") -> bytes:
    """An option as it goes over the wire."""
    return IHAVEOPT + struct.pack(">II", number, len(data)) + data


def request(
    command: int, cookie: int, offset: int = 0, length: int = 0, *, flags: int = 0, data: bytes = b""
) -> bytes:
    """A request as it goes over the wire."""
    return REQUEST_MAGIC + struct.pack(">HHQQI", flags, command, cookie, offset, length) + data


class NbdClient:
    """A connection to the NBD server at ``path``; every method does exactly what its name says."""

    def __init__(self, path: str | Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self._path = str(path)
        self._loop = asyncio.get_running_loop()

    async def connect(self) -> NbdClient:
        """Connect, and take the server's greeting."""
        await self._loop.sock_connect(self.sock, self._path)
        greeting = await self.receive(18)
        assert greeting == b"NBDMAGIC" + IHAVEOPT + b"\0\3"
        return self

    async def negotiate(self, *, structured: bool = False, name: str = "") -> NbdClient:
        """Connect, and agree on the export, with or without structured replies."""
        await self.connect()
        await self.send((3).to_bytes(4, "big"))
        if structured:
            await self.send(option(STRUCTURED_REPLY))
            assert await self.option_reply() == (STRUCTURED_REPLY, ACK, b"")
        await self.send(option(GO, string(name) + b"\0\0"))
        kind, flags_and_size = (await self.option_reply())[1:]
        assert kind == REP_INFO
        self.size, self.flags = struct.unpack(">QH", flags_and_size[2:])
        assert await self.option_reply() == (GO, ACK, b"")
        return self

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        await self._loop.sock_sendall(self.sock, data)

    async def receive(self, nbytes: int) -> bytes:
        """Exactly ``nbytes``. Raises: EOFError (what came before)."""
        data = bytearray(nbytes)
        missing = memoryview(data)
        while missing:
            count = await self._loop.sock_recv_into(self.sock, missing)
            if not count:
                raise EOFError(bytes(data[: nbytes - len(missing)]))
            missing = missing[count:]
        return bytes(data)

    async def is_closed(self) -> bool:
        """Wait for the server to hang up; False if it says something instead."""
        try:
            return await self._loop.sock_recv(self.sock, 1) == b""
        except ConnectionResetError:  # it left data of ours unread
            return True

    async def option_reply(self) -> OptionReply:
        """The next reply to an option."""
        assert await self.receive(8) == OPTION_REPLY_MAGIC
        number, kind, length = struct.unpack(">III", await self.receive(12))
        return OptionReply(number, kind, await self.receive(length))

    async def answer(self) -> Answer:
        """The next simple reply."""
        assert await self.receive(4) == SIMPLE_MAGIC
        return Answer(*struct.unpack(">IQ", await self.receive(12)))

    async def chunk(self) -> Chunk:
        """The next structured reply."""
        assert await self.receive(4) == CHUNK_MAGIC
        flags, kind, cookie, length = struct.unpack(">HHQI", await self.receive(16))
        return Chunk(flags, kind, cookie, await self.receive(length))

    async def read(self, offset: int, length: int) -> bytes:
        """Read without structured replies, nothing else being in flight."""
        await self.send(request(READ, 77, offset, length))
        assert await self.answer() == (0, 77)
        return await self.receive(length)

    async def __aenter__(self) -> NbdClient:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.sock.close()
