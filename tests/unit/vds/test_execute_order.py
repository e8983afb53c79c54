"""vds.execute: which request waits for which, for a layer, and for the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from protocol.vdisk.status import WireErrno
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.conftest import Make
from vds.layers import Layers

# -- overlap -----------------------------------------------------------------------------------------------


async def test_read_waits_for_the_write_it_overlaps(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held)
    held.gate.clear()
    bench.write("w", 512, b"n" * 1024)
    bench.executor.kick()
    await bench.begun(held)
    assert bench.executor.inline.read(1024, 512, [memoryview(bytearray(512))]) == -1
    read = bench.read("r", 1024)
    held.gate.set()
    await bench.until("r")
    assert bench.done == ["w", "r"]
    assert bytes(read.buffers[0]) == b"n" * 512


async def test_read_beside_a_write_does_not_wait(make: Make, held: HeldBackend) -> None:
    held.cached = True
    bench = make(held)
    bench.write("w", 512)
    assert bench.executor.inline.read(1024, 512, [memoryview(bytearray(512))]) == 512
    assert bench.executor.inline.read(0, 512, [memoryview(bytearray(512))]) == 512
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
    assert bench.executor.inline.read(0, 512, [memoryview(bytearray(512))]) == -1
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
    assert bench.executor.medium.failed


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
    assert bench.executor.inline.read(4096, 512, [memoryview(bytearray(512))]) == -1
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
