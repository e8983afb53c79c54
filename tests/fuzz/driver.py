"""What stands around one stack while it is fuzzed: its driver, and a far end that speaks proper LDC.

The far end is a link of its own, so that the fuzzer's messages come in packets that are in order, however odd
they are themselves. The driver does as the events' docstrings say: it takes all events and outputs after each
call, and while a session is being cleaned up nothing is delivered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Final, Generic, TypeAlias, TypeVar

from protocol.ldc.events import LinkReset, LinkState, LinkUp, MessageReceived, QueueConfigured
from protocol.ldc.link import Link
from protocol.ldc.packet import PACKET_SIZE
from protocol.stack import Client, Server
from protocol.vio.extensions import NO_EXTENSION, Extension
from tests.fuzz.tape import Tape

__all__ = ["SID", "Driver", "ring_scheme_of"]

Stack = TypeVar("Stack", Server, Client)
Output: TypeAlias = bytes | QueueConfigured

SID: Final = 0x2A
REST: Final = 20_000  # deliveries; an instruction causes a few dozen


def ring_scheme_of(polled: bool, opens: bool) -> Extension:
    """Return what both ends have agreed about their ring, which is polled or has open ranges, or neither."""
    if polled:
        return Extension.POLLED_RING
    return Extension.OPEN_RANGES if opens else NO_EXTENSION


class Driver(ABC, Generic[Stack]):
    """Drives ``stack``; ``tape`` says what it does where it has a choice."""

    def __init__(self, stack: Stack, tape: Tape) -> None:
        self.stack: Final[Stack] = stack
        self.tape: Final = tape
        self.peer = Link()
        self.cleaning = False  # the session is over and reset_done() was not called yet
        self.honest = True  # all that has reached the stack since the last reset came from the far end's link
        self._to_stack: deque[Output] = deque()
        self.appear()

    @abstractmethod
    def handle(self, event: Any) -> None:  # noqa: ANN401  # of either stack
        """Do what an event of the stack asks for."""

    @abstractmethod
    def heard(self, message: bytes) -> None:
        """Take what the stack has said."""

    @abstractmethod
    def relinked(self) -> None:
        """Note that the link is new: what was said before is void."""

    # -- the far end -----------------------------------------------------------------------------------------

    def appear(self) -> None:
        """Let a new peer appear, and bring its link up."""
        self.peer = Link()
        self._to_stack.clear()
        self.relinked()
        self.honest = True
        self.stack.link_state(LinkState.UP)
        self.peer.link_state(LinkState.UP)
        self.carry()

    def vanish(self) -> None:
        """Let the peer be gone, and another appear."""
        self.stack.link_state(LinkState.DOWN)
        self.settle()
        self.appear()

    def relink(self) -> None:
        """Let the peer reset its link and come up again."""
        self.peer.down()
        self.relinked()
        self.honest = True
        self.carry()
        self.peer.up()
        self.carry()

    def inject(self, packet: bytes) -> None:
        """Deliver a packet that the far end's link has never sent, unless nothing can be delivered now."""
        self.honest = False
        if not self.cleaning:
            self.stack.receive_packet(packet)
        self.carry()

    def report(self, state: LinkState) -> None:
        """Report a state of the peer's queue that nothing has led to."""
        self.honest = False
        self.stack.link_state(state)
        self.carry()

    def say(self, message: bytes) -> bool:
        """Send ``message``; says whether there is a link to send it over."""
        if not self.peer.is_up or not message:
            return False
        self.peer.send(message)
        self.carry()
        return True

    # -- between them ----------------------------------------------------------------------------------------

    def carry(self) -> None:
        """Deliver both ways until the line is quiet."""
        for _ in range(REST):
            self.settle()
            while (output := self.peer.next_output()) is not None:
                self._to_stack.append(output)
            if self.cleaning or not self._to_stack:
                return
            output = self._to_stack.popleft()
            if isinstance(output, QueueConfigured):
                self.stack.link_state(LinkState.RESET)
                self.stack.link_state(LinkState.UP)
            else:
                self.stack.receive_packet(output)
        raise AssertionError("the line does not come to rest")

    def settle(self) -> None:
        """Take all that the stack has, until it has nothing more to say."""
        busy = True
        while busy:
            busy = False
            while (output := self.stack.next_output()) is not None:
                self._reached_peer(output)
                busy = True
            while not busy and (event := self.stack.next_event()) is not None:
                self.handle(event)
                busy = True
        self._listen()

    def _reached_peer(self, output: Output) -> None:
        if isinstance(output, QueueConfigured):
            self._to_stack = deque(item for item in self._to_stack if isinstance(item, QueueConfigured))
            self.peer.link_state(LinkState.RESET)
            self.peer.link_state(LinkState.UP)
        else:
            assert len(output) == PACKET_SIZE
            self.peer.receive_packet(output)
        self._listen()

    def _listen(self) -> None:
        """Take what the far end's link reports; a reset one comes up again."""
        while (event := self.peer.next_event()) is not None:
            if isinstance(event, MessageReceived):
                self.heard(event.data)
            elif isinstance(event, LinkReset):
                self.relinked()
                self.peer.up()
            else:
                assert isinstance(event, LinkUp)
