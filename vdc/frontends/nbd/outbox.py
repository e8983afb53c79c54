"""Replies on their way to a client: collected for one turn of the loop, then sent in one system call.

The queue holds references to what was read, not copies; a client that stops reading keeps it from draining,
and :attr:`Outbox.is_full` then tells the connection to take no more requests.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["Outbox"]

MAX_CHUNKS: Final = 1024
"""Queued pieces, about 500 replies, at which no more requests are taken; the connection bounds the bytes."""
MAX_VECTOR: Final = 1024
"""Pieces that one ``sendmsg`` takes. Source: Linux ``include/uapi/linux/uio.h``, UIO_MAXIOV."""


class Outbox:
    """What one connected, non-blocking stream socket has still to send.

    ``sent`` is called when room was made, and once in a turn of the loop in which something was queued;
    ``lost`` once when the client cannot be written to any more.
    """

    __slots__ = ("_closed", "_loop", "_lost", "_scheduled", "_sent", "_sock", "_waiting", "chunks", "nbytes")

    def __init__(
        self, sock: socket.socket, sent: Callable[[], None], lost: Callable[[OSError], None]
    ) -> None:
        self.chunks: list[bytes | bytearray | memoryview] = []
        self.nbytes = 0
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._sent = sent
        self._lost = lost
        self._scheduled = False
        self._waiting = False
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Nothing more should be asked for until some of it is sent."""
        return len(self.chunks) >= MAX_CHUNKS

    def put(self, piece: bytes) -> None:
        """Queue ``piece``; it is sent when this turn of the loop is over. Dropped once closed."""
        self.put_data(piece, b"")

    def put_data(self, header: bytes, data: bytes | bytearray) -> None:
        """The same with ``data`` behind: it is kept, not copied, and must not change any more."""
        if self._closed:
            return
        self.chunks += (header, data) if data else (header,)
        self.nbytes += len(header) + len(data)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Stop sending; what is queued is dropped."""
        self._closed = True
        self.chunks.clear()
        self.nbytes = 0
        if self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._sock)

    def _turn(self) -> None:
        self._scheduled = False
        if self._waiting:
            self._sent()
        elif not self._closed:
            self._flush()

    def _flush(self) -> None:
        chunks = self.chunks
        try:
            while chunks:
                batch = chunks[:MAX_VECTOR] if len(chunks) > MAX_VECTOR else chunks
                if not self._drop(self._sock.sendmsg(batch)):
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as cause:
            self._lost(cause)
            return
        self._watch(bool(chunks))
        self._sent()

    def _drop(self, sent: int) -> bool:
        """Forget the first ``sent`` bytes; True when they were whole pieces: the socket may take more."""
        chunks = self.chunks
        self.nbytes -= sent
        if not self.nbytes:
            chunks.clear()
            return True
        count = 0
        while sent >= len(chunks[count]):
            sent -= len(chunks[count])
            count += 1
        del chunks[:count]
        if not sent:
            return True
        chunks[0] = memoryview(chunks[0])[sent:]
        return False

    def _watch(self, waiting: bool) -> None:
        if waiting is self._waiting:
            return
        self._waiting = waiting
        if waiting:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._loop.remove_writer(self._sock)
