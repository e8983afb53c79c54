"""What a disk does, whoever drives it: requests in, answers out, and a server that may come and go.

The engine is non-blocking: the driver (:mod:`vdc.disk` under asyncio, :mod:`vdc.sync` with
``poll``) watches ``fileno()``, calls :meth:`Engine.readable`, :meth:`Engine.writable` and
:meth:`Engine.tick`, and decides when to look at the ring (:meth:`Engine.poll`) and when to sleep
(``ring(sleeping=True)`` first).

Source: Solaris vdc.c, ``vdc_process_msg_thread``, for the states and what is resubmitted when.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from errno import EIO
from time import monotonic, perf_counter
from typing import Final, Protocol

from hypervisor.capture import Capture, Tap
from hypervisor.credentials import peer_credentials
from hypervisor.rendezvous import Hello, Transport, connect, receive_answer, send_hello
from protocol.errors import ChannelError, ChannelLost, DiskError, ProtocolError
from protocol.vdisk.attributes import MAX_SIZE, UNKNOWN_SIZE, DiskAttributes
from protocol.vdisk.operations import Operation
from protocol.vdisk.payloads import CAPACITY_NBYTES, GEOMETRY_NBYTES, CapacityLayout, parse_geometry
from protocol.vio.extensions import NO_EXTENSION, Extension

from .buffers import Buffer
from .guest import RING, GuestMemory
from .requests import Request, RequestTable
from .session import DONE, WANTED_XFER, Session
from .states import ANSWERS_EIO, Input, State, step
from .uri import Target

__all__ = ["ANSWERS_A_TURN", "Driver", "Engine"]

RENDEZVOUS_LIMIT_S: Final = 10.0
"""A server that accepts and says nothing is given up after this; the same limit holds on its side."""
HANDSHAKE_LIMIT_S: Final = 75.0
"""A server may wait about 50 s for a backend while it negotiates attributes. Source: Solaris vds.c."""
RUNNING: Final = State.RUNNING  # an attribute of an enumeration is slow to look up
SPINS: Final = range(200)
"""Looks at the oldest request's entry before the first look at the clock: 6 µs, twice the quickest
answer."""
OUT_OF_ORDER_S: Final = 5e-6
"""How often a look at the oldest request's entry becomes one at all of them."""
ANSWERS_A_TURN: Final = 8
"""Requests answered before those who waited for them go on: a server that gets no work for longer than it
looks at the ring goes to sleep, and waking it costs more than a few turns."""
RETRY_FIRST_S: Final = 0.01
RETRY_MOST_S: Final = 0.25
"""Attempts to reach a lost server double their distance up to this: quick for a restart, cheap for an
outage."""
LOSSES: Final = (OSError, ChannelError, ProtocolError)
"""What ends a connection; a refusal is an OSError."""

log = logging.getLogger("vdc")


class Driver(Protocol):
    """Whoever watches the socket and the clock for an engine."""

    def changed(self) -> None:
        """State, socket or deadline may be others now, or a request was posted: look again."""

    def detach(self, fd: int) -> None:
        """The socket ``fd`` is about to be closed: stop watching it."""


class Engine:
    """One disk: its unanswered requests and its connection.

    ``driver`` is told after each change of state, of ``fileno()`` or of ``deadline``, and before a socket is
    closed. Each connection is an interface of ``capture``, which stays the caller's.
    """

    def __init__(
        self,
        target: Target,
        driver: Driver,
        clock: Callable[[], float] = monotonic,
        capture: Capture | None = None,
    ) -> None:
        self.target = target
        self.state = State.CONNECTING
        self.table = RequestTable()
        self.session: Session | None = None
        self._sock: socket.socket | None = None
        self._memory: GuestMemory | None = None
        self.instance: bytes | None = None
        self.attributes: DiskAttributes | None = None
        self.version = (0, 0)
        self.extensions = self._offered = NO_EXTENSION
        self.cause: BaseException | None = None
        """Why there is no connection, when there is none."""
        self.connections = 0
        self._capture = capture
        self._channels = 0
        self._driver = driver
        self._identity = (os.urandom(16), os.urandom(16))
        self._clock = clock
        self._retry_at = self._lost_at = clock()
        self._retry_s = RETRY_FIRST_S
        self._limit_at: float | None = None
        self._waiting_since: float | None = None

    # -- requests ----------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Take ``request``; its ``finish`` is called exactly once, perhaps before this returns."""
        table = self.table
        request.token = table.submitted
        table.submitted += 1
        session = self.session
        if self.state is RUNNING and session is not None:
            if table.waiting or not session.post(request):
                table.waiting.append(request)
        elif self.state in ANSWERS_EIO or self.state is State.CLOSED:
            self._refuse(request)
        else:
            table.waiting.append(request)
            if self._waiting_since is None:
                self._waiting_since = self._clock()
                self._driver.changed()

    def poll(self, most: int = RING.num_descriptors) -> int:
        """Answer what the server has finished, about ``most`` of it, then send what waited for room.

        Returns how many were answered.
        """
        session = self.session
        if session is None or self.state is not RUNNING:
            return 0
        answered = session.poll(RING.num_descriptors if session.remote else most) or session.sweep()
        if answered and self.table.waiting:
            self._fill()
        return answered

    def watch(self, span_s: float, most: int = RING.num_descriptors) -> int:
        """Look at the ring until something is answered, about ``most`` requests, or for ``span_s`` seconds.

        Returns how many were answered; 0 at once where nothing is outstanding, or only a message can tell.
        """
        session = self.session
        if session is None or not session.done_counts or not self.table.outstanding:
            return 0
        if session.remote:
            return self._watch_socket(session, perf_counter() + span_s)
        entries, at = session.oldest()
        for _ in SPINS:  # the clock costs more than the look
            if entries[at] == DONE:
                break
        answered = session.poll(most)
        if not answered:
            answered = self._watch_on(session, perf_counter() + span_s, most)
        if answered and self.table.waiting:
            self._fill()
        return answered

    def _watch_on(self, session: Session, until: float, most: int) -> int:
        """The rest of :meth:`watch`, by the clock."""
        while not (answered := session.poll(most) or session.sweep()) and self.state is RUNNING:
            entries, at = session.oldest()
            now = perf_counter()
            if now >= until:
                break
            others_at = min(now + OUT_OF_ORDER_S, until)
            while entries[at] != DONE and now < others_at:
                now = perf_counter()
        return answered

    def _watch_socket(self, session: Session, until: float) -> int:
        """The same where answers come by message."""
        while self.state is RUNNING and self.session is session:
            if session.has_news and (answered := self.readable()):
                return answered
            if perf_counter() >= until:
                break
        return 0

    def ring(self, sleeping: bool) -> None:
        """Ring the doorbell if the server needs it; ``sleeping`` asks for a message at the next answer."""
        if self.session is not None and self.state is RUNNING:
            try:
                self.session.ring(sleeping)
            except LOSSES as cause:
                self._lose(cause)

    def buffer(self, nbytes: int) -> Buffer | None:
        """Shared memory for a caller, or None when there is no room or no connection."""
        return self.session.buffer(nbytes) if self.session is not None else None

    @property
    def negotiating(self) -> bool:
        """A server was reached and the handshake goes on."""
        return self.state in (State.RENDEZVOUS, State.NEGOTIATING)

    @property
    def outstanding(self) -> int:
        """Requests the server has."""
        return self.table.outstanding

    def _fill(self) -> None:
        waiting = self.table.waiting
        while waiting and self.session is not None and self.session.post(waiting[0]):
            waiting.popleft()

    def _refuse(self, request: Request) -> None:
        request.end(request.error(EIO))

    # -- connection --------------------------------------------------------------------------------------

    def fileno(self) -> int | None:
        """The socket to watch, or None while there is none."""
        return self._sock.fileno() if self._sock is not None else None

    @property
    def wants_write(self) -> bool:
        """Watch the socket for writing too."""
        return self.session is not None and self.session.wants_write

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`tick` next, or None."""
        if self.state is RUNNING and self._limit_at is None and self._waiting_since is None:
            return None
        moments = [self._limit_at, self._expiry()]
        if self.state in (State.CONNECTING, State.FAILED):
            moments.append(self._retry_at)
        return min((moment for moment in moments if moment is not None), default=None)

    def readable(self) -> int:
        """The socket has something: take it; returns how many requests were answered.

        A lost connection is noticed here and recovery begins.
        """
        answered = 0
        try:
            if self.session is not None:
                answered = self.session.readable()
            elif self._sock is not None and self._memory is not None:
                self._await_answer(self._sock, self._memory)
        except LOSSES as cause:
            self._lose(cause)
        else:
            if self.table.waiting and self.state is RUNNING:
                self._fill()
        return answered

    def writable(self) -> None:
        """The socket has room again."""
        if self.session is not None:
            try:
                self.session.writable()
            except LOSSES as cause:
                self._lose(cause)

    def tick(self) -> None:
        """Do what is due: connect again, give up an attempt, let the timeout expire."""
        now = self._clock()
        expiry = self._expiry()
        if expiry is not None and now >= expiry:
            self._expire()
        if self._limit_at is not None and now >= self._limit_at:
            self._lose(
                ChannelLost(f"no answer from {self.target.socket} in the {self.state.name.lower()} phase")
            )
        if self.state in (State.CONNECTING, State.FAILED) and now >= self._retry_at:
            self._connect()

    def close(self) -> None:
        """End the disk: what is unanswered fails with EIO. Harmless when done twice."""
        if self.state is not State.CLOSED:
            self._step(Input.CLOSE)
            self._drop_session()
            self._fail_all()
            self._driver.changed()

    def _connect(self) -> None:
        """Begin an attempt: a socket, memory for it, and the hello."""
        target = self.target
        shared = target.transport is Transport.SHM
        self._offered = Extension.POLLED_RING if shared else Extension.INLINE
        client_id, secret = self._identity
        hello = Hello(
            volume=target.volume,
            transport=target.transport,
            client_id=client_id,
            secret=secret,
            memory_size=0,
            extensions=self._offered,
        )
        try:
            self._sock = connect(target.socket)
            self._memory = GuestMemory(shared=shared)
            send_hello(self._sock, replace(hello, memory_size=self._memory.size), self._memory.fd)
        except LOSSES as cause:
            self._lose(cause)
            return
        self._limit_at = self._clock() + RENDEZVOUS_LIMIT_S
        self._step(Input.CONNECTED)
        self._driver.changed()

    def _await_answer(self, sock: socket.socket, memory: GuestMemory) -> None:
        welcome = receive_answer(sock, self._offered)
        if welcome is None:
            return
        if self.instance is not None and welcome.instance != self.instance:
            self._replaced("its volume instance changed")
        self.instance = welcome.instance
        self.extensions = welcome.extensions
        tap = self._tap(self._capture, sock) if self._capture is not None else None
        self.session = Session(sock, memory, welcome, self.table, self, tap)
        self._limit_at = self._clock() + HANDSHAKE_LIMIT_S
        self._step(Input.WELCOMED)
        self.session.start()
        self.session.readable()

    def _tap(self, capture: Capture, sock: socket.socket) -> Tap:
        """A new channel gets an interface of its own."""
        self._channels += 1
        server = peer_credentials(sock)
        transport = self.target.transport.name.lower()
        return capture.tap(
            f"{self.target.volume}#{self._channels}",
            f"server process {server.pid}, user {server.uid}, {transport}",
        )

    def session_ready(self, version: tuple[int, int], attributes: DiskAttributes) -> None:
        """The handshake is done: send what waits. Source: :class:`vdc.session.Owner`."""
        if self.attributes is not None and attributes.block_size != self.attributes.block_size:
            self._replaced(f"its block size is {attributes.block_size}, it was {self.attributes.block_size}")
        self.version = version
        if attributes.size_blocks == UNKNOWN_SIZE:
            self._ask_size(attributes)
        else:
            self._begin(attributes)

    def _ask_size(self, attributes: DiskAttributes) -> None:
        """Version 1.0 does not tell the size, and later ones may not know it: ask before anything else.

        Source: FWARC 2010/054; Linux sunvdc.c, probe_disk, which multiplies the geometry.
        """
        capacity = bool(attributes.operations >> Operation.GET_CAPACITY & 1)
        operation, nbytes = (
            (Operation.GET_CAPACITY, CAPACITY_NBYTES)
            if capacity
            else (Operation.GET_DISKGEOM, GEOMETRY_NBYTES)
        )

        session = self.session
        assert session is not None

        def told(request: Request, error: DiskError | None) -> None:
            if self.session is not session:
                return  # asked again by the connection that followed
            if error is not None:
                raise ChannelLost(f"the server does not tell the disk's size: {error}")
            if capacity:
                blocks = CapacityLayout.parse(request.result or b"").vdisk_size
            else:
                geometry = parse_geometry(request.result or b"")
                blocks = geometry.pcyl * geometry.nhead * geometry.nsect
            self._begin(replace(attributes, size_blocks=blocks))

        request = Request(int(operation), 0, nbytes, told)
        self.table.number(request)
        session.post(request)
        session.ring(sleeping=True)

    def _begin(self, attributes: DiskAttributes) -> None:
        """The disk is known: requests flow. Raises: ChannelLost (it cannot be used)."""
        if not 0 < attributes.block_size <= WANTED_XFER or not 0 < attributes.size_blocks <= MAX_SIZE:
            raise ChannelLost(
                f"the server's disk has {attributes.size_blocks} blocks of {attributes.block_size} bytes"
            )
        self.attributes = attributes
        self._step(Input.READY)
        self._limit_at = self._waiting_since = self.cause = None
        self._retry_s = RETRY_FIRST_S
        self.connections += 1
        again = self.table.resume()
        if self.connections > 1:
            log.info(
                "%s: running again after %.3f s, %d requests resubmitted, %d waiting",
                self.target.volume,
                self._clock() - self._lost_at,
                again,
                len(self.table.waiting) - again,
            )
        self._fill()
        self._driver.changed()

    def session_has_room(self) -> None:
        """Shared memory was given back: send what waits for it. Source: :class:`vdc.session.Owner`."""
        if self.table.waiting and self.state is RUNNING:
            self._fill()
            self._driver.changed()

    def _replaced(self, why: str) -> None:
        self._step(Input.OTHER_VOLUME)
        raise ChannelLost(
            f"another volume answers to the name {self.target.volume}: {why}; open the disk again"
        )

    def _lose(self, cause: BaseException) -> None:
        """The connection, or the attempt at one, is over: what the server had and has not finished waits
        again."""
        before = self.state
        if before is State.RUNNING and self.session is not None:
            self.session.poll()
            self.session.sweep()
            if self.state is State.CLOSED:  # by whom an answer was for
                return
        self._drop_session()
        self._step(Input.LOST)
        self.cause = cause
        if before is State.RUNNING:
            self._lost_at = self._clock()
            log.warning(
                "%s: lost the server (%s), %d requests unanswered",
                self.target.volume,
                cause,
                self.table.unanswered,
            )
        if self.state is State.REPLACED:
            log.error("%s: %s", self.target.volume, cause)
            self._fail_all()
        elif self.table and self._waiting_since is None:
            self._waiting_since = self._clock()
        self._retry_at = self._clock() + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_MOST_S)
        self._driver.changed()

    def _expire(self) -> None:
        log.error(
            "%s: no server for %g s (%s), %d requests fail with EIO",
            self.target.volume,
            self.target.timeout_s,
            self.cause,
            len(self.table),
        )
        self._drop_session()
        self._step(Input.EXPIRED)
        self._retry_at = self._clock() + self._retry_s
        self._fail_all()
        self._driver.changed()

    def _expiry(self) -> float | None:
        if self.target.timeout_s and self._waiting_since is not None and self.table:
            return self._waiting_since + self.target.timeout_s
        return None

    def _drop_session(self) -> None:
        """Let go of socket and memory; what the server had waits again."""
        session, self.session = self.session, None
        sock, self._sock = self._sock, None
        memory, self._memory = self._memory, None
        self._limit_at = None
        if sock is not None:
            self._driver.detach(sock.fileno())
        if session is not None:
            session.close()
        else:
            for part in (sock, memory):
                if part is not None:
                    part.close()
        self.table.take_back()

    def _fail_all(self) -> None:
        self._waiting_since = None
        for request in self.table.drain():
            self._refuse(request)

    def _step(self, event: Input) -> None:
        state = step(self.state, event)
        if state is not None and state is not self.state:
            log.debug("%s: %s -> %s (%s)", self.target.volume, self.state.name, state.name, event.name)
            self.state = state
