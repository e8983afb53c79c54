"""A server that does as a test tells it: right up to a point, then wrong.

:class:`BadServer` accepts connections in a thread and gives each to the next :class:`Manners` of its list,
the last one again and again. Everything before the point where manners fail is done by the real stack.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from hypervisor.channel import Channel
from hypervisor.memory import MappedMemory
from hypervisor.records import MapTableRecord
from hypervisor.rendezvous import Hello, Listener, Pending, Welcome
from protocol.errors import ChannelError, ProtocolError
from protocol.ldc.cookie import Permission
from protocol.ldc.events import LinkState, QueueConfigured
from protocol.stack import DescriptorsReady, DoorbellRung, RingOffered, Server, SessionReset
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request, parse_entry
from protocol.vdisk.operations import Operation
from protocol.vdisk.ring import ServerRing
from protocol.vio.dring import Dstate, RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension

__all__ = ["CONTENT", "INSTANCE", "BadServer", "Conversation", "Manners", "Turn"]

CONTENT: Final = b"".join(number.to_bytes(4, "big") * 128 for number in range(64))
"""What the disk holds: 64 blocks, each full of its own number."""
INSTANCE: Final = bytes(range(16))
ATTRIBUTES: Final = DiskAttributes(size_blocks=64, max_xfer_blocks=32)


class Turn(Enum):
    """What a server does when it is done with its manners."""

    HANG_UP = auto()
    FALL_SILENT = auto()
    SERVE = auto()


Answer = Callable[["Conversation", int, Request], None]
Act = Callable[["Conversation"], None]


def serve_well(conversation: Conversation, index: int, request: Request) -> None:
    """Do what was asked."""
    status = conversation.execute(request)
    conversation.finish(index, status, request.nbytes)


@dataclass
class Manners:
    """How to treat one connection.

    ``datagrams``: after so many, the answer to the hello being the first, comes ``turn``. ``answer`` is the
    reply to the hello, instead of the right one. ``on_running`` is called once, when the session stands;
    ``on_request`` for every request.
    """

    datagrams: int | None = None
    turn: Turn = Turn.SERVE
    answer: bytes | None = None
    instance: bytes = INSTANCE
    extensions: Extension | None = None
    attributes: DiskAttributes = ATTRIBUTES
    change: Callable[[bytes], bytes] | None = None
    on_running: Act | None = None
    on_linked: Act | None = None
    on_request: Answer = serve_well


class _Done(Exception):
    """This connection is over."""


class Conversation:
    """One connection, as its manners have it."""

    def __init__(self, server: BadServer, pending: Pending, manners: Manners) -> None:
        self.server = server
        self.manners = manners
        self.sent = 0
        self.requests = 0
        self.pending = pending
        self.memory: MappedMemory | None = None
        self.ring: ServerRing
        self.geometry: RingGeometry
        self.view: memoryview
        self.batches: dict[int, int] = {}
        self.stack = Server(manners.attributes, extensions=manners.extensions or NO_EXTENSION)
        self._next = 0  # polled ring: the entry to look at
        self.sock: socket.socket
        self.channel: Channel
        self._silent = False
        self._announced_running = False

    # -- doing right -------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the hello to the end."""
        try:
            hello, fd = self._hello()
            if fd is not None:
                self.memory = MappedMemory(fd, hello.memory_size)
            self._welcome()
            self._send_queue()
            while True:
                self.server.wait(self.sock)
                for item in self.channel.receive():
                    self._take(item)
        except (_Done, ChannelError, ProtocolError, OSError):
            pass
        finally:
            self.pending.close()
            if hasattr(self, "channel"):
                self.channel.close()
            if hasattr(self, "view"):
                self.view.release()
            if self.memory is not None:
                self.memory.close()

    def _hello(self) -> tuple[Hello, int | None]:
        while (received := self.pending.receive()) is None:
            self.server.wait(self.pending)
        return received

    def _welcome(self) -> None:
        manners = self.manners
        self._count()
        extensions = manners.extensions
        if manners.answer is not None:
            self.sock = self.pending._sock
            self.sock.send(manners.answer)
        else:
            self.sock = self.pending.welcome(
                Welcome(
                    extensions=NO_EXTENSION if extensions is None else extensions,
                    instance=manners.instance,
                    poll_us=0,
                )
            )
        self.channel = Channel(self.sock, extensions=extensions or NO_EXTENSION)

    def _count(self) -> None:
        """Another datagram is about to go: perhaps none does any more."""
        if self.manners.datagrams is not None and self.sent >= self.manners.datagrams:
            if self.manners.turn is Turn.HANG_UP:
                raise _Done
            if self.manners.turn is Turn.FALL_SILENT:
                self._silent = True
        self.sent += 1

    def _send_queue(self) -> None:
        self._count()
        if not self._silent:
            self.channel.queue_configured()

    def _take(self, item: Any) -> None:  # noqa: ANN401 - what a channel returns
        if isinstance(item, bytes):
            self.stack.receive_packet(item)
        elif isinstance(item, LinkState):
            self.stack.link_state(item)
            if self.manners.on_linked is not None:
                self.manners.on_linked(self)
        elif isinstance(item, MapTableRecord) and self.memory is not None:
            self.memory.set_map_table(item.base, item.nentries)
        self.settle()

    def settle(self) -> None:
        """Carry out what the stack says."""
        while (event := self.stack.next_event()) is not None:
            if isinstance(event, RingOffered):
                assert self.memory is not None
                self.geometry = event.geometry
                self.view = self.memory.map_ring(event.cookie, event.geometry.nbytes)
                self.ring = ServerRing(self.view, event.geometry)
                self.stack.accept_ring()
            elif isinstance(event, DescriptorsReady):
                self._serve(event)
            elif isinstance(event, DoorbellRung):
                self._look()
            elif isinstance(event, SessionReset):
                raise _Done
        self._send()
        if self.stack.is_ready and not self._announced_running:
            self._announced_running = True
            if self.manners.on_running is not None:
                self.manners.on_running(self)

    def _send(self) -> None:
        while (output := self.stack.next_output()) is not None:
            if isinstance(output, QueueConfigured):
                self._send_queue()
                continue
            self._count()
            if not self._silent:
                change = self.manners.change
                self.channel.send_packet(output if change is None else change(output))

    def _serve(self, event: DescriptorsReady) -> None:
        for index in self.geometry.indices(event.start_idx, (event.start_idx + event.count - 1)):
            self.batches[index] = event.batch
            self._request(index)

    def _look(self) -> None:
        while self.ring.is_ready(self._next):
            index, self._next = self._next, (self._next + 1) % self.geometry.num_descriptors
            self._request(index)

    def _request(self, index: int) -> None:
        request = parse_entry(self.ring.take(index))
        self.requests += 1
        self.server.requests += 1
        self.manners.on_request(self, index, request)

    # -- for manners -------------------------------------------------------------------------------------

    def execute(self, request: Request) -> int:
        """Fill the client's buffers with what it asked for; returns the status."""
        assert self.memory is not None
        if request.operation == Operation.BREAD:
            start = request.addr * 512
            data = CONTENT[start : start + request.nbytes]
            for view in self.memory.views(request.cookies, request.nbytes, Permission.CW):
                view[:] = data[: len(view)]
                data = data[len(view) :]
        return 0

    def finish(self, index: int, status: int, nbytes: int) -> None:
        """Answer an entry, and tell the client."""
        self.ring.finish(index, status, nbytes)
        if index in self.batches:
            self.stack.complete(self.batches.pop(index), index)
        else:
            self.stack.completed(1)

    def say(self, message: bytes) -> None:
        """Send a message of one's own over the link, in its sequence."""
        self.stack._send(message)
        self._send()

    def set_state(self, index: int, state: int) -> None:
        """Store a state into an entry, whoever has it."""
        self.view[self.geometry.offset(index)] = state

    def done_everywhere(self) -> None:
        """Say DONE of every entry that was not posted."""
        for index in range(self.geometry.num_descriptors):
            if not self.ring.is_ready(index):
                self.set_state(index, Dstate.DONE)

    def hang_up(self) -> None:
        """End this connection."""
        raise _Done


@dataclass
class BadServer:
    """Listens at ``path`` while used as a context manager."""

    path: Path
    manners: Sequence[Manners]
    connections: int = 0
    requests: int = 0
    error: BaseException | None = None
    _listener: Listener = field(init=False)
    _wake: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)

    def uri(self, **parameters: str | int) -> str:
        """Where clients find the disk."""
        more = "".join(f"&{key}={value}" for key, value in parameters.items())
        return f"vdisk+unix:///disk?socket={quote(str(self.path))}{more}"

    def wait(self, what: Any) -> None:  # noqa: ANN401 - anything with a fileno
        """Wait until there is something to read. Raises: _Done (the test is over)."""
        readable, _, _ = select.select([what, self._wake[0]], [], [])
        if self._wake[0] in readable:
            raise _Done

    def _run(self) -> None:
        try:
            while True:
                self.wait(self._listener)
                pending = self._listener.accept()
                if pending is None:
                    continue
                manners = self.manners[min(self.connections, len(self.manners) - 1)]
                self.connections += 1
                Conversation(self, pending, manners).run()
        except _Done:
            pass
        except BaseException as error:
            self.error = error
            raise

    def __enter__(self) -> Self:
        self._listener = Listener(self.path)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake[1].send(b"x")
        self._thread.join()
        self._listener.close()
        for end in self._wake:
            end.close()
        assert self.error is None
