"""Every way to the same disk, behind the same few methods, so that one suite holds for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import uvloop

import vdc
from tests.support.daemons import VdsServer
from tests.support.stackdisk import StackDisk

__all__ = ["BLOCK_WAYS", "STACK_WAYS", "WAYS", "AnyDisk", "LoopDisk", "make_stack", "open_way"]

T = TypeVar("T")

BLOCK_WAYS = (
    "shm-blocking",
    "shm-asyncio",
    "shm-blocking-nopoll",
    "shm-asyncio-nopoll",
    "socket-blocking",
    "socket-asyncio",
)
"""Through real daemons: transport, API, and whether the client polls."""
STACK_WAYS = ("stack-plain", "stack-polled", "stack-inband")
"""Joined in one process by the protocol stacks alone."""
WAYS = BLOCK_WAYS + STACK_WAYS


class AnyDisk(Protocol):
    """What the suite uses of a disk."""

    @property
    def size(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def max_xfer(self) -> int: ...
    @property
    def read_only(self) -> bool: ...
    def pread(self, offset: int, nbytes: int) -> bytes: ...
    def pwrite(self, offset: int, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def capacity(self) -> tuple[int, int]: ...


class LoopDisk:
    """A :class:`vdc.Disk` with a loop of its own, driven call by call."""

    def __init__(self, uri: str) -> None:
        self.loop = uvloop.new_event_loop()
        self.disk = self.run(vdc.open(uri))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the disk's loop until it is done."""
        return self.loop.run_until_complete(work)

    @property
    def size(self) -> int:
        return self.disk.size

    @property
    def block_size(self) -> int:
        return self.disk.block_size

    @property
    def max_xfer(self) -> int:
        return self.disk.max_xfer

    @property
    def read_only(self) -> bool:
        return self.disk.read_only

    def pread(self, offset: int, nbytes: int) -> bytes:
        return self.run(self.disk.pread(offset, nbytes))

    def pwrite(self, offset: int, data: bytes) -> None:
        self.run(self.disk.pwrite(offset, data))

    def flush(self) -> None:
        self.run(self.disk.flush())

    def capacity(self) -> tuple[int, int]:
        return self.run(self.disk.capacity())

    def close(self) -> None:
        self.run(self.disk.close())
        self.run(asyncio.sleep(0))
        self.loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_way(way: str, vds: VdsServer, volume: str) -> LoopDisk | vdc.BlockingDisk:
    """Open ``volume`` of a running server in one of :data:`BLOCK_WAYS`."""
    transport, api, *rest = way.split("-")
    uri = vds.uri(volume, transport=transport, poll_us=0 if rest else 50)
    return LoopDisk(uri) if api == "asyncio" else vdc.connect(uri)


def make_stack(way: str, image: Path, *, read_only: bool = False) -> StackDisk:
    """A disk of :data:`STACK_WAYS` with the contents of ``image``."""
    mode: Any = way.removeprefix("stack-")
    return StackDisk(bytearray(image.read_bytes()), mode=mode, read_only=read_only)
