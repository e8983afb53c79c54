"""The rendezvous from both ends: what is agreed, what is refused, and that no descriptor stays behind."""

from __future__ import annotations

import array
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor.credentials import SO_PASSRIGHTS, refuse_descriptors
from hypervisor.greeting import SENTENCE_LIMIT, build_answer
from hypervisor.rendezvous import (
    Hello,
    Listener,
    Pending,
    Refused,
    Transport,
    Welcome,
    connect,
    receive_answer,
    send_hello,
)
from protocol.errors import ChannelLost, LocalProtocolError, PacketError, Reaction
from protocol.vio.extensions import Extension

from .conftest import Sockets, open_descriptors

pytestmark = pytest.mark.usefixtures("no_leak")

WELCOME = Welcome(extensions=Extension.INLINE, instance=b"i" * 16, poll_us=50)

#: docs/transport.md: a hello for volume "vol1" over the socket transport that offers INLINE.
HELLO_HEX = (
    "0001 0000 00000044 4c446f6d 0001 0000 0002 0004 00000002 0000000000000000"
    "63636363636363636363636363636363 73737373737373737373737373737373 766f6c31"
)
WELCOME_HEX = (
    "0002 0000 00000048 4c446f6d 0001 0000 00000000 00000002 00000032 00000000"
    "69696969696969696969696969696969" + "00" * 24
)
REFUSAL_HEX = (
    "0002 0000 0000004f 4c446f6d 0001 0000 00000002 00000000 00000000 00000007"
    + "00" * 40
    + "6e6f20646973 6b"
)


def hello(transport: Transport = Transport.SOCKET, volume: str = "vol1", memory_size: int = 0) -> Hello:
    return Hello(
        volume=volume,
        transport=transport,
        client_id=b"c" * 16,
        secret=b"s" * 16,
        memory_size=memory_size,
        extensions=Extension.INLINE,
    )


def send_with(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send a datagram with descriptors, however many."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights)


@pytest.fixture
def pending(sockets: Sockets) -> Iterator[Pending]:
    """Return the server's end of a connection; the client's is ``sockets[0]``."""
    made = Pending(sockets[1])
    yield made
    made.close()


class TestHello:
    def test_bytes_are_the_documented_ones(self, sockets: Sockets) -> None:
        send_hello(sockets[0], hello(), None)
        assert sockets[1].recv(4096) == bytes.fromhex(HELLO_HEX)

    def test_documented_bytes_are_understood(self, sockets: Sockets, pending: Pending) -> None:
        assert pending.receive() is None
        sockets[0].send(bytes.fromhex(HELLO_HEX))
        assert pending.receive() == (hello(), None)

    def test_descriptor_arrives_closed_on_exec(self, sockets: Sockets, pending: Pending) -> None:
        with open(os.devnull) as file:
            send_hello(sockets[0], hello(Transport.SHM, memory_size=16384), file.fileno())
            received = pending.receive()
            assert received is not None
            got, fd = received
            assert got == hello(Transport.SHM, memory_size=16384)
            assert fd is not None
            assert os.fstat(fd).st_rdev == os.fstat(file.fileno()).st_rdev
            listing = "import os; print(sorted(os.listdir('/proc/self/fd')))"
            child = subprocess.run(
                [sys.executable, "-c", listing], close_fds=False, stdout=subprocess.PIPE, check=True
            )
            os.close(fd)
        assert repr(str(fd)).encode() not in child.stdout

    def test_peer_is_known_from_the_kernel(self, pending: Pending) -> None:
        assert pending.peer == (os.getpid(), os.getuid(), os.getgid())
        assert pending.fileno() >= 0

    def test_unknown_extensions_are_left_out(self, sockets: Sockets, pending: Pending) -> None:
        data = bytearray.fromhex(HELLO_HEX)
        data[20:24] = b"\xff\xff\xff\xff"
        sockets[0].send(data)
        received = pending.receive()
        assert received is not None
        assert received[0].extensions == Extension.POLLED_RING | Extension.INLINE

    @pytest.mark.parametrize("volume", ["../../etc/passwd", "a" * 255, "ä" * 127, "x", "a\nb"])
    def test_name_is_only_a_name(self, sockets: Sockets, pending: Pending, volume: str) -> None:
        send_hello(sockets[0], hello(volume=volume), None)
        received = pending.receive()
        assert received is not None
        assert received[0].volume == volume

    @pytest.mark.parametrize("volume", ["", "a\0b", "a" * 256, "ä" * 128])
    def test_bad_name_is_not_sent(self, sockets: Sockets, volume: str) -> None:
        with pytest.raises(LocalProtocolError, match="volume name"):
            send_hello(sockets[0], hello(volume=volume), None)

    @pytest.mark.parametrize(("client_id", "secret"), [(b"short", b"s" * 16), (b"c" * 16, b"s" * 17)])
    def test_ids_are_16_bytes(self, sockets: Sockets, client_id: bytes, secret: bytes) -> None:
        bad = replace(hello(), client_id=client_id, secret=secret)
        with pytest.raises(LocalProtocolError, match="hv_hello"):
            send_hello(sockets[0], bad, None)

    def test_descriptor_goes_with_shm_and_nothing_else(self, sockets: Sockets) -> None:
        with pytest.raises(LocalProtocolError, match="transport SHM"):
            send_hello(sockets[0], hello(), 0)
        with pytest.raises(LocalProtocolError, match="transport SHM"):
            send_hello(sockets[0], hello(Transport.SHM), None)


def changed(offset: int, patch: str, *, text: bytes | None = None) -> bytes:
    """Return the hello with ``patch`` at ``offset``; ``text`` in place of the name, lengths to match."""
    data = bytearray.fromhex(HELLO_HEX)
    if text is not None:
        data[64:] = text
        data[18:20] = len(text).to_bytes(2, "big")
        data[4:8] = len(data).to_bytes(4, "big")
    new = bytes.fromhex(patch)
    data[offset : offset + len(new)] = new
    return bytes(data)


BAD_HELLOS = {
    "one byte": b"\0",
    "a packet": bytes(64),
    "a longer packet": bytes(72),
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
    "header only": bytes.fromhex("0001 0000 00000008"),
    "no name": changed(0, "", text=b""),
    "another record": changed(0, "0003"),
    "unknown record": changed(0, "00ff"),
    "length too small": changed(4, "00000043"),
    "length too large": changed(4, "ffffffff"),
    "other magic": changed(8, "4c446f6e"),
    "major 0": changed(12, "0000"),
    "major 2": changed(12, "0002"),
    "major 65535": changed(12, "ffff"),
    "transport 0": changed(16, "0000"),
    "transport 3": changed(16, "0003"),
    "name shorter than said": changed(18, "0005"),
    "name longer than said": changed(18, "0003"),
    "name of 65535 bytes": changed(18, "ffff"),
    "NUL in name": changed(0, "", text=b"a\0b"),
    "not UTF-8": changed(0, "", text=b"\xff\xfe"),
    "surrogate": changed(0, "", text=b"\xed\xa0\x80"),
    "name of 256 bytes": changed(0, "", text=b"a" * 256),
    "name of 4 KiB": changed(0, "", text=b"a" * 4096),
}


class TestHostileHello:
    @pytest.mark.parametrize("fds", [0, 1])
    @pytest.mark.parametrize("data", BAD_HELLOS.values(), ids=BAD_HELLOS.keys())
    def test_garbage_closes(self, sockets: Sockets, pending: Pending, data: bytes, fds: int) -> None:
        send_with(sockets[0], data, [0] * fds)
        before = open_descriptors()
        with pytest.raises(PacketError) as caught:
            pending.receive()
        assert caught.value.reaction is Reaction.CLOSE
        assert open_descriptors() == before

    @pytest.mark.parametrize("count", [1, 2, 253])
    @pytest.mark.parametrize("transport", Transport)
    def test_more_descriptors_than_announced_close(
        self, sockets: Sockets, pending: Pending, transport: Transport, count: int
    ) -> None:
        count += transport is Transport.SHM and count == 1
        send_with(sockets[0], changed(16, f"{transport:04x}"), [0] * count)
        before = open_descriptors()
        with pytest.raises(PacketError, match="descriptor"):
            pending.receive()
        assert open_descriptors() == before

    def test_shm_without_a_descriptor_closes(self, sockets: Sockets, pending: Pending) -> None:
        sockets[0].send(changed(16, "0001"))
        with pytest.raises(PacketError, match="0 descriptors passed with transport SHM"):
            pending.receive()

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_empty_datagram_is_a_hang_up(self, sockets: Sockets, pending: Pending, count: int) -> None:
        send_with(sockets[0], b"", [0] * count)
        before = open_descriptors()
        with pytest.raises((ChannelLost, PacketError)):
            pending.receive()
        assert open_descriptors() == before

    def test_credentials_are_no_descriptors(self, sockets: Sockets, pending: Pending) -> None:
        """Whatever else the kernel delivers is parsed and ignored, as far as it fits."""
        sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sockets[0].send(bytes.fromhex(HELLO_HEX))
        with pytest.raises(PacketError, match="too long"):  # 12 bytes of ucred in room for one descriptor
            pending.receive()

    def test_client_that_hangs_up_is_lost(self, sockets: Sockets, pending: Pending) -> None:
        sockets[0].close()
        with pytest.raises(ChannelLost, match="hung up"):
            pending.receive()
        with pytest.raises(ChannelLost, match="hung up"):
            pending.welcome(WELCOME)
        pending.refuse(errno.ENOENT, "nobody hears this")
        assert pending.fileno() == -1

    def test_client_that_resets_is_lost(self, sockets: Sockets, pending: Pending) -> None:
        sockets[1].send(b"unread")
        sockets[0].close()
        with pytest.raises(ChannelLost, match="hung up"):
            pending.receive()

    def test_socket_in_no_state_to_receive_is_lost(self, pending: Pending) -> None:
        pending.close()
        with pytest.raises(ChannelLost, match="Bad file descriptor"):
            pending.receive()


class TestAnswer:
    def test_bytes_are_the_documented_ones(self, sockets: Sockets, pending: Pending) -> None:
        assert pending.welcome(WELCOME) is sockets[1]
        assert sockets[0].recv(4096) == bytes.fromhex(WELCOME_HEX)
        pending.refuse(2, "no disk")
        assert sockets[0].recv(4096) == bytes.fromhex(REFUSAL_HEX)
        assert sockets[0].recv(4096) == b""

    def test_documented_bytes_are_understood(self, sockets: Sockets) -> None:
        assert receive_answer(sockets[0]) is None
        sockets[1].send(bytes.fromhex(WELCOME_HEX))
        assert receive_answer(sockets[0]) == WELCOME

    def test_refusal_carries_errno_and_sentence(self, sockets: Sockets) -> None:
        sockets[1].send(bytes.fromhex(REFUSAL_HEX))
        with pytest.raises(Refused, match="no disk") as caught:
            receive_answer(sockets[0])
        assert (caught.value.errno, caught.value.strerror) == (errno.ENOENT, "no disk")

    def test_sentence_cannot_steer_a_terminal(self, sockets: Sockets) -> None:
        sockets[1].send(build_answer(WELCOME, 5, "\x1b[2Jred\n"))
        with pytest.raises(Refused) as caught:
            receive_answer(sockets[0])
        assert caught.value.strerror == "?[2Jred?"

    def test_long_sentence_is_cut(self, sockets: Sockets, pending: Pending) -> None:
        pending.refuse(errno.EIO, "x" * 5000)
        with pytest.raises(Refused) as caught:
            receive_answer(sockets[0])
        assert caught.value.strerror == "x" * SENTENCE_LIMIT

    def test_refusal_is_heard_although_the_hello_was_not_read(
        self, sockets: Sockets, pending: Pending
    ) -> None:
        send_hello(sockets[0], hello(), None)
        pending.refuse(errno.EACCES, "not you")
        with pytest.raises(Refused, match="not you"):
            receive_answer(sockets[0])

    def test_refusal_is_heard_although_the_hello_came_too_late(
        self, sockets: Sockets, pending: Pending
    ) -> None:
        pending.refuse(errno.EACCES, "not you")
        send_hello(sockets[0], hello(), None)
        with pytest.raises(Refused, match="not you"):
            receive_answer(sockets[0])

    def test_server_that_hangs_up_is_lost(self, sockets: Sockets) -> None:
        sockets[1].close()
        with pytest.raises(ChannelLost, match="hung up"):
            receive_answer(sockets[0])

    @pytest.mark.parametrize(
        ("offset", "patch", "why"),
        [
            (0, "0001", "expected ANSWER"),
            (4, "00000047", "says 71 bytes"),
            (8, "00000000", "expected ANSWER"),
            (12, "0002", "version 2"),
            (20, "00000001", "not what was offered"),
            (20, "00000004", "not what was offered"),
            (28, "00000001", "sentence of 1 bytes"),
        ],
    )
    def test_garbage_closes(self, sockets: Sockets, offset: int, patch: str, why: str) -> None:
        data = bytearray.fromhex(WELCOME_HEX)
        new = bytes.fromhex(patch)
        data[offset : offset + len(new)] = new
        sockets[1].send(data)
        with pytest.raises(PacketError, match=why) as caught:
            receive_answer(sockets[0], Extension.INLINE)
        assert caught.value.reaction is Reaction.CLOSE

    @pytest.mark.parametrize("count", [1, 2, 253])
    def test_descriptors_from_the_server_close(self, sockets: Sockets, count: int) -> None:
        send_with(sockets[1], bytes.fromhex(WELCOME_HEX), [0] * count)
        before = open_descriptors()
        with pytest.raises(PacketError, match="descriptor"):
            receive_answer(sockets[0])
        assert open_descriptors() == before

    def test_longer_answer_closes(self, sockets: Sockets) -> None:
        sockets[1].send(build_answer(WELCOME, 5, "x" * SENTENCE_LIMIT) + b"x")
        with pytest.raises(PacketError, match="too long"):
            receive_answer(sockets[0])


class TestDescriptorsAfterTheHello:
    def test_kernel_refuses_them_where_it_can(self, sockets: Sockets, pending: Pending) -> None:
        send_hello(sockets[0], hello(), None)
        assert pending.receive() is not None
        try:
            refused = not sockets[1].getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
        except OSError:
            refused = False  # before Linux 6.16
        assert refuse_descriptors(sockets[1]) == refused
        try:
            send_with(sockets[0], b"x", [0])
        except PermissionError:
            assert refused
        else:
            assert not refused

    def test_other_sockets_cannot_refuse_them(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            assert not refuse_descriptors(other)


class TestConnect:
    def test_both_ends_meet(self, tmp_path: Path) -> None:
        listener = Listener(tmp_path / "s")
        assert listener.accept() is None
        client = connect(tmp_path / "s")
        send_hello(client, hello(), None)
        pending = listener.accept()
        assert pending is not None
        assert pending.receive() == (hello(), None)
        pending.welcome(WELCOME)
        assert receive_answer(client) == WELCOME
        assert not client.getblocking()
        for end in (client, pending, listener):
            end.close()

    @pytest.mark.parametrize(
        ("name", "number", "sentence"),
        [
            ("none", errno.ENOENT, "no such socket"),
            ("dead", errno.ECONNREFUSED, "no server listens"),
            ("stream", errno.EPROTOTYPE, "another kind of server"),
            ("file", errno.ECONNREFUSED, "not a socket"),
            ("x" * 108, errno.ENAMETOOLONG, "at most 107 bytes"),
        ],
    )
    def test_refusals_say_why_and_where(self, tmp_path: Path, name: str, number: int, sentence: str) -> None:
        (tmp_path / "file").touch()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(tmp_path / "dead"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.bind(str(tmp_path / "stream"))
            stream.listen()
            with pytest.raises(OSError, match=sentence) as caught:
                connect(tmp_path / name)
        assert caught.value.errno == number
        assert caught.value.filename == str(tmp_path / name)

    @pytest.mark.parametrize("path", ["", "\0abstract", "a\0b"])
    def test_what_is_no_path_is_refused(self, path: str) -> None:
        with pytest.raises(OSError, match="not a path of a socket"):
            connect(path)

    def test_full_backlog_is_said(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.bind(str(tmp_path / "s"))
            server.listen(0)
            first = connect(tmp_path / "s")
            with pytest.raises(BlockingIOError, match="too many connections"):
                connect(tmp_path / "s")
            first.close()

    def test_longest_path_works(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        listener = Listener("s" * 107)
        client = connect("s" * 107)
        for end in (client, listener):
            end.close()
