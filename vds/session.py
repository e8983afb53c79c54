"""One channel of one client: packets between the hypervisor and ``protocol.stack``, requests to a port.

It holds no protocol rule. What the stack reports it carries out: a ring offered is mapped, descriptors ready
go to the port, a reset drains the port and flushes the backend before the stack may go on. Nothing of a
channel outlives it: it ends when its requests have ended, and only then is its socket closed, so that a
client who sees the end knows that nobody writes into its memory or its disk any more.

Source: Solaris vds.c, vd_process_msg, vd_reset_if_needed, vd_recv_msg.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from hypervisor.captured import CapturedChannel
from hypervisor.channel import Channel
from hypervisor.memory import CopiedMemory, MappedMemory
from hypervisor.records import CopyDone, MapTableRecord, Push
from protocol.errors import ChannelError, ChannelLost, ProtocolError, RemoteProtocolError
from protocol.ldc.events import LinkState
from protocol.stack import (
    DescriptorsReady,
    DoorbellRung,
    Negotiated,
    QueueConfigured,
    RequestReceived,
    RingOffered,
    Server,
    SessionReady,
    SessionReset,
)
from protocol.vio.extensions import Extension

from .poller import Poller
from .ports import CapturedCopiedPort, CapturedMappedPort, CopiedPort, MappedPort, Port

if TYPE_CHECKING:
    import socket

    from hypervisor.capture import Tap
    from hypervisor.rendezvous import Welcome

    from .export import Export

__all__ = ["Session"]

MAX_RESETS_A_SECOND: Final = 10
"""A channel that resets more often is closed: no driver does, and each costs a drain and a flush."""


MAX_UNREAD: Final = 1024
"""Messages kept while a reset drains; a client that sends more does not wait for its answer."""

CLIENT_BEGINS_S: Final = 0.02
"""How long a client is left to begin the link handshake, anew after every reset of the link by either side.
Solaris, Linux and OpenBSD do within a millisecond, and OpenBSD resets the channel when both sides begin;
then we do, for clients that only answer."""


class Session:
    """The server's end of one channel, from the welcome to the end of its last request."""

    def __init__(
        self,
        sock: socket.socket,
        memory: MappedMemory | None,
        welcome: Welcome,
        export: Export,
        poller: Poller,
        log: logging.LoggerAdapter[logging.Logger],
        tap: Tap | None = None,
    ) -> None:
        """Serve ``export`` on ``sock``; ``memory`` is the client's, or None on the socket transport.

        What is said and done goes to ``tap``, if there is one.
        """
        self.loop = asyncio.get_running_loop()
        self.export = export
        self.poller = poller
        self.log = log
        self.polled = bool(welcome.extensions & Extension.POLLED_RING)
        self.inline = bool(welcome.extensions & Extension.INLINE)
        self.stack = Server(
            export.attributes, extensions=welcome.extensions, polls=poller.enabled, waits=True
        )
        self.tap = tap
        self.channel: Channel
        self._ports: tuple[type[MappedPort], type[CopiedPort]]
        if tap is None:
            self.channel = Channel(sock, extensions=welcome.extensions)
            self._ports = MappedPort, CopiedPort
        else:
            self.channel = CapturedChannel(sock, tap, extensions=welcome.extensions)
            self._ports = CapturedMappedPort, CapturedCopiedPort
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self.resetting = False
        self._memory = memory if memory is not None else CopiedMemory(self.channel)
        self._port: Port | None = None
        self._unread: deque[Any] = deque()  # received during a reset
        self._waking = False
        self._beginning: asyncio.TimerHandle | None = None
        self._writing = False
        self._stopping = False
        self._resets: deque[float] = deque(maxlen=MAX_RESETS_A_SECOND)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Configure our queue, which the client sees as the link coming up, and listen to it."""
        self.loop.add_reader(self.channel.fileno(), self._readable)
        try:
            self.channel.queue_configured()
        except ChannelError as cause:  # the client hung up as soon as it was welcomed
            self.lost(cause)

    async def stop(self, reason: str) -> None:
        """End the channel in order: take no more, let what runs end, flush, close. Harmless when done
        twice."""
        if not self._stopping:
            self._stopping = True
            self.resetting = True  # nothing is taken any more
            self.log.info("closing: %s", reason)
            self._unwatch()
            if isinstance(self._memory, CopiedMemory):
                self._memory.close()  # no copy is answered any more: those that wait for one are let go
            await self._drain()
            self._memory.close()
            self.channel.close()
            self.closed.set_result(None)
        await asyncio.shield(self.closed)

    def lost(self, reason: object) -> None:
        """The channel is lost: stop in the background."""
        if not self._stopping:
            self._spawn(self.stop(str(reason)))

    # -- packets ---------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            self._receive()
        except (ChannelError, ProtocolError) as cause:
            self.lost(cause)
        else:
            if self.channel.is_reset and not self._stopping:
                self.loop.call_soon(self._readable)

    def _receive(self) -> None:
        if self.polled and not self.resetting:
            packet = self.channel.take_packet()
            if packet is not None:
                port = self._port
                if port is not None:
                    port.account()
                if self.stack.take_packet(packet):  # a doorbell, as nearly always
                    assert isinstance(port, MappedPort)
                    port.rung()
                else:
                    self.settle()
                return
        self._unread.extend(self.channel.receive())
        if len(self._unread) > MAX_UNREAD:
            raise ChannelLost(f"more than {MAX_UNREAD} messages during a reset")
        self._digest()

    def look(self) -> bool:
        """Take what the client has sent, without the loop's telling; whether there was anything."""
        if self._stopping or not self.channel.has_news:
            return False
        self._readable()
        return True

    def _digest(self) -> None:
        while self._unread and not self.resetting:
            item = self._unread.popleft()
            _RECEIVED[type(item)](self, item)
            self._events()
        if self._port is not None:
            self._port.digested()
        if self.resetting:  # what is under way goes on, what is new waits
            unread, self._unread = self._unread, deque()
            for item in unread:
                if isinstance(item, CopyDone):
                    self._copied(item)
                elif not isinstance(item, Push):  # what is pushed is of the session that ends, and long
                    self._unread.append(item)
        self.settle()

    def _packet(self, packet: bytes) -> None:
        if self._port is not None:
            self._port.account()
        self.stack.receive_packet(packet)

    def _link(self, state: LinkState) -> None:
        self._let_begin(False)  # a turn that was under way is void; settle() begins the next one
        self.stack.link_state(state)

    def _map_table(self, record: MapTableRecord) -> None:
        if isinstance(self._memory, MappedMemory):
            self._memory.set_map_table(record.base, record.nentries)

    def _copied(self, record: CopyDone | Push) -> None:
        if isinstance(self._memory, CopiedMemory):
            self._memory.received(record)

    def settle(self) -> None:
        """Carry out what the stack reports and send what it wants sent. Never raises: a lost channel ends."""
        try:
            self._events()
            if isinstance(self._port, MappedPort) and not self.resetting:  # nothing comes after a NACK
                self._port.batch_ends()
            self._send()
            if self._port is not None and not self.resetting:
                self._port.resume()
        except (ChannelError, ProtocolError) as cause:
            self.lost(cause)
            return
        if self.channel.wants_write != self._writing and not self._stopping:
            self._watch_writing(self.channel.wants_write)
        if self.stack.awaits_peer != (self._beginning is not None) and not self._stopping:
            self._let_begin(self.stack.awaits_peer)

    def say(self) -> None:
        """Send what the stack wants sent, when it has reported nothing that has to be carried out before.

        Never raises: a lost channel ends.
        """
        channel = self.channel
        try:
            while (output := self.stack.next_output()) is not None:
                if isinstance(output, QueueConfigured):
                    channel.queue_configured()
                else:
                    channel.send_packet(output)
        except ChannelError as cause:
            self.lost(cause)
        else:
            if channel.wants_write and not self._writing and not self._stopping:
                self._watch_writing(True)

    def _let_begin(self, waits: bool) -> None:
        """Give the client a whole turn to begin the link handshake; or take back the one it was given."""
        if self._beginning is not None:
            self._beginning.cancel()
        self._beginning = self.loop.call_later(CLIENT_BEGINS_S, self._begin) if waits else None

    def _begin(self) -> None:
        self._beginning = None
        self.stack.begin()
        self.settle()

    def _send(self) -> None:
        packets: list[bytes] = []
        while (output := self.stack.next_output()) is not None:
            if isinstance(output, QueueConfigured):
                self._send_packets(packets)  # what was said before the reset goes before it
                packets = []
                self._let_begin(False)  # the client learns of the reset only now
                self.channel.queue_configured()
            else:
                packets.append(output)
        self._send_packets(packets)
        if self.channel.wants_write:
            self.channel.flush()

    def _send_packets(self, packets: list[bytes]) -> None:
        """Send ``packets``, and what belongs to them."""
        if self._port is None or not self._port.send(packets):
            for packet in packets:
                self.channel.send_packet(packet)

    def wake(self) -> None:
        """An answer was published: settle once, at the end of this turn of the loop."""
        if not self._waking:
            self._waking = True
            self.loop.call_soon(self._woken)

    def _woken(self) -> None:
        self._waking = False
        if not self._stopping:
            self.settle()

    def _watch_writing(self, wanted: bool) -> None:
        self._writing = wanted
        if wanted:
            self.loop.add_writer(self.channel.fileno(), self.settle)
        else:
            self.loop.remove_writer(self.channel.fileno())

    def _unwatch(self) -> None:
        self.loop.remove_reader(self.channel.fileno())
        self._let_begin(False)
        if self._writing:
            self._watch_writing(False)

    # -- what the stack reports ------------------------------------------------------------------------------

    def _events(self) -> None:
        while not self.resetting and (event := self.stack.next_event()) is not None:
            _EVENTS[type(event)](self, event)

    def _negotiated(self, event: Negotiated) -> None:
        self.log.debug("negotiated version %s, transfer mode %s", event.version, event.xfer_mode)

    def _ring_offered(self, event: RingOffered) -> None:
        try:
            self._port = self._make_port(event)
        except RemoteProtocolError as cause:
            self.log.warning("ring refused: %s", cause)
            self.stack.refuse_ring(str(cause))
        else:
            self.stack.accept_ring()

    def _make_port(self, event: RingOffered | None) -> Port:
        cookie, ring = (event.cookie, event.geometry) if event is not None else (None, None)
        mapped, copied = self._ports
        if isinstance(self._memory, MappedMemory):
            return mapped(self, self._memory, cookie, ring)
        return copied(self, self._memory, cookie, ring)

    def _ready(self, event: SessionReady) -> None:
        if self._port is None:  # in-band mode has no ring
            self._port = self._make_port(None)
        self.log.info("attached, %s", "polled ring" if self.polled else "doorbell messages")

    def _descriptors(self, event: DescriptorsReady) -> None:
        assert self._port is not None
        self._port.offer(event.batch, event.start_idx, event.count)

    def _doorbell(self, event: DoorbellRung) -> None:
        assert isinstance(self._port, MappedPort)
        self._port.rung()

    def _request(self, event: RequestReceived) -> None:
        assert self._port is not None
        self._port.arrive(event.request, -1, event.batch)
        self.export.executor.kick()

    def fault(self, batch: int | None, index: int, cause: RemoteProtocolError) -> None:
        """A transport fault of one request: the stack sends the NACK and resets."""
        if self.resetting:
            return
        self.log.warning("descriptor %d: %s", index, cause)
        self.stack.fault(batch, index, str(cause))
        self.settle()

    # -- resets ----------------------------------------------------------------------------------------------

    def _reset(self, event: SessionReset) -> None:
        self.log.info("reset (%s): %s", "full" if event.full else "soft", event.cause)
        now = monotonic()
        if len(self._resets) == MAX_RESETS_A_SECOND and now - self._resets[0] < 1.0:
            self.lost(f"more than {MAX_RESETS_A_SECOND} resets in a second")
            return
        self._resets.append(now)
        self.resetting = True
        self._spawn(self._recover())

    async def _recover(self) -> None:
        """Drain and flush, then let the stack start anew; what was received meanwhile comes after that."""
        await self._drain()
        if self._stopping:
            return
        self.stack.attributes = self.export.attributes
        self.stack.reset_done()
        self.resetting = False
        try:
            self._digest()
        except (ChannelError, ProtocolError) as cause:
            self.lost(cause)

    async def _drain(self) -> None:
        """Wait until nothing of this channel runs, make what was written stable, and forget the ring."""
        port = self._port
        if port is not None:
            await self.export.executor.drain(port)
            await port.drain()
            await self.export.executor.flush()
            port.close()
            self._port = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_RECEIVED: Final[dict[type, Callable[[Session, Any], None]]] = {
    bytes: Session._packet,
    LinkState: Session._link,
    MapTableRecord: Session._map_table,
    CopyDone: Session._copied,
    Push: Session._copied,
}

_EVENTS: Final[dict[type, Callable[[Session, Any], None]]] = {
    Negotiated: Session._negotiated,
    RingOffered: Session._ring_offered,
    SessionReady: Session._ready,
    DescriptorsReady: Session._descriptors,
    DoorbellRung: Session._doorbell,
    RequestReceived: Session._request,
    SessionReset: Session._reset,
}
