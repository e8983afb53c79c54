"""What both roles share: the link below, the events above, and the rules between link and session.

After every input the coupled machines are settled here until nothing changes: what the link reports is handed
to the session, and a link that is down while the peer is there is brought up again, unless the session is
being cleaned up or a decision of the driver is awaited. Meanwhile the link's reports wait, in order.

An end may let its peer begin the handshake, and begin it itself only when its driver says so (``begin``). A
server does: OpenBSD's client begins by itself, and resets the channel when both have begun.
Source: Solaris vds.c, vd_handle_ldc_events; vdc.c, vdc_handle_cb; OpenBSD ldc.c, ldc_rx_ctrl_vers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Final, Generic, TypeVar

from protocol.ldc.events import LinkReset, LinkState, LinkUp, MessageReceived, QueueConfigured
from protocol.ldc.link import Link
from protocol.wire import Buffer

__all__ = ["Endpoint"]

Event = TypeVar("Event")


class Endpoint(ABC, Generic[Event]):
    """One end of a session: bytes in, events out; intent in, bytes out."""

    def __init__(self, rung: Event, *, waits: bool = False) -> None:
        """``rung`` is the event for a doorbell of the peer's; ``waits``: see above."""
        self._rung: Final = rung
        self._waits: Final = waits
        self._link: Final = Link()
        self._events: Final[deque[Event]] = deque()
        self._output: Final[deque[bytes | QueueConfigured]] = deque()  # older than the link's
        self._peer = LinkState.DOWN
        self._up = False  # as the session knows it
        self._held = False  # what the link reports has to wait

    def link_state(self, state: LinkState) -> None:
        """Take what the hypervisor says of the peer's queue; look for events and output next."""
        self._peer = state
        self._link.link_state(state)
        self._settle()

    def receive_packet(self, packet: Buffer) -> None:
        """Take one packet of exactly 64 bytes; look for events and output next.

        Do not call it between SessionReset or SessionLost and reset_done(): what comes then may be dropped.
        Raises: PacketError (not 64 bytes): close the channel. Nothing else a peer sends raises.
        """
        self._link.receive_packet(packet)
        self._settle()

    def take_packet(self, packet: Buffer) -> bool:
        """As receive_packet(), and look for events and output next, unless this says True.

        True: it was a doorbell of a polled ring, and nothing else. One comes each time that an end sleeps, so
        it pays that no event is made of it. There is no output either: look at the ring.
        """
        if not (self._held or self._events):
            message = self._link.take(packet)
            if message is not None:
                return self._message(message)
        self.receive_packet(packet)
        return False

    @property
    def awaits_peer(self) -> bool:
        """The peer is there and may begin the handshake: call begin() when it has had its time."""
        return (
            self._waits
            and self._peer is not LinkState.DOWN
            and not (self._held or self._up or self._link.has_begun)
        )

    def begin(self) -> None:
        """Begin the handshake, if the peer is there and has not; look for output next."""
        if self.awaits_peer:
            self._link.up()

    def next_event(self) -> Event | None:
        """Return what happened next, None when all was reported. Each event says what to do about it."""
        return self._events.popleft() if self._events else None

    def next_output(self) -> bytes | QueueConfigured | None:
        """Return what is to be sent next, in order: a packet, or that our queue was reconfigured.

        Take all of it after every call, before the next input.
        """
        return self._output.popleft() if self._output else self._link.next_output()

    @abstractmethod
    def _linked(self) -> None:
        """The link came up."""

    @abstractmethod
    def _unlinked(self, cause: str, full: bool) -> None:
        """The link was reset, or (``full``) the peer is gone."""

    @abstractmethod
    def _message(self, message: bytes) -> bool:
        """A message arrived; True: it was a doorbell, and there is nothing else to be said about it."""

    def _settle(self) -> None:
        link = self._link
        while True:
            while not self._held and (event := link.next_event()) is not None:
                if isinstance(event, MessageReceived):
                    if self._message(event.data):
                        self._events.append(self._rung)
                elif isinstance(event, LinkUp):
                    self._up = True
                    self._linked()
                else:
                    self._up = False
                    self._drop_output()
                    if isinstance(event, LinkReset):
                        self._unlinked(event.cause, full=False)
                    else:
                        self._unlinked("the peer is gone", full=True)
            if self._held or self._up or self._peer is LinkState.DOWN or self.awaits_peer:
                return
            link.up()  # does nothing if a handshake has begun
            if not link.is_up:
                return

    def _send(self, message: bytes) -> None:
        """Send ``message``; without a link it is lost, as everything of the session will be."""
        packet = self._link.frame(message)
        if packet is not None:
            self._output.append(packet)
        elif self._link.is_up:
            self._link.send(message)
            self._take_output()

    def _take_output(self) -> None:
        """Take what the link has to send: its queue is short, and taking it down empties it."""
        while (output := self._link.next_output()) is not None:
            self._output.append(output)

    def _drop_output(self) -> None:
        """Forget packets of a link that was reset, but not that our queue was reconfigured."""
        marks = [output for output in self._output if isinstance(output, QueueConfigured)]
        self._output.clear()
        self._output.extend(marks)

    def _forced_reset(self) -> None:
        """Take the link down, and with it whatever the peer sent so far; what we sent still goes out."""
        while self._link.next_event() is not None:
            pass
        if self._peer is not LinkState.DOWN:
            self._link.down()
        self._up = False
