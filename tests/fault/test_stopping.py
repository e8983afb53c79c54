"""Ends of the server, asked for and not: what its clients and its exit code say."""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Thread
from typing import Final

import pytest

import vdc
from tests.support.daemons import VdcServer, VdsServer, run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
MiB: Final = 1024 * 1024


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4 * MiB))
    return path


def test_term_cuts_delays_short_and_answers_what_was_taken(
    tmp_path: Path, image: Path, transport: str
) -> None:
    """Writes that would have waited a minute are done and acknowledged before the server ends, with 0."""
    with VdsServer(tmp_path, {"disk": f"{image},delay-write=60s,delay-read=60s"}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        tokens = [disk.submit_write(number * 4096, bytes([number + 1]) * 4096) for number in range(32)]
        assert disk.wait(0) == []
        with vdc.connect(vds.uri("disk", transport=transport)) as witness:
            witness.capacity()  # the server's loop has turned since, so it has taken the writes
        vds.signal(signal.SIGTERM)
        answers: dict[int, object] = {}
        while len(answers) < len(tokens):
            answers.update(disk.wait())
        assert vds.wait() == 0, "\n".join(vds.lines)
        assert answers == dict.fromkeys(tokens)
        assert disk.counters["resubmitted"] == 0
        disk.close()
    stored = image.read_bytes()
    assert stored[: 32 * 4096] == b"".join(bytes([number + 1]) * 4096 for number in range(32))


def test_what_is_held_back_when_the_server_stops_is_left_and_sent_again(
    tmp_path: Path, image: Path, transport: str
) -> None:
    """The exit code says that not everything was answered; the next server answers it."""
    pause = tmp_path / "pause"
    pause.touch()
    with VdsServer(tmp_path, {"disk": f"{image},pause-file={pause}"}) as vds:
        disk = vdc.connect(vds.uri("disk", transport=transport))
        tokens = [disk.submit_write(number * 4096, b"w" * 4096) for number in range(8)]
        disk.wait(0)
        with vdc.connect(vds.uri("disk", transport=transport)) as witness:
            witness.capacity()
        assert vds.stop() == 1
        vds.wait_for("8 requests were left without an answer")
        assert image.read_bytes() == bytes(4 * MiB)
        pause.unlink()
        vds.start()
        answers: list[int] = []
        while len(answers) < len(tokens):
            answers += [token for token, error in disk.wait() if error is None]
        assert sorted(answers) == tokens
        assert disk.counters["resubmitted"] == 8
        disk.close()


def test_an_idle_server_stops_with_clients_attached(tmp_path: Path, image: Path, transport: str) -> None:
    with VdsServer(tmp_path, {"disk": str(image)}) as vds:
        disks = [vdc.connect(vds.uri("disk", transport=transport)) for _ in range(5)]
        assert vds.stop() == 0
        assert not vds.socket.exists()
        for disk in disks:
            disk.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_stops_under_full_load(tmp_path: Path, image: Path, number: signal.Signals) -> None:
    """Every request is answered by this server or the next."""
    with VdsServer(tmp_path, {"disk": f"{image},wce"}) as vds:
        done: list[int] = []

        def load() -> None:
            with vdc.connect(vds.uri("disk")) as disk:
                while len(done) < 5000 or disk.counters["connections"] < 2:
                    tokens = [disk.submit_write(number * 4096, b"l" * 4096) for number in range(64)]
                    answers: dict[int, object] = {}
                    while len(answers) < len(tokens):
                        answers.update(disk.wait())
                    assert answers == dict.fromkeys(tokens)
                    done.extend(tokens)

        loader = Thread(target=load)
        loader.start()
        wait_until(lambda: len(done) > 1000, "some load")
        vds.signal(number)
        assert vds.wait() == 0, "\n".join(vds.lines)
        vds.start()
        loader.join()
        assert len(done) >= 5000


def test_the_nbd_daemon_outlives_its_server(tmp_path: Path, image: Path) -> None:
    with (
        VdsServer(tmp_path, {"disk": str(image)}) as vds,
        VdcServer(vds.uri("disk"), tmp_path) as front,
    ):
        run("qemu-io", "-f", "raw", "-c", "write -P 7 0 1M", front.nbd_uri)
        vds.kill()
        vds.start()
        run("qemu-io", "-f", "raw", "-c", "read -P 7 0 1M", front.nbd_uri)
        assert front.stop() == 0
