"""A client that can say anything at any moment, and sees exactly how it is taken; and a good one beside it.

:class:`Peer` is brought as far as a test wants it (:data:`STAGES`), by the book; from there on every
datagram, packet, message, ring entry and map table word is the test's. It hears messages, and :class:`Heard`
for what happens to its link and socket; nothing is skipped but the link's own handshake and, on the socket
transport, COPYs, which it serves unless told otherwise.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import vdc
from hypervisor.greeting import AnswerLayout, Hello, Transport, build_hello
from hypervisor.memory import LocalMemory
from hypervisor.records import Copy, MapTableRecord, Push, QueueRecord, Record, build_record, parse_record
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission
from protocol.ldc.events import LinkState, QueueConfigured
from protocol.stack.endpoint import Endpoint
from protocol.vdisk.descriptor import COOKIE, ENTRY, STATUS_UNSET
from protocol.vdisk.operations import SLICE_NONE
from protocol.vio.dring import Dstate, RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension
from tests.support.daemons import Daemon

__all__ = [
    "ALL",
    "DATA_SIZE",
    "RING",
    "ROOM",
    "SID",
    "STAGES",
    "GoodClient",
    "Heard",
    "Peer",
    "answered",
    "data",
    "descriptors",
    "nack",
    "octets",
    "rdx",
    "registration",
    "version",
    "wish",
]

PATIENCE_S: Final = 30.0
"""A server that says nothing for so long is wedged."""

TABLE_ENTRIES: Final = 1024
RING_AT: Final = TABLE_ENTRIES * 16
DATA_AT: Final = RING_AT + PAGE_SIZE
DATA_SIZE: Final = 4 * 1024 * 1024 + PAGE_SIZE
RING: Final = RingGeometry(num_descriptors=64, descriptor_size=128)
ROOM: Final = 5
"""Cookies that an entry of this ring has room for."""
ALL: Final = Permission.R | Permission.W | Permission.CR | Permission.CW
SID: Final = "0b ad 1d ea"

STAGES: Final = ("connected", "welcomed", "linked", "version", "attributes", "ring", "running")
"""How far a connection can be."""


class Heard(Enum):
    """What is heard besides messages."""

    UP = auto()  # the link came up
    RESET = auto()  # the server reset the channel
    CLOSED = auto()  # the server hung up
    REFUSED_RIGHTS = auto()  # the kernel does not pass descriptors to it


def octets(text: str, size: int = 56) -> bytes:
    """Hexadecimal ``text`` as bytes, zeroes behind it up to ``size``."""
    return bytes.fromhex(text).ljust(size, b"\0")


def version(minor: int = 1, *, major: int = 1, device: int = 3, sid: str = SID) -> bytes:
    """VER_INFO."""
    return octets(f"01 01 00 01 {sid} {major:04x} {minor:04x} {device:02x}")


def wish(*, mode: int = 3, blocks: int = 2048, sid: str = SID) -> bytes:
    """ATTR_INFO: what we would like."""
    return octets(f"01 01 00 02 {sid} {mode:02x} 00 00 00 00 00 02 00" + "00" * 16 + f"{blocks:016x}")


def registration(cookie: Cookie, ring: RingGeometry = RING, *, ncookies: int = 1, sid: str = SID) -> bytes:
    """DRING_REG: a ring at ``cookie``."""
    shape = f"{ring.num_descriptors:08x} {ring.descriptor_size:08x} 0003 0000 {ncookies:08x}"
    return octets(f"01 01 00 03 {sid} {'00' * 8} {shape} {cookie.addr:016x} {cookie.size:016x}", 48)


def rdx(*, sid: str = SID) -> bytes:
    """RDX: we are ready."""
    return octets(f"01 01 00 05 {sid}")


def data(
    seq_num: int, start: int, end: int | None = None, *, ident: int = 1, sid: str = SID, state: int = 0
) -> bytes:
    """DRING_DATA: entries ``start`` to ``end`` are ready."""
    last = (start if end is None else end) & 0xFFFFFFFF
    numbers = f"{seq_num & (2**64 - 1):016x} {ident:016x} {start & 0xFFFFFFFF:08x} {last:08x} {state:02x}"
    return octets(f"02 01 00 42 {sid} {numbers}")


def answered(message: bytes, subtype: int) -> bytes:
    """``message`` with another subtype: ACK 2, NACK 4."""
    return message[:1] + bytes([subtype]) + message[2:]


def nack(message: bytes) -> bytes:
    """The NACK of ``message``."""
    return answered(message, 4)


class _Line(Endpoint["bytes | Heard"]):
    """The link: messages and what befalls it become events."""

    _was_up = False

    def say(self, message: bytes) -> None:
        self._send(message)

    def _linked(self) -> None:
        self._was_up = True
        self._events.append(Heard.UP)

    def _unlinked(self, cause: str, full: bool) -> None:
        if self._was_up:
            self._events.append(Heard.RESET)
        self._was_up = False

    def _message(self, message: bytes) -> bool:
        self._events.append(message)
        return False


class Peer:
    """One connection to the server at ``path``, with memory of its own."""

    def __init__(
        self,
        path: str | Path,
        transport: str = "shm",
        *,
        volume: str = "disk",
        extensions: Extension = NO_EXTENSION,
        identity: tuple[bytes, bytes] | None = None,
        ring: RingGeometry = RING,
    ) -> None:
        self.shared = transport == "shm"
        self.transport = transport
        self.volume = volume
        self.extensions = extensions
        self.identity = identity or (os.urandom(16), os.urandom(16))
        self.memory = LocalMemory(DATA_AT + DATA_SIZE, TABLE_ENTRIES, shared=self.shared)
        (self.ring_cookie,) = self.memory.export(RING_AT, PAGE_SIZE, ALL)
        (self.data_cookie,) = self.memory.export(DATA_AT, DATA_SIZE, ALL)
        self.ring = ring
        self.line = _Line(b"")  # a doorbell is a message like any other
        self.serves = True
        self.copies: list[Copy] = []
        self.seq_num = 0
        self.is_gone = False
        """The server hung up, as the last thing said has shown."""
        self._configured = False
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(path))

    # -- out -------------------------------------------------------------------------------------------

    def raw(self, datagram: bytes, fds: Sequence[int] = ()) -> Heard | None:
        """Send a datagram as it is, with descriptors; says what became of it if it did not go."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.sock.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)
        except PermissionError:
            return Heard.REFUSED_RIGHTS
        except (BrokenPipeError, ConnectionResetError):
            self.is_gone = True
            return Heard.CLOSED
        return None

    def record(self, record: Record) -> None:
        """Send a record."""
        self.raw(b"".join(bytes(part) for part in build_record(record)))

    def say(self, message: bytes) -> None:
        """Send one VIO message over the link."""
        self.line.say(message)
        self._send()

    def _send(self) -> None:
        while (output := self.line.next_output()) is not None:
            if isinstance(output, QueueConfigured):
                self.record(QueueRecord(512))
            else:
                self.raw(output)

    # -- in --------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """The next datagram; empty when the server hung up."""
        try:
            return self.sock.recv(65536)
        except ConnectionResetError:
            return self.receive()  # what it said before it hung up comes after this

    def hear(self) -> bytes | Heard:
        """The next message, or what happened instead."""
        while (event := self.line.next_event()) is None:
            datagram = self.receive()
            if not datagram:
                return Heard.CLOSED
            self._take(datagram)
        return event

    def _take(self, datagram: bytes) -> None:
        if len(datagram) == 64:
            self.line.receive_packet(datagram)
        else:
            record = parse_record(datagram)
            if isinstance(record, QueueRecord):
                self.line.link_state(LinkState.RESET if self._configured else LinkState.UP)
                self._configured = True
            elif isinstance(record, Copy):
                self.copies.append(record)
                if self.serves:
                    self.record(self.memory.copy(record))
            elif isinstance(record, Push):
                self.memory.apply(record.pieces)
                for packet in record.packets:
                    self.line.receive_packet(packet)
        self._send()

    def ask(self, message: bytes) -> bytes | Heard:
        """Say ``message`` and hear what comes."""
        self.say(message)
        return self.hear()

    def hear_copies(self, count: int) -> None:
        """Take what comes until ``count`` COPYs were asked of us."""
        while len(self.copies) < count:
            datagram = self.receive()
            assert datagram, "the server hung up"
            self._take(datagram)

    # -- by the book -----------------------------------------------------------------------------------

    def hello(self) -> bytes:
        """The datagram that asks to be let in."""
        client_id, secret = self.identity
        return build_hello(
            Hello(
                volume=self.volume,
                transport=Transport.SHM if self.shared else Transport.SOCKET,
                client_id=client_id,
                secret=secret,
                memory_size=self.memory.size if self.shared else 0,
                extensions=self.extensions,
            )
        )

    def answer(self) -> tuple[int, str]:
        """The server's answer to a hello: errno (0: welcome) and sentence."""
        reply = self.receive()
        assert reply, "hung up without an answer"
        header = AnswerLayout.parse(reply, trailing=True)
        return int(header.errno), reply[AnswerLayout.size :].decode()

    def reach(self, stage: str) -> Self:
        """Do everything up to ``stage``, by the book."""
        for name in STAGES[1 : STAGES.index(stage) + 1]:
            self.reach_one(name)
        return self

    def reach_one(self, stage: str) -> None:
        """Do the one step that leads to ``stage``."""
        getattr(self, f"_be_{stage}")()

    def _be_welcomed(self) -> None:
        self.raw(self.hello(), [self.memory.fd] if self.memory.fd is not None else ())
        assert self.answer() == (0, "")

    def _be_linked(self) -> None:
        self.record(MapTableRecord(0, TABLE_ENTRIES))
        self.record(QueueRecord(512))
        assert self.hear() is Heard.UP

    def _be_version(self) -> None:
        assert self.ask(version()) == answered(version(device=4), 2)

    def _be_attributes(self) -> None:
        reply = self.ask(wish())
        assert isinstance(reply, bytes)
        assert reply[:4] == bytes.fromhex("01 02 00 02")

    def _be_ring(self) -> None:
        reply = self.ask(registration(self.ring_cookie, self.ring))
        assert isinstance(reply, bytes)
        assert reply[:4] == bytes.fromhex("01 02 00 03")

    def _be_running(self) -> None:
        assert self.ask(rdx()) == answered(rdx(), 2)

    # -- the ring --------------------------------------------------------------------------------------

    def entry_at(self, index: int) -> int:
        """Where entry ``index`` lies in the memory."""
        return RING_AT + self.ring.offset(index)

    def post(
        self,
        index: int,
        operation: int,
        addr: int,
        nbytes: int,
        cookies: Iterable[tuple[int, int]] | None = None,
        *,
        slice_number: int = SLICE_NONE,
        ncookies: int | None = None,
        dstate: int = Dstate.READY,
    ) -> None:
        """Write entry ``index``; without ``cookies`` one for the beginning of our data."""
        if cookies is None:
            cookies = [(self.data_cookie.addr, min(-(-nbytes // 8) * 8, DATA_SIZE))] if nbytes else []
        tail = b"".join(COOKIE.pack(*cookie) for cookie in cookies)
        count = len(tail) // COOKIE.size if ncookies is None else ncookies
        values = (0, 0x80, index, operation, slice_number, STATUS_UNSET, addr, nbytes, count)
        entry = ENTRY.pack(*values) + tail
        at = self.entry_at(index)
        self.memory.view[at : at + len(entry)] = entry
        self.memory.view[at] = dstate

    def result(self, index: int) -> tuple[int, int, int]:
        """State, status and nbytes of entry ``index`` as they are now."""
        values = ENTRY.unpack_from(self.memory.view, self.entry_at(index))
        return values[0], values[5], values[7]

    def announce(self, start: int, end: int | None = None) -> bytes:
        """Tell the server of entries; returns the message."""
        self.seq_num += 1
        message = data(self.seq_num, start, end)
        self.say(message)
        return message

    def data_bytes(self, nbytes: int, offset: int = 0) -> bytes:
        """The beginning of our data."""
        at = DATA_AT + offset
        return bytes(self.memory.view[at : at + nbytes])

    def fill(self, content: bytes, offset: int = 0) -> None:
        """Put ``content`` into our data."""
        at = DATA_AT + offset
        self.memory.view[at : at + len(content)] = content

    def write_slot(self, index: int, word: int) -> None:
        """Overwrite the word of map table slot ``index``."""
        struct.pack_into(">Q", self.memory.view, index * 16, word)

    # -- what must come back ---------------------------------------------------------------------------

    def expect_served(self, index: int, operation: int, addr: int, nbytes: int) -> None:
        """A request by the book is answered with status 0."""
        self.post(index, operation, addr, nbytes)
        message = self.announce(index)
        assert self.hear() == answered(message, 2)
        assert self.result(index) == (Dstate.DONE, 0, nbytes)

    def expect_status(self, message: bytes, index: int, status: int, nbytes: int) -> None:
        """``message`` is acknowledged, entry ``index`` done with ``status``."""
        assert self.hear() == answered(message, 2)
        assert self.result(index) == (Dstate.DONE, status, nbytes)

    def expect_soft_reset(self) -> None:
        """The session is forgotten, the link is not."""
        self._be_version()

    def expect_full_reset(self) -> None:
        """The channel was reset; a new session can be had on it."""
        assert self.hear() is Heard.RESET
        assert self.hear() is Heard.UP
        self._be_version()

    def expect_fault(self, message: bytes, index: int) -> None:
        """A NACK that names entry ``index``, then a full reset."""
        refused = nack(message)
        assert self.hear() == refused[:28] + index.to_bytes(4, "big") + refused[32:]
        self.expect_full_reset()

    def expect_closed(self) -> None:
        """The server hung up, and said nothing before but what had to do with the link."""
        while (heard := self.hear()) is Heard.RESET:
            pass
        assert heard is Heard.CLOSED

    def expect_closed_after_anything(self) -> None:
        """The server hung up, whatever it said before."""
        while self.receive():
            pass

    # -- end -------------------------------------------------------------------------------------------

    def hang_up(self) -> None:
        """Close the socket, and nothing else."""
        self.sock.close()

    def close(self) -> None:
        """End it all."""
        self.sock.close()
        with contextlib.suppress(ValueError):  # a test may have closed it
            self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class GoodClient:
    """A well-behaved client: every hundred requests of it must be served, whatever others do."""

    def __init__(self, uri: str) -> None:
        self._disk = vdc.connect(uri)
        self._round = 0

    def do_100_requests(self) -> None:
        """50 writes, 50 reads of our own blocks, some at a time, each checked; the server was never lost."""
        disk = self._disk
        self._round += 1
        contents = [f"{self._round}:{number}".encode().ljust(512, b".") for number in range(50)]
        tokens = [disk.submit_write(number * 512, content) for number, content in enumerate(contents)]
        results: dict[int, object] = {}
        while len(results) < len(tokens):
            results.update(disk.wait())
        assert set(results.values()) == {None}
        for number, content in enumerate(contents):
            assert disk.pread(number * 512, 512) == content
        assert disk.counters["connections"] == 1

    def close(self) -> None:
        """Leave."""
        self._disk.close()


def descriptors(daemon: Daemon) -> int:
    """How many descriptors the process has open."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))
