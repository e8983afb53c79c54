"""A disk whose capture is made at one end: the frames of a real conversation, without sockets or clocks.

The capture is what ``vdc`` and ``vds`` would write: packets as they are sent and received, and a note for
each entry handed over. Time goes on by a microsecond with each frame.
"""

from __future__ import annotations

from typing import Literal

from protocol.capture import (
    Direction,
    How,
    Note,
    NoteKind,
    build_frame,
    build_interface,
    build_note,
    build_section,
    used_part,
)
from protocol.stack import (
    ChannelUp,
    ClientEvent,
    DescriptorsReady,
    LinkState,
    QueueConfigured,
    RangeOpened,
    RingOffered,
)
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vio.dring import Dstate
from protocol.vio.messages import OPEN_ENDED
from tests.support.stackdisk import RING, RING_AT, Mode, Packet, StackDisk

__all__ = ["CaptureFile", "TracedDisk"]

START_NS = 1_700_000_000_000_000_000
TICK_NS = 1000


class CaptureFile:
    """A capture in memory, frame by frame."""

    def __init__(self, *names: str) -> None:
        self.parts = [build_section("test", "")]
        self.parts += [build_interface(name, "") for name in names or ("disk#1",)]
        self.now_ns = START_NS

    def frame(self, direction: Direction, data: bytes, interface: int = 0) -> None:
        """Add a frame, a tick later than the last one."""
        self.parts += build_frame(interface, self.now_ns, direction, data)
        self.now_ns += TICK_NS

    def note(self, direction: Direction, note: Note, interface: int = 0) -> None:
        """Add a note."""
        self.frame(direction, build_note(note), interface)

    def configured(self, direction: Direction, interface: int = 0) -> None:
        """Add the note that an end has configured its queue."""
        self.note(direction, Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, 512, 0), interface)

    def bytes(self) -> bytes:
        """Return the file."""
        return b"".join(self.parts)


class _TracedClientRing(ClientRing):
    """The client's ring, which notes what it submits and what it takes back."""

    disk: TracedDisk

    def post(self, index: int, entry: bytes) -> None:
        """As :meth:`ClientRing.post`; on a plain ring noted with the message."""
        ready = bytes([Dstate.READY]) + entry[1:]
        if self.disk.mode == "polled":
            self.disk.entry(Direction.OUTBOUND, NoteKind.SUBMITTED, index, 0, ready)
        else:
            self.disk.waiting[index] = ready
        super().post(index, entry)

    def reap(self, index: int) -> tuple[int, int]:
        """As :meth:`ClientRing.reap`."""
        disk = self.disk
        disk.entry(Direction.INBOUND, NoteKind.ANSWERED, index, disk.numbers.get(index, 0), disk.raw(index))
        return super().reap(index)


class _TracedServerRing(ServerRing):
    """The server's ring, which notes what it takes and finishes."""

    disk: TracedDisk

    def take(self, index: int) -> bytes:
        """As :meth:`ServerRing.take`."""
        entry = super().take(index)
        accepted = bytes([Dstate.ACCEPTED]) + entry[1:]
        self.disk.entry(Direction.INBOUND, NoteKind.TAKEN, index, self.disk.seq_num, accepted)
        return entry

    def finish(self, index: int, status: int, nbytes: int) -> None:
        """As :meth:`ServerRing.finish`."""
        super().finish(index, status, nbytes)
        disk = self.disk
        disk.entry(Direction.OUTBOUND, NoteKind.FINISHED, index, disk.seq_num, disk.raw(index))


class TracedDisk(StackDisk):
    """A :class:`StackDisk` captured at ``end``; ``file`` is the capture."""

    def __init__(
        self, backend: bytearray, *, end: Literal["client", "server"], mode: Mode = "plain", **options: object
    ) -> None:
        self.end = end
        self.file = CaptureFile()
        self.seq_num = 0  # of the last DRING_DATA
        self.waiting: dict[int, bytes] = {}  # entries that are READY and not announced
        self.numbers: dict[int, int] = {}  # of the messages that announced entries
        self._tapped = False
        super().__init__(backend, mode=mode, **options)  # type: ignore[arg-type]  # tests name options

    def raw(self, index: int) -> bytes:
        """Return an entry as it is in memory."""
        start = RING_AT + RING.offset(index)
        return bytes(self.guest.view[start : start + RING.descriptor_size])

    def entry(self, direction: Direction, kind: NoteKind, index: int, seq_num: int, entry: bytes) -> None:
        """Note that something happened to an entry."""
        polled = self.mode == "polled"
        note = Note(
            kind, How.POLLING if polled else How.MESSAGE, index, 0 if polled else seq_num, used_part(entry)
        )
        self.file.note(direction, note)

    def pump(self) -> None:
        """As :meth:`StackDisk.pump`; the first one puts the taps in."""
        if not self._tapped:
            self._tapped = True
            self.file.configured(Direction.OUTBOUND)
            self.file.configured(Direction.INBOUND)
            self._tap_packets()
            self._tap_rings()
        super().pump()

    def _tap_packets(self) -> None:
        near = self.client if self.end == "client" else self.server.stack
        take, give, link_state = near.next_output, near.receive_packet, near.link_state

        def next_output() -> Packet | None:
            output = take()
            if isinstance(output, QueueConfigured):
                self.file.configured(Direction.OUTBOUND)
            elif output is not None:
                self.file.frame(Direction.OUTBOUND, output)
            return output

        def receive_packet(packet: bytes) -> None:
            self.file.frame(Direction.INBOUND, packet)
            give(packet)

        def reported(state: LinkState) -> None:
            if state is LinkState.RESET:
                self.file.configured(Direction.INBOUND)
            link_state(state)

        near.next_output = next_output  # type: ignore[method-assign]  # a tap
        near.receive_packet = receive_packet  # type: ignore[method-assign,assignment]  # a tap
        near.link_state = reported  # type: ignore[method-assign]  # a tap

    def _tap_rings(self) -> None:
        if self.end == "client":
            self._ring = _TracedClientRing(self._ring_view, RING)
            self._ring.disk = self
            announce = self.client.announce

            def announced(start_idx: int, end_idx: int) -> int:
                self.seq_num += 1
                is_open = end_idx == OPEN_ENDED
                for index in list(self.waiting) if is_open else RING.indices(start_idx, end_idx):
                    self.numbers[index] = self.seq_num
                    self.entry(
                        Direction.OUTBOUND,
                        NoteKind.SUBMITTED,
                        index,
                        self.seq_num,
                        self.waiting.pop(index),
                    )
                return announce(start_idx, end_idx)

            self.client.announce = announced  # type: ignore[method-assign]  # a tap
            return
        offered, take, take_open = self.server.offered, self.server.take, self.server.take_open

        def tapped(event: RingOffered) -> None:
            offered(event)
            if self.server.ring is not None:
                self.server.ring = ring = _TracedServerRing(self._ring_view, RING)
                ring.disk = self

        def taken(event: DescriptorsReady) -> None:
            self.seq_num += 1
            take(event)

        def taken_open(event: RangeOpened) -> None:
            self.seq_num += 1
            take_open(event)

        self.server.offered = tapped  # type: ignore[method-assign]  # a tap
        self.server.take = taken  # type: ignore[method-assign]  # a tap
        self.server.take_open = taken_open  # type: ignore[method-assign]  # a tap

    def _handle(self, event: ClientEvent) -> None:
        if isinstance(event, ChannelUp):
            self.seq_num = 0
        super()._handle(event)
