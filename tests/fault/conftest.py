"""One server that all hostile peers attack, and what is checked after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import VdsServer
from tests.support.hostile import GoodClient, Peer, descriptors
from tests.support.waiting import wait_until

MiB = 1024 * 1024


class Victim:
    """A server with a volume ``disk``, and good clients on it that never notice anything.

    ``disk`` is a file with a volatile write cache, ``slow`` one whose requests wait while ``pause`` exists;
    those of ``late`` take a millisecond.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.image = folder / "disk.img"
        self.image.write_bytes(bytes(16 * MiB))
        self.pause = folder / "pause"
        slow = folder / "slow.img"
        slow.write_bytes(bytes(16 * MiB))
        volumes = {
            "disk": f"{self.image},wce",
            "slow": f"{slow},pause-file={self.pause}",
            "late": "memory:16M,delay-read=1ms,delay-write=1ms",
            "ro": "memory:1M,ro",
        }
        self.vds = VdsServer(folder, volumes, *options).start()
        self.good = [GoodClient(self.vds.uri("disk", transport=way)) for way in ("shm", "socket")]
        self.quiet = descriptors(self.vds)

    @property
    def path(self) -> Path:
        """Where the server listens."""
        return self.vds.socket

    def check_service(self) -> None:
        """The good clients are served."""
        for client in self.good:
            client.do_100_requests()

    def check(self) -> None:
        """Good clients are served, old and new ones, and nothing of a bad one is left."""
        self.check_service()
        fresh = GoodClient(self.vds.uri("disk"))
        fresh.do_100_requests()
        fresh.close()
        wait_until(lambda: descriptors(self.vds) <= self.quiet, f"descriptors to come down to {self.quiet}")
        tracebacks = [line for line in self.vds.lines if "Traceback" in line or "Exception" in line]
        assert not tracebacks, "\n".join(self.vds.lines)

    def close(self) -> None:
        """End clients and server, which must be able to stop in order."""
        for client in self.good:
            client.close()
        assert self.vds.stop() == 0, "\n".join(self.vds.lines)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """The server of all tests in a module."""
    victim = Victim(tmp_path_factory.mktemp("victim"))
    yield victim
    victim.close()


@pytest.fixture(params=["shm", "socket"])
def transport(request: pytest.FixtureRequest) -> str:
    """Both transports, one after the other."""
    return str(request.param)


@pytest.fixture
def peer(victim: Victim, transport: str) -> Iterator[Peer]:
    """A connection of a hostile peer; after it, the server must be as good as before."""
    with Peer(victim.path, transport) as peer:
        yield peer
    victim.check()


@pytest.fixture
def running(peer: Peer) -> Peer:
    """A peer with a ring and a session."""
    return peer.reach("running")
