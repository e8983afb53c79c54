"""vds.execute: what runs where, in which order, and what comes out of it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from protocol.vdisk.operations import Operation
from protocol.vdisk.status import WireErrno
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench
from vds.backends.base import Backend, Spec
from vds.backends.file import FileBackend
from vds.backends.memory import MemoryBackend
from vds.layers import Layers

Make = Callable[..., Bench]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes benches and takes them apart again; a held backend is let go first."""
    benches: list[Bench] = []

    def make(backend: Backend, options: str = "", **settings: Callable[[], float]) -> Bench:
        benches.append(Bench(backend, options, **settings))
        return benches[-1]

    yield make
    for bench in benches:
        if isinstance(bench.backend, HeldBackend):
            bench.backend.gate.set()
        bench.close()


@pytest.fixture
def held() -> HeldBackend:
    """A backend whose calls the test can hold up."""
    return HeldBackend()


# -- at once -----------------------------------------------------------------------------------------------


async def test_cached_read_is_done_in_the_call(make: Make, held: HeldBackend) -> None:
    held.cached = True
    held.data[512:1024] = b"d" * 512
    bench = make(held)
    buffer = bytearray(512)
    assert bench.executor.read(512, 512, [memoryview(buffer)]) == 512
    assert buffer == b"d" * 512
    work = bench.read("r", 512)
    assert (bench.done, work.status, work.count) == (["r"], 0, 512)
    assert not bench.executor.pending


async def test_read_that_would_block_is_left_to_submit(make: Make, held: HeldBackend) -> None:
    bench = make(held)
    assert bench.executor.read(0, 512, [memoryview(bytearray(512))]) == -1
    assert held.calls == []
    work = bench.read("r")
    assert bench.executor.pending == 1
    await bench.until("r")
    assert (work.status, work.count, held.calls) == (0, 512, ["read 0+512"])
    assert not bench.executor.pending


async def test_error_at_once_is_judged_by_the_long_way(make: Make, held: HeldBackend) -> None:
    held.cached = True
    held.failures["read"] = OSError(errno.ENXIO, "gone")
    bench = make(held)
    assert bench.executor.read(0, 512, [memoryview(bytearray(512))]) == -1
    work = bench.read("r")
    await bench.until("r")
    assert (work.status, work.count) == (WireErrno.ENXIO, 0)
    assert len(held.calls) == 3  # at once for read(), at once and in a thread for submit()


async def test_memory_needs_no_thread_for_anything(make: Make) -> None:
    bench = make(MemoryBackend(Spec(target="1M")))
    bench.write("w", 4096, b"m" * 200_000)
    bench.flush("f")
    work = bench.read("r", 4096, 200_000)
    assert bench.done == ["w", "f", "r"]
    assert bytes(work.buffers[0]) == b"m" * 200_000


async def test_unknown_operation_is_answered(make: Make, held: HeldBackend) -> None:
    bench = make(held)
    assert bench.submit("x", Operation.GET_VTOC).status == WireErrno.ENOTSUP
    assert bench.done == ["x"]


async def test_owner_that_fails_in_a_thread_result_does_not_stop_the_others(
    make: Make, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make(held)
    held.gate.clear()
    bad = bench.read("bad")

    def fail(_: object) -> None:
        raise RuntimeError("owner's fault")

    bad.done = fail
    bench.read("good", 4096)
    held.gate.set()
    await bench.until("good")
    await bench.executor.drain()
    assert "owner's fault" in caplog.text


# -- writes without a cache --------------------------------------------------------------------------------


async def test_batch_of_writes_shares_one_flush(make: Make, held: HeldBackend) -> None:
    bench = make(held)
    for i in range(5):
        bench.write(f"w{i}", i * 512, bytes([i]) * 512)
    assert bench.done == []
    assert held.calls == []
    bench.executor.kick()
    await bench.until("w4")
    assert held.calls == [f"write {i * 512}+512" for i in range(5)] + ["flush"]
    assert bench.done == ["w0", "w1", "w2", "w3", "w4"]
    assert all(work.count == 512 for work in bench.works.values())


async def test_writes_that_come_meanwhile_are_the_next_batch(make: Make, held: HeldBackend) -> None:
    bench = make(held)
    held.gate.clear()
    bench.write("a")
    bench.executor.kick()
    await bench.begun(held)
    bench.write("b", 512)
    bench.executor.kick()
    bench.write("c", 1024)
    bench.flush("f")
    held.gate.set()
    await bench.until("a", "b", "c", "f")
    assert held.calls == ["write 0+512", "flush", "write 512+512", "write 1024+512", "flush"]


async def test_write_keeps_its_own_error(make: Make, held: HeldBackend) -> None:
    held.failures["write"] = OSError(errno.ENOSPC, "full")
    bench = make(held)
    write = bench.write("w")
    flush = bench.flush("f")
    bench.executor.kick()
    await bench.until("w", "f")
    assert (write.status, write.count, flush.status) == (WireErrno.ENOSPC, 0, 0)


async def test_write_error_is_not_hidden_by_a_failed_flush(make: Make, held: HeldBackend) -> None:
    held.failures = {"write": OSError(errno.ENOSPC, "full"), "flush": OSError(errno.EIO, "lost")}
    bench = make(held)
    write = bench.write("w")
    bench.executor.kick()
    await bench.until("w")
    assert write.status == WireErrno.ENOSPC


async def test_failed_flush_fails_its_batch_and_everything_after(
    make: Make, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    held.failures["flush"] = OSError(errno.ENOSPC, "full after all")
    bench = make(held)
    held.gate.clear()
    first = bench.write("first")
    bench.executor.kick()
    await bench.begun(held)
    collected = bench.write("collected", 512)
    held.gate.set()
    await bench.until("first", "collected")
    held.failures.clear()
    later = bench.write("later")
    flush = bench.flush("flush")
    assert bench.done == ["first", "collected", "later", "flush"]
    assert (first.status, first.count) == (WireErrno.ENOSPC, 0)
    assert [work.status for work in (collected, later, flush)] == [WireErrno.EIO] * 3
    assert held.calls == ["write 0+512", "flush"]
    assert await bench.executor.flush() == WireErrno.EIO
    read = bench.read("read")
    await bench.until("read")
    assert read.status == 0
    assert caplog.text.count("flush failed") == 1


async def test_surprise_in_a_thread_is_an_io_error(
    make: Make, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    held.failures = {"write": ZeroDivisionError("w"), "flush": ZeroDivisionError("f")}
    bench = make(held)
    write, flush = bench.write("w"), bench.flush("f")
    bench.executor.kick()
    await bench.until("w", "f")
    assert (write.status, flush.status) == (WireErrno.EIO, WireErrno.EIO)
    assert caplog.text.count("ZeroDivisionError") == 2


async def test_only_the_first_backend_error_is_news(
    make: Make, held: HeldBackend, caplog: pytest.LogCaptureFixture
) -> None:
    held.failures["read"] = OSError(errno.EIO, "bad sector")
    bench = make(held)
    bench.read("a")
    await bench.until("a")
    bench.read("b", 512)
    await bench.until("b")
    assert [r.levelname for r in caplog.records if "bad sector" in r.message][:1] == ["WARNING"]
    assert caplog.text.count("WARNING") == 1
    assert bench.executor.errors == 2


# -- writes with a cache -----------------------------------------------------------------------------------


class Clock:
    """Time that passes only while a backend is called: ``costs`` seconds each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.costs = 0.0

    def __call__(self) -> float:
        """Return the time; every second call is the end of a measurement."""
        self.now += self.costs
        return self.now


async def test_short_cached_write_is_done_at_once_and_flush_makes_it_stable(
    make: Make, held: HeldBackend
) -> None:
    bench = make(held, "wce")
    work = bench.write("w")
    assert (bench.done, work.count, held.calls) == (["w"], 512, ["write 0+512"])
    bench.flush("f")
    bench.executor.kick()
    await bench.until("f")
    assert held.calls == ["write 0+512", "flush"]


async def test_cached_write_at_once_reports_its_error(make: Make, held: HeldBackend) -> None:
    held.failures["write"] = OSError(errno.EROFS, "remounted")
    bench = make(held, "wce")
    assert bench.write("w").status == WireErrno.EROFS


@pytest.mark.parametrize(("nbytes", "inline"), [(64 * 1024, True), (64 * 1024 + 512, False)])
async def test_long_cached_write_goes_to_a_thread(
    make: Make, held: HeldBackend, nbytes: int, inline: bool
) -> None:
    bench = make(held, "wce")
    bench.write("w", 0, bytes(nbytes))
    assert (bench.done == ["w"]) is inline
    await bench.until("w")
    assert held.calls == [f"write 0+{nbytes}"]


async def test_slow_writes_move_to_threads_and_come_back(make: Make, held: HeldBackend) -> None:
    clock = Clock()
    bench = make(held, "wce", clock=clock)
    clock.costs = 0.010
    bench.write("slow")
    bench.write("next", 512)
    assert bench.done == ["slow"]
    await bench.until("next")
    clock.costs = 0.0
    clock.now += 1.0
    bench.write("again")
    assert bench.done == ["slow", "next", "again"]
    bench.write("quick", 512)
    assert bench.done[-1] == "quick"


async def test_cached_writes_do_not_fail_after_a_failed_flush_but_flushes_do(
    make: Make, held: HeldBackend
) -> None:
    held.failures["flush"] = OSError(errno.EIO, "lost")
    bench = make(held, "wce")
    first = bench.flush("f1")
    bench.executor.kick()
    await bench.until("f1")
    held.failures.clear()
    second = bench.flush("f2")
    assert (first.status, second.status) == (WireErrno.EIO, WireErrno.EIO)
    assert bench.write("w").status == 0
    assert held.calls == ["flush", "write 0+512"]


async def test_flush_of_the_executor_waits_for_the_backend(make: Make, held: HeldBackend) -> None:
    bench = make(held, "wce")
    assert await bench.executor.flush() == 0
    assert held.calls == ["flush"]
    held.failures["flush"] = OSError(errno.EIO, "lost")
    assert await bench.executor.flush() == WireErrno.EIO


async def test_flush_of_the_executor_survives_its_caller(make: Make, held: HeldBackend) -> None:
    bench = make(held, "wce")
    held.gate.clear()
    flushing = asyncio.ensure_future(bench.executor.flush())
    await bench.begun(held)
    flushing.cancel()
    held.gate.set()
    await bench.executor.drain()
    assert held.calls == ["flush"]
    assert flushing.cancelled()


async def test_flush_of_the_executor_has_nothing_to_do_without_a_cache(make: Make, held: HeldBackend) -> None:
    assert await make(held).executor.flush() == 0
    assert held.calls == []


async def test_read_only_flush_succeeds_at_once(make: Make, held: HeldBackend) -> None:
    held.read_only = True
    assert make(held).flush("f").status == 0
    assert held.calls == []


# -- overlap -----------------------------------------------------------------------------------------------


async def test_read_waits_for_the_write_it_overlaps(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held)
    held.gate.clear()
    bench.write("w", 512, b"n" * 1024)
    bench.executor.kick()
    await bench.begun(held)
    assert bench.executor.read(1024, 512, [memoryview(bytearray(512))]) == -1
    read = bench.read("r", 1024)
    held.gate.set()
    await bench.until("r")
    assert bench.done == ["w", "r"]
    assert bytes(read.buffers[0]) == b"n" * 512


async def test_read_beside_a_write_does_not_wait(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held)
    bench.write("w", 512)
    assert bench.executor.read(1024, 512, [memoryview(bytearray(512))]) == 512
    assert bench.executor.read(0, 512, [memoryview(bytearray(512))]) == 512
    bench.executor.kick()
    await bench.until("w")


async def test_overlapping_writes_keep_the_order_of_arrival_across_owners(
    make: Make, held: HeldBackend
) -> None:
    bench = make(held, "wce")
    held.gate.clear()
    nbytes = 128 * 1024  # too long to be done at once: four threads could take them in any order
    for i in range(8):
        bench.write(f"w{i}", i * 512, bytes([i]) * nbytes, port=i)
    await bench.begun(held)
    held.gate.set()
    await bench.until("w7")
    assert bench.done == [f"w{i}" for i in range(8)]
    assert held.data[: 9 * 512 : 512] == bytes([0, 1, 2, 3, 4, 5, 6, 7, 7])


async def test_long_chain_of_overlaps_does_not_exhaust_the_stack(make: Make, held: HeldBackend) -> None:
    bench = make(held, "wce")
    held.gate.clear()
    bench.write("first", 0, bytes(128 * 1024))
    await bench.begun(held)
    for i in range(2000):
        bench.write(f"w{i}")
    held.gate.set()
    await bench.until("w1999")
    assert bench.done == ["first"] + [f"w{i}" for i in range(2000)]


async def test_reads_do_not_wait_for_each_other(make: Make, held: HeldBackend) -> None:
    bench = make(held)
    held.gate.clear()
    bench.read("a")
    bench.read("b")
    await bench.begun(held, 2)
    held.gate.set()
    await bench.until("a", "b")


async def test_write_waits_for_a_read_under_way(make: Make, held: HeldBackend) -> None:
    bench = make(held, "wce")
    held.gate.clear()
    read = bench.read("r", 0, 4096)
    await bench.begun(held)
    bench.write("w", 512)
    assert bench.done == []
    held.gate.set()
    await bench.until("r", "w")
    assert bytes(read.buffers[0]) == bytes(4096)


# -- layers ------------------------------------------------------------------------------------------------


async def test_error_layer_fails_requests_without_the_backend(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held, "wce,error-rate=100%,error-errno=ENOSPC")
    assert bench.executor.read(0, 512, [memoryview(bytearray(512))]) == -1
    assert bench.read("r").status == WireErrno.ENOSPC
    assert bench.write("w").status == WireErrno.ENOSPC
    assert held.calls == []
    assert bench.export.layers.injected == {"read": 1, "write": 1}
    bench.flush("f")
    bench.executor.kick()
    await bench.until("f")
    assert bench.works["f"].status == 0


async def test_injected_flush_error_is_final_too(make: Make, held: HeldBackend) -> None:
    bench = make(held, "wce,error-rate=100%,error-op=flush")
    assert bench.flush("f").status == WireErrno.EIO
    assert bench.executor.failed


async def test_injected_flush_error_reaches_the_writes_of_the_batch(make: Make, held: HeldBackend) -> None:
    bench = make(held, "error-rate=100%,error-op=flush")
    work = bench.write("w")
    bench.executor.kick()
    await bench.until("w")
    assert (work.status, work.count) == (WireErrno.EIO, 0)


async def test_delay_holds_only_what_it_names(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held, "wce,delay-write=1ms")
    bench.write("w")
    bench.read("r", 4096)
    assert bench.done == ["r"]
    await bench.until("w")
    assert held.calls == ["read 4096+512", "write 0+512"]


async def test_drain_cuts_delays_short_and_executes(make: Make, held: HeldBackend) -> None:
    bench = make(held, "delay-read=1m,delay-write=1m,delay-flush=1m")
    bench.read("r")
    bench.write("w", 512)
    bench.flush("f")
    assert held.calls == []
    await bench.executor.drain()
    assert sorted(bench.done) == ["f", "r", "w"]
    assert sorted(held.calls) == ["flush", "read 0+512", "write 512+512"]


async def test_pause_holds_requests_until_it_is_over(
    make: Make, held: HeldBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.cached = True
    looks = iter([True] * 6 + [False] * 2)  # both requests look three times before the pause is over

    def look(layers: Layers) -> bool:
        held.calls.append("look")
        return next(looks)

    monkeypatch.setattr(Layers, "paused", property(look))
    bench = make(held, "pause-file=/any")
    bench.read("a")
    bench.read("b", 512)
    await bench.until("a", "b")
    assert bench.done == ["a", "b"]
    assert held.calls == ["look"] * 7 + ["read 0+512", "look", "read 512+512"]
    assert next(looks, None) is None


# -- the end -----------------------------------------------------------------------------------------------


async def test_drain_of_an_owner_drops_what_it_has_not_begun(
    make: Make, held: HeldBackend, tmp_path: Path
) -> None:
    pause = tmp_path / "pause"
    bench = make(held, f"delay-flush=1m,pause-file={pause}")
    held.gate.clear()
    bench.write("running", 0, port="gone")
    bench.executor.kick()
    await bench.begun(held)
    bench.write("blocked", 0, port="gone")
    bench.write("waits for blocked", 0, port="stays")
    bench.write("batched", 4096, port="gone")
    bench.flush("delayed", port="gone")
    pause.touch()
    bench.read("paused", 8192, port="gone")
    bench.read("other", 16384, port="stays")
    draining = asyncio.ensure_future(bench.executor.drain("gone"))
    await bench.until("blocked", "batched", "delayed", "paused")
    assert not draining.done()
    assert all(bench.works[name].cancelled for name in ("blocked", "batched", "delayed", "paused"))
    assert bench.works["blocked"].status == WireErrno.ECANCELED
    held.gate.set()
    await draining
    pause.unlink()
    assert bench.works["running"].status == 0
    await bench.until("other", "waits for blocked")
    assert "write 4096+512" not in held.calls
    assert held.calls.count("write 0+512") == 2
    await bench.executor.drain("gone")
    assert not bench.executor.pending


async def test_owner_that_leaves_frees_those_that_waited_for_it(make: Make, held: HeldBackend) -> None:
    bench = make(held, "delay-write=1m")
    bench.write("mine", port="gone")
    bench.read("yours", port="stays")
    assert held.calls == []
    await bench.executor.drain("gone")
    await bench.until("yours")
    assert held.calls == ["read 0+512"]


async def test_stop_ends_what_has_begun_and_begins_nothing(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held, "delay-write=1m")
    bench.write("delayed")
    bench.read("blocked")
    stopping = asyncio.ensure_future(bench.executor.stop())
    await bench.until("delayed", "blocked")
    bench.read("late", 4096)
    assert bench.executor.read(4096, 512, [memoryview(bytearray(512))]) == -1
    assert await stopping == 1
    assert held.calls == ["write 0+512", "flush", "read 0+512"]
    await bench.executor.drain("port")
    assert bench.works["late"].cancelled


async def test_stop_leaves_what_the_pause_layer_holds(make: Make, held: HeldBackend, tmp_path: Path) -> None:
    file = tmp_path / "pause"
    file.touch()
    bench = make(held, f"pause-file={file}")
    bench.read("paused")
    bench.write("blocked")
    assert await bench.executor.stop() == 2
    await bench.executor.drain("port")
    assert held.calls == []
    assert not bench.executor.pending


async def test_file_backend_end_to_end(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    bench = make(FileBackend(Spec(target=str(path))))
    bench.write("w", 4096, b"f" * 8192)
    bench.executor.kick()
    await bench.until("w")
    assert path.read_bytes()[4096:12288] == b"f" * 8192
    read = bench.read("r", 0, 16384)
    await bench.until("r")
    assert bytes(read.buffers[0]) == bytes(4096) + b"f" * 8192 + bytes(4096)
    assert bench.executor.read(4096, 512, [memoryview(bytearray(512))]) == 512


async def test_truncated_file_is_an_error_not_a_short_read(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"d" * (1 << 20))
    bench = make(FileBackend(Spec(target=str(path))))
    with path.open("r+b") as file:
        file.truncate(4096)
    assert bench.executor.read(2048, 4096, [memoryview(bytearray(4096))]) == -1
    work = bench.read("r", 2048, 4096)
    await bench.until("r")
    assert (work.status, work.count) == (WireErrno.EIO, 0)
