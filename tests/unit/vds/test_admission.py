"""vds.admission: the rendezvous, its limits, and the return of a client."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from hypervisor.rendezvous import Listener, Refused, Transport
from protocol.errors import ChannelLost
from protocol.vio.extensions import Extension
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.caller import Caller
from vds import admission as admission_module
from vds.admission import Admission
from vds.execute import Executor
from vds.export import Export
from vds.poller import Poller
from vds.volume import parse_volume

CLIENT = b"client".ljust(16)
SECRET = b"secret".ljust(16)


class Inn:
    """An admission with one export, ``disk0``, on a held backend; callers come through :meth:`call`."""

    def __init__(self, path: Path, *, max_channels: int = 10) -> None:
        loop = asyncio.get_running_loop()
        self.path = path
        self.backend = HeldBackend()
        self.export = Export(parse_volume("disk0=null:1M"), self.backend)
        self.pool = ThreadPoolExecutor(2)
        self.export.executor = Executor(self.export, self.pool, loop)
        self.listener = Listener(path)
        self.admission = Admission(
            self.listener, {"disk0": self.export}, Poller(loop, 0), poll_us=7, max_channels=max_channels
        )
        self.admission.open()
        self.callers: list[Caller] = []

    def call(self) -> Caller:
        """Connect another caller."""
        self.callers.append(Caller(self.path))
        return self.callers[-1]

    async def close(self) -> None:
        """End everything."""
        self.backend.gate.set()
        for caller in self.callers:
            caller.close()
        self.admission.close()
        for session in list(self.admission.sessions):
            await session.stop("test is over")
        self.pool.shutdown()


Make = Callable[..., Inn]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes an inn and closes it."""
    async with AsyncExitStack() as stack:

        def make(**settings: int) -> Inn:
            inn = Inn(tmp_path / "vds.sock", **settings)
            stack.push_async_callback(inn.close)
            return inn

        yield make


async def test_client_is_welcomed(make: Make) -> None:
    inn = make()
    caller = inn.call()
    caller.hello()
    welcome = await caller.answer()
    assert (welcome.instance, welcome.poll_us) == (inn.backend.instance, 7)
    assert welcome.extensions == Extension.POLLED_RING
    assert len(inn.admission.sessions) == 1


async def test_other_transport_other_extensions(make: Make) -> None:
    caller = make().call()
    caller.hello(transport=Transport.SOCKET)
    assert (await caller.answer()).extensions == Extension.INLINE


async def test_session_ends_when_the_client_hangs_up(make: Make) -> None:
    inn = make()
    caller = inn.call()
    caller.hello()
    await caller.answer()
    (session,) = inn.admission.sessions
    caller.close()
    await session.closed
    again = inn.call()
    again.hello()
    await again.answer()
    assert len(inn.admission.sessions) == 1


async def test_unknown_volume(make: Make) -> None:
    caller = make().call()
    caller.hello("../disk0")
    with pytest.raises(Refused, match=r"no volume '../disk0' here") as caught:
        await caller.answer()
    assert caught.value.errno == errno.ENOENT
    await caller.gone()


async def test_memory_that_could_shrink(make: Make) -> None:
    caller = make().call()
    fd = os.memfd_create("plain")
    try:
        os.ftruncate(fd, 65536)
        caller.hello(fd=fd)
        with pytest.raises(Refused, match=r"not sealed|cannot be sealed") as caught:
            await caller.answer()
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EINVAL


async def test_memory_of_another_size(make: Make) -> None:
    caller = make().call()
    caller.hello(size=128 * 1024)
    with pytest.raises(Refused, match="were announced"):
        await caller.answer()


async def test_garbage_is_refused_and_logged_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    inn = make()
    caller = inn.call()
    caller.sock.send(os.urandom(100))
    caller.sock.send(os.urandom(100))
    await caller.gone()
    assert caplog.text.count(f"refused process {os.getpid()}") == 1
    assert not inn.admission.sessions


async def test_silent_client_is_dropped(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admission_module, "RENDEZVOUS_LIMIT_S", 0.01)
    caller = make().call()
    await caller.gone()
    assert "silent for 0.01 s" in caplog.text


async def test_client_that_hangs_up_before_the_hello(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    inn = make()
    inn.call().close()
    caller = inn.call()
    caller.hello()
    await caller.answer()
    assert not caplog.records


async def test_silent_connections_do_not_keep_an_honest_client_out(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admission_module, "PENDING_LIMIT", 3)
    inn = make()
    silent = [inn.call() for _ in range(4)]
    honest = inn.call()
    honest.hello()
    await honest.answer()
    await silent[0].gone()
    assert "too many connections in rendezvous" in caplog.text


async def test_full_house(make: Make) -> None:
    inn = make(max_channels=1)
    first, second = inn.call(), inn.call()
    first.hello()
    await first.answer()
    second.hello()
    with pytest.raises(Refused, match="all 1 channels are in use") as caught:
        await second.answer()
    assert caught.value.errno == errno.EBUSY


async def test_user_who_is_not_listed(tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    inn = make()
    object.__setattr__(inn.listener, "allow_uids", frozenset({os.geteuid() + 1}))
    caller = inn.call()
    with pytest.raises(Refused, match="is not served here"):
        await caller.answer()
    assert f"refused user {os.geteuid()}" in caplog.text


async def test_out_of_descriptors_is_a_pause(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(admission_module, "FULL_RETRY_S", 0.01)
    inn = make()
    real = inn.listener.accept
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def accept() -> object:
        if failures:
            raise failures.pop()
        return real()

    monkeypatch.setattr(inn.listener, "accept", accept)
    caller = inn.call()
    caller.hello()
    await caller.answer()
    assert "Too many open files" in caplog.text


async def test_close_during_a_pause(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    inn = make()
    failed = asyncio.Event()

    def accept() -> None:
        failed.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(inn.listener, "accept", accept)
    with closing(inn.call()):
        await failed.wait()
        inn.admission.close()
        assert not inn.path.exists()


async def test_close_hangs_up_on_who_is_in_rendezvous(make: Make) -> None:
    inn = make()
    caller = inn.call()
    served = inn.call()
    served.hello()
    await served.answer()
    inn.admission.close()
    await caller.gone()
    assert not inn.path.exists()
    assert inn.admission.sessions


# -- who a client is ---------------------------------------------------------------------------------------


async def test_client_that_comes_back_replaces_its_session(make: Make) -> None:
    inn = make()
    first, second = inn.call(), inn.call()
    first.hello(client_id=CLIENT, secret=SECRET)
    await first.answer()
    (old,) = inn.admission.sessions
    second.hello(client_id=CLIENT, secret=SECRET)
    await second.answer()
    assert old.closed.done()
    await first.gone()
    assert len(inn.admission.sessions) == 1


async def test_other_secret_is_another_client(make: Make) -> None:
    inn = make()
    first, second = inn.call(), inn.call()
    first.hello(client_id=CLIENT, secret=SECRET)
    await first.answer()
    second.hello(client_id=CLIENT, secret=b"guess".ljust(16))
    with pytest.raises(Refused, match="client id is in use") as caught:
        await second.answer()
    assert caught.value.errno == errno.EPERM
    (session,) = inn.admission.sessions
    assert not session.closed.done()


class _Stuck:
    """Stands for a session whose request is in the backend until ``free`` is set."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.free = asyncio.Event()

    async def stop(self, reason: str) -> None:
        """End when free."""
        await self.free.wait()
        if not self.closed.done():
            self.closed.set_result(None)


async def _with_stuck_session(inn: Inn, monkeypatch: pytest.MonkeyPatch) -> _Stuck:
    """Let a client in whose session then cannot end."""
    stuck = _Stuck()
    caller = inn.call()
    caller.hello(client_id=CLIENT, secret=SECRET)
    await caller.answer()
    (session,) = inn.admission.sessions
    monkeypatch.setattr(session, "stop", stuck.stop)
    monkeypatch.setattr(session, "closed", stuck.closed)
    return stuck


async def test_client_waits_until_its_old_session_has_ended(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    inn = make()
    stuck = await _with_stuck_session(inn, monkeypatch)
    caller = inn.call()
    caller.hello(client_id=CLIENT, secret=SECRET)
    other = inn.call()
    other.hello()
    await other.answer()  # meanwhile others come in
    waiting = asyncio.ensure_future(caller.answer())
    assert not waiting.done()
    stuck.free.set()
    await waiting


async def test_client_does_not_wait_for_ever(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "RENDEZVOUS_LIMIT_S", 0.02)
    inn = make()
    stuck = await _with_stuck_session(inn, monkeypatch)
    caller = inn.call()
    caller.hello(client_id=CLIENT, secret=SECRET)
    with pytest.raises(Refused, match="still in the backend") as caught:
        await caller.answer()
    assert caught.value.errno == errno.EBUSY
    stuck.free.set()


async def test_clients_that_wait_are_not_without_number(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "PENDING_LIMIT", 2)
    inn = make()
    stuck = await _with_stuck_session(inn, monkeypatch)
    waiting = []
    for _ in range(2):
        caller = inn.call()
        caller.hello(client_id=CLIENT, secret=SECRET)
        waiting.append(asyncio.ensure_future(caller.answer()))
    open_now: list[int] = []
    for _ in range(2):
        caller = inn.call()
        caller.hello(client_id=CLIENT, secret=SECRET)
        with pytest.raises(Refused, match="too many") as caught:
            await caller.answer()
        assert caught.value.errno == errno.EBUSY
        caller.close()
        open_now.append(len(os.listdir("/proc/self/fd")))
    assert open_now[0] == open_now[1]
    stuck.free.set()
    await asyncio.wait(waiting)
    for answer in waiting:
        answer.exception()


@pytest.mark.parametrize("transport", [Transport.SHM, Transport.SOCKET])
async def test_client_that_waits_when_the_server_stops(
    make: Make, monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    inn = make()
    stuck = await _with_stuck_session(inn, monkeypatch)
    asked = asyncio.Event()
    real_stop = stuck.stop

    async def stop(reason: str) -> None:
        asked.set()
        await real_stop(reason)

    (session,) = inn.admission.sessions
    monkeypatch.setattr(session, "stop", stop)
    caller = inn.call()
    caller.hello(client_id=CLIENT, secret=SECRET, transport=transport)
    await asked.wait()
    inn.admission.close()
    with pytest.raises(ChannelLost):
        await caller.answer()
    stuck.free.set()


async def test_client_that_hangs_up_while_it_waits(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    inn = make()
    stuck = await _with_stuck_session(inn, monkeypatch)
    caller = inn.call()
    caller.hello(client_id=CLIENT, secret=SECRET)
    other = inn.call()
    other.hello()
    await other.answer()
    caller.close()
    stuck.free.set()
    last = inn.call()
    last.hello(client_id=CLIENT, secret=SECRET)
    await last.answer()
