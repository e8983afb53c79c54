"""A disk that is attached and not used costs nothing: no timer, no polling, no wake-up, on either side."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.daemons import Daemon, VdcServer, VdsServer, run
from tests.support.processes import used
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

IDLE_S = 10.0
MOST_CPU_NS = 50_000_000
"""Of both processes together, in that time."""

ASYNC = """
import asyncio, sys, vdc
async def main():
    async with await vdc.open(sys.argv[1]) as disk:
        await asyncio.gather(*(disk.pread(n * 4096, 4096) for n in range(16)))
        print("ready", file=sys.stderr, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
BLOCKING = """
import signal, sys, vdc
with vdc.connect(sys.argv[1]) as disk:
    for number in range(16):
        disk.pread(number * 4096, 4096)
    print("ready", file=sys.stderr, flush=True)
    signal.pause()
"""


@contextmanager
def attached(folder: Path, way: str, transport: str) -> Iterator[tuple[Daemon, Daemon]]:
    """A server, and a client that has read from it."""
    folder.mkdir()
    with VdsServer(folder, {"disk0": "memory:1M"}) as vds:
        uri = vds.uri("disk0", transport=transport)
        if way == "nbd":
            client: Daemon = VdcServer(uri, folder)
        else:
            client = Daemon(sys.executable, "-c", {"async": ASYNC, "blocking": BLOCKING}[way], uri)
        with client:
            if isinstance(client, VdcServer):
                run("nbdinfo", client.nbd_uri)
            yield vds, client


def test_an_idle_disk_uses_nothing_for_ten_seconds(tmp_path: Path) -> None:
    """Every kind of client on both transports, each with a server of its own, all in the same ten seconds."""
    cases = [(way, transport) for way in ("async", "blocking", "nbd") for transport in ("shm", "socket")]
    with ExitStack() as stack:
        pairs = {
            case: stack.enter_context(attached(tmp_path / f"{number}", *case))
            for number, case in enumerate(cases)
        }
        processes = [daemon.pid for pair in pairs.values() for daemon in pair]
        calm = 0
        last = [used(pid) for pid in processes]

        def is_calm() -> bool:
            nonlocal calm, last
            now = [used(pid) for pid in processes]
            calm, last = (calm + 1 if now == last else 0), now
            return calm >= 100  # half a second

        wait_until(is_calm, "what the last request has left behind to be done")
        before = {case: [used(daemon.pid) for daemon in pair] for case, pair in pairs.items()}
        time.sleep(IDLE_S)
        for case, pair in pairs.items():
            (server, client) = (
                used(daemon.pid) - was for daemon, was in zip(pair, before[case], strict=True)
            )
            assert (server + client).cpu_ns < MOST_CPU_NS, case
            assert (server.switches, client.switches) == (0, 0), case
