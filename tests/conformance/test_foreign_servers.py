"""Our client against servers of other makes: Solaris' vds and OpenBSD's vdsp, as scripts of raw octets.

The scripts (``tests/vectors/README.md``) compare every octet that our commands and library send, and end with
1 at the first that no client may send. They count what they saw; a test that counts nothing fails.
"""

import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from errno import EIO, ENOTSUP
from pathlib import Path

import pytest

import vdc
from protocol.errors import DiskError
from tests.support.askclient import Asker
from tests.support.daemons import VdcServer, run
from tests.support.foreignserver import ForeignServer
from tests.vectors.octets import raw
from vdc.sync import Disk

BLOCK = 512
BLOCKS = 6147
SIZE = BLOCKS * BLOCK
TAIL = b"what is no whole block is no part of the disk"
GET_WCE, GET_VTOC, GET_DISKGEOM, SCSICMD, GET_CAPACITY = 0x04, 0x06, 0x08, 0x0A, 0x11

MAKES = ("solaris", "openbsd")
TRANSPORTS = ("shm", "socket")
FAULTS = {
    "solaris": ("reset@9", "nack@30", "hangup@60", "reset@61"),
    "openbsd": ("reset@9", "hangup@30", "reset@60", "reset@61"),
}
FACTS = {
    "solaris": {
        "max_transfer": 128 * 1024,
        "operations": (
            "BREAD BWRITE FLUSH GET_WCE SET_WCE GET_VTOC SET_VTOC GET_DISKGEOM SET_DISKGEOM GET_DEVID "
            "GET_EFI SET_EFI GET_CAPACITY"
        ),
    },
    "openbsd": {
        "max_transfer": 64 * 1024,
        "operations": "BREAD BWRITE FLUSH GET_WCE SET_WCE GET_VTOC SET_VTOC GET_DISKGEOM",
    },
}
RPM = {"solaris": 7200, "openbsd": 3600}

each_server = pytest.mark.parametrize(
    ("make", "transport"), [(make, transport) for make in MAKES for transport in TRANSPORTS]
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file that ends in less than a block."""
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(str(tmp_path)).randbytes(SIZE) + TAIL)
    return path


@contextmanager
def serving(make: str, transport: str, image: Path, *faults: str) -> Iterator[ForeignServer]:
    """A server, which in the end has found nothing wrong, and has left the odd octets alone."""
    server = ForeignServer(make, transport, image, *faults)
    with server:
        yield server
        if server.is_running:
            counts = server.counts()
            assert counts["packets"] > 20
            assert (counts["COPYs"] > 0) == (transport == "socket")
            assert (counts["resets"], counts["resubmitted"] >= len(faults)) == (len(faults), True)
    assert image.read_bytes()[SIZE:] == TAIL


def work(disk: Disk, image: Path, seed: int, rounds: int) -> None:
    """Reads and writes at all sorts of places, eight at a time, then all that is there against a model."""
    dice = random.Random(seed)
    model = bytearray(disk.pread(0, SIZE))
    assert model == image.read_bytes()[:SIZE]
    for number in range(rounds):
        tokens: dict[int, bytes | None] = {}
        starts = dice.sample(range(0, BLOCKS - 16, 16), 8)
        for start in starts:
            offset, nbytes = start * BLOCK, dice.randint(1, 16) * BLOCK
            if dice.random() < 0.5:
                model[offset : offset + nbytes] = dice.randbytes(nbytes)
                tokens[disk.submit_write(offset, bytes(model[offset : offset + nbytes]))] = None
            else:
                tokens[disk.submit_read(offset, nbytes)] = bytes(model[offset : offset + nbytes])
        while tokens:
            for token, result in disk.wait():
                assert result == tokens.pop(token)
        if number % 4 == 0:
            disk.flush()
    for count in (1, 2, 255):  # to the last block, which ends no transfer evenly
        model[SIZE - count * BLOCK :] = dice.randbytes(count * BLOCK)
        disk.pwrite(SIZE - count * BLOCK, bytes(model[SIZE - count * BLOCK :]))
        assert disk.pread(SIZE - 300 * BLOCK, 300 * BLOCK) == model[SIZE - 300 * BLOCK :]
    disk.flush()
    assert disk.pread(0, SIZE) == model
    assert image.read_bytes() == model + TAIL


@pytest.mark.slow
@each_server
def test_commands_copy_both_ways(make: str, transport: str, image: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    back.write_bytes(random.Random(7).randbytes(SIZE))
    with serving(make, transport, image) as server:
        info = json.loads(run(sys.executable, "-m", "vdc", "info", server.uri, "--json"))
        assert (info["version"], info["size"], info["block_size"]) == ("1.1", SIZE, BLOCK)
        assert (info["extensions"], info["read_only"]) == ([], False)
        facts = FACTS[make]
        assert {**facts, "operations": str(facts["operations"]).split()} == {key: info[key] for key in facts}
        run(sys.executable, "-m", "vdc", "copy", "--verify", server.uri, out)
        assert out.read_bytes() == image.read_bytes()[:SIZE]
        run(sys.executable, "-m", "vdc", "copy", "--verify", back, server.uri)
        assert image.read_bytes()[:SIZE] == back.read_bytes()


@each_server
def test_library_reads_and_writes(make: str, transport: str, image: Path) -> None:
    with serving(make, transport, image) as server, vdc.connect(server.uri) as disk:
        geometry = disk.geometry()
        assert (geometry.ncyl, geometry.acyl, geometry.pcyl) == (8, 2, 10)
        assert (geometry.nhead, geometry.nsect, geometry.rpm) == (1, 600, RPM[make])
        assert disk.capacity() == (BLOCK, BLOCKS)
        work(disk, image, 1, 40)
        assert disk.counters["connections"] == 1


@each_server
def test_requests_are_sent_again_after_every_kind_of_reset(make: str, transport: str, image: Path) -> None:
    """The server checks that what it had not answered comes first, oldest first."""
    with serving(make, transport, image, *FAULTS[make]) as server, vdc.connect(server.uri) as disk:
        work(disk, image, 2, 20)
        assert disk.counters["connections"] == 1 + len(FAULTS[make])
        assert disk.counters["resubmitted"] >= len(FAULTS[make])


@each_server
def test_server_that_dies_is_met_again(make: str, transport: str, image: Path) -> None:
    """It dies with requests unanswered, and another one takes its place on the same socket."""
    first = ForeignServer(make, transport, image, "die@50")
    second = ForeignServer(make, transport, image)

    def replace() -> int:
        assert first.wait() == 9
        (dying,) = first.wait_for(r"dying with (\d+) requests unanswered")
        second.start()
        return int(dying[1])

    with first, vdc.connect(first.uri) as disk, ThreadPoolExecutor(1) as helper:
        unanswered = helper.submit(replace)
        try:
            tokens = [disk.submit_write(n * BLOCK, bytes([n]) * BLOCK) for n in range(100)]
            assert sorted(disk.wait(100)) == [(token, None) for token in tokens]
            assert disk.counters["resubmitted"] >= unanswered.result() > 0
            work(disk, image, 3, 10)
            counts = second.counts()
        finally:
            second.stop()
    assert (counts["sessions"], counts["requests"] > 100) == (1, True)


@each_server
def test_nbd_programs_use_it_all_the_same(make: str, transport: str, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(make, transport, image, "reset@20") as server:
        with VdcServer(server.uri, tmp_path) as nbd:
            run("nbdcopy", nbd.nbd_uri, out)
            assert out.read_bytes() == image.read_bytes()[:SIZE]
            script = ("-c", "write -P 0x5a 512 70000", "-c", "flush", "-c", "read -P 0x5a 512 69632")
            assert "Pattern verification failed" not in run("qemu-io", "-f", "raw", *script, nbd.nbd_uri)
        assert image.read_bytes()[512 : 512 + 69632] == b"\x5a" * 69632


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_solaris_refuses_a_length_that_an_operation_cannot_have(transport: str, image: Path) -> None:
    """NACK and full reset; our client sends the request again each time, as Solaris' does."""
    server = ForeignServer("solaris", transport, image)
    with server:
        disk = Asker(server.uri)
        assert disk.ask(GET_CAPACITY, 24, connections=3) is None
        counts = server.counts()
    assert counts["refused"] >= 3
    assert counts["resets"] == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_solaris_answers_what_it_does_not_offer_and_a_label_that_is_not_there(
    transport: str, image: Path
) -> None:
    with serving("solaris", transport, image) as server:
        disk = Asker(server.uri)
        for operation, nbytes in ((SCSICMD, 56), (GET_WCE, 8)):
            error = disk.ask(operation, nbytes)
            assert isinstance(error, DiskError)
            assert error.errno == ENOTSUP
        text = b"SUN-DiskImage-3MB cyl 8 alt 2 hd 1 sec 600"
        vtoc = bytes(8) + raw("02 00 00 08") + text.ljust(128, b"\0") + bytes(4 + 48)
        vtoc += raw("00 05 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 12 c0")
        assert disk.ask(GET_VTOC, 336) == vtoc.ljust(336, b"\0")
        for _ in range(20):
            assert disk.ask(GET_CAPACITY, 16) == raw("00 00 02 00 00 00 00 00  00 00 00 00 00 00 18 03")
        disk.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_openbsd_has_numbers_and_a_label_of_its_own(transport: str, image: Path) -> None:
    """Its ENOTSUP is 91, which means nothing in Solaris' numbers of disk errors; its text begins at 16."""
    with serving("openbsd", transport, image) as server:
        disk = Asker(server.uri)
        for operation, nbytes in ((SCSICMD, 56), (GET_WCE, 8), (GET_CAPACITY, 16)):
            error = disk.ask(operation, nbytes)
            assert isinstance(error, DiskError)
            assert error.errno == EIO
        for _ in range(20):
            geometry = disk.ask(GET_DISKGEOM, 24)
            assert geometry == raw("00 08 00 02 00 00 00 01 02 58 00 00 00 00 0e 10 00 0a 00 00 00 00 00 00")
        text = b"OpenBSD-DiskImage-3MB cyl 8 alt 2 hd 1 sec 600"
        vtoc = bytes(8) + raw("02 00 00 08") + bytes(4) + text.ljust(128, b"\0") + bytes(48)
        vtoc += raw("00 05 00 00 00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 12 c0")
        assert disk.ask(GET_VTOC, 336) == vtoc.ljust(336, b"\0")
        disk.close()


@pytest.mark.parametrize("make", MAKES)
def test_a_foreign_server_notices_a_wrong_octet(make: str, image: Path, tmp_path: Path) -> None:
    """The transport, here: a hello for the other one."""
    server = ForeignServer(make, "socket", image)
    with server:
        run(
            *(sys.executable, "-m", "vdc", "info", server.uri.replace("transport=socket", "transport=shm")),
            codes=(1,),
        )
        assert server.wait() == 1
        server.wait_for("Mismatch: HELLO: differs at offset 17")
