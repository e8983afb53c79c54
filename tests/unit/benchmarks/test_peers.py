"""Which peers there are, how they are started, and what they need."""

from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.subject import Settings
from benchmarks.workload import MiB

SETTINGS = Settings(
    place=Path("/data/x"), sockets=Path("/run/x"), size=16 * MiB, seconds=1, warmup=0.1, seed=1, loop="uvloop"
)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any of the programs."""
    monkeypatch.setattr("shutil.which", lambda program: None)


@pytest.mark.usefixtures("nothing_installed")
def test_what_is_missing_is_named_by_its_debian_package() -> None:
    assert peers.missing_packages([]) == [
        *("fio", "gcc", "libc6-dev", "libnbd-dev", "nbdkit", "pkgconf", "qemu-system-common", "qemu-utils")
    ]


@pytest.mark.usefixtures("nothing_installed")
def test_what_is_left_out_needs_nothing() -> None:
    missing = peers.missing_packages(["qemu-nbd", "qemu-storage-daemon", "nbdkit file"])
    assert "nbdkit" in missing, "nbdkit memory needs it still"
    assert "qemu-utils" not in missing
    assert "qemu-system-common" not in missing
    assert "nbdkit" not in peers.missing_packages([peer.name for peer in peers.PEERS])


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_a_server_listens_in_the_runs_own_place_and_serves_the_image(peer: peers.Peer) -> None:
    server = peers.peer_server(peer, SETTINGS, Path("/run/x/a,b"))
    assert server.listen == Path(f"/run/x/{peer.name.replace(' ', '-')}.sock")
    assert any(str(server.listen) in word for word in server.command)
    assert any("/run/x/a" in word for word in server.command) == peer.counts
    assert peer.program in server.command


def test_a_comma_in_a_name_is_not_an_option_of_qemu() -> None:
    for peer in peers.PEERS:
        if peer.program.startswith("qemu"):
            server = peers.peer_server(peer, SETTINGS, Path("/run/x/a,b"))
            assert any("/run/x/a,,b" in word for word in server.command)
            assert any("locking=off" in word for word in server.command), "the others have it open too"


def test_memory_never_counts() -> None:
    assert [peer.name for peer in peers.PEERS if not peer.counts] == ["nbdkit memory"]
