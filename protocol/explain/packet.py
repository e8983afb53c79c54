"""One LDC packet by itself: its header in the three modes, and the message if all of it is in the packet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from protocol import wire
from protocol.errors import Layer, PacketError, Reaction
from protocol.ldc.handshake import VERSIONS
from protocol.ldc.packet import (
    CTRL_MASK,
    ENV_LENGTH_MASK,
    ENV_START,
    ENV_STOP,
    PACKET_SIZE,
    RELIABLE_PAYLOAD,
    UNRELIABLE_PAYLOAD,
    Mode,
    PacketCtrl,
    PacketStype,
    PacketType,
    ReliablePacketLayout,
    UnreliablePacketLayout,
    VersionPacketLayout,
)

from .lines import Line, field, head, raw, remark, say, warn
from .message import explain_message, message_title
from .rules import Rule
from .structure import values_of

__all__ = ["Header", "explain_header", "explain_packet", "title_of"]

_LAYOUTS: Final[Mapping[Mode, wire.Layout[Any]]] = {
    Mode.UNRELIABLE: UnreliablePacketLayout,
    Mode.RELIABLE: ReliablePacketLayout,
}
_PAYLOADS: Final = {Mode.UNRELIABLE: UNRELIABLE_PAYLOAD, Mode.RELIABLE: RELIABLE_PAYLOAD}
_WHOLE: Final = ENV_START | ENV_STOP
_ENV: Final = {ENV_START: "START", ENV_STOP: "STOP", _WHOLE: "START STOP", 0: "middle"}
_PIECES: Final = {
    ENV_START: "the first piece of a message",
    ENV_STOP: "the last piece of a message",
    _WHOLE: "a whole message",
    0: "a piece of a message",
}
_STYPES: Final = frozenset(map(int, PacketStype))
_ACKID_AT: Final = 12  # where the drivers' generic sender puts it, in every mode


class Header:
    """The header of a packet of 64 bytes, read once."""

    __slots__ = ("ackid", "ctrl", "env", "mode", "payload", "seqid", "step", "stype", "type")

    def __init__(self, packet: bytes, mode: Mode = Mode.UNRELIABLE) -> None:
        values = values_of(_LAYOUTS[mode], packet)
        self.mode = mode
        self.type: int = values["type"]
        self.stype: int = values["stype"]
        self.ctrl: int = values["ctrl"]
        self.env: int = values["env"]
        self.seqid: int = values["seqid"]
        self.ackid: int | None = values.get("ackid")
        self.payload: bytes = values["payload"]
        self.step: int = self.ctrl & CTRL_MASK

    @property
    def is_data(self) -> bool:
        """Whether it carries a piece of a message."""
        return bool(self.type & PacketType.DATA and self.stype & PacketStype.INFO)

    @property
    def length(self) -> int:
        """How many bytes of a message it says that it carries."""
        return self.env & ENV_LENGTH_MASK

    @property
    def message(self) -> bytes | None:
        """The message, if all of it is in this packet."""
        whole = self.is_data and self.env & _WHOLE == _WHOLE and 0 < self.length <= len(self.payload)
        return self.payload[: self.length] if whole else None


def explain_packet(packet: bytes, mode: Mode = Mode.UNRELIABLE) -> list[Line]:
    """Return what one packet means by itself, its title first.

    Raises: PacketError (not 64 bytes).
    """
    if len(packet) != PACKET_SIZE:
        raise PacketError(Layer.LDC, Reaction.CLOSE, f"a packet has {PACKET_SIZE} bytes, not {len(packet)}")
    if mode is Mode.RAW:
        return [Line(0, "raw packet"), head("LDC", "raw mode: 64 bytes without a header"), say(packet.hex())]
    header = Header(packet, mode)
    message = header.message if mode is Mode.UNRELIABLE else None
    lines = [Line(0, title_of(header) if message is None else message_title(message))]
    lines += explain_header(packet, header)
    if message is not None:
        lines += explain_message(message)
    elif header.is_data:
        lines.append(say(f"carries {header.payload[: header.length].hex() or 'nothing'}"))
    return lines


def title_of(header: Header) -> str:
    """Return what a packet is, in a few words."""
    names = [_flags(PacketType, header.type), _flags(PacketStype, header.stype)]
    if header.is_data:
        return f"{' '.join(names)}, {_PIECES[header.env & _WHOLE]}"
    if header.type & PacketType.CTRL:
        names.append(_name(PacketCtrl, header.step))
    return " ".join(names)


def explain_header(packet: bytes, header: Header) -> Iterator[Line]:
    """Yield what the header says; ``packet`` is all of it."""
    yield head("LDC", f"{header.mode.name.lower()} packet {header.seqid}: {title_of(header)}")
    yield field("type", raw(header.type, 1), _flags(PacketType, header.type))
    yield field("stype", raw(header.stype, 1), _flags(PacketStype, header.stype))
    yield field("ctrl", raw(header.ctrl, 1), _name(PacketCtrl, header.step) if header.ctrl else "")
    yield field("env", raw(header.env, 1), _env(header))
    yield field("seqid", raw(header.seqid, 4), str(header.seqid))
    if header.ackid is not None:
        yield field("ackid", raw(header.ackid, 4), f"has received {header.ackid}")
    yield from _kind(header)
    if header.is_data:
        yield from _data(header)
    else:
        yield from _control(packet, header)


def _kind(header: Header) -> Iterator[Line]:
    """Yield what is wrong with type, stype and ctrl."""
    if header.type not in (PacketType.CTRL, PacketType.DATA):
        yield warn(Rule.TYPE, f"type {header.type:#x}")
    data = bool(header.type & PacketType.DATA)
    if header.stype not in _STYPES:
        yield warn(Rule.STYPE, f"stype {header.stype:#x}")
    if data and header.ctrl and not header.stype & PacketStype.NACK:
        yield warn(Rule.CTRL_IN_DATA, f"ctrl {header.ctrl:#x}")
    if not data and header.ctrl not in PacketCtrl.__members__.values():
        yield warn(Rule.CTRL, f"ctrl {header.ctrl:#x}")


def _data(header: Header) -> Iterator[Line]:
    if not 0 < header.length <= _PAYLOADS[header.mode]:
        yield warn(Rule.ENV_LENGTH, f"{header.length} bytes")
    elif any(header.payload[header.length :]):
        yield remark("bytes follow the message (Solaris leaves what the queue held before)")


def _control(packet: bytes, header: Header) -> Iterator[Line]:
    """Yield what follows the header of a packet without a message, and what is wrong with it."""
    step = header.step if header.type & PacketType.CTRL else 0
    carries_mode = step in (PacketCtrl.RTS, PacketCtrl.RTR) and header.stype == PacketStype.INFO
    if carries_mode and header.env != header.mode:
        yield warn(Rule.MODE, f"mode {header.env}, not {header.mode.value}")
    if header.env and not carries_mode:
        if step == PacketCtrl.RDX and header.env == header.mode:
            yield remark("RDX carries the mode (OpenBSD does so)")
        else:
            yield warn(Rule.ENV_ZERO, f"env {header.env:#x}")
    if header.type & PacketType.DATA and header.stype == PacketStype.ACK and header.mode is Mode.UNRELIABLE:
        yield warn(Rule.RELIABLE_ACK, "an ACK of data in unreliable mode")
    if step == PacketCtrl.VER:
        yield from _version(packet, header)
    elif header.mode is Mode.UNRELIABLE:
        yield from _rest(packet)


def _version(packet: bytes, header: Header) -> Iterator[Line]:
    values = values_of(VersionPacketLayout, packet)
    version = values["major"], values["minor"]
    yield field("major", raw(version[0], 2), str(version[0]))
    yield field("minor", raw(version[1], 2), str(version[1]))
    if header.stype == PacketStype.ACK and version not in VERSIONS:
        yield warn(Rule.LINK_VERSION, f"version {version[0]}.{version[1]} agreed")
    elif version not in VERSIONS:
        yield remark(f"link version {version[0]}.{version[1]}: drivers speak 1.0 only")
    if any(packet[_ACKID_AT:]):
        yield remark("bytes follow the version, ignored")


def _rest(packet: bytes) -> Iterator[Line]:
    """Yield what stands where no message is: the drivers put an ackid there, and nobody reads it."""
    ackid = packet[_ACKID_AT : _ACKID_AT + 4]
    if any(ackid):
        yield field("(ackid)", "0x" + ackid.hex(), "what was received last; ignored in unreliable mode")
    if any(packet[8:_ACKID_AT]) or any(packet[_ACKID_AT + 4 :]):
        yield remark("bytes follow the header, ignored")


def _env(header: Header) -> str:
    if header.is_data:
        return f"{_ENV[header.env & _WHOLE]}, {header.length} bytes"
    if header.type & PacketType.CTRL and header.step in (PacketCtrl.RTS, PacketCtrl.RTR):
        return f"{_name(Mode, header.env)} mode" if header.stype == PacketStype.INFO else ""
    return ""


def _flags(flags: type[PacketType] | type[PacketStype], number: int) -> str:
    names = [str(member.name) for member in flags if number & member]
    rest = number & ~sum(flags)
    return "|".join([*names, f"{rest:#x}"] if rest or not names else names)


def _name(numbers: type[PacketCtrl] | type[Mode], number: int) -> str:
    return next((member.name for member in numbers if member == number), f"unknown {number:#x}")
