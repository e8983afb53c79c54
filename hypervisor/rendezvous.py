"""How a channel comes to be: one hello, one answer, over a Unix ``SOCK_SEQPACKET`` socket.

The client connects and sends a hello: which volume, which transport, who it is, and with shared memory the
one descriptor of its sealed memory. The server (:class:`Listener`, :class:`Pending`) answers with a
go-ahead or with an errno and a sentence. From then on the socket is the channel (see
:mod:`hypervisor.channel`).

Nothing here waits. Limits in time and number (10 s, 100 at once) belong to whoever drives the listener: a
:class:`Pending` is closed when its time is over.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
import stat
from typing import Final

from protocol.errors import Layer, LocalProtocolError
from protocol.vio.extensions import Extension

from .credentials import refuse_descriptors
from .greeting import (
    ANSWER_LIMIT,
    KNOWN_EXTENSIONS,
    Hello,
    Refused,
    Transport,
    Welcome,
    build_hello,
    close_all,
    parse_answer,
    receive_greeting,
    set_up,
)
from .listener import Listener, Pending, check_path
from .records import refuse

__all__ = [
    "Hello",
    "Listener",
    "Pending",
    "Refused",
    "Transport",
    "Welcome",
    "connect",
    "receive_answer",
    "send_hello",
]

_CONNECT_ERRORS: Final = {
    errno.ENOENT: "no such socket",
    errno.ECONNREFUSED: "no server listens on this socket",
    errno.EPROTOTYPE: "another kind of server listens on this socket",
    errno.EAGAIN: "the server has too many connections waiting",
}


def connect(path: str | os.PathLike[str]) -> socket.socket:
    """Return a non-blocking socket connected to the server at ``path``; next is :func:`send_hello`.

    Raises: OSError with a sentence and the path (ENAMETOOLONG, ENOENT, ECONNREFUSED, EACCES, EPROTOTYPE;
        EAGAIN: try again later).
    """
    text = check_path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        set_up(sock)
        refuse_descriptors(sock)
        sock.connect(text)
    except OSError as error:
        sock.close()
        number = error.errno or errno.EIO
        sentence = _CONNECT_ERRORS.get(number, os.strerror(number))
        if number == errno.ECONNREFUSED and not _is_socket(text):
            sentence = "not a socket"
        raise OSError(number, sentence, text) from error
    return sock


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return True  # gone meanwhile


def send_hello(sock: socket.socket, hello: Hello, memory_fd: int | None) -> None:
    """Send ``hello``, with the descriptor of the sealed memory for transport SHM; next is
    :func:`receive_answer`.

    The descriptor stays the caller's. A server that has hung up already is left to ``receive_answer`` to
    notice, since its refusal may be waiting there.

    Raises: LocalProtocolError (bad volume name; a descriptor without SHM, or SHM without one).
    """
    if (memory_fd is not None) != (hello.transport is Transport.SHM):
        raise LocalProtocolError(
            Layer.HYPERVISOR, "transport SHM, and no other, passes one memory descriptor"
        )
    data = build_hello(hello)
    rights = (
        [] if memory_fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory_fd]))]
    )
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive_answer(sock: socket.socket, offered: Extension = KNOWN_EXTENSIONS) -> Welcome | None:
    """Return the server's go-ahead, or None when it has not answered yet; then wait until ``sock`` is
    readable.

    Raises: Refused (the server's errno and sentence); ChannelLost (it hung up); RemoteProtocolError (no
        answer of ours, or it agrees to what is not in ``offered``). The caller closes the socket after any
        of them.
    """
    datagram = receive_greeting(sock, ANSWER_LIMIT)
    if datagram is None:
        return None
    data, fds = datagram
    if fds:
        close_all(fds)
        raise refuse("the answer came with a descriptor")
    return parse_answer(data, offered)
