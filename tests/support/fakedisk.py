"""A disk in memory, with hooks: what the tests of front ends and of copying put in the place of ``vdc.Disk``.

It offers the callbacks of :class:`vdc.blockdisk.BlockDisk` and the coroutines of ``vdc.Disk``. Answers come
in a later turn of the loop, as a real disk's do. ``fail`` arms errors, ``hold`` keeps requests unanswered
until ``release``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from hypervisor.rendezvous import Transport
from protocol.errors import DiskError
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.extensions import Extension
from vdc.blockdisk import Done, ReadDone
from vdc.buffers import Buffer

__all__ = ["FakeDisk", "Held"]

Source = bytes | bytearray | memoryview

_OPERATIONS = {"read": Operation.BREAD, "write": Operation.BWRITE, "flush": Operation.FLUSH}


class Held(NamedTuple):
    """A request that waits for :meth:`FakeDisk.release`."""

    operation: str
    offset: int
    nbytes: int
    answer: Callable[[], None]


class FakeDisk:
    """``size`` bytes of zeroes; ``contents`` is the memory, ``log`` what was asked, in order.

    ``stable`` is what a power cut would leave: the contents at the last flush.
    """

    def __init__(
        self,
        size: int,
        *,
        block_size: int = 512,
        read_only: bool = False,
        volume: str = "disk0",
        views: bool = False,
    ) -> None:
        self.size = size
        self.block_size = block_size
        self.read_only = read_only
        self.volume = volume
        self.max_xfer = 1 << 20
        self.transport = Transport.SHM
        self.state = "running"
        self.version = (1, 2)
        self.extensions = Extension.POLLED_RING
        self.operations = 0x20102 if read_only else 0x2010E
        self.contents = bytearray(size)
        self.stable = bytes(size)
        self.log: list[tuple[str, int, int]] = []
        self.holding = False
        self.held: list[Held] = []
        self.instance = volume.encode().hex()
        self.lent = 0
        """Buffers not released."""
        self.is_closed = False
        self.counts: Counter[str] = Counter()
        self.immediate = False
        """Answer before ``submit_`` returns."""
        self.keep_log = True
        self._views = views
        self._errors: dict[str, list[tuple[int, int]]] = {}
        self._ready: list[Callable[[], None]] = []

    # Hooks ----------------------------------------------------------------------------------------

    def fail(self, operation: str, errno: int, *, after: int = 0, times: int = 1) -> None:
        """Let ``times`` requests of ``operation`` (read, write, flush) fail after ``after`` good ones."""
        self._errors.setdefault(operation, []).extend([(0, 0)] * after + [(errno, 1)] * times)

    def hold(self) -> None:
        """Keep what is asked from now on unanswered."""
        self.holding = True

    def release(self, *, newest_first: bool = False) -> None:
        """Answer all that was held, in order or in reverse, and hold no longer."""
        self.holding = False
        held, self.held = self.held, []
        for request in reversed(held) if newest_first else held:
            request.answer()

    def offers(self, operation: Operation) -> bool:
        """Whether the mask has it."""
        return bool(self.operations >> operation & 1)

    # Callbacks ------------------------------------------------------------------------------------

    def submit_read(self, offset: int, nbytes: int, callback: ReadDone) -> None:
        """Read; gives ``bytes``, or a view that ends with the call when made with ``views``."""
        self._check(offset, nbytes)

        def answer() -> None:
            error = self._error("read", offset, nbytes)
            if error is not None:
                callback(None, error)
            elif self._views:
                data = bytearray(self.contents[offset : offset + nbytes])
                with memoryview(data) as view:
                    callback(view, None)
            else:
                callback(bytes(memoryview(self.contents)[offset : offset + nbytes]), None)

        self._take("read", offset, nbytes, answer)

    def submit_write(self, offset: int, data: Source, callback: Done) -> None:
        """Write; the data is looked at when the request is answered, as late as a real disk might."""
        self._check(offset, len(data))

        def answer() -> None:
            error = self._error("write", offset, len(data))
            if error is None:
                self.contents[offset : offset + len(data)] = data
            callback(None, error)

        self._take("write", offset, len(data), answer)

    def submit_flush(self, callback: Done) -> None:
        """Remember the contents as stable."""

        def answer() -> None:
            error = self._error("flush", 0, 0)
            if error is None and self.keep_log:
                self.stable = bytes(self.contents)
            callback(None, error)

        self._take("flush", 0, 0, answer)

    def _take(self, operation: str, offset: int, nbytes: int, answer: Callable[[], None]) -> None:
        self.counts[operation] += 1
        if self.keep_log:
            self.log.append((operation, offset, nbytes))
        if self.holding:
            self.held.append(Held(operation, offset, nbytes, answer))
        elif self.immediate:
            answer()
        else:
            if not self._ready:
                asyncio.get_running_loop().call_soon(self._answer_all)
            self._ready.append(answer)

    def _answer_all(self) -> None:
        ready, self._ready = self._ready, []
        for answer in ready:
            answer()

    def _error(self, operation: str, offset: int, nbytes: int) -> DiskError | None:
        armed = self._errors.get(operation)
        errno, fails = armed.pop(0) if armed else (0, 0)
        if not fails:
            return None
        return DiskError(
            errno, _OPERATIONS[operation], slice=SLICE_NONE, addr=offset // self.block_size, nbytes=nbytes
        )

    def _check(self, offset: int, nbytes: int) -> None:
        if (offset | nbytes) % self.block_size or offset < 0 or offset + nbytes > self.size:
            raise ValueError(f"{nbytes} bytes at {offset} of {self.size}")

    # Coroutines -----------------------------------------------------------------------------------

    async def pread(self, offset: int, nbytes: int) -> bytes:
        """As ``vdc.Disk.pread``."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(data: bytes | bytearray | memoryview | None, error: OSError | None) -> None:
            if error is None:
                future.set_result(bytes(data or b""))
            else:
                future.set_exception(error)

        self.submit_read(offset, nbytes, done)
        return await future

    async def preadv_into(
        self, offset: int, targets: bytearray | memoryview | Buffer | list[memoryview | Buffer]
    ) -> None:
        """As ``vdc.Disk.preadv_into``."""
        for target in targets if isinstance(targets, list) else [targets]:
            view = target.view if isinstance(target, Buffer) else memoryview(target)
            view[:] = await self.pread(offset, len(view))
            offset += len(view)

    async def pwrite(self, offset: int, data: Source | Buffer) -> None:
        """As ``vdc.Disk.pwrite``."""
        await self._done(self.submit_write, offset, data.view if isinstance(data, Buffer) else data)

    async def flush(self) -> None:
        """As ``vdc.Disk.flush``."""
        await self._done(self.submit_flush)

    async def _done(self, submit: Callable[..., None], *arguments: object) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_nothing: None, error: OSError | None) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        submit(*arguments, done)
        await future

    async def buffer(self, nbytes: int) -> Buffer:
        """As ``vdc.Disk.buffer``; ``lent`` counts those not released."""
        self.lent += 1
        return Buffer(self, memoryview(bytearray(nbytes)), 0, self._returned)

    def _returned(self) -> None:
        self.lent -= 1

    async def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True

    async def __aenter__(self) -> FakeDisk:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
