"""A client that gets as far as the rendezvous: it connects, says hello, hears the answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypervisor.memory import LocalMemory
from hypervisor.rendezvous import Hello, Transport, Welcome, connect, receive_answer, send_hello
from protocol.vio.extensions import Extension

MEMORY = 64 * 1024
OFFERED = Extension.POLLED_RING | Extension.INLINE | Extension.OPEN_RANGES

_T = TypeVar("_T")


class Caller:
    """One connection; closes itself and its memory as a context manager."""

    def __init__(self, path: Path) -> None:
        self.sock = connect(path)
        self._memory: LocalMemory | None = None

    def hello(
        self,
        volume: str = "disk0",
        *,
        client_id: bytes | None = None,
        secret: bytes = bytes(16),
        transport: Transport = Transport.SHM,
        size: int = MEMORY,
        fd: int | None = None,
    ) -> None:
        """Say hello; by default as a client that nobody has seen, with memory as it should be."""
        if fd is None and transport is Transport.SHM:
            self._memory = LocalMemory(MEMORY, 64, shared=True)
            fd = self._memory.fd
        hello = Hello(
            volume=volume,
            transport=transport,
            client_id=client_id or os.urandom(16),
            secret=secret,
            memory_size=size if transport is Transport.SHM else 0,
            extensions=OFFERED,
        )
        send_hello(self.sock, hello, fd)

    async def answer(self) -> Welcome:
        """Wait for the answer. Raises: Refused, ChannelLost."""
        return await self._read(lambda: receive_answer(self.sock, OFFERED))

    async def gone(self) -> None:
        """Wait until the server has hung up, past whatever it still says."""

        def ended() -> bool | None:
            try:
                return not self.sock.recv(65536) or None
            except BlockingIOError:
                return None
            except ConnectionResetError:
                return True

        await self._read(ended)

    async def _read(self, attempt: Callable[[], _T | None]) -> _T:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self.sock.fileno(), readable.set)
        try:
            while (result := attempt()) is None:
                readable.clear()
                await readable.wait()
            return result
        finally:
            loop.remove_reader(self.sock.fileno())

    def close(self) -> None:
        """Hang up."""
        self.sock.close()
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def raw(path: Path) -> socket.socket:
    """Connect and say nothing."""
    return connect(path)
