"""vds.server: what is opened, what is said, and the order in which all of it ends."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from protocol.errors import ConfigError
from protocol.vdisk.operations import Operation
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.caller import Caller
from vds import server as server_module
from vds.config import make_config
from vds.export import Export
from vds.server import Server, reserve_descriptors
from vds.volume import Volume
from vds.work import Work

Serve = Callable[..., Server]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the server listens."""
    return tmp_path / "vds.sock"


@pytest.fixture
async def serve(path: Path) -> AsyncIterator[Serve]:
    """Starts servers; those still running are stopped."""
    servers: list[Server] = []

    def serve(*volumes: str, **settings: object) -> Server:
        server = Server(make_config({"listen": str(path), "max_channels": 10, **settings}, volumes))
        server.start()
        servers.append(server)
        return server

    yield serve
    for server in servers:
        await server.stop()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldBackend:
    """The backend of every volume of the test."""
    backend = HeldBackend()

    def open_held(volume: Volume) -> Export:
        return Export(volume, backend)

    monkeypatch.setattr(server_module, "open_export", open_held)
    return backend


def _submit(server: Server, operation: Operation, offset: int = 0) -> tuple[Work, asyncio.Future[None]]:
    """Submit a request of nobody's to ``disk0``; the future is done when it is."""
    work = Work(operation)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work.offset, work.nbytes, work.buffers = offset, 512, [memoryview(bytearray(512))]
    work.port = "nobody"
    work.done = lambda _: done.set_result(None)
    server.exports["disk0"].executor.submit(work)
    server.exports["disk0"].executor.kick()
    return work, done


async def test_ready_in_one_line(serve: Serve, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    serve("disk0=memory:256M", "disk1=null:1G,ro")
    assert caplog.messages[-1] == (
        f"ready: 2 volumes on {path}: disk0 (256.0 MiB, memory, rw), disk1 (1.0 GiB, null, ro)"
    )
    caller = Caller(path)
    caller.hello("disk1")
    await caller.answer()
    caller.close()


async def test_stop_closes_everything(serve: Serve, path: Path, held: HeldBackend) -> None:
    server = serve("disk0=held")
    caller = Caller(path)
    caller.hello()
    await caller.answer()
    assert await server.stop()
    await caller.gone()
    caller.close()
    assert held.closed
    assert path.name not in os.listdir(path.parent)


async def test_stop_waits_for_what_runs(serve: Serve, held: HeldBackend, path: Path) -> None:
    server = serve("disk0=held")
    silent = Caller(path)
    connected = Caller(path)
    connected.hello()
    await connected.answer()  # so the one before it was accepted
    held.gate.clear()
    work, done = _submit(server, Operation.BWRITE)
    await asyncio.to_thread(held.wait_begun)
    stopping = asyncio.ensure_future(server.stop())
    await silent.gone()  # the first thing that a stop does
    assert not done.done()
    held.gate.set()
    await done
    assert await stopping
    assert held.calls[:2] == ["write 0+512", "flush"]
    assert work.status == 0
    assert held.closed
    silent.close()
    connected.close()


async def test_stop_gives_up_in_the_end(
    serve: Serve, held: HeldBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "LAST_WORDS_S", 0.01)
    server = serve("disk0=held,wce", stop_timeout=0.01)
    held.gate.clear()
    _submit(server, Operation.BREAD)
    await asyncio.to_thread(held.wait_begun)
    assert not await server.stop()
    assert "some requests were left without an answer" in caplog.text
    assert not held.closed
    held.gate.set()


async def test_paused_requests_do_not_hold_up_the_stop(
    serve: Serve, held: HeldBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pause").touch()
    server = serve(f"disk0=held,pause-file={tmp_path / 'pause'}", stop_timeout=60.0)
    _submit(server, Operation.BREAD)
    assert not await server.stop()
    assert "1 requests were left without an answer" in caplog.text
    assert held.calls == []


async def test_stop_flushes_the_write_cache(serve: Serve, held: HeldBackend) -> None:
    server = serve("disk0=held,wce")
    _submit(server, Operation.BWRITE)
    assert await server.stop()
    assert held.calls == ["write 0+512", "flush"]


async def test_failed_last_flush_is_no_clean_stop(serve: Serve, held: HeldBackend) -> None:
    held.failures["flush"] = OSError(5, "lost")
    server = serve("disk0=held,wce")
    _submit(server, Operation.BWRITE)
    assert not await server.stop()


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    listen = str(tmp_path / "vds.sock")
    with pytest.raises(FileNotFoundError):
        Server(make_config({"listen": listen, "max_channels": 10}, [f"a={image}", f"b={tmp_path}/none"]))
    with pytest.raises(ConfigError):
        Server(make_config({"listen": listen, "max_channels": 10}, [f"a={image}", "b=null:1"]))
    with pytest.raises(OSError, match="is not a socket"):
        Server(make_config({"listen": str(image), "max_channels": 10}, [f"a={image}"]))
    assert os.listdir("/proc/self/fd") == before
    assert not (tmp_path / "vds.sock").exists()


async def test_a_server_that_cannot_poll_says_so_first(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    serve("disk0=null:1M")
    assert caplog.messages[0] == "polling is off: there is one processor only"


def test_descriptors_are_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (100, 1000)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[which])
    monkeypatch.setattr(resource, "setrlimit", lambda which, values: limits.update({which: values}))
    reserve_descriptors(100, 1)
    assert limits == {resource.RLIMIT_NOFILE: (64 + 1 + 2 * 200, 1000)}
    with pytest.raises(
        OSError, match=r"4096 channels need 8457 open files, the limit is 1000.*--max-channels"
    ):
        reserve_descriptors(4096, 1)
    limits[resource.RLIMIT_NOFILE] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    reserve_descriptors(65536, 1)
    assert limits[resource.RLIMIT_NOFILE][0] == resource.RLIM_INFINITY
