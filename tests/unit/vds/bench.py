"""An executor on a workbench: an export of any backend, requests made in a line, their outcomes by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from protocol.vdisk.operations import Operation
from tests.unit.vds.backend import HeldBackend
from vds.backends.base import Backend
from vds.execute import Executor
from vds.export import Export
from vds.volume import parse_volume
from vds.work import Work


class Bench:
    """An export named ``disk`` with ``options``, its executor, and what has come out of it.

    ``done`` has the names of the finished requests, in order; ``works`` all requests by name.
    """

    def __init__(
        self, backend: Backend, options: str = "", clock: Callable[[], float] = perf_counter
    ) -> None:
        self.backend = backend
        self.export = Export(parse_volume("disk=null:1M" + (f",{options}" if options else "")), backend)
        self.pool = ThreadPoolExecutor(4)
        self.executor = Executor(self.export, self.pool, asyncio.get_running_loop(), clock=clock)
        self.export.executor = self.executor
        self.done: list[str] = []
        self.works: dict[str, Work] = {}
        self._news = asyncio.Event()

    def close(self) -> None:
        """Wait for the threads."""
        self.pool.shutdown(wait=True)
        self.export.close()

    def submit(
        self,
        name: str,
        operation: Operation,
        offset: int = 0,
        data: bytes = bytes(512),
        port: Hashable = "port",
    ) -> Work:
        """Submit a request of ``len(data)`` bytes; for a read only the length counts."""
        work = Work(operation)
        work.offset = offset
        work.nbytes = 0 if operation is Operation.FLUSH else len(data)
        work.buffers = [] if operation is Operation.FLUSH else [memoryview(bytearray(data))]
        work.port = port
        work.done = lambda _: self._finished(name)
        self.works[name] = work
        self.executor.submit(work)
        return work

    def read(self, name: str, offset: int = 0, nbytes: int = 512, port: Hashable = "port") -> Work:
        """Submit a read."""
        return self.submit(name, Operation.BREAD, offset, bytes(nbytes), port)

    def write(self, name: str, offset: int = 0, data: bytes = b"x" * 512, port: Hashable = "port") -> Work:
        """Submit a write; a ``kick`` may have to follow."""
        return self.submit(name, Operation.BWRITE, offset, data, port)

    def flush(self, name: str, port: Hashable = "port") -> Work:
        """Submit a flush; a ``kick`` may have to follow."""
        return self.submit(name, Operation.FLUSH, port=port)

    async def until(self, *names: str) -> None:
        """Wait until all of these are done."""
        while not set(names) <= set(self.done):
            self._news.clear()
            await self._news.wait()

    async def begun(self, backend: HeldBackend, count: int = 1) -> None:
        """Wait, without standing in the loop's way, until the backend was called so often."""
        await asyncio.to_thread(backend.wait_begun, count)

    def _finished(self, name: str) -> None:
        self.done.append(name)
        self._news.set()
