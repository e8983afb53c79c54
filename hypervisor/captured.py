"""Channel and rings that tell a capture what they do; whoever captures takes them in place of the plain ones.

They stand where the truth is: a packet is noted before it is sent and once it was received, an entry before
the other end can see it. So the order of the file is that of the events: a submission precedes the message
that announces it, an answer the message that acknowledges it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from protocol import wire
from protocol.capture import Direction, NoteKind, used_part
from protocol.errors import ChannelLost
from protocol.ldc.fragment import QUEUE_ENTRIES
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vio.dring import Dstate, RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension

from .channel import Channel, Item
from .pushing import PACKETS_LIMIT
from .records import QueueRecord

if TYPE_CHECKING:
    from .capture import Tap
    from .memory import LocalMemory

__all__ = ["CapturedChannel", "CapturedClientRing", "CapturedServerRing"]

_IN: Final = Direction.INBOUND
_OUT: Final = Direction.OUTBOUND


class CapturedChannel(Channel):
    """A channel whose packets and queue configurations ``tap`` is told of, each once."""

    def __init__(
        self,
        sock: socket.socket,
        tap: Tap,
        *,
        exported: LocalMemory | None = None,
        extensions: Extension = NO_EXTENSION,
    ) -> None:
        super().__init__(sock, exported=exported, extensions=extensions)
        self._tap = tap

    def take_packet(self) -> None:
        """None always: :meth:`receive` has it, and notes it."""

    def receive(self, budget: int = 64) -> list[Item]:
        """As :meth:`Channel.receive`, datagram by datagram: whatever one brings is noted before the next."""
        items = super().receive(0)  # put back by unread(), and noted before that
        for _ in range(budget):
            if not self._poll.poll(0):
                break
            try:
                new = super().receive(1)
            except ChannelLost:
                if items:
                    break  # it comes again
                raise
            for item in new:
                if isinstance(item, bytes):
                    self._tap.packet(_IN, item)
            items += new
        return items

    def _queue_record(self, record: QueueRecord, items: list[Item]) -> None:
        self._tap.queue(_IN, record.nentries)
        super()._queue_record(record, items)

    _receivers: ClassVar = {**Channel._receivers, QueueRecord: _queue_record}

    def send_packet(self, packet: bytes) -> None:
        """As :meth:`Channel.send_packet`."""
        self._tap.packet(_OUT, packet)
        super().send_packet(packet)

    def push(self, pieces: Sequence[tuple[int, wire.Buffer]], packets: Sequence[bytes] = ()) -> None:
        """As :meth:`Channel.push`."""
        for packet in packets[:PACKETS_LIMIT]:  # the others go one by one, by send_packet()
            self._tap.packet(_OUT, packet)
        super().push(pieces, packets)

    def queue_configured(self, nentries: int = QUEUE_ENTRIES) -> None:
        """As :meth:`Channel.queue_configured`."""
        self._tap.queue(_OUT, nentries)
        super().queue_configured(nentries)


class CapturedServerRing(ServerRing):
    """A server's ring that tells ``tap`` what it takes and finishes."""

    __slots__ = ("_seq_nums", "_tap")

    def __init__(self, memory: memoryview, geometry: RingGeometry, tap: Tap) -> None:
        super().__init__(memory, geometry)
        self._tap: Final = tap
        self._seq_nums: Final[dict[int, int]] = {}  # of the messages that entries in progress belong to

    def announced(self, start_idx: int, end_idx: int, seq_num: int) -> None:
        """These entries are going to be taken because of the message ``seq_num``, not by polling."""
        for index in self.geometry.indices(start_idx, end_idx):
            self._seq_nums[index] = seq_num

    def take(self, index: int) -> bytes:
        """As :meth:`ServerRing.take`."""
        entry = super().take(index)
        self._taken(index, entry)
        return entry

    def _taken(self, index: int, entry: bytes) -> None:
        self._tap.entry(_IN, NoteKind.TAKEN, index, self._seq_nums.get(index), used_part(entry))

    def finish(self, index: int, status: int, nbytes: int) -> None:
        """As :meth:`ServerRing.finish`. Noted before: once it is DONE the client may use the entry anew."""
        seq_num = self._seq_nums.pop(index, None)
        if self.dstate(index) == Dstate.ACCEPTED:
            entry = memoryview(bytearray(self.copy(index)))
            ServerRing(entry, RingGeometry(1, len(entry))).finish(0, status, nbytes)
            self._tap.entry(_OUT, NoteKind.FINISHED, index, seq_num, used_part(entry))
        super().finish(index, status, nbytes)


class CapturedClientRing(ClientRing):
    """A client's ring that tells ``tap`` what it submits and what it takes back.

    ``polled``: entries are taken as soon as they are READY. Otherwise a submission is noted when it is
    announced, since only then is the number of its message known; until then nobody looks at it.
    """

    __slots__ = ("_copy", "_polled", "_seq_nums", "_single", "_submitted", "_tap")

    def __init__(self, memory: memoryview, geometry: RingGeometry, tap: Tap, *, polled: bool) -> None:
        super().__init__(memory, geometry)
        self._tap: Final = tap
        self._polled: Final = polled
        self._submitted: Final[dict[int, bytes]] = {}  # plain ring: entries not yet announced
        self._seq_nums: Final[dict[int, int]] = {}  # plain ring: of the messages that announced entries
        self._copy: Final = memoryview(bytearray(geometry.descriptor_size))
        self._single: Final = ClientRing(self._copy, RingGeometry(1, geometry.descriptor_size))

    def submit(
        self,
        index: int,
        req_id: int,
        operation: int,
        slice: int,
        addr: int,
        nbytes: int,
        cookie: int,
        size: int,
    ) -> None:
        """As :meth:`ClientRing.submit`. Noted before: once it is READY the server may write to the entry."""
        self._single.submit(0, req_id, operation, slice, addr, nbytes, cookie, size)
        entry = used_part(self._copy)
        if self._polled:
            self._tap.entry(_OUT, NoteKind.SUBMITTED, index, None, entry)
        else:
            self._submitted[index] = entry
        super().submit(index, req_id, operation, slice, addr, nbytes, cookie, size)

    def announced(self, start_idx: int, end_idx: int, seq_num: int) -> None:
        """The message ``seq_num`` is about to tell the server of these entries."""
        for index in self.geometry.indices(start_idx, end_idx):
            self._seq_nums[index] = seq_num
            self._tap.entry(_OUT, NoteKind.SUBMITTED, index, seq_num, self._submitted.pop(index))

    def reap(self, index: int) -> tuple[int, int]:
        """As :meth:`ClientRing.reap`."""
        offset = self.geometry.offset(index)
        entry = used_part(self._memory[offset : offset + self._stride])
        self._tap.entry(_IN, NoteKind.ANSWERED, index, self._seq_nums.pop(index, None), entry)
        return super().reap(index)
