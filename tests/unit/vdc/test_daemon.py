"""``vdc serve`` without a process: its life from opening the disk to the last answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fakedisk import FakeDisk
from tests.support.nbdclient import READ, NbdClient, request
from tests.support.turns import turns, until
from vdc import daemon
from vdc.config import ServeConfig
from vdc.daemon import Interrupts, serve

MIB = 1 << 20


def config(path: Path, *, exit_with_parent: bool = False, stop_timeout_s: float = 30.0) -> ServeConfig:
    """Settings for a server at ``path``."""
    return ServeConfig.read(
        "vdisk+unix:///disk0?socket=/run/vds.sock",
        nbd=str(path),
        export=None,
        read_only=False,
        capture=None,
        poll_us=None,
        log_level="info",
        loop="asyncio",
        exit_with_parent=exit_with_parent,
        wait_s=1.0,
        stop_timeout_s=stop_timeout_s,
    )


@pytest.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDisk]:
    """The disk behind every URI."""
    stand_in = FakeDisk(MIB)

    async def opened(_target: object, *, wait_s: float, capture: object) -> FakeDisk:
        assert wait_s == 1.0
        assert capture is None
        return stand_in

    monkeypatch.setattr(daemon, "open_disk", opened)
    yield stand_in
    assert stand_in.is_closed


def term() -> None:
    """Send ourselves TERM."""
    os.kill(os.getpid(), signal.SIGTERM)


async def test_term_answers_what_runs(tmp_path: Path, disk: FakeDisk) -> None:
    said: list[str] = []
    disk.hold()
    task = asyncio.ensure_future(serve(config(tmp_path / "s"), said.append))
    await until(lambda: bool(said))
    async with NbdClient(tmp_path / "s") as client:
        await client.negotiate()
        await client.send(request(READ, 1, 0, 512))
        await until(lambda: len(disk.held) == 1)
        term()
        await until(lambda: not (tmp_path / "s").exists())
        assert not task.done()
        disk.release()
        assert await client.answer() == (0, 1)
    assert await task


async def test_second_term_ends_at_once(tmp_path: Path, disk: FakeDisk) -> None:
    said: list[str] = []
    disk.hold()
    task = asyncio.ensure_future(serve(config(tmp_path / "s"), said.append))
    await until(lambda: bool(said))
    async with NbdClient(tmp_path / "s") as client:
        await client.negotiate()
        await client.send(request(READ, 1, 0, 512))
        await until(lambda: len(disk.held) == 1)
        term()
        await until(lambda: not (tmp_path / "s").exists())
        term()
        assert not await task
        assert await client.is_closed()


async def test_requests_that_take_too_long_are_cut_off(tmp_path: Path, disk: FakeDisk) -> None:
    said: list[str] = []
    disk.hold()
    task = asyncio.ensure_future(serve(config(tmp_path / "s", stop_timeout_s=0.0), said.append))
    await until(lambda: bool(said))
    async with NbdClient(tmp_path / "s") as client:
        await client.negotiate()
        await client.send(request(READ, 1, 0, 512))
        await until(lambda: len(disk.held) == 1)
        term()
        assert not await task


async def test_term_while_the_server_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = asyncio.Event()

    async def never(_target: object, *, wait_s: float, capture: object) -> FakeDisk:
        opening.set()
        await asyncio.Event().wait()
        raise AssertionError(wait_s)

    monkeypatch.setattr(daemon, "open_disk", never)
    said: list[str] = []
    task = asyncio.ensure_future(serve(config(tmp_path / "s"), said.append))
    await opening.wait()
    term()
    assert await task
    assert said == []


async def test_end_of_the_parent_is_a_request_to_stop(
    tmp_path: Path, disk: FakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    try:
        monkeypatch.setattr(os, "getppid", lambda: parent.pid)
        said: list[str] = []
        task = asyncio.ensure_future(serve(config(tmp_path / "s", exit_with_parent=True), said.append))
        await until(lambda: bool(said))
        await turns(5)
        assert not task.done()
        parent.kill()
        assert await task
    finally:
        await parent.wait()
    assert disk.is_closed


async def test_interrupts_leave_nothing_behind() -> None:
    before = os.listdir("/proc/self/fd")
    with Interrupts(with_parent=True) as interrupts:
        term()
        await interrupts.asked.wait()
        assert not interrupts.insisted.is_set()
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_work_that_fails_is_not_hidden() -> None:
    async def fail() -> None:
        raise FileNotFoundError

    with Interrupts() as interrupts, pytest.raises(FileNotFoundError):
        await interrupts.unless(interrupts.asked, fail())
