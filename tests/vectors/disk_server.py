"""What foreign servers have in common: sessions one after the other, what a client may send, and faults.

Every octet of every message and ring entry is compared with what the specification lets a client send; what
is answered, and how a ring is used, is each driver's own. Sources: Solaris ``sys/vio_mailbox.h``,
``sys/vdsk_mailbox.h``, ``sys/vdsk_common.h``, ``sys/vio_common.h``; ``vds.c`` for what it refuses.
"""

import os
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.vectors.link import Link
from tests.vectors.listener import ServerChannel
from tests.vectors.octets import Mismatch, compare, raw
from tests.vectors.records import HungUp

BLOCK = 512
READY, ACCEPTED, DONE = 2, 3, 4
BREAD, BWRITE, FLUSH, GET_VTOC, GET_DISKGEOM, GET_CAPACITY = 0x01, 0x02, 0x03, 0x06, 0x08, 0x11
ABSOLUTE = 0xFF

ACK, NACK = 2, 4
STATUS_AT, NBYTES_AT = 20, 32  # in a ring entry


What = tuple[int, int, int]
LATELY = 64  # answers that a client may not have looked at when a fault came


class Descriptor(NamedTuple):
    """A request as it stands in a ring entry, its octets compared."""

    operation: int
    addr: int
    nbytes: int
    cookies: tuple[tuple[int, int], ...]

    @property
    def what(self) -> What:
        """What is to be done: the same when it is asked for again, with other memory."""
        return self[:3]


def parse_entry(entry: bytes) -> Descriptor:
    """Take a READY entry apart. Raises: Mismatch (an octet that no client may write)."""
    operation = entry[16]
    addr, nbytes, ncookies = struct.unpack_from(">QQI", entry, 24)
    # READY, acknowledge, reserved; req_id, operation, absolute, reserved; status unset; addr; reserved
    expected = raw("02 80 00 00 00 00 00 00") + entry[8:16] + bytes([operation, ABSOLUTE]) + bytes(2)
    expected += raw("ff ff ff ff") + entry[24:44] + bytes(4)
    compare("ring entry", entry[:48], expected)
    if 48 + 16 * ncookies > len(entry):
        raise Mismatch(f"{ncookies} cookies in an entry of {len(entry)} octets")
    cookies = tuple(struct.unpack_from(">QQ", entry, 48 + 16 * number) for number in range(ncookies))
    if any(not size or (addr | size) & 7 for addr, size in cookies):
        raise Mismatch(f"cookies {cookies}")
    if sum(size for _, size in cookies) != (nbytes + 7 & ~7):
        raise Mismatch(f"{nbytes} octets in cookies {cookies}")
    return Descriptor(operation, addr, nbytes, cookies)


class Backend:
    """The disk: a file, whose last octets may not make a block."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR)
        self.nblocks = os.fstat(self.fd).st_size // BLOCK

    def geometry(self) -> tuple[int, int, int, int]:
        """What an image without a label is said to have: cylinders, alternate ones, heads, sectors."""
        size = self.nblocks * BLOCK
        heads, sectors = (96, 768) if size >= 8 << 30 else (1, 600) if size >= 2 << 20 else (1, 200)
        cylinders = max(self.nblocks // (heads * sectors), 1)
        alternate = 2 if cylinders > 2 else 0
        return cylinders - alternate, alternate, heads, sectors

    def read(self, addr: int, nbytes: int) -> bytes:
        """What there is of ``nbytes`` from block ``addr`` on, to the end of the disk."""
        end = min(addr * BLOCK + nbytes, self.nblocks * BLOCK)
        return os.pread(self.fd, max(end - addr * BLOCK, 0), addr * BLOCK)

    def write(self, addr: int, octets: bytes) -> int:
        """Write what fits; how many octets that were."""
        fitting = octets[: max((self.nblocks - addr) * BLOCK, 0)]
        return os.pwrite(self.fd, fitting, addr * BLOCK) if fitting else 0

    def flush(self) -> None:
        """Make it stable."""
        os.fsync(self.fd)


class Owed:
    """What a client has to send again after a fault, oldest first, before anything else.

    It may begin with some that were answered last: it need not have looked at the answers any more.
    """

    def __init__(self, answered: Iterable[What], unanswered: Iterable[What]) -> None:
        self.answered = deque(answered)
        self.unanswered = deque(unanswered)
        self.begun = False

    def take(self, what: What) -> bool:
        """Compare the next request; whether more are owed. Raises: Mismatch."""
        while not self.begun and self.answered and self.answered[0] != what:
            self.answered.popleft()
        self.begun = True
        expected = (self.answered or self.unanswered).popleft()
        if what != expected:
            raise Mismatch(f"{what} was sent where {expected} was unanswered")
        return bool(self.unanswered)


class Record:
    """What a server saw and did, over all its sessions, and the faults it still owes its clients."""

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        self.faults = deque(sorted(faults))  # at which request, what
        self.packets = self.copies = self.sessions = self.requests = 0
        self.resets = self.resubmitted = self.refused = 0
        self.sids: set[bytes] = set()
        self.done: deque[What] = deque(maxlen=LATELY)  # answered in this session, the last ones
        self.owed: dict[bytes, Owed] = {}  # by client

    def admit(self, client: bytes, request: Descriptor) -> str | None:
        """Count a request; the fault that is due now. Raises: Mismatch (another one was unanswered)."""
        self.requests += 1
        owed = self.owed.get(client)
        if owed is not None and not owed.take(request.what):
            del self.owed[client]
        self.resubmitted += owed is not None
        if self.faults and self.requests >= self.faults[0][0]:
            return self.faults.popleft()[1]
        return None

    def settle(self) -> str:
        """The last word. Raises: Mismatch (a client never sent again what it had no answer to)."""
        forgotten = sum(len(owed.unanswered) for owed in self.owed.values())
        if forgotten or self.faults:
            raise Mismatch(f"{forgotten} requests never sent again, {len(self.faults)} faults never due")
        return (
            f"{self.packets} packets compared, {self.sessions} sessions, {self.requests} requests, "
            f"{self.copies} COPYs, {self.resets} resets, {self.resubmitted} resubmitted, "
            f"{self.refused} refused"
        )


class Session(ABC):
    """One connection: a handshake and its requests, until the client hangs up."""

    def __init__(self, channel: ServerChannel, backend: Backend, record: Record) -> None:
        self.channel = channel
        self.backend = backend
        self.record = record
        self.sid = b""
        self.ident = 0
        self.count = self.stride = 0
        self.ring_cookie = 0
        self.seq: int | None = None
        self.announced: deque[tuple[bytes, int]] = deque()  # message, index
        self._steps = iter((self._version, self._attributes, self._register, self._rdx))
        self._step = next(self._steps)
        self._ready = False

    @property
    @abstractmethod
    def link(self) -> Link[ServerChannel]:
        """The link of this session."""

    def live(self) -> None:
        """Serve until the client hangs up."""
        self.record.sessions += 1
        self.record.done.clear()
        try:
            for messages in self.batches():
                for message in messages:
                    self.take(message)
                self.work()
        except HungUp:
            pass
        finally:
            self.record.packets += self.link.checked
            self.record.copies += self.channel.copies
            self.channel.close()

    @abstractmethod
    def batches(self) -> Iterator[list[bytes]]:
        """Come up, then what the client sends, as much at a time as there is. Raises: HungUp."""

    # -- what a client sends ---------------------------------------------------------------------------------

    def take(self, message: bytes) -> None:
        """Compare a message with what may come now, and answer it unless it is data."""
        if self._ready:
            self._data(message)
        else:
            self._step(message)
            self._step = next(self._steps, self._step)

    def _version(self, message: bytes) -> None:
        self.sid = message[4:8]
        compare("VER_INFO", message, raw(f"01 01 00 01 {self.sid.hex()}  00 01 00 02  03", 56))
        if self.sid in self.record.sids:
            raise Mismatch(f"session id {self.sid.hex()} again")
        self.record.sids.add(self.sid)
        self.link.send(self.version_ack(message))

    def _attributes(self, message: bytes) -> None:
        wish = "03 00 00 00  00 00 02 00" + "00" * 16 + message[32:40].hex()  # ring, blocks of 512
        compare("ATTR_INFO", message, raw(f"01 01 00 02 {self.sid.hex()} {wish}", 56))
        if not any(message[32:40]):
            raise Mismatch("ATTR_INFO: the largest transfer is 0")
        self.link.send(self.attributes_ack(message))

    def _register(self, message: bytes) -> None:
        shape = message[16:24].hex() + "00 03 00 00  00 00 00 01" + message[32:48].hex()  # TX and RX
        compare("DRING_REG", message, raw(f"01 01 00 03 {self.sid.hex()}" + "00" * 8 + shape))
        self.count, self.stride = struct.unpack_from(">II", message, 16)
        self.ring_cookie, size = struct.unpack_from(">QQ", message, 32)
        if not 1 <= self.count <= 65536 or self.stride % 8 or self.stride < 64:
            raise Mismatch(f"a ring of {self.count} entries of {self.stride} octets")
        if (self.ring_cookie | size) & 7 or size < self.count * self.stride:
            raise Mismatch(f"a ring of {self.count} times {self.stride} octets in {size}")
        self.link.send(self.ring_ack(message))

    def _rdx(self, message: bytes) -> None:
        compare("RDX", message, raw(f"01 01 00 05 {self.sid.hex()}", 56))
        self.link.send(self.rdx_ack(message))
        self._ready = True

    def _data(self, message: bytes) -> None:
        seq, _, start, end = struct.unpack_from(">QQIi", message, 8)
        head = raw("02 01 00 42") + self.sid
        body = struct.pack(">QQIi", seq if self.seq is None else self.seq + 1, self.ident, start, start)
        compare("DRING_DATA", message, (head + body).ljust(56, b"\0"))  # proc_state is set by nobody
        if end >= self.count:
            raise Mismatch(f"entry {end} of {self.count}")
        self.seq = seq
        self.announced.append((message, start))

    # -- what is done with it --------------------------------------------------------------------------------

    def work(self) -> None:
        """Serve what was announced, oldest first."""
        while self.announced:
            message, index = self.announced.popleft()
            request = self.accept(index)
            fault = self.record.admit(self.channel.client, request)
            if fault is not None:
                self._fail(fault, message, request)
            self.execute(message, index, request)
            self.record.done.append(request.what)

    def _fail(self, kind: str, message: bytes, request: Descriptor) -> None:
        """Make a fault happen instead of an answer; what was announced by now has to come again."""
        while self.channel.pump(wait=False):
            pass
        while self.channel.queue:
            self.take(self.link.receive())
        unanswered = [request, *(self.accept(index) for _, index in self.announced)]
        self.record.owed[self.channel.client] = Owed(self.record.done, (each.what for each in unanswered))
        if kind == "die":
            raise Died(len(unanswered))
        if kind == "reset":
            self.link.reset()
        elif kind == "nack":
            self.link.send(self.nack(message))
        self.record.resets += 1
        if kind == "hangup":
            raise HungUp("by ourselves")
        self.wait_for_hangup()

    def wait_for_hangup(self) -> None:
        """The client is expected to leave; what it still sends is of the old link. Raises: HungUp."""
        while self.channel.pump():
            self.channel.queue.clear()

    @staticmethod
    def nack(message: bytes) -> bytes:
        """The message itself, refused."""
        return message[:1] + bytes([NACK]) + message[2:]

    @abstractmethod
    def version_ack(self, message: bytes) -> bytes:
        """The answer to VER_INFO."""

    @abstractmethod
    def attributes_ack(self, message: bytes) -> bytes:
        """The answer to ATTR_INFO."""

    @abstractmethod
    def ring_ack(self, message: bytes) -> bytes:
        """The answer to DRING_REG; sets ``ident``."""

    @abstractmethod
    def rdx_ack(self, message: bytes) -> bytes:
        """The answer to RDX."""

    @abstractmethod
    def accept(self, index: int) -> Descriptor:
        """Take an entry as this driver does."""

    @abstractmethod
    def execute(self, message: bytes, index: int, request: Descriptor) -> None:
        """Do what an entry asks for, finish it, and answer its message."""

    # -- the client's buffers --------------------------------------------------------------------------------

    def buffer_in(self, request: Descriptor) -> bytes:
        """The whole buffer of a request."""
        guest = self.channel.guest
        return b"".join(guest.copy_in(addr, size) for addr, size in request.cookies)

    def buffer_out(self, request: Descriptor, octets: bytes) -> None:
        """Fill the buffer of a request from its start."""
        for addr, size in request.cookies:
            piece, octets = octets[:size], octets[size:]
            self.channel.guest.copy_out(addr, piece)


class Died(Exception):
    """The process is to end at once; ``args`` has how many requests were unanswered."""
