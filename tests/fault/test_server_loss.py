"""A server that dies, is restarted, stays away, or comes back as another: what vdc's callers see of it."""

from __future__ import annotations

import errno
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

import vdc
from protocol.errors import DiskError
from tests.support.daemons import VdcServer, VdsServer
from tests.support.waiting import more_written, still, wait_until

KILLS = 5
MiB = 1024 * 1024


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(64 * MiB))
    return path


@pytest.fixture(params=["shm", "socket"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def counts(vdc_server: VdcServer, pattern: str) -> list[int]:
    """The numbers that ``pattern`` finds in what vdc has logged."""
    return [int(match[1]) for line in vdc_server.lines if (match := re.search(pattern, line))]


def test_fio_does_not_notice_that_the_server_is_killed_five_times(
    tmp_path: Path, image: Path, transport: str
) -> None:
    """Every kill finds requests in flight and every one of them is sent again, or the test proves nothing."""
    hold = tmp_path / "hold"
    with (
        VdsServer(tmp_path, {"disk": f"{image},wce,delay-write=2ms,pause-file={hold}"}) as vds,
        VdcServer(vds.uri("disk", transport=transport), tmp_path, "--log-level=info") as front,
    ):
        fio = subprocess.Popen(
            [
                "fio",
                "--name=verify",
                "--ioengine=nbd",
                f"--uri={front.nbd_uri}",
                "--rw=randwrite",
                "--bs=4k",
                "--iodepth=16",
                "--size=64M",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--do_verify=1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
        )
        try:
            for number in range(KILLS):
                wait_until(more_written(vds.pid, MiB), "writes to reach the server")
                hold.touch()  # the server takes requests and answers none: fio's queue fills up there
                wait_until(still(vds.pid), "the server to hold what it has")
                assert fio.poll() is None, "fio ended before the last kill: nothing was tested"
                vds.kill()
                hold.unlink()
                front.wait_for("lost the server", count=number + 1)
                vds.start()
                front.wait_for("running again", count=number + 1)
            output, _ = fio.communicate(timeout=120)
        finally:
            fio.kill()
            fio.wait()
        assert fio.returncode == 0, output
        assert "err= 0" in output
        in_flight = counts(front, r"lost the server .* (\d+) requests unanswered")
        again = counts(front, r"running again .* (\d+) requests resubmitted")
        assert len(in_flight) == len(again) == KILLS
        assert all(in_flight), f"a kill found nothing in flight: {in_flight}"
        assert again == in_flight


@pytest.fixture
def pause(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pause"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def test_the_only_request_ever_made_is_sent_again(
    tmp_path: Path, image: Path, transport: str, pause: Path
) -> None:
    """Slot 0, nothing ever answered: "none yet" must not look like "0 was the last"."""
    image.write_bytes(b"slot zero".ljust(512, b".") + bytes(64 * MiB - 512))
    with VdsServer(tmp_path, {"disk": f"{image},pause-file={pause}"}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        token = disk.submit_read(0, 512)
        assert disk.wait(0) == []
        vds.kill()
        pause.unlink()
        vds.start()
        ((answered, data),) = disk.wait()
        assert answered == token
        assert isinstance(data, bytes)
        assert data.startswith(b"slot zero")
        assert disk.counters["resubmitted"] == 1
        disk.close()


def test_a_program_that_only_looks_finds_the_server_that_is_back(
    tmp_path: Path, image: Path, transport: str
) -> None:
    with VdsServer(tmp_path, {"disk": str(image)}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        vds.kill()
        token = disk.submit_write(0, b"seen" * 128)
        assert disk.wait(0) == []
        vds.start()
        answers: list[object] = []

        def look() -> bool:
            answers.extend(disk.wait(0))
            return bool(answers)

        wait_until(look, "the answer")
        assert answers == [(token, None)]
        disk.close()


def test_every_request_is_answered_once_and_the_oldest_write_first(
    tmp_path: Path, image: Path, transport: str, pause: Path
) -> None:
    """Overlapping writes that wait in a paused server end, after its death, as they were submitted."""
    with VdsServer(tmp_path, {"disk": f"{image},pause-file={pause}"}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        tokens = [disk.submit_write(0, bytes([number]) * 4096) for number in range(1, 65)]
        disk.wait(0)
        vds.kill()
        pause.unlink()
        vds.start()
        answers: list[int] = []
        while len(answers) < len(tokens):
            answers += [token for token, error in disk.wait() if error is None]
        assert sorted(answers) == tokens
        assert disk.counters["resubmitted"] == 64
        assert disk.pread(0, 4096) == bytes([64]) * 4096
        disk.close()


def test_a_server_that_stops_in_order_and_comes_back_is_not_noticed(
    tmp_path: Path, image: Path, transport: str
) -> None:
    with VdsServer(tmp_path, {"disk": str(image)}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        disk.pwrite(4096, b"before" * 1024 + bytes(2048))
        assert vds.stop() == 0
        vds.start()
        assert disk.pread(4096, 6 * 1024) == b"before" * 1024
        assert disk.counters["connections"] == 2
        disk.close()


def test_without_a_server_requests_fail_after_the_timeout_and_work_again_when_it_is_back(
    tmp_path: Path, image: Path, transport: str
) -> None:
    with VdsServer(tmp_path, {"disk": str(image)}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport, timeout=1))
        vds.kill()
        with pytest.raises(DiskError) as caught:
            disk.pread(0, 512)
        assert caught.value.errno == errno.EIO
        assert disk.state == "failed"
        with pytest.raises(DiskError):
            disk.pread(0, 512)  # at once now: nobody waits twice
        vds.start()

        def works() -> bool:
            try:
                return disk.pread(0, 512) == bytes(512)
            except DiskError:
                return False

        wait_until(works, "the disk to work again")
        disk.close()


def test_other_data_under_the_same_name_is_refused_until_the_disk_is_opened_again(
    tmp_path: Path, transport: str
) -> None:
    """A memory volume is empty after a restart: what was unanswered must not be sent onto it."""
    with VdsServer(tmp_path, {"disk": "memory:1M"}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        disk.pwrite(0, b"x" * 512)
        vds.kill()
        vds.start()
        with pytest.raises(DiskError) as caught:
            disk.pread(0, 512)
        assert caught.value.errno == errno.EIO
        assert disk.state == "replaced"
        with pytest.raises(OSError, match="replaced"):
            disk.buffer(512)
        disk.close()
        with vdc.connect(vds.uri("disk", transport=transport)) as again:
            assert again.pread(0, 512) == bytes(512)


def test_a_disk_cannot_be_opened_where_no_server_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such socket"):
        vdc.connect(f"vdisk+unix:///disk?socket={tmp_path / 'none.sock'}")


def test_opening_waits_for_a_server_as_long_as_it_is_told_to(tmp_path: Path, image: Path) -> None:
    vds = VdsServer(tmp_path, {"disk": str(image)})
    try:
        starter = Thread(target=vds.start)
        starter.start()
        with vdc.connect(vds.uri("disk"), wait_s=30) as disk:
            assert disk.pread(0, 512) == bytes(512)
        starter.join()
    finally:
        vds.stop()
