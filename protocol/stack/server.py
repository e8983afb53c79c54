"""A disk server's end of a session: every message is checked, answered and put into order here.

The reply rule: an answer is the message itself, its subtype changed and the server's own fields filled in,
exactly one for each message, in their order. What follows a NACK is one of two classes: malformed, out of
order or unsupported is a soft reset (session forgotten, link kept), a fault of ring index, descriptor state
or memory is a full one (link down as well). Source: Solaris vds.c, vd_process_msg.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from protocol.errors import (
    Layer,
    LocalProtocolError,
    PacketError,
    Reaction,
    RemoteProtocolError,
    RingError,
)
from protocol.ldc.cookie import PAGE_SIZE
from protocol.vdisk.attributes import DiskAttributes, build_answer, check_attributes, max_xfer, parse_wish
from protocol.vdisk.descriptor import COOKIE, INBAND, parse_inband
from protocol.vio.doorbell import Doorbell, ServerDoorbell
from protocol.vio.dring import RingGeometry
from protocol.vio.events import (
    DescriptorsReady,
    DoorbellRung,
    Negotiated,
    RangeOpened,
    RingOffered,
    SessionReset,
)
from protocol.vio.extensions import NO_EXTENSION, Extension, ring_scheme
from protocol.vio.handshake import RING_IDENT, ServerHandshake
from protocol.vio.messages import (
    OPEN_ENDED,
    DoorbellLayout,
    DringDataLayout,
    Envelope,
    MessageType,
    Subtype,
    TagLayout,
    Version,
    echo,
)
from protocol.vio.ranges import RangeQueue
from protocol.vio.sequence import RequestSequence
from protocol.vio.state import ServerState

from .data import acknowledge_inband, build_doorbell, nack_at, seq_num_of
from .endpoint import Endpoint
from .events import RequestReceived, ServerEvent, SessionReady

__all__ = ["MAX_INBAND", "VERSIONS", "Server"]

VERSIONS: Final = (Version(1, 2),)
"""The best version of each major that a server of ours speaks. 1.2 adds the physical block size for Linux."""

MAX_INBAND: Final = 512
"""In-band messages a client may have unanswered: as many as an LDC queue has entries, firmware has one.
Source: Solaris sys/ldc_impl.h, LDC_QUEUE_ENTRIES."""

_TAG: Final = TagLayout.codec
_DRING_DATA: Final = DringDataLayout.codec
_DOORBELL: Final = DoorbellLayout.codec
_RUNG: Final = DoorbellRung()
_ACK: Final = int(Subtype.ACK)  # a plain int: looking an enum member up costs as much as packing it


class Server(Endpoint[ServerEvent]):
    """Bytes in, events out, for a disk server; the driver owns memory, ring and backend.

    ``attributes`` describe the disk and may be set anew at any time; the next handshake tells them.
    ``versions`` are those it speaks, the best of each major, highest first. ``extensions`` and ``polls`` are
    what the rendezvous agreed. ``waits`` lets the client begin the link handshake: see ``awaits_peer``.
    Raises: LocalProtocolError (a ring that is polled and has open ranges; attributes that cannot be).
    """

    def __init__(
        self,
        attributes: DiskAttributes,
        *,
        versions: Sequence[tuple[int, int]] = VERSIONS,
        extensions: Extension = NO_EXTENSION,
        polls: bool = False,
        waits: bool = False,
    ) -> None:
        super().__init__(_RUNG, waits=waits)
        self.attributes = attributes
        self._ring_data: Final = _RING_DATA[ring_scheme(extensions)]
        self._polls: Final = polls
        self._handshake: Final = ServerHandshake([Version(*version) for version in versions])
        self._answers: Final = RangeQueue()
        self._sequence = RequestSequence()
        self._doorbell = ServerDoorbell(polls)
        self._announced = attributes
        self._inband_limit = 0
        self._offer: tuple[bytes, RingGeometry] | None = None
        self._resetting = False
        self._full = False
        self._restart: bytes | None = None
        self._data_tag = b""  # how ring data of this session begins: what needs no further look at the tag

    @property
    def attributes(self) -> DiskAttributes:
        """The disk as the next handshake tells it. Setting raises: LocalProtocolError (it cannot be)."""
        return self._attributes

    @attributes.setter
    def attributes(self, attributes: DiskAttributes) -> None:
        check_attributes(attributes)
        self._attributes = attributes

    @property
    def version(self) -> Version:
        """The version agreed, 0.0 until then."""
        return self._handshake.version

    @property
    def xfer_mode(self) -> int:
        """The transfer mode agreed, or 0."""
        return self._handshake.xfer_mode

    @property
    def is_ready(self) -> bool:
        """The handshake is done and no reset is under way."""
        state = self._handshake.state
        return state in (ServerState.DATA_RING, ServerState.DATA_INBAND) and not self._resetting

    @property
    def announced(self) -> DiskAttributes:
        """The attributes as this client was told; requests are validated against them."""
        return self._announced

    @property
    def client_sleeps(self) -> bool:
        """Polled ring: the client asked for a message at the next completion; end_of_batch() sends it."""
        return self._doorbell.asked

    @property
    def unanswered(self) -> int:
        """Messages without an answer."""
        return len(self._answers)

    # -- intent ----------------------------------------------------------------------------------------------

    def accept_ring(self) -> None:
        """Acknowledge the ring of RingOffered. Raises: LocalProtocolError (none is on offer)."""
        message, geometry = self._take_offer()
        self._send(self._handshake.accept_ring(message, geometry))
        self._doorbell = ServerDoorbell(self._polls, geometry.num_descriptors)
        self._settle()

    def refuse_ring(self, reason: str) -> None:
        """Refuse the ring of RingOffered, because it cannot be mapped: NACK and full reset."""
        message, _ = self._take_offer()
        self._refuse(message, reason, full=True)

    def _take_offer(self) -> tuple[bytes, RingGeometry]:
        if self._offer is None:
            raise LocalProtocolError(Layer.VIO, "no ring is on offer")
        offer, self._offer = self._offer, None
        self._held = False
        return offer

    def seq_num(self, batch: int) -> int:
        """Return the number of the message behind ``batch``. Raises: LocalProtocolError (not in progress)."""
        return seq_num_of(self._answers.message(batch))

    def complete(self, batch: int, index: int) -> None:
        """Plain ring: entry ``index`` of ``batch`` is DONE, visibly.

        Legal until reset_done(). Raises: LocalProtocolError (not in progress).
        """
        self._answers.complete(batch, index)
        self._send_answers()

    def complete_run(self, batch: int, start_idx: int, count: int) -> None:
        """As :meth:`complete`, for ``count`` entries from ``start_idx`` on, within the ring."""
        self._answers.complete_run(batch, range(start_idx, start_idx + count))
        self._send_answers()

    def taken(self, batch: int, index: int) -> None:
        """Open range: entry ``index``, the next one, was READY and is ours; complete() it.

        Legal until stopped(), fault() or a reset. Raises: LocalProtocolError (not the next one of an open
        range); RingError (the client has handed it over again before it was answered): fault().
        """
        self._answers.taken(batch, index)

    def progress(self, batch: int) -> bool:
        """Open range: tell the client what is complete, and that we go on looking (ACTIVE).

        Says whether there was anything to tell; the messages before have to be answered first.
        Raises: LocalProtocolError (not an open range).
        """
        answer = self._answers.progress(batch)
        if answer is None:
            return False
        self._send(answer)
        return True

    def stopped(self, batch: int) -> None:
        """Open range: the next entry is not READY, and we look at it no more (STOPPED).

        The client is told when what was taken is complete. Raises: LocalProtocolError (not an open range).
        """
        self._answers.stop(batch)
        self._send_answers()

    def complete_inband(self, batch: int, status: int, nbytes: int) -> None:
        """In-band: the request of ``batch`` is done. Raises: LocalProtocolError (not in progress)."""
        self._answers.answer(batch, 0, acknowledge_inband(self._answers.message(batch), status, nbytes))
        self._send_answers()

    def fault(self, batch: int | None, index: int, reason: str) -> None:
        """Entry ``index`` cannot be served at all (its state, its cookies): NACK, then full reset.

        ``batch`` is None on a polled ring. The NACK waits for the answers before it and for what else of its
        batch is in progress, at the latest for reset_done(). Raises: LocalProtocolError (no such batch).
        """
        if batch is None:
            notice = Doorbell(self._sequence.last or 0, index, 0, 0)
            self._answers.append(self._doorbell_message(notice, Subtype.NACK, index))
        else:
            message = self._answers.message(batch)
            self._answers.answer(batch, index, nack_at(message, index))
        self._send_answers()
        self._reset(reason, full=True)

    def completed(self, count: int) -> None:
        """Polled ring: ``count`` more entries are DONE, visibly."""
        self._doorbell.completed(count)

    def end_of_batch(self, next_index: int, stopping: bool) -> bool:
        """Polled ring: wake the client if it asked for it, or if we stop looking and it relies on us.

        ``next_index`` is the entry looked at next, ``stopping`` says that we go to sleep. Says whether a
        message has to be sent.
        """
        due = self._doorbell.due(next_index, stopping)
        if due is None:
            return False
        self._send(self._doorbell_message(due, _ACK, OPEN_ENDED))
        return True

    def reset_done(self) -> None:
        """The session's requests are drained, its ring forgotten: be ready for the next one.

        Raises: LocalProtocolError (no SessionReset is open).
        """
        if not self._resetting:
            raise LocalProtocolError(Layer.VIO, "no reset is under way")
        for answer in self._answers.drained():
            self._send(answer)
        self._sequence = RequestSequence()
        self._handshake.reset()
        self._data_tag = b""
        self._resetting = self._held = False
        if self._full:
            self._full = False
            self._restart = None
            self._forced_reset()
        restart, self._restart = self._restart, None
        if restart is not None:
            self._message(restart)
        self._settle()

    # -- link ------------------------------------------------------------------------------------------------

    def _linked(self) -> None:
        """Nothing to do: the client begins. Source: Solaris vds.c, vd_handle_ldc_events, LDC_EVT_UP."""

    def _unlinked(self, cause: str, full: bool) -> None:
        if self._handshake.state is not ServerState.INIT:
            self._reset(cause, full)

    # -- messages --------------------------------------------------------------------------------------------

    def _message(self, message: bytes) -> bool:
        if len(message) < _TAG.size:
            self._reset(f"a message of {len(message)} bytes", full=True)  # nothing to answer with
            return False
        try:
            if message[: _TAG.size] == self._data_tag:
                if len(message) != _DRING_DATA.size:
                    raise PacketError(Layer.VIO, Reaction.NACK, f"ring data of {len(message)} bytes")
                return self._ring_data(self, message)
            msgtype, subtype, envelope, sid = _TAG.unpack_from(message)
            if self._handshake.restarts(msgtype, subtype, envelope):
                self._restart = message
                self._reset("the client started again", full=False)
                return False
            self._handshake.expect(msgtype, subtype, envelope, sid)
            _HANDLERS[envelope](self, message)
        except PacketError as error:
            self._refuse(message, str(error), full=False)
        except RemoteProtocolError as error:
            self._refuse(message, str(error), full=error.reaction is not Reaction.NACK)
        return False

    def _refuse(self, message: bytes, cause: str, full: bool) -> None:
        self._answers.append(echo(message, Subtype.NACK))
        self._send_answers()
        self._reset(cause, full)

    def _reset(self, cause: str, full: bool) -> None:
        """End the session; a soft reset where there is none changes nothing."""
        if self._resetting:
            self._full |= full
        elif full or self._handshake.state is not ServerState.INIT:
            self._resetting = self._held = True
            self._full = full
            self._events.append(SessionReset(cause=cause, full=full))

    def _send_answers(self) -> None:
        for answer in self._answers.ready():
            self._send(answer)

    def _version_info(self, message: bytes) -> None:
        self._send(self._handshake.negotiate(message))

    def _attribute_info(self, message: bytes) -> None:
        version = self._handshake.version
        wish = parse_wish(message, version)
        self._announced = self._attributes.for_version(version)
        limit = max_xfer(wish)
        pages = -(-limit // PAGE_SIZE) + 1  # one more if the buffer does not begin a page
        self._inband_limit = INBAND.size + COOKIE.size * pages
        self._send(build_answer(wish, version, self._announced))
        self._handshake.attributes_agreed(wish.xfer_mode)
        self._events.append(
            Negotiated(
                version=version,
                xfer_mode=wish.xfer_mode,
                block_size=self._announced.block_size,
                max_xfer=limit,
            )
        )

    def _dring_register(self, message: bytes) -> None:
        cookie, geometry = self._handshake.offered_ring(message)
        self._offer = message, geometry
        self._held = True
        self._events.append(RingOffered(cookie=cookie, geometry=geometry))

    def _dring_unregister(self, message: bytes) -> None:
        self._handshake.refuse_unregistration(message)

    def _ready(self, message: bytes) -> None:
        handshake = self._handshake
        self._send(handshake.peer_ready(message))
        if handshake.state is ServerState.DATA_RING:
            self._data_tag = _TAG.pack(MessageType.DATA, Subtype.INFO, Envelope.DRING_DATA, handshake.sid)
        self._events.append(SessionReady(version=self.version, attributes=self._announced))

    def _descriptors_ready(self, message: bytes) -> bool:
        """Take a range with an end."""
        _, _, _, _, seq_num, ident, start, end, _ = _DRING_DATA.unpack_from(message)
        geometry = self._check(seq_num, ident)
        geometry.check_range(start, end)
        batch = self._answers.open(message, geometry.indices(start, end), geometry.num_descriptors)
        self._events.append(DescriptorsReady(batch, start, geometry.span(start, end)))
        return False

    def _range_opened(self, message: bytes) -> bool:
        """Take an open range, or another."""
        _, _, _, _, seq_num, ident, start, end, _ = _DRING_DATA.unpack_from(message)
        if end != OPEN_ENDED:
            return self._descriptors_ready(message)
        geometry = self._check(seq_num, ident)
        geometry.check_range(start, start)
        self._events.append(RangeOpened(self._answers.open_ended(message, start, geometry), start))
        return False

    def _doorbell_rung(self, message: bytes) -> bool:
        """Take a doorbell: there is nothing else on a polled ring."""
        _, _, _, _, seq_num, ident, start, end, state, consumed = _DOORBELL.unpack_from(message)
        self._check(seq_num, ident)
        if end != OPEN_ENDED:
            raise RingError(Layer.VIO, Reaction.RESET, f"a doorbell that ends at descriptor {end}")
        self._doorbell.received(seq_num, start, state, consumed)
        return True

    def _check(self, seq_num: int, ident: int) -> RingGeometry:
        """Check what every ring message carries; return the ring."""
        ring = self._handshake.ring
        self._sequence.check(seq_num)
        if ident != RING_IDENT or ring is None:
            raise RingError(Layer.VIO, Reaction.NACK, f"ring {ident} is not registered")
        return ring

    def _descriptor_data(self, message: bytes) -> None:
        if len(message) > self._inband_limit:
            raise PacketError(Layer.VDISK, Reaction.NACK, f"an in-band message of {len(message)} bytes")
        request = parse_inband(message)
        self._sequence.check(INBAND.unpack_from(message)[_SEQ_NUM_AT])
        batch = self._answers.open(message, (0,), MAX_INBAND)
        self._events.append(RequestReceived(batch, request))

    def _doorbell_message(self, doorbell: Doorbell, subtype: int, end_idx: int) -> bytes:
        return build_doorbell(doorbell, subtype, self._handshake.sid, RING_IDENT, end_idx)


_RING_DATA: Final[Mapping[Extension, Callable[[Server, bytes], bool]]] = {
    NO_EXTENSION: Server._descriptors_ready,
    Extension.POLLED_RING: Server._doorbell_rung,
    Extension.OPEN_RANGES: Server._range_opened,
}
"""What ring data mean, by what was agreed; each says whether it was a doorbell."""

_SEQ_NUM_AT: Final = INBAND.fields.index("seq_num")

_HANDLERS: Final[Mapping[int, Callable[[Server, bytes], None]]] = {
    Envelope.VER_INFO: Server._version_info,
    Envelope.ATTR_INFO: Server._attribute_info,
    Envelope.DRING_REG: Server._dring_register,
    Envelope.DRING_UNREG: Server._dring_unregister,
    Envelope.RDX: Server._ready,
    Envelope.DESC_DATA: Server._descriptor_data,
}
"""What requests mean that have passed :meth:`ServerHandshake.expect`; ring data are known by their tag."""
