"""vds.workers: what becomes of requests when no thread can be started (RLIMIT_NPROC)."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable

import pytest

from protocol.vdisk.status import WireErrno
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench

Make = Callable[..., Bench]


class Limit:
    """No thread can be started while it is ``reached``; counts those that could not."""

    def __init__(self) -> None:
        self.reached = False
        self.refused = 0
        self._start = threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        """In place of ``Thread.start``."""
        if self.reached:
            self.refused += 1
            raise RuntimeError("can't start new thread")
        self._start(thread)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """The limit, not reached yet."""
    limit = Limit()
    monkeypatch.setattr(threading.Thread, "start", lambda thread: limit.start(thread))
    return limit


@pytest.fixture
def held() -> HeldBackend:
    """A backend whose calls the test can hold up."""
    return HeldBackend()


@pytest.fixture
async def make(held: HeldBackend) -> AsyncIterator[Make]:
    """Makes benches for ``held`` and takes them apart again."""
    benches: list[Bench] = []

    def make(options: str = "") -> Bench:
        benches.append(Bench(held, options))
        return benches[-1]

    yield make
    held.gate.set()
    for bench in benches:
        bench.close()


async def test_without_any_thread_a_request_is_answered_eagain(
    make: Make, held: HeldBackend, limit: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make("wce")
    limit.reached = True
    works = [bench.read("r"), bench.read("s"), bench.write("w", 4096, bytes(128 * 1024))]
    await bench.until("r", "s", "w")
    assert limit.refused == 3
    assert [work.status for work in works] == [WireErrno.EAGAIN] * 3
    assert [work.count for work in works] == [0] * 3
    assert bench.executor.pending == 0
    assert held.calls == []
    assert [record.getMessage() for record in caplog.records] == [
        "disk: no thread can be started (can't start new thread): requests that need one fail with EAGAIN"
    ]


async def test_what_was_answered_is_not_executed_later(make: Make, held: HeldBackend, limit: Limit) -> None:
    """The pool keeps what it could not start a thread for, and gives it to the first that starts."""
    bench = make()
    limit.reached = True
    bench.read("gone", 512)
    await bench.until("gone")
    limit.reached = False
    late = bench.read("r", 1024)
    await bench.until("r")
    assert (limit.refused, late.status, held.calls) == (1, 0, ["read 1024+512"])


async def test_a_batch_that_finds_no_thread_is_no_failed_flush(
    make: Make, held: HeldBackend, limit: Limit
) -> None:
    """Nothing was written, so nothing was lost."""
    bench = make()
    limit.reached = True
    lost = bench.write("w")
    bench.executor.kick()
    assert await bench.executor.flush() == 0  # there is no cache
    await bench.until("w")
    assert (lost.status, limit.refused, bench.executor.medium.failed) == (WireErrno.EAGAIN, 1, False)
    limit.reached = False
    late = bench.write("v")
    bench.executor.kick()
    await bench.until("v")
    assert (late.status, held.calls) == (0, ["write 0+512", "flush"])


async def test_the_threads_there_are_do_what_finds_no_other(
    make: Make, held: HeldBackend, limit: Limit, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make()
    held.gate.clear()
    bench.read("r")
    await bench.begun(held)
    limit.reached = True
    bench.read("s", 512)
    bench.write("w", 1024)
    bench.executor.kick()
    held.gate.set()
    await bench.until("r", "s", "w")
    assert limit.refused == 2
    assert [bench.works[name].status for name in "rsw"] == [0, 0, 0]
    assert held.calls == ["read 0+512", "read 512+512", "write 1024+512", "flush"]
    assert [record.getMessage() for record in caplog.records] == [
        "disk: no thread can be started (can't start new thread): requests wait for those there are"
    ]
