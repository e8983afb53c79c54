"""One NBD client's connection: its socket, its buffer, its limits; what it says is understood elsewhere.

A connection is a handful of callbacks of the event loop, no task. It stops reading its socket when its
requests have used up their share (that is the back-pressure), it has :data:`HANDSHAKE_LIMIT_S` to negotiate,
and whatever it does ends nothing but itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from vdc.blockdisk import BlockDisk

from .handshake import Handshake, Phase
from .outbox import Outbox
from .transmission import ProtocolViolation, Transmission
from .wire import REQUEST, Export

__all__ = ["HANDSHAKE_LIMIT_S", "Connection"]

HANDSHAKE_LIMIT_S: Final = 10.0
"""Time to negotiate, silence included; the same as QEMU's since CVE-2024-7409."""
BUFFER_SIZE: Final = 256 * 1024
"""What one read takes: the data of a few dozen small writes, and about what a Unix socket holds."""
LONG_WRITE: Final = 64 * 1024
"""After a write of so much the next request's header is read alone, for the next is most often of its kind:
its data then arrives where it stays, and copying 64 KiB would cost more than the system call."""

log = logging.getLogger("vdc.nbd")


class Connection:
    """An accepted client of ``export``; owns ``sock``. ``closed`` is called once, when all is over."""

    def __init__(
        self,
        sock: socket.socket,
        disk: BlockDisk,
        export: Export,
        number: int,
        *,
        closed: Callable[[Connection], None],
        handshake_limit_s: float = HANDSHAKE_LIMIT_S,
    ) -> None:
        self.name = f"nbd {number}"
        self._sock = sock
        self._disk = disk
        self._export = export
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(sock, self._settled, self._lost)
        self._handshake: Handshake | None = Handshake(export)
        self._transmission: Transmission | None = None
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._start = 0
        self._end = 0
        self._room = BUFFER_SIZE  # what the next read takes at most
        self._reading = False
        self._finishing = False
        self._is_open = True
        self._resuming = False
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(handshake_limit_s, self._too_late)
        sock.setblocking(False)
        self._outbox.put(self._handshake.data_to_send())
        self._watch(True)

    @property
    def is_negotiating(self) -> bool:
        """It has not come to an agreement yet."""
        return self._transmission is None

    def finish(self) -> None:
        """Take no more requests, answer those that run, then close."""
        if self._is_open and not self._finishing:
            self._finishing = True
            self._start = self._end = 0
            self._watch(True)  # only to learn that the client hung up
            self._settled()

    def abort(self, reason: str) -> None:
        """Close now; what is unanswered stays so. Harmless when done twice."""
        if not self._is_open:
            return
        self._is_open = False
        log.debug("%s: closed: %s", self.name, reason)
        if self._timer is not None:
            self._timer.cancel()
        self._watch(False)
        self._outbox.close()
        self._sock.close()
        self._buffer = memoryview(b"")
        self._closed(self)

    # Reading --------------------------------------------------------------------------------------

    def _readable(self) -> None:
        transmission = self._transmission
        payload = transmission.payload if transmission is not None and not self._finishing else None
        target = self._buffer[self._end : self._end + self._room] if payload is None else payload
        try:
            count = self._sock.recv_into(target)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as cause:
            self._lost(cause)
            return
        if not count:
            self.abort("the client hung up")
        elif self._finishing:
            return  # what a client still sends is not looked at
        elif transmission is None or payload is None:
            self._end += count
            self._room = BUFFER_SIZE
            self._process()
        elif count < len(payload):
            transmission.payload = payload[count:]
        else:
            if transmission.payload_received() >= LONG_WRITE:
                self._room = REQUEST.size
            self._process()

    def _process(self) -> None:
        """Take apart what the buffer holds."""
        try:
            if self._handshake is not None:
                self._negotiate(self._handshake)
            if self._transmission is not None:
                self._transmit(self._transmission)
        except ProtocolViolation as fault:
            log.warning("%s: closing: %s", self.name, fault)
            self.abort("protocol violation")

    def _negotiate(self, handshake: Handshake) -> None:
        self._start += handshake.receive_data(self._buffer[self._start : self._end])
        reply = handshake.data_to_send()
        if reply:
            self._outbox.put(reply)
        if handshake.phase is Phase.OVER:
            self.finish()
        elif handshake.phase is Phase.AGREED:
            self._handshake = None
            self._transmission = Transmission(self._disk, self._export, handshake.structured, self._outbox)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            log.debug("%s: in use, structured replies: %s", self.name, handshake.structured)
        else:
            self._make_room()

    def _transmit(self, transmission: Transmission) -> None:
        self._start = transmission.receive_data(self._buffer, self._start, self._end)
        if transmission.is_disconnecting:
            self.finish()
        elif not self._is_open:
            return
        elif transmission.is_full and transmission.payload is None:
            self._watch(False)
        else:
            self._make_room()

    def _make_room(self) -> None:
        """Move an incomplete message to the front: any message that we wait for whole fits the buffer."""
        rest = self._end - self._start
        if rest:
            self._buffer[:rest] = self._buffer[self._start : self._end]
        self._start = 0
        self._end = rest

    def _watch(self, reading: bool) -> None:
        if reading is self._reading:
            return
        self._reading = reading
        if reading:
            self._loop.add_reader(self._sock, self._readable)
        else:
            self._loop.remove_reader(self._sock)

    # After an answer ------------------------------------------------------------------------------

    def _settled(self) -> None:
        """Something was answered or sent: go on reading, or close when that was the last."""
        transmission = self._transmission
        if not self._is_open:
            return
        if self._finishing:
            if not self._outbox.nbytes and (transmission is None or not transmission.running):
                self.abort("done")
        elif (
            not self._reading and not self._resuming and transmission is not None and not transmission.is_full
        ):
            self._resuming = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        """There is room again: first for what is in the buffer, then for what is in the socket."""
        self._resuming = False
        if self._is_open and not self._finishing:
            self._watch(True)
            self._process()

    def _lost(self, cause: OSError) -> None:
        self.abort(cause.strerror or str(cause))

    def _too_late(self) -> None:
        log.warning("%s: closing: negotiation took too long", self.name)
        self.abort("negotiation took too long")
