"""Connections that are no client's, or not the client's they say: refused or dropped, and nobody notices."""

from __future__ import annotations

import errno
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl
from pathlib import Path

import pytest

import vdc
from protocol.vdisk.operations import Operation
from tests.fault.conftest import Victim
from tests.support.daemons import VdsServer
from tests.support.hostile import STAGES, Heard, Peer, descriptors
from tests.support.waiting import wait_until

SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL
LIMITED = "import vds.admission, vds.cli; vds.admission.RENDEZVOUS_LIMIT_S = 0.2; vds.cli.main()"
"""``vds`` with less patience than the 10 s it has for its users."""


def expect_refused(peer: Peer, number: int, sentence: str) -> None:
    """An answer with this errno and sentence, then the end."""
    refused, text = peer.answer()
    assert (refused, sentence in text) == (number, True), (errno.errorcode[refused], text)
    assert peer.receive() == b""


def changed(hello: bytes, at: int, octets: str) -> bytes:
    """``hello`` with other octets at an offset."""
    new = bytes.fromhex(octets)
    return hello[:at] + new + hello[at + len(new) :]


@pytest.mark.parametrize("length", [1, 7, 8, 64, 65, 300])
def test_garbage_instead_of_a_hello_is_refused(peer: Peer, length: int) -> None:
    peer.raw(random.Random(length).randbytes(length))
    expect_refused(peer, errno.EPROTO, "")


@pytest.mark.parametrize(
    ("at", "octets", "sentence"),
    [
        (0, "00 02", "type 2"),
        (4, "00 00 00 45", "says 69 bytes"),
        (4, "ff ff ff ff", "says 4294967295 bytes"),
        (8, "4c 44 6f 6e", "expected HELLO"),
        (12, "00 02", "rendezvous version 2.0"),
        (12, "00 00", "rendezvous version 0.0"),
        (16, "00 03", "3 is not a valid Transport"),
        (16, "ff ff", "65535 is not a valid Transport"),
        (18, "00 00", "volume name"),
        (18, "ff ff", "volume name"),
        (64, "00", "volume name"),
        (64, "ff fe", "hello"),
    ],
)
def test_a_hello_that_is_wrong_somewhere_is_refused(peer: Peer, at: int, octets: str, sentence: str) -> None:
    peer.raw(changed(peer.hello(), at, octets), [peer.memory.fd] if peer.memory.fd is not None else ())
    expect_refused(peer, errno.EPROTO, sentence)


@pytest.mark.parametrize("length", [256, 1000, 60_000])
def test_a_volume_name_that_is_too_long_is_refused(peer: Peer, length: int) -> None:
    hello = changed(peer.hello(), 18, f"{length & 0xFFFF:04x}")[:64] + b"a" * length
    peer.raw(changed(hello, 4, f"{len(hello):08x}"))
    expect_refused(peer, errno.EPROTO, "too long")


@pytest.mark.parametrize("volume", ["nothing", "../disk", "disk/", "DISK", "d" * 255, "dïsk"])
def test_a_volume_that_is_not_served_is_refused_by_name(peer: Peer, volume: str) -> None:
    peer.volume = volume
    peer.raw(peer.hello(), [peer.memory.fd] if peer.memory.fd is not None else ())
    expect_refused(peer, errno.ENOENT, repr(volume))


@pytest.mark.parametrize("count", [0, 2, 3, 253])
def test_descriptors_are_counted(peer: Peer, count: int) -> None:
    """Shared memory passes one; what else comes is closed."""
    with tempfile.TemporaryFile() as file:
        peer.raw(peer.hello(), [file.fileno()] * (count or int(not peer.shared)))
    expect_refused(peer, errno.EPROTO, "descriptor")


@pytest.mark.parametrize("stage", STAGES[1:])
@pytest.mark.parametrize("count", [1, 2, 253])
def test_descriptors_after_the_rendezvous_never_arrive(peer: Peer, stage: str, count: int) -> None:
    """Refused by the kernel where it can (Linux 6.16), otherwise the end of the channel."""
    peer.reach(stage)
    with tempfile.TemporaryFile() as file:
        sent = peer.raw(bytes(64), [file.fileno()] * count)
    if sent is Heard.REFUSED_RIGHTS:
        peer.hang_up()
    else:
        peer.expect_closed()


class Memories:
    """Descriptors that are not the memory that was announced."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self.fds: list[int] = []

    def make(self, what: str) -> int:
        """The descriptor that ``what`` names."""
        fd = int(getattr(self, what.replace(" ", "_"))())
        self.fds.append(fd)
        return fd

    def _memfd(self, size: int, seals: int, flags: int = 0) -> int:
        fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING | flags)
        os.ftruncate(fd, size)
        fcntl(fd, F_ADD_SEALS, seals)
        return fd

    def not_sealed(self) -> int:
        return self._memfd(self._size, 0)

    def sealed_against_growing_only(self) -> int:
        return self._memfd(self._size, F_SEAL_GROW | F_SEAL_SEAL)

    def seals_that_can_be_added_to(self) -> int:
        return self._memfd(self._size, F_SEAL_GROW | F_SEAL_SHRINK)

    def smaller(self) -> int:
        return self._memfd(self._size - 8192, SEALS)

    def larger(self) -> int:
        return self._memfd(self._size + 8192, SEALS)

    def empty(self) -> int:
        return self._memfd(0, SEALS)

    def _file(self, folder: Path) -> int:
        fd, path = tempfile.mkstemp(dir=folder)
        os.unlink(path)
        os.truncate(fd, self._size)
        return fd

    def file_on_disk(self) -> int:
        return self._file(self._folder)

    def file_on_tmpfs(self) -> int:
        return self._file(Path("/dev/shm"))

    def device(self) -> int:
        return os.open("/dev/zero", os.O_RDWR)

    def pipe(self) -> int:
        reader, writer = os.pipe()
        self.fds.append(writer)
        return reader

    def read_only(self) -> int:
        fd = self._memfd(self._size, SEALS)
        self.fds.append(fd)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)


@pytest.fixture
def shared(victim: Victim) -> Iterator[Peer]:
    """A hostile peer with shared memory."""
    with Peer(victim.path, "shm") as peer:
        yield peer
    victim.check()


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("not sealed", "not sealed"),
        ("sealed against growing only", "not sealed"),
        ("seals that can be added to", "not sealed"),
        ("smaller", "were announced"),
        ("larger", "were announced"),
        ("empty", "were announced"),
        ("file on disk", "no memory that can be sealed"),
        ("device", "no memory that can be sealed"),
        ("pipe", "no memory that can be sealed"),
        ("read only", "cannot be mapped"),
    ],
)
def test_memory_that_could_kill_the_server_is_refused(
    shared: Peer, tmp_path: Path, what: str, sentence: str
) -> None:
    expect_memory_refused(shared, tmp_path, what, sentence)


def test_a_file_on_tmpfs_is_refused_as_memory(shared: Peer, tmp_path: Path) -> None:
    """It answers to seals as memory does, and has none but one."""
    expect_memory_refused(shared, tmp_path, "file on tmpfs", "not sealed")


def expect_memory_refused(shared: Peer, tmp_path: Path, what: str, sentence: str) -> None:
    """The descriptor is refused with a sentence."""
    memories = Memories(tmp_path, shared.memory.size)
    fd = memories.make(what)
    try:
        shared.raw(shared.hello(), [fd])
        expect_refused(shared, errno.EINVAL, sentence)
    finally:
        for each in memories.fds:
            os.close(each)


@pytest.mark.parametrize("size", [0, 1, 8192, 12345, 1 << 40, (1 << 64) - 1])
def test_a_memory_size_that_cannot_be_is_refused_before_anything_is_mapped(shared: Peer, size: int) -> None:
    assert shared.memory.fd is not None
    shared.raw(changed(shared.hello(), 24, f"{size:016x}"), [shared.memory.fd])
    expect_refused(shared, errno.EINVAL, f"memory of {size} bytes")


def test_memory_cannot_be_cut_short_once_it_was_accepted(shared: Peer) -> None:
    """The seals hold: no SIGBUS is to be had."""
    shared.reach("running")
    fd = shared.memory.fd
    assert fd is not None
    for size in (0, 4096, shared.memory.size - 8192):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    shared.expect_served(0, Operation.BREAD, 0, 65536)


def test_silence_ends_after_the_limit_and_others_come_in_meanwhile(tmp_path: Path) -> None:
    vds = VdsServer(tmp_path, {"disk": "memory:1M"})
    vds.argv = (sys.executable, "-c", LIMITED, *vds.argv[3:])
    with vds:
        quiet = descriptors(vds)
        silent = [Peer(vds.socket, "socket") for _ in range(20)]
        with vdc.connect(vds.uri("disk")) as disk:
            assert disk.pread(0, 512) == bytes(512)
        for peer in silent:
            assert peer.receive() == b""
            peer.close()
        vds.wait_for("silent for 0.2 s", count=20)
        wait_until(lambda: descriptors(vds) <= quiet, "descriptors to be closed")


@pytest.mark.slow
def test_silence_ends_after_ten_seconds(victim: Victim) -> None:
    with Peer(victim.path, "socket") as peer:
        assert peer.receive() == b""
    victim.vds.wait_for("silent for 10 s")
    victim.check()


def test_a_crowd_of_silent_connections_keeps_nobody_out(victim: Victim) -> None:
    """Above a hundred in rendezvous the oldest has to go."""
    crowd = [Peer(victim.path, "socket") for _ in range(150)]
    with vdc.connect(victim.vds.uri("disk")) as disk:
        assert disk.pread(4096 * 512, 512) == bytes(512)
    for peer in crowd[:51]:
        assert peer.receive() == b""
    for peer in crowd:
        peer.close()
    victim.check()


@pytest.mark.parametrize("stage", ["connected", "said hello", "running"])
def test_200_clients_that_vanish_leave_nothing_behind(victim: Victim, transport: str, stage: str) -> None:
    """Also when they vanish between their hello and the welcome; their ids can be used again."""
    identities = [(os.urandom(16), os.urandom(16)) for _ in range(200)]
    for identity in identities:
        with Peer(victim.path, transport, identity=identity) as peer:
            if stage == "said hello":
                peer.raw(peer.hello(), [peer.memory.fd] if peer.memory.fd is not None else ())
            else:
                peer.reach(stage)
    for identity in identities[::20]:
        with Peer(victim.path, transport, identity=identity) as peer:
            peer.reach("running")
    victim.check()


def test_a_user_who_is_not_allowed_is_refused_and_another_allowed(tmp_path: Path, transport: str) -> None:
    nobody = os.geteuid() + 12345
    with VdsServer(tmp_path, {"disk": "memory:1M"}, f"--allow-uid={nobody}") as vds:
        with Peer(vds.socket, transport) as peer:
            peer.raw(peer.hello())
            expect_refused(peer, errno.EACCES, f"user {os.geteuid()} is not served here")
        with pytest.raises(OSError, match="is not served here") as caught:
            vdc.connect(vds.uri("disk", transport=transport))
        assert caught.value.errno == errno.EACCES
        vds.wait_for("see --allow-uid", count=2)


def test_the_same_client_coming_back_fences_its_old_session(victim: Victim, transport: str) -> None:
    """Even with requests of the old one waiting in the volume: none of them happens after the welcome."""
    victim.pause.touch()
    try:
        with Peer(victim.path, transport, volume="slow") as old:
            old.reach("running")
            old.fill(b"zombie" * 100)
            for index in range(4):
                old.post(index, Operation.BWRITE, 8 * index, 512)
                old.announce(index)
            if transport == "socket":
                old.hear_copies(8)  # entry and data of each
            with Peer(victim.path, transport, volume="slow", identity=old.identity) as new:
                new.reach("running")
                old.expect_closed()
                victim.pause.unlink()
                new.expect_served(0, Operation.BREAD, 0, 32 * 512)
                assert new.data_bytes(32 * 512) == bytes(32 * 512)
    finally:
        victim.pause.unlink(missing_ok=True)
    victim.check()


def test_somebody_else_with_the_same_client_id_is_refused(victim: Victim, transport: str) -> None:
    with Peer(victim.path, transport) as old:
        old.reach("running")
        thief = (old.identity[0], os.urandom(16))
        with Peer(victim.path, transport, identity=thief) as new:
            new.raw(new.hello(), [new.memory.fd] if new.memory.fd is not None else ())
            expect_refused(new, errno.EPERM, "the secret is another client's")
        old.expect_served(0, Operation.BREAD, 0, 512)
    victim.check()
