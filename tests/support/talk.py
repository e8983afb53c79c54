"""A capture typed by hand: a client and a server talk, octet by octet, and anything may be wrong.

The capture is made at the client unless ``end`` says otherwise. Messages are hexadecimal as in the figures of
the specification; packets number themselves.
"""

from __future__ import annotations

from typing import Literal

from protocol.capture import Direction, How, Note, NoteKind
from tests.support.links import ACK, INFO, START, STOP, data, numbered, rdx, rtr, rts, version
from tests.support.traced import CaptureFile
from tests.support.vioscript import SID, octets

__all__ = ["Talk", "entry", "inband", "ring_data"]

End = Literal["client", "server"]

DIRECTIONS = {True: Direction.OUTBOUND, False: Direction.INBOUND}


def ring_data(subtype: int, seq_num: int, start: int, end: int, **other: int) -> str:
    """Return a DRING_DATA; ``ident``, ``state`` and ``completions`` are 1, 0 and 0 unless given."""
    ident, state, completions = (
        other.get(name, default) for name, default in (("ident", 1), ("state", 0), ("completions", 0))
    )
    numbers = f"{seq_num:016x} {ident:016x} {start:08x} {end & 0xFFFFFFFF:08x} {state:02x} 000000"
    return f"02 {subtype:02x} 00 42 {SID} {numbers} {completions:08x}"


def _payload(operation: int, nbytes: int, status: int, cookie: str, ncookies: int, addr: int) -> str:
    return (
        f"{7:016x} {operation:02x} ff 0000 {status:08x} {addr:016x} {nbytes:016x} {ncookies:08x} 00000000"
        + cookie
    )


def entry(
    dstate: int,
    *,
    operation: int = 1,
    nbytes: int = 512,
    status: int = 0xFFFFFFFF,
    cookie: str = f"{0x4000:016x} {512:016x}",
    ncookies: int = 1,
    flags: int = 0x80,
) -> bytes:
    """Return a ring entry: by default a read of block 16 that is not answered yet."""
    payload = _payload(operation, nbytes, status, cookie, ncookies, 16)
    return bytes.fromhex(f"{dstate:02x} {flags:02x} 0000 00000000 {payload}")


def inband(
    subtype: int,
    seq_num: int,
    *,
    operation: int = 1,
    nbytes: int = 512,
    status: int = 0xFFFFFFFF,
    cookie: str = f"{0x4000:016x} {512:016x}",
    ncookies: int = 1,
) -> str:
    """Return a DESC_DATA of 80 octets: by default a read of block 16 that is not answered yet."""
    payload = _payload(operation, nbytes, status, cookie, ncookies, 16)
    return f"02 {subtype:02x} 00 41 {SID} {seq_num:016x} {9:016x} {payload}"


class Talk:
    """The conversation so far, as the file that ``end`` would write."""

    def __init__(self, end: End = "client") -> None:
        self.end = end
        self.file = CaptureFile()
        self.seqids = {"client": 0, "server": 0}

    # -- packets ---------------------------------------------------------------------------------------------

    def packet(self, sender: End, packet: bytes) -> None:
        """Say one packet just so."""
        self.file.frame(DIRECTIONS[sender == self.end], packet)

    def say(self, sender: End, text: str, size: int = 56) -> None:
        """Say a message in as many packets as it takes."""
        message = octets(text, size)
        for at in range(0, size, 56):
            self.seqids[sender] += 1
            flags = (START if at == 0 else 0) | (STOP if at + 56 >= size else 0)
            self.packet(sender, data(self.seqids[sender], message[at : at + 56], flags))

    def client(self, text: str, size: int = 56) -> None:
        """The client says a message."""
        self.say("client", text, size)

    def server(self, text: str, size: int = 56) -> None:
        """The server says a message."""
        self.say("server", text, size)

    # -- link ------------------------------------------------------------------------------------------------

    def configured(self, sender: End) -> None:
        """One end configures its queue."""
        self.file.configured(DIRECTIONS[sender == self.end])
        self.seqids = {"client": 0, "server": 0}

    def link(self) -> None:
        """Both queues, and the five steps that the client begins."""
        self.configured("client")
        self.configured("server")
        self.packet("client", version(INFO))
        self.packet("server", version(ACK))
        self.packet("client", rts())
        self.packet("server", rtr())
        self.packet("client", rdx())
        self.seqids["client"] = 1

    def cross(self) -> None:
        """Both queues, and the handshake that both begin, with the generic sender's ackid in RDX."""
        self.configured("client")
        self.configured("server")
        ends: tuple[End, End] = ("client", "server")
        for each in (version(INFO), version(ACK), rts(), rtr(), numbered(1, INFO, 4, 1, 7)):
            for sender in ends:
                self.packet(sender, each)
        self.seqids = {"client": 1, "server": 1}

    # -- session ---------------------------------------------------------------------------------------------

    def agree(self, minor: int = 1, mode: int = 3) -> None:
        """VER_INFO and ATTR_INFO: a disk of 6147 blocks that can read, write, flush and tell its geometry."""
        self.client(f"01 01 00 01 {SID} 0001 {minor:04x} 03")
        self.server(f"01 02 00 01 {SID} 0001 {minor:04x} 04")
        self.client(f"01 01 00 02 {SID} {mode:02x} 00 00 00 00000200 {0:016x} {0:016x} {256:016x}")
        self.server(f"01 02 00 02 {SID} {mode:02x} 02 01 00 00000200 {0x10E:016x} {6147:016x} {2048:016x}")

    def register(self) -> None:
        """DRING_REG of 8 entries of 64 octets, and RDX."""
        ring = f"{8:08x} {64:08x} 0003 0000 00000001 {0x2000:016x} {0x2000:016x}"
        self.client(f"01 01 00 03 {SID} {0:016x} {ring}", 48)
        self.server(f"01 02 00 03 {SID} {1:016x} {ring}", 48)
        self.ready()

    def ready(self) -> None:
        """RDX."""
        self.client(f"01 01 00 05 {SID}")
        self.server(f"01 02 00 05 {SID}")

    def begin(self, minor: int = 1) -> None:
        """All up to the data phase of a ring."""
        self.link()
        self.agree(minor)
        self.register()

    def begin_inband(self) -> None:
        """All up to the data phase in-band."""
        self.link()
        self.agree(mode=2)
        self.ready()

    # -- notes -----------------------------------------------------------------------------------------------

    def note(
        self, kind: NoteKind, index: int, octets_: bytes, seq_num: int | None = None, *, wrong: bool = False
    ) -> None:
        """Note something about an entry, with the direction that belongs to it unless it shall be wrong."""
        outbound = kind in (NoteKind.SUBMITTED, NoteKind.FINISHED)
        how = How.POLLING if seq_num is None else How.MESSAGE
        self.file.note(DIRECTIONS[outbound != wrong], Note(kind, how, index, seq_num or 0, octets_))
