"""The two records of the rendezvous: bytes to values and back, and how they are received.

Source: the bytes are ours, ``docs/transport.md``.
"""

from __future__ import annotations

import array
import enum
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from protocol import wire
from protocol.errors import ChannelLost, Layer, LocalProtocolError, RemoteProtocolError
from protocol.vio.extensions import NO_EXTENSION, Extension

from .records import RecordType, parse_header, refuse

__all__ = [
    "KNOWN_EXTENSIONS",
    "MAGIC",
    "SENTENCE_LIMIT",
    "VERSION",
    "VOLUME_LIMIT",
    "Hello",
    "Refused",
    "Transport",
    "Welcome",
    "build_answer",
    "build_hello",
    "close_all",
    "parse_answer",
    "parse_hello",
    "receive_greeting",
    "set_up",
]

T = TypeVar("T")

MAGIC: Final = 0x4C446F6D
"""``LDom``: checked first, so that garbage is told from an older or newer version of ourselves."""

VERSION: Final = (1, 0)
"""Rendezvous version: a server refuses another major; a higher minor only adds what the other may ignore."""

VOLUME_LIMIT: Final = 255
"""Longest volume name in bytes of UTF-8: as a file name, and longer than any name ldm accepts."""

SENTENCE_LIMIT: Final = 1024
"""Longest refusal in bytes: a sentence with a path in it, not a page."""

DESCRIPTOR_ROOM: Final = socket.CMSG_LEN(array.array("i").itemsize)
"""Control data for exactly one descriptor: CMSG_SPACE would have room for two. More of them set
MSG_CTRUNC."""

SOCKET_BUFFER: Final = 1024 * 1024
"""Send buffer asked for: more than a thousand packets, where the kernel's default holds 278."""

KNOWN_EXTENSIONS: Final = Extension.POLLED_RING | Extension.INLINE


class Transport(enum.IntEnum):
    """How the server reaches the client's memory."""

    SHM = 1  # sealed memory, passed with the hello, is mapped
    SOCKET = 2  # COPY records on the socket


@wire.structure("hv_hello", size=64)
class _Hello:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="1", default=RecordType.HELLO)
    flags: int = wire.field(wire.Int16ub, doc="0", default=0)
    length: int = wire.field(wire.Int32ub, doc="64 + volume_length")
    magic: int = wire.field(wire.Int32ub, doc="0x4c446f6d, the letters LDom", default=MAGIC)
    major: int = wire.field(wire.Int16ub, doc="1", default=VERSION[0])
    minor: int = wire.field(wire.Int16ub, doc="0", default=VERSION[1])
    transport: int = wire.field(wire.Int16ub, doc="SHM 1, SOCKET 2")
    volume_length: int = wire.field(wire.Int16ub, doc="bytes of the volume name that follows, 1 to 255")
    extensions: int = wire.field(wire.Int32ub, doc="extensions offered, a bit mask")
    memory_size: int = wire.field(wire.Int64ub, doc="SHM: bytes of the memory passed; SOCKET: 0")
    client_id: bytes = wire.field(wire.Bytes(16), doc="which client: random, chosen once per disk")
    secret: bytes = wire.field(wire.Bytes(16), doc="random, chosen with client_id; proves it on return")


@wire.structure("hv_answer", size=72)
class _Answer:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="2", default=RecordType.ANSWER)
    flags: int = wire.field(wire.Int16ub, doc="0", default=0)
    length: int = wire.field(wire.Int32ub, doc="72 + sentence_length")
    magic: int = wire.field(wire.Int32ub, doc="0x4c446f6d, the letters LDom", default=MAGIC)
    major: int = wire.field(wire.Int16ub, doc="1", default=VERSION[0])
    minor: int = wire.field(wire.Int16ub, doc="0", default=VERSION[1])
    errno: int = wire.field(wire.Int32ub, doc="0: go ahead; else refused, a Linux errno")
    extensions: int = wire.field(wire.Int32ub, doc="extensions agreed: a subset of those offered")
    poll_us: int = wire.field(wire.Int32ub, doc="how long the server looks at an idle ring; 0: never")
    sentence_length: int = wire.field(wire.Int32ub, doc="bytes of the sentence that follows, 0 to 1024")
    instance: bytes = wire.field(wire.Bytes(16), doc="volume instance: another one, other contents")
    resv = wire.reserved(24)


HelloLayout: Final = wire.layout(_Hello)
AnswerLayout: Final = wire.layout(_Answer)
HELLO_LIMIT: Final = HelloLayout.size + VOLUME_LIMIT
ANSWER_LIMIT: Final = AnswerLayout.size + SENTENCE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client wants.

    ``client_id`` and ``secret`` are 16 bytes each. ``memory_size`` counts bytes and is 0 without shared
    memory.
    """

    volume: str
    transport: Transport
    client_id: bytes
    secret: bytes
    memory_size: int
    extensions: Extension = NO_EXTENSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The go-ahead: ``instance`` is 16 bytes, ``poll_us`` 0 means that the server never looks by itself."""

    extensions: Extension
    instance: bytes
    poll_us: int


class Refused(OSError):
    """The server will not serve us: ``errno`` is a number of this host, ``strerror`` the server's
    sentence."""


def build_hello(hello: Hello) -> bytes:
    """Return the datagram of ``hello``.

    Raises: LocalProtocolError (volume name empty, too long or with a NUL; ids that are not 16 bytes).
    """
    volume = hello.volume.encode(errors="surrogateescape")
    if not 1 <= len(volume) <= VOLUME_LIMIT or b"\0" in volume:
        raise LocalProtocolError(Layer.HYPERVISOR, f"volume name: 1 to {VOLUME_LIMIT} bytes without NUL")
    header = _Hello(
        length=HelloLayout.size + len(volume),
        transport=hello.transport,
        volume_length=len(volume),
        extensions=hello.extensions,
        memory_size=hello.memory_size,
        client_id=hello.client_id,
        secret=hello.secret,
    )
    return HelloLayout.build(header) + volume


def parse_hello(data: bytes) -> Hello:
    """Return the hello in ``data``, extensions unknown here left out.

    Raises: PacketError (another record, wrong magic, version, transport or name).
    """
    header, volume = _parse(HelloLayout, RecordType.HELLO, data)
    if header.major != VERSION[0]:
        raise refuse(f"rendezvous version {header.major}.{header.minor}: this server speaks {VERSION[0]}.x")
    if header.volume_length != len(volume) or not 1 <= len(volume) <= VOLUME_LIMIT or b"\0" in volume:
        raise refuse(f"volume name of {len(volume)} bytes: must be 1 to {VOLUME_LIMIT} without NUL")
    try:
        return Hello(
            volume=volume.decode(),
            transport=Transport(header.transport),
            client_id=header.client_id,
            secret=header.secret,
            memory_size=header.memory_size,
            extensions=Extension(header.extensions) & KNOWN_EXTENSIONS,
        )
    except ValueError as error:
        raise refuse(f"hello: {error}") from error


def build_answer(welcome: Welcome, number: int = 0, sentence: str = "") -> bytes:
    """Return the datagram of a go-ahead, or of a refusal with errno ``number`` and a sentence (cut to 1024
    bytes)."""
    text = sentence.encode(errors="replace")[:SENTENCE_LIMIT]
    header = _Answer(
        length=AnswerLayout.size + len(text),
        errno=number,
        extensions=welcome.extensions,
        poll_us=welcome.poll_us,
        sentence_length=len(text),
        instance=welcome.instance,
    )
    return AnswerLayout.build(header) + text


def parse_answer(data: bytes, offered: Extension) -> Welcome:
    """Return the go-ahead in ``data``.

    Raises: Refused; PacketError (another record, wrong magic or version, extensions that were not offered).
    """
    answer, text = _parse(AnswerLayout, RecordType.ANSWER, data)
    if answer.sentence_length != len(text):
        raise refuse(f"answer says a sentence of {answer.sentence_length} bytes and has {len(text)}")
    if answer.errno:
        sentence = "".join(c if c.isprintable() else "?" for c in text.decode(errors="replace"))
        raise Refused(answer.errno, sentence)
    if answer.major != VERSION[0] or answer.extensions & ~int(offered):
        raise refuse(
            f"answer of version {answer.major}, extensions {answer.extensions:#x}: not what was offered"
        )
    return Welcome(extensions=Extension(answer.extensions), instance=answer.instance, poll_us=answer.poll_us)


def _parse(layout: wire.Layout[T], kind: RecordType, data: bytes) -> tuple[T, bytes]:
    """Return a rendezvous record and the text behind it; its magic number is checked before anything else."""
    found, _ = parse_header(data)
    if found != kind or len(data) < layout.size or layout.codec.unpack_from(data)[3] != MAGIC:
        raise refuse(f"expected {kind.name}, got a record of type {found} and {len(data)} bytes")
    return layout.parse(data, trailing=True), data[layout.size :]


def set_up(sock: socket.socket) -> None:
    """Make a socket what a channel needs: non-blocking, with room for a ring's worth of packets."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that a peer passed."""
    for fd in fds:
        os.close(fd)


def receive_greeting(sock: socket.socket, limit: int) -> tuple[bytes, list[int]] | None:
    """Return one datagram of at most ``limit`` bytes and the descriptors that came with it; None when there
    is none.

    At most one descriptor; it belongs to the caller and is closed on exec.

    Raises: ChannelLost (the peer hung up); PacketError (longer, or more descriptors: none of them stays
        open).
    """
    try:
        data, control, flags, _ = _recvmsg(sock, limit)
    except BlockingIOError:
        return None
    except OSError as error:
        raise ChannelLost(f"the peer hung up during the rendezvous: {error.strerror}") from error
    fds = list(_descriptors(control))
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) > 1:
            raise refuse("rendezvous record that is too long, or with more than one descriptor")
        if not data:
            raise ChannelLost("the peer hung up during the rendezvous")
    except (RemoteProtocolError, ChannelLost):
        close_all(fds)
        raise
    return data, fds


def _descriptors(control: Iterable[tuple[int, int, bytes]]) -> Iterable[int]:
    """Yield every descriptor in all control messages of one datagram."""
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            rights = array.array("i")
            rights.frombytes(content[: len(content) - len(content) % rights.itemsize])
            yield from rights


def _recvmsg(sock: socket.socket, limit: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
    """Call ``recvmsg``; twice after ECONNRESET.

    The kernel reports a reset (the peer closed with something of ours unread) before the refusal that the
    peer had sent first. Source: Linux net/unix/af_unix.c, unix_release_sock; net/core/datagram.c.
    """
    try:
        return sock.recvmsg(limit, DESCRIPTOR_ROOM, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return sock.recvmsg(limit, DESCRIPTOR_ROOM, socket.MSG_CMSG_CLOEXEC)
