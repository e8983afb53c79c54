"""The server's side of the rendezvous: a listening socket with its rules, and connections not yet
answered."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections import deque
from collections.abc import Collection, Iterator
from typing import Final

from protocol.errors import ChannelLost, RemoteProtocolError
from protocol.vio.extensions import NO_EXTENSION

from .credentials import Credentials, default_uids, peer_credentials, refuse_descriptors
from .greeting import (
    HELLO_LIMIT,
    Hello,
    Transport,
    Welcome,
    build_answer,
    close_all,
    parse_hello,
    receive_greeting,
    set_up,
)
from .records import refuse

__all__ = ["Listener", "Pending", "check_path"]

PATH_LIMIT: Final = 107
"""Longest socket path in bytes. Source: Linux unix(7): ``sun_path`` is 108 with its NUL."""

BACKLOG: Final = 128
"""Connections the kernel holds while we are busy: above the 100 that may be in rendezvous at once."""

REFUSED_KEPT: Final = 16
"""Refused peers remembered between two looks: enough for a log line, too few to fill memory."""

_NOTHING: Final = Welcome(extensions=NO_EXTENSION, instance=bytes(16), poll_us=0)


def check_path(path: str | os.PathLike[str]) -> str:
    """Return ``path`` as text if it can name a socket.

    Raises: OSError (ENAMETOOLONG above 107 bytes; EINVAL when empty or with a NUL byte).
    """
    text = os.fspath(path)
    raw = os.fsencode(text)
    if len(raw) > PATH_LIMIT:
        sentence = f"a socket path has at most {PATH_LIMIT} bytes, this one has {len(raw)}"
        raise OSError(errno.ENAMETOOLONG, sentence, text)
    if not raw or b"\0" in raw:
        raise OSError(errno.EINVAL, "not a path of a socket", text)
    return text


class Listener:
    """Listens on a Unix socket at ``path``, created with ``mode`` from its first moment.

    A path where a server listens is refused, the socket of a dead one is replaced; anything that is not a
    socket is left alone. Only users in ``allow_uids`` (None: our own and root) get as far as a hello;
    ``refused`` holds the last few others, for the log.

    Raises: OSError with a sentence and the path (ENAMETOOLONG; EADDRINUSE: a live server; EEXIST: no socket;
        EPERM: anybody could replace it there; what the file system says).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mode: int = 0o660,
        allow_uids: Collection[int] | None = None,
    ) -> None:
        self.path: Final = check_path(path)
        self.allow_uids: Final = default_uids() if allow_uids is None else frozenset(allow_uids)
        self.refused: Final[deque[Credentials]] = deque(maxlen=REFUSED_KEPT)
        directory = os.path.dirname(self.path) or "."
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._sock.setblocking(False)
            with _locked(directory):
                _check_directory(directory)
                _remove_dead(self.path)
                _bind(self._sock, self.path, mode)
                self._sock.listen(BACKLOG)
                self._identity = _identity(os.stat(self.path))
        except OSError:
            self._sock.close()
            raise

    def fileno(self) -> int:
        """Return the socket to wait for; -1 when closed."""
        return self._sock.fileno()

    def accept(self) -> Pending | None:
        """Return the next connection if it is an allowed user's, None otherwise or when there is none.

        Raises: OSError (EMFILE, ENFILE, ENOMEM: stop listening for a while, the connection stays in line).
        """
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        pending = Pending(sock)
        if pending.peer.uid in self.allow_uids:
            return pending
        self.refused.append(pending.peer)
        pending.refuse(
            errno.EACCES, f"user {pending.peer.uid} is not served here: see --allow-uid of the server"
        )
        return None

    def close(self) -> None:
        """Stop listening and remove the path, unless it is another server's by now. Harmless when done
        twice."""
        if self._sock.fileno() < 0:
            return
        self._sock.close()
        with contextlib.suppress(OSError):
            if _identity(os.lstat(self.path)) == self._identity:
                os.unlink(self.path)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Hold the lock of ``directory``, so that of two servers that start at once one sees the other."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"socket directory: {error.strerror}", directory) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check_directory(directory: str) -> None:
    """Refuse a directory in which any user could put a socket of his own in the place of ours."""
    status = os.stat(directory)
    open_to_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
    if open_to_all or status.st_uid not in default_uids():
        sentence = "belongs to, or can be changed by, other users: take a directory of your own"
        raise OSError(errno.EPERM, sentence, directory)


def _remove_dead(path: str) -> None:
    """Remove the socket that a dead server left at ``path``.

    Raises: OSError (EADDRINUSE: somebody listens there, or may; EEXIST: not a socket).
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, "exists and is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            sentence = f"in use, or not ours to try: {error.strerror}"
            raise OSError(errno.EADDRINUSE, sentence, path) from error
    raise OSError(errno.EADDRINUSE, "a server listens on this socket already", path)


def _bind(sock: socket.socket, path: str, mode: int) -> None:
    """Bind with exactly ``mode``, which only the umask can set at the moment of creation."""
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot create the socket: {error.strerror}", path) from error
    finally:
        os.umask(before)


class Pending:
    """A connection whose rendezvous is not over: :meth:`receive` until it gives a hello, then answer.

    ``peer`` is who connected. It owns the socket until :meth:`welcome` hands it out.
    """

    def __init__(self, sock: socket.socket) -> None:
        set_up(sock)
        self._sock = sock
        self.peer: Final = peer_credentials(sock)

    def fileno(self) -> int:
        """Return the socket to wait for; -1 when closed."""
        return self._sock.fileno()

    def receive(self) -> tuple[Hello, int | None] | None:
        """Return the hello and, for transport SHM, the memory's descriptor; None when nothing has come yet.

        The descriptor is the caller's from then on. Call it again only after None.

        Raises: RemoteProtocolError (garbage, other version, bad name, descriptors missing or too many:
            refuse it); ChannelLost (the client hung up: close it).
        """
        datagram = receive_greeting(self._sock, HELLO_LIMIT)
        if datagram is None:
            return None
        refuse_descriptors(self._sock)
        data, fds = datagram
        try:
            hello = parse_hello(data)
            if len(fds) != (1 if hello.transport is Transport.SHM else 0):
                raise refuse(f"{len(fds)} descriptors passed with transport {hello.transport.name}")
        except RemoteProtocolError:
            close_all(fds)
            raise
        return hello, fds[0] if fds else None

    def welcome(self, welcome: Welcome) -> socket.socket:
        """Send the go-ahead and return the socket, for a :class:`~hypervisor.channel.Channel`.

        Raises: ChannelLost (the client hung up; close it).
        """
        self._send(build_answer(welcome))
        return self._sock

    def refuse(self, number: int, sentence: str) -> None:
        """Send the refusal, ``number`` being an errno of this host, and close; a client that hung up is no
        error."""
        with contextlib.suppress(ChannelLost):
            self._send(build_answer(_NOTHING, number, sentence))
        self.close()

    def close(self) -> None:
        """Hang up, if :meth:`welcome` has not handed out the socket. Harmless when done twice."""
        self._sock.close()

    def _send(self, answer: bytes) -> None:
        try:
            self._sock.send(answer, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise ChannelLost(f"the client hung up during the rendezvous: {error.strerror}") from error
