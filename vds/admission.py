"""Connections until they are sessions: the rendezvous within its limits, and who may come in.

At most 100 connections are in rendezvous, each for 10 s; when another one comes the oldest goes, so that
silent connections cannot keep an honest client out. A client that comes back is let in only when nothing of
its old session runs any more: what an old session has begun never reaches the backend after a new one was
welcomed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from hypervisor.capture import Capture
from hypervisor.memory import MappedMemory
from hypervisor.rendezvous import Hello, Listener, Pending, Transport, Welcome
from protocol.errors import ChannelLost, RemoteProtocolError
from protocol.vio.extensions import Extension
from vds.clients import Clients
from vds.export import Export
from vds.poller import Poller
from vds.session import Session

__all__ = ["Admission", "ChannelLog"]

PENDING_LIMIT: Final = 100
"""Connections in rendezvous at once; an honest one is there for a millisecond."""
RENDEZVOUS_LIMIT_S: Final = 10.0
"""How long a client may take to say what it wants, and how long it waits for its own old session."""
FULL_RETRY_S: Final = 1.0
"""Pause in accepting when this process or the system is out of descriptors."""

EXTENSIONS: Final[Mapping[Transport, Extension]] = {
    Transport.SHM: Extension.POLLED_RING,
    Transport.SOCKET: Extension.INLINE,
}
"""What is agreed to, if offered: polling needs shared memory, and only without it data travels inline."""

log = logging.getLogger("vds")

Key: TypeAlias = tuple[bytes, str]
"""A client's place: its id and the volume; there is one session in each."""


class ChannelLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the volume and the number of the channel in front of each message."""

    def __init__(self, name: str) -> None:
        super().__init__(log)
        self._name = name

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[str, MutableMapping[str, Any]]:
        """Prefix ``msg``."""
        return f"[{self._name}] {msg}", kwargs


class _Refusal(Exception):
    """Why a client is not let in: an errno of this host and a sentence."""

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(number, sentence)
        self.number = number
        self.sentence = sentence


class Admission:
    """Turns the connections of ``listener`` into sessions on ``exports``; ``sessions`` holds the living."""

    def __init__(
        self,
        listener: Listener,
        exports: Mapping[str, Export],
        poller: Poller,
        *,
        poll_us: int,
        max_channels: int,
        capture: Capture | None = None,
    ) -> None:
        self.sessions: set[Session] = set()
        self._listener = listener
        self._exports = exports
        self._poller = poller
        self._poll_us = poll_us
        self._max_channels = max_channels
        self._capture = capture
        self._loop = asyncio.get_running_loop()
        self._clients = Clients(max_channels)
        self._places: dict[Key, Session] = {}
        self._pending: dict[Pending, asyncio.TimerHandle] = {}  # oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._channels = 0
        self._closed = False

    def open(self) -> None:
        """Begin to accept."""
        self._retry = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more, hang up on who is in rendezvous, remove the socket. Sessions live on.

        Harmless when done twice.
        """
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        else:
            self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for pending in list(self._pending):
            self._drop(pending)
        for task in self._tasks:
            task.cancel()

    # -- rendezvous ----------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            pending = self._listener.accept()
        except OSError as error:
            log.error("cannot accept: %s; trying again in %g s", error, FULL_RETRY_S)
            self._loop.remove_reader(self._listener.fileno())
            self._retry = self._loop.call_later(FULL_RETRY_S, self.open)
            return
        while self._listener.refused:
            peer = self._listener.refused.popleft()
            log.warning("refused user %d (process %d): see --allow-uid", peer.uid, peer.pid)
        if pending is None:
            return
        if len(self._pending) >= PENDING_LIMIT:
            self._drop(next(iter(self._pending)), "too many connections in rendezvous")
        self._pending[pending] = self._loop.call_later(
            RENDEZVOUS_LIMIT_S, self._drop, pending, f"silent for {RENDEZVOUS_LIMIT_S:g} s"
        )
        self._loop.add_reader(pending.fileno(), self._readable, pending)

    def _forget(self, pending: Pending) -> None:
        self._pending.pop(pending).cancel()
        self._loop.remove_reader(pending.fileno())

    def _drop(self, pending: Pending, why: str = "") -> None:
        self._forget(pending)
        pending.close()
        if why:
            log.warning("dropped process %d before it was a client: %s", pending.peer.pid, why)

    def _readable(self, pending: Pending) -> None:
        try:
            received = pending.receive()
        except ChannelLost:
            self._drop(pending)
            return
        except RemoteProtocolError as error:
            self._forget(pending)
            self._refuse(pending, _Refusal(errno.EPROTO, error.reason))
            return
        if received is not None:
            self._forget(pending)
            hello, fd = received
            if len(self._tasks) >= PENDING_LIMIT:  # so many wait for their old sessions: they count as well
                if fd is not None:
                    os.close(fd)
                self._refuse(pending, _Refusal(errno.EBUSY, "too many clients wait for their old sessions"))
                return
            task = self._loop.create_task(self._admit(pending, hello, fd))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _refuse(self, pending: Pending, refusal: _Refusal) -> None:
        log.warning("refused process %d: %s", pending.peer.pid, refusal.sentence)
        pending.refuse(refusal.number, refusal.sentence)

    # -- admission -----------------------------------------------------------------------------------------

    async def _admit(self, pending: Pending, hello: Hello, fd: int | None) -> None:
        memory = None
        try:
            export = self._check(hello)
            if fd is not None:
                passed, fd = fd, None  # closed in there, whatever happens
                memory = _map(passed, hello.memory_size)
            key = (hello.client_id, hello.volume)
            await self._fence(key)
            self._welcome(pending, key, export, hello, memory)
            memory = None  # the session's
        except _Refusal as refusal:
            self._refuse(pending, refusal)
        except ChannelLost as lost:
            log.info("process %d: %s", pending.peer.pid, lost)
            pending.close()
        except asyncio.CancelledError:  # the server stops
            pending.close()
            raise
        finally:
            if fd is not None:
                os.close(fd)
            if memory is not None:
                memory.close()

    def _check(self, hello: Hello) -> Export:
        export = self._exports.get(hello.volume)
        if export is None:
            raise _Refusal(errno.ENOENT, f"no volume {hello.volume!r} here")
        if not self._clients.claim(hello.client_id, hello.secret):
            raise _Refusal(errno.EPERM, "client id is in use: the secret is another client's")
        return export

    async def _fence(self, key: Key) -> None:
        """End the client's old session, and return when nothing of it can reach the backend any more."""
        until = self._loop.time() + RENDEZVOUS_LIMIT_S
        while (old := self._places.get(key)) is not None:
            stopping = self._loop.create_task(old.stop("the client is back on a new connection"))
            self._keep(stopping)
            await asyncio.wait({stopping}, timeout=max(0.0, until - self._loop.time()))
            if not old.closed.done():
                sentence = "requests of this client's previous session are still in the backend; try again"
                raise _Refusal(errno.EBUSY, sentence)
            self._left(key, old)

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Stopping a session goes on even when nobody waits for it any more."""
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _welcome(
        self, pending: Pending, key: Key, export: Export, hello: Hello, memory: MappedMemory | None
    ) -> None:
        if self._closed:
            raise _Refusal(errno.ESHUTDOWN, "the server is stopping")
        if len(self.sessions) >= self._max_channels:
            raise _Refusal(errno.EBUSY, f"all {self._max_channels} channels are in use")
        welcome = Welcome(
            extensions=hello.extensions & EXTENSIONS[hello.transport],
            instance=export.instance,
            poll_us=self._poll_us,
        )
        sock = pending.welcome(welcome)
        self._channels += 1
        name = f"{export.name}#{self._channels}"
        client = f"client process {pending.peer.pid}, user {pending.peer.uid}"
        channel_log = ChannelLog(name)
        channel_log.info(client)
        tap = None
        if self._capture is not None:
            tap = self._capture.tap(name, f"{client}, {hello.transport.name.lower()}")
        session = Session(sock, memory, welcome, export, self._poller, channel_log, tap)
        self.sessions.add(session)
        self._places[key] = session
        self._clients.joined(key[0])
        session.closed.add_done_callback(lambda _: self._left(key, session))
        session.start()

    def _left(self, key: Key, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self._clients.left(key[0])
            if self._places.get(key) is session:
                del self._places[key]


def _map(fd: int, size: int) -> MappedMemory:
    try:
        return MappedMemory(fd, size)
    except RemoteProtocolError as error:
        raise _Refusal(errno.EINVAL, error.reason) from error
