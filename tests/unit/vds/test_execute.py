"""vds.execute: what runs where, and what comes out of it."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from protocol.vdisk.operations import Operation
from protocol.vdisk.status import WireErrno
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.conftest import Make
from vds.backends.base import Spec
from vds.backends.file import FileBackend
from vds.backends.memory import MemoryBackend

# -- at once -----------------------------------------------------------------------------------------------


async def test_cached_read_is_done_in_the_call(make: Make, held: HeldBackend) -> None:
    held.cached = True
    held.data[512:1024] = b"d" * 512
    bench = make(held)
    buffer = bytearray(512)
    assert bench.executor.inline.read(512, 512, [memoryview(buffer)]) == 512
    assert buffer == b"d" * 512
    work = bench.read("r", 512)
    assert (bench.done, work.status, work.count) == (["r"], 0, 512)
    assert not bench.executor.pending


async def test_read_that_would_block_is_left_to_submit(make: Make, held: HeldBackend) -> None:
    bench = make(held)
    assert bench.executor.inline.read(0, 512, [memoryview(bytearray(512))]) == -1
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
    assert bench.executor.inline.read(0, 512, [memoryview(bytearray(512))]) == -1
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
    assert bench.executor.medium.errors == 2


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
    bench.write("as slow", 512)
    bench.write("next", 1024)
    assert bench.done == ["slow", "as slow"]
    await bench.until("next")
    clock.costs = 0.0
    clock.now += 1.0
    bench.write("again")
    assert bench.done == ["slow", "as slow", "next", "again"]
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


# -- a real file -------------------------------------------------------------------------------------------


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
    assert bench.executor.inline.read(4096, 512, [memoryview(bytearray(512))]) == 512


async def test_truncated_file_is_an_error_not_a_short_read(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"d" * (1 << 20))
    bench = make(FileBackend(Spec(target=str(path))))
    with path.open("r+b") as file:
        file.truncate(4096)
    assert bench.executor.inline.read(2048, 4096, [memoryview(bytearray(4096))]) == -1
    work = bench.read("r", 2048, 4096)
    await bench.until("r")
    assert (work.status, work.count) == (WireErrno.EIO, 0)
