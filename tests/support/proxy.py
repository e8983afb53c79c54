"""A way to a server that counts what passes and acts at a certain datagram: kills, cuts, as a test says."""

from __future__ import annotations

import array
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from hypervisor.rendezvous import Listener

__all__ = ["Proxy"]

LONGEST: Final = 65536
ROOM: Final = socket.CMSG_LEN(4)


class Proxy:
    """Listens at ``path`` and passes each connection on to the server at ``target``, descriptors included.

    ``passed`` counts datagrams, both ways, over all connections; before number ``at`` passes, ``act`` is
    called, once. A connection that the server does not take is hung up on.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.target = target
        self.passed = 0
        self.at: int | None = None
        self.act: Callable[[], None] = _nothing
        self.acted = False
        self.errors: list[BaseException] = []
        self._stop, self._stopped = socket.socketpair()
        self._listener = Listener(path)
        self._thread = threading.Thread(target=self._run)

    def uri(self, volume: str, **parameters: str | int) -> str:
        """The URI of a volume by this way."""
        more = "".join(f"&{key.replace('_', '-')}={value}" for key, value in parameters.items())
        return f"vdisk+unix:///{volume}?socket={quote(str(self.path))}{more}"

    def arm(self, at: int, act: Callable[[], None]) -> None:
        """Call ``act`` before datagram number ``at`` from now, the first being 0."""
        self.passed = 0
        self.act = act
        self.acted = False
        self.at = at

    def _run(self) -> None:
        client: socket.socket | None = None
        server: socket.socket | None = None
        try:
            while True:
                watched: list[socket.socket | Listener] = [self._stopped, self._listener]
                watched += [end for end in (client, server) if end is not None]
                readable, _, _ = select.select(watched, [], [])
                if self._stopped in readable:
                    return
                if self._listener in readable:
                    _hang_up(client, server)
                    client, server = self._accept()
                elif client is not None and server is not None and not self._pass(client, server, readable):
                    _hang_up(client, server)
                    client = server = None
        except BaseException as error:
            self.errors.append(error)
        finally:
            _hang_up(client, server)

    def _accept(self) -> tuple[socket.socket | None, socket.socket | None]:
        client, _ = self._listener._sock.accept()
        client.setblocking(True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            server.connect(str(self.target))
        except OSError:
            _hang_up(client, server)
            return None, None
        return client, server

    def _pass(self, client: socket.socket, server: socket.socket, readable: Sequence[object]) -> bool:
        for source, sink in ((client, server), (server, client)):
            if source in readable:
                try:
                    datagram, control, _, _ = source.recvmsg(LONGEST, ROOM)
                    if not datagram:
                        return False
                    if self.at is not None and self.passed == self.at:
                        self.at = None
                        self.act()
                        self.acted = True
                    self.passed += 1
                    fds = array.array("i")
                    for _, _, content in control:
                        fds.frombytes(content)
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
                    try:
                        sink.sendmsg([datagram], rights)
                    finally:
                        for fd in fds:
                            os.close(fd)
                except OSError:
                    return False
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._stopped.close()
        self._listener.close()
        assert not self.errors, self.errors


def _nothing() -> None:
    """Do nothing."""


def _hang_up(*ends: socket.socket | None) -> None:
    for end in ends:
        if end is not None:
            end.close()
