"""One endpoint of an established channel: packets and records, in and out, over the rendezvous socket.

A datagram of 64 bytes is an LDC packet, any other length is a record (:mod:`hypervisor.records`). The
socket's buffers are the two queues of the hypervisor's channel; a full socket is a full queue. The endpoint
keeps what did not fit and goes on receiving meanwhile, so that two busy ends cannot wait for each other.

Nothing waits, nothing needs an event loop: wait for :meth:`Channel.fileno` to become readable, and writable
while ``wants_write``.

Source: Hypervisor API 3.0, chapter 22 (queues, link state); OpenSPARC T2 hypervisor, ldc.s.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from protocol import wire
from protocol.errors import ChannelLost, CookieError
from protocol.ldc.events import LinkState
from protocol.ldc.fragment import QUEUE_ENTRIES
from protocol.ldc.packet import PACKET_SIZE
from protocol.vio.extensions import NO_EXTENSION, Extension

from .pushing import PACKETS_LIMIT, PARCEL_PACKETS, Parcel, cut_push, groups
from .records import (
    RECORD_LIMIT,
    Copy,
    CopyDone,
    MapTableRecord,
    Push,
    QueueRecord,
    Record,
    build_record,
    parse_record,
    refuse,
)

if TYPE_CHECKING:
    from .memory import LocalMemory

__all__ = ["CONGESTED", "Channel", "Item"]

QUEUE_LIMIT: Final = 64 * 1024 * 1024
"""Most bytes kept for a peer that does not read: what 64 requests of 1 MiB, all there are, can return at
once."""

CONGESTED: Final = 1024 * 1024
"""Kept bytes from which on a driver takes on no work that makes more; one longest transfer."""

ITEM_COST: Final = 256
"""Added to each kept datagram's length: what the object takes, so that small ones count too."""

RECEIVED: Final = 1024 * 1024
"""Bytes after which one call of ``receive`` takes no more: a longest transfer; others have their turn."""

GROUP_LIMIT: Final = 16 * 1024 * 1024
"""Most bytes in one group of PUSH records: a full ring of 64 KiB writes, or 16 of 1 MiB."""

SOCKET_BUFFER: Final = 1024 * 1024
"""Room asked for what is sent inline: a longest transfer. The kernel gives what ``wmem_max`` allows, at least
twice what it gives unasked."""

_INCOMPLETE: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)  # plain ints: an IntFlag costs a microsecond
_NO_SIGNAL: Final = int(socket.MSG_NOSIGNAL)

Item: TypeAlias = bytes | LinkState | MapTableRecord | CopyDone | Push
"""What :meth:`Channel.receive` returns: packets are the ``bytes``."""


class Channel:
    """An established endpoint on ``sock``, which it owns.

    ``exported`` is the memory that the peer may reach by COPY (and PUSH, if ``extensions`` has INLINE); it is
    served in :meth:`receive`. None: we are the importer. ``batch`` counts the calls of ``receive``.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        exported: LocalMemory | None = None,
        extensions: Extension = NO_EXTENSION,
    ) -> None:
        sock.setblocking(False)
        if extensions & Extension.INLINE:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self._sock = sock
        self._exported = exported
        self._inline = bool(extensions & Extension.INLINE)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._pending: deque[Item] = deque()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._peer_configured = False
        self._receive = self._receive_new
        if exported is not None:  # what is pushed or copied here is not kept
            self._room = (memoryview(bytearray(RECORD_LIMIT)),)
            self._receive = self._receive_here
        self._group: list[tuple[int, wire.Buffer]] = []
        self._group_size = 0
        self.batch = 0
        self.is_reset = False
        """The peer went away without reading all. What it had sent is still there: call :meth:`receive` again
        until it raises, since an event loop may tell of such a socket once only (libuv does)."""

    def fileno(self) -> int:
        """Return the socket to wait for; -1 when closed."""
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether datagrams are kept back: wait for writability too, then :meth:`flush`."""
        return bool(self._queue)

    @property
    def congested(self) -> bool:
        """Whether so much is kept back that no work should be begun that makes more."""
        return self._queued > CONGESTED

    def take_packet(self) -> bytes | None:
        """Return the packet that has come; for a socket that was just reported readable.

        None: it was something else, which :meth:`receive` returns. One system call, where that takes three
        to find one packet and no second. Raises: as :meth:`receive`.
        """
        if self._pending:
            return None
        self.batch += 1
        data = self._datagram()
        if data is None:
            return None
        if len(data) == PACKET_SIZE:
            return bytes(data)
        items: list[Item] = []
        self._record(data, items)
        self._pending.extend(items)
        return None

    @property
    def has_news(self) -> bool:
        """Whether :meth:`receive` would find something; costs one system call."""
        return bool(self._pending or self._poll.poll(0))

    def receive(self, budget: int = 64) -> list[Item]:
        """Return what has come, oldest first; empty when there is nothing.

        From at most ``budget`` datagrams, and none after 1 MiB: what is left keeps the socket readable.

        Packets are ``bytes`` of 64. A LinkState is what the peer did to its receive queue: UP the first
        time, RESET at each further configuration, DOWN when it was taken away. COPYs of the peer have been
        answered.

        Raises: ChannelLost (the peer is gone, once everything it sent has been returned);
            RemoteProtocolError with reaction CLOSE (not a packet, not a record, descriptors passed, memory
            pushed where it must not be).
        """
        self.batch += 1
        items: list[Item] = []
        if self._pending:
            items.extend(self._pending)
            self._pending.clear()
        readable = self._poll.poll
        nbytes = 0
        while (
            budget > 0 and nbytes < RECEIVED and readable(0)
        ):  # recvmsg that finds nothing costs four times as much
            budget -= 1
            try:
                data = self._datagram()
            except ChannelLost:
                if items:
                    break  # it comes again
                raise
            if data is None:
                break
            nbytes += len(data)
            if len(data) == PACKET_SIZE:
                items.append(bytes(data))
            else:
                self._record(data, items)
        return items

    def _datagram(self) -> wire.Buffer | None:
        """Return the next datagram, None when there is none. Raises: ChannelLost, RemoteProtocolError."""
        try:
            data, flags = self._receive()
        except BlockingIOError:
            return None
        except ConnectionResetError:  # told once, ahead of what the peer sent before it went
            self.is_reset = True
            return self._datagram()
        except OSError as error:
            raise ChannelLost(f"the peer is gone: {error.strerror}") from error
        if flags & _INCOMPLETE:
            raise refuse("a datagram with descriptors, or longer than 64 KiB")
        if not data:
            raise ChannelLost("the peer is gone")
        return data

    def _record(self, data: wire.Buffer, items: list[Item]) -> None:
        """Act on a datagram that is no packet; what is the driver's to see goes to ``items``."""
        record = parse_record(data)
        self._receivers[type(record)](self, record, items)

    def _receive_new(self) -> tuple[wire.Buffer, int]:
        """Receive one datagram into memory of its own."""
        data, _, flags, _ = self._sock.recvmsg(RECORD_LIMIT)
        return data, flags

    def _receive_here(self) -> tuple[wire.Buffer, int]:
        """Receive one datagram where the last one was."""
        nbytes, _, flags, _ = self._sock.recvmsg_into(self._room)
        return self._room[0][:nbytes], flags

    def unread(self, items: Iterable[Item]) -> None:
        """Put back what a driver could not act on yet; the next :meth:`receive` begins with it."""
        self._pending.extend(items)

    def _queue_record(self, record: QueueRecord, items: list[Item]) -> None:
        """The peer (re)configured its receive queue. Source: Hypervisor API 3.0, 22.3; hypervisor ldc.s."""
        configured, self._peer_configured = self._peer_configured, record.nentries > 0
        if self._peer_configured:
            items.append(LinkState.RESET if configured else LinkState.UP)
        elif configured:
            items.append(LinkState.DOWN)

    def _copy(self, record: Copy, items: list[Item]) -> None:
        if self._exported is None:
            raise refuse("COPY to an endpoint that exports nothing")
        self.send_record(self._exported.copy(record))

    def _importers(self, record: MapTableRecord | CopyDone, items: list[Item]) -> None:
        if self._exported is not None:
            raise refuse("a record of an exporter, sent to the exporter")
        items.append(record)

    def _push(self, record: Push, items: list[Item]) -> None:
        """Memory contents with packets behind them: written at once, or collected until they are complete."""
        if not self._inline:
            raise refuse("PUSH, which was not agreed")
        self._group_size += sum([len(data) for _, data in record.pieces])
        if self._group_size > GROUP_LIMIT:
            raise refuse(f"a PUSH of more than {GROUP_LIMIT} bytes")
        if self._exported is None:
            self._group.extend(record.pieces)
        else:
            try:
                self._exported.apply(record.pieces)
            except CookieError as error:
                raise refuse(f"PUSH: {error.reason}") from error
        if record.more:
            return
        if self._exported is None:
            items.append(Push(self._group, record.packets))
        self._group, self._group_size = [], 0
        items.extend(record.packets)

    def send_packet(self, packet: bytes) -> None:
        """Send one LDC packet of 64 bytes, or keep it while the socket is full.

        Raises: ChannelLost (the peer is gone, or has not read for too long).
        """
        if self._queue:
            self._keep(packet)
            return
        try:
            self._sock.send(packet, _NO_SIGNAL)
        except BlockingIOError:
            self._keep(packet)
        except OSError as error:
            raise ChannelLost(f"the peer is gone: {error.strerror}") from error

    def send_record(self, record: Record) -> None:
        """Send a record, or keep it while the socket is full; its data may change as soon as this returns.

        Raises: ChannelLost; LocalProtocolError (longer than 64 KiB).
        """
        self._send_parts(build_record(record))

    def _send_parts(self, parts: list[wire.Buffer]) -> None:
        if self._queue:
            self._keep(b"".join(parts))
            return
        try:
            self._sock.sendmsg(parts, (), _NO_SIGNAL)
        except BlockingIOError:
            self._keep(b"".join(parts))
        except OSError as error:
            raise ChannelLost(f"the peer is gone: {error.strerror}") from error

    def push(self, pieces: Sequence[tuple[int, wire.Buffer]], packets: Sequence[bytes] = ()) -> None:
        """Send memory contents, and the packets that belong to them, in as few records as they need.

        ``pieces`` are (cookie address, bytes), applied in order; lengths are rounded up to 8 with zeros. A
        piece up to 32 KiB arrives whole, so a ring entry is never seen half written. Needs extension INLINE.

        Raises: ChannelLost.
        """
        for group, its_packets in groups(pieces, packets[:PACKETS_LIMIT]):
            for record in cut_push(group, its_packets):
                self.send_record(record)
        for packet in packets[PACKETS_LIMIT:]:
            self.send_packet(packet)

    def send_parcel(self, parcel: Parcel, packets: Sequence[bytes] = ()) -> None:
        """Send what is in ``parcel``, which is empty then, and the packets that belong to it.

        Raises: ChannelLost.
        """
        self._send_parts(parcel.take(packets[:PARCEL_PACKETS]))
        for packet in packets[PARCEL_PACKETS:]:
            self.send_packet(packet)

    def queue_configured(self, nentries: int = QUEUE_ENTRIES) -> None:
        """Tell the peer that we (re)configured our receive queue (0: took it away); drops packets put back.

        Raises: ChannelLost.
        """
        if self._pending:
            kept = [item for item in self._pending if not isinstance(item, bytes)]
            self._pending.clear()
            self._pending.extend(kept)
        self.send_record(QueueRecord(nentries))

    def flush(self) -> bool:
        """Send what was kept; False: the socket is full again, wait until it is writable.

        Raises: ChannelLost.
        """
        while self._queue:
            try:
                self._sock.send(self._queue[0], _NO_SIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                raise ChannelLost(f"the peer is gone: {error.strerror}") from error
            self._queued -= len(self._queue.popleft()) + ITEM_COST
        return True

    def _keep(self, datagram: bytes) -> None:
        self._queued += len(datagram) + ITEM_COST
        if self._queued > QUEUE_LIMIT:
            raise ChannelLost("the peer does not read")
        self._queue.append(datagram)

    def close(self) -> None:
        """Hang up; the peer sees the link DOWN and everything we exported revoked. Harmless when done
        twice."""
        self._queue.clear()
        self._queued = 0
        self._pending.clear()
        self._group = []
        self._sock.close()

    _receivers: ClassVar[Mapping[type[Record], Callable[[Any, Any, list[Item]], None]]] = {
        QueueRecord: _queue_record,
        Copy: _copy,
        MapTableRecord: _importers,
        CopyDone: _importers,
        Push: _push,
    }
