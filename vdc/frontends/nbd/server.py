"""The NBD server: a listening Unix socket in front of one disk, and the connections it has accepted."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from hypervisor.listener import check_path
from vdc.blockdisk import BlockDisk

from .connection import HANDSHAKE_LIMIT_S, Connection
from .wire import Export

__all__ = ["NbdServer"]

MAX_NEGOTIATING: Final = 100
"""Connections that may negotiate at once; one more ends the oldest, so that the silent lock nobody out."""
MAX_CONNECTIONS: Final = 1024
"""Connections in all; further clients wait in the socket's backlog."""
BACKLOG: Final = 128
MAX_NAME: Final = 4096
RETRY_S: Final = 1.0
"""When descriptors have run out, accepting is tried again after this."""
SOCKET_MODE: Final = 0o600

log = logging.getLogger("vdc.nbd")


class NbdServer:
    """Serves ``disk`` to any number of NBD clients at the Unix socket ``path``, as the export ``name``.

    Every connection works on the same disk, so a flush of one covers the writes of all. ``read_only`` refuses
    writes to a disk that would take them. Call :meth:`start` once, :meth:`stop` at the end; the disk is not
    closed.
    """

    def __init__(
        self,
        disk: BlockDisk,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        read_only: bool = False,
        handshake_limit_s: float = HANDSHAKE_LIMIT_S,
    ) -> None:
        self.path = os.fspath(path)
        self.name = disk.volume if name is None else name
        if len(self.name.encode()) > MAX_NAME:
            raise ValueError(f"an NBD export name has at most {MAX_NAME} bytes")
        self._disk = disk
        self._read_only = read_only
        self._handshake_limit_s = handshake_limit_s
        self._sock: socket.socket | None = None
        self._identity = (0, 0)
        self._connections: dict[Connection, None] = {}  # in the order of arrival
        self._numbers = 0
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def uri(self) -> str:
        """What to give to an NBD client; a relative path stays one."""
        return f"nbd+unix:///{quote(self.name, safe='')}?socket={quote(self.path)}"

    @property
    def connections(self) -> int:
        """Clients connected now, those that negotiate included."""
        return len(self._connections)

    def start(self) -> None:
        """Listen. A socket that a dead server left is replaced.

        Raises: OSError when the path is too long, in use by a live server, not a socket, or cannot be
            created.
        """
        sock = _listen(self.path)
        self._sock = sock
        status = os.stat(self.path)
        self._identity = (status.st_dev, status.st_ino)
        self._accept_on(True)

    async def stop(self, grace_s: float = 10.0) -> bool:
        """Accept nobody and take no more requests, answer those that run, then close everything.

        Returns False when requests were still unanswered after ``grace_s`` seconds and their clients were cut
        off.
        """
        if self._sock is None:
            return True
        self._accept_on(False)
        if self._retry is not None:
            self._retry.cancel()
        self._unlink()
        self._sock.close()
        self._sock = None
        for connection in list(self._connections):
            connection.finish()
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        finally:
            for connection in list(self._connections):
                connection.abort("the server stops")
        return True

    def _unlink(self) -> None:
        """Remove the socket, unless another server has put its own in that place."""
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._identity:
                os.unlink(self.path)
        except OSError as cause:
            log.debug("%s: %s", self.path, cause.strerror)

    def _accept_on(self, on: bool) -> None:
        if self._sock is None or on is self._accepting:
            return
        self._accepting = on
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(self._sock, self._accept)
        else:
            loop.remove_reader(self._sock)

    def _accept(self) -> None:
        if self._sock is None:
            return
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as cause:  # no descriptors or memory: others keep working
            log.warning("cannot accept: %s", cause.strerror)
            self._accept_on(False)
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._accept_on, True)
            return
        self._make_room()
        self._numbers += 1
        self._empty.clear()
        export = Export(
            name=self.name,
            description=f"virtual disk {self._disk.volume}",
            size=self._disk.size,
            block_size=self._disk.block_size,
            read_only=self._read_only or self._disk.read_only,
        )
        connection = Connection(
            sock,
            self._disk,
            export,
            self._numbers,
            closed=self._closed,
            handshake_limit_s=self._handshake_limit_s,
        )
        self._connections[connection] = None
        log.debug("%s: connected", connection.name)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._accept_on(False)

    def _make_room(self) -> None:
        negotiating = [connection for connection in self._connections if connection.is_negotiating]
        if len(negotiating) >= MAX_NEGOTIATING:
            log.warning("%s: closing: %d clients negotiate", negotiating[0].name, MAX_NEGOTIATING)
            negotiating[0].abort("too many negotiate")

    def _closed(self, connection: Connection) -> None:
        del self._connections[connection]
        if not self._connections:
            self._empty.set()
        self._accept_on(True)


def _listen(path: str) -> socket.socket:
    """A listening Unix stream socket that only this user can connect to."""
    check_path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _explained(path):
            _remove_stale(path)
            sock.bind(path)
            os.chmod(path, SOCKET_MODE)  # nobody can connect before listen()
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Put the path into the error."""
    try:
        yield
    except OSError as cause:
        raise OSError(cause.errno, cause.strerror, path) from None


def _remove_stale(path: str) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, "exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except BlockingIOError:  # alive: its backlog is full
            pass
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
            raise OSError(errno.EADDRINUSE, "another kind of server listens on this socket") from error
    raise OSError(errno.EADDRINUSE, "in use by a live server")
