"""A disk client's end of a session: it starts the handshake, sends requests and checks what is answered.

A client believes nothing: whatever the server sends out of turn ends the session (SessionLost), and what was
unanswered is the driver's to send again on the next one. Source: Solaris vdc.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction, RemoteProtocolError, RingError
from protocol.ldc.cookie import Cookie
from protocol.vdisk.attributes import BLOCK_SIZE, DiskAttributes, attributes_from, build_wish, check_wish
from protocol.vdisk.descriptor import INBAND
from protocol.vio.doorbell import ClientDoorbell
from protocol.vio.dring import RingGeometry
from protocol.vio.events import ChannelUp, DescriptorsDone, RangeStopped, SessionLost, Woken
from protocol.vio.extensions import NO_EXTENSION, Extension, ring_scheme
from protocol.vio.handshake import ClientHandshake
from protocol.vio.messages import (
    OPEN_ENDED,
    DoorbellLayout,
    DringDataLayout,
    Envelope,
    InbandHeader,
    InbandHeaderLayout,
    MessageType,
    ProcState,
    Subtype,
    TagLayout,
    TransferMode,
    Version,
)
from protocol.vio.ranges import ClientRange
from protocol.vio.sequence import AnswerSequence
from protocol.vio.state import ClientState, ClientStep

from .data import build_doorbell
from .endpoint import Endpoint
from .events import AttributesReceived, ClientEvent, InbandDone, SessionReady

__all__ = ["Client"]

_TAG: Final = TagLayout.codec
_DRING_DATA: Final = DringDataLayout.codec
_DOORBELL: Final = DoorbellLayout.codec
_WOKEN: Final = Woken()
_DATA: Final = int(MessageType.DATA)  # plain ints: looking an enum member up costs as much as packing it
_INFO: Final = int(Subtype.INFO)
_ENVELOPE: Final = int(Envelope.DRING_DATA)
_DATA_RING: Final = ClientState.DATA_RING


class Client(Endpoint[ClientEvent]):
    """Bytes in, events out, for a disk client; the driver owns memory, ring and the table of requests.

    ``max_xfer_blocks`` blocks of ``block_size`` is the longest transfer wanted; ``versions`` are offered in
    this order, highest first, each lower one after a NACK. ``extensions`` and ``server_polls`` are what the
    rendezvous agreed. Raises: LocalProtocolError (a ring that is polled and has open ranges; transfers that
    cannot be asked for).
    """

    def __init__(
        self,
        *,
        max_xfer_blocks: int,
        block_size: int = BLOCK_SIZE,
        versions: Sequence[tuple[int, int]] = ((1, 2),),
        xfer_mode: int = TransferMode.RING,
        extensions: Extension = NO_EXTENSION,
        server_polls: bool = False,
    ) -> None:
        check_wish(block_size=block_size, max_xfer_blocks=max_xfer_blocks)
        super().__init__(_WOKEN)
        self._block_size: Final = block_size
        self._max_xfer_blocks: Final = max_xfer_blocks
        self._xfer_mode: Final = xfer_mode
        self._scheme: Final = ring_scheme(extensions)
        self._ring_data: Final = _RING_DATA[self._scheme]
        self._server_polls: Final = server_polls
        self._handshake: Final = ClientHandshake([Version(*version) for version in versions])
        self._sequence = AnswerSequence()
        self._range = ClientRange()
        self._doorbell = ClientDoorbell(server_polls)
        self._attributes: DiskAttributes | None = None
        self._force = False
        self._data_tag = b""  # how ring data of this session begin: what needs no further look at the tag

    @property
    def version(self) -> Version:
        """The version agreed, 0.0 until then."""
        return self._handshake.version

    @property
    def attributes(self) -> DiskAttributes | None:
        """What the server announced, or None."""
        return self._attributes

    @property
    def is_ready(self) -> bool:
        """The handshake is done and the session not lost."""
        return self._handshake.state in (ClientState.DATA_RING, ClientState.DATA_INBAND)

    @property
    def server_looks(self) -> bool:
        """The server is looking at the ring, as far as we know.

        Polled ring: ring() has nothing to say unless we sleep. Open range: announce() waits for RangeStopped.
        """
        return self._doorbell.server_looks or self._range.seq_num is not None

    # -- intent ----------------------------------------------------------------------------------------------

    def start(self, sid: int) -> None:
        """Begin the handshake after ChannelUp. ``sid`` is a fresh random number of 32 bits.

        Raises: LocalProtocolError (the link is not up, or the handshake has begun).
        """
        self._send(self._handshake.start(sid))

    def register_ring(self, cookie: Cookie, geometry: RingGeometry) -> None:
        """Register the ring at ``cookie`` after AttributesReceived; its entries are all FREE.

        Raises: LocalProtocolError (not now).
        """
        self._send(self._handshake.register(cookie, geometry))
        self._doorbell = ClientDoorbell(self._server_polls, geometry.num_descriptors)

    def start_data(self) -> None:
        """Begin in-band mode after AttributesReceived. Raises: LocalProtocolError (not now)."""
        self._send(self._handshake.start_data())

    def announce(self, start_idx: int, end_idx: int) -> int:
        """Plain ring: tell the server that these entries are READY; returns the message's number.

        ``end_idx`` OPEN_ENDED opens a range, if that was agreed: the server takes what is READY from
        ``start_idx`` on, and what is filled behind it needs no message until RangeStopped.
        Raises: LocalProtocolError (no ring session; a range is open; open ranges were not agreed).
        """
        self._demand(_DATA_RING)
        if end_idx == OPEN_ENDED or self._range.seq_num is not None:
            self._open_range(start_idx, end_idx)
        seq_num = self._sequence.next()
        ident = self._handshake.ring_ident
        self._send(
            _DRING_DATA.pack(
                _DATA,
                _INFO,
                _ENVELOPE,
                self._handshake.sid,
                seq_num,
                ident,
                start_idx,
                end_idx,
                0,
            )
        )
        return seq_num

    def _open_range(self, start_idx: int, end_idx: int) -> None:
        """Note that the next message opens a range, if it may."""
        if self._range.seq_num is not None:
            raise LocalProtocolError(Layer.VIO, "a range is open: the server looks at the ring by itself")
        if self._scheme != Extension.OPEN_RANGES:
            raise LocalProtocolError(Layer.VIO, "open ranges were not agreed")
        self._range.open(self._sequence.sent + 1, start_idx)

    def posted(self, count: int) -> None:
        """Polled ring: ``count`` more entries are READY, in ring order; ring() before sleeping."""
        self._doorbell.post(count)

    def consumed(self, count: int) -> None:
        """Polled ring: ``count`` more answers were reaped."""
        self._doorbell.consumed(count)

    def ring(self, sleeping: bool) -> bool:
        """Polled ring: send a doorbell if the server needs one; says whether one was sent.

        ``sleeping``: wake us at the next answer. Raises: LocalProtocolError (no ring session).
        """
        self._demand(_DATA_RING)
        doorbell = self._doorbell.ring(sleeping)
        if doorbell is None:
            return False
        handshake = self._handshake
        self._send(build_doorbell(doorbell, _INFO, handshake.sid, handshake.ring_ident, OPEN_ENDED))
        return True

    def send_inband(self, handle: int, payload: bytes) -> int:
        """In-band: send a request, built by build_payload(); ``handle`` comes back with the answer.

        Returns the message's number. Raises: LocalProtocolError (no in-band session).
        """
        self._demand(ClientState.DATA_INBAND)
        seq_num = self._sequence.next()
        header = InbandHeader(
            MessageType.DATA, Subtype.INFO, Envelope.DESC_DATA, self._handshake.sid, seq_num, handle
        )
        self._send(InbandHeaderLayout.build(header) + payload)
        return seq_num

    def reset_done(self) -> None:
        """The session's ring and memory are forgotten: be ready for the next attempt on this channel.

        The link is taken down, unless it was the link that was lost, and comes up again with the peer.
        Raises: LocalProtocolError (no SessionLost is open).
        """
        self._handshake.reset()
        self._sequence = AnswerSequence()
        self._range = ClientRange()
        self._attributes = None
        self._data_tag = b""
        self._held = False
        if self._force:
            self._forced_reset()
        self._settle()

    def _demand(self, state: ClientState) -> None:
        if self._handshake.state is not state:
            raise LocalProtocolError(Layer.VIO, f"needs {state.value}, is {self._handshake.state.value}")

    # -- link ------------------------------------------------------------------------------------------------

    def _linked(self) -> None:
        self._handshake.step(ClientStep.LINK_UP)
        self._events.append(ChannelUp())

    def _unlinked(self, cause: str, full: bool) -> None:
        if self._handshake.state is not ClientState.DOWN:
            self._lose(cause, force=False)

    def _lose(self, cause: str, force: bool) -> None:
        if self._handshake.state is ClientState.UP:
            self._events.clear()  # ChannelUp, if it was not taken yet: there is nothing left to start
        self._handshake.step(ClientStep.LOSE)
        self._held = True
        self._force = force
        self._events.append(SessionLost(cause=cause))

    # -- messages --------------------------------------------------------------------------------------------

    def _message(self, message: bytes) -> bool:
        try:
            if message[: _TAG.size] == self._data_tag:
                if len(message) != _DRING_DATA.size:
                    raise PacketError(Layer.VIO, Reaction.RESET, f"ring data of {len(message)} bytes")
                return self._ring_data(self, message)
            if len(message) < _TAG.size:
                raise PacketError(Layer.VIO, Reaction.RESET, f"a message of {len(message)} bytes")
            msgtype, subtype, envelope, sid = _TAG.unpack_from(message)
            self._handshake.expect(msgtype, subtype, envelope, sid)
            _HANDLERS[envelope](self, message)
        except RemoteProtocolError as error:
            self._lose(str(error), force=True)
        return False

    def _version_answered(self, message: bytes) -> None:
        again = self._handshake.version_answered(message)
        if again is not None:
            self._send(again)
            return
        self._send(
            build_wish(
                self.version,
                self._handshake.sid,
                xfer_mode=self._xfer_mode,
                block_size=self._block_size,
                max_xfer_blocks=self._max_xfer_blocks,
            )
        )

    def _attributes_answered(self, message: bytes) -> None:
        self._attributes = attributes_from(
            message,
            self.version,
            xfer_mode=self._xfer_mode,
            max_xfer_bytes=self._max_xfer_blocks * (self._block_size or 1),
        )
        self._handshake.step(ClientStep.ATTRIBUTES_AGREED)
        self._events.append(AttributesReceived(attributes=self._attributes, version=self.version))

    def _registered(self, message: bytes) -> None:
        self._send(self._handshake.registered(message))

    def _ready(self, message: bytes) -> None:
        self._handshake.peer_ready()
        if self._handshake.state is ClientState.DATA_RING:
            self._data_tag = _TAG.pack(
                MessageType.DATA, Subtype.ACK, Envelope.DRING_DATA, self._handshake.sid
            )
        assert self._attributes is not None  # the state table leads here through ATTRIBUTES_AGREED only
        self._events.append(SessionReady(version=self.version, attributes=self._attributes))

    def _check_ring(self, ident: int) -> RingGeometry:
        """Check what every ring message carries; return the ring."""
        ring = self._handshake.ring
        if ident != self._handshake.ring_ident or ring is None:
            raise RingError(Layer.VIO, Reaction.RESET, f"ring {ident} is not ours")
        return ring

    def _descriptors_done(self, message: bytes) -> bool:
        """Take the answer to a range with an end."""
        _, _, _, _, seq_num, ident, start, end, _ = _DRING_DATA.unpack_from(message)
        ring = self._check_ring(ident)
        self._sequence.check(seq_num)
        ring.check_range(start, end)
        self._events.append(DescriptorsDone(start, end))
        return False

    def _woken(self, message: bytes) -> bool:
        """Take a doorbell: there is nothing else on a polled ring."""
        _, _, _, _, seq_num, ident, start, end, state, completions = _DOORBELL.unpack_from(message)
        self._check_ring(ident)
        if end != OPEN_ENDED:
            raise RingError(Layer.VIO, Reaction.RESET, f"a doorbell that ends at descriptor {end}")
        self._doorbell.received(seq_num, start, state, completions)
        return True

    def _range_answered(self, message: bytes) -> bool:
        """Take an answer to the open range, or to another."""
        _, _, _, _, seq_num, ident, start, end, state = _DRING_DATA.unpack_from(message)
        ring = self._check_ring(ident)
        if seq_num != self._range.seq_num:
            return self._descriptors_done(message)
        check = _CHECKS.get(state)
        if check is None:
            raise RingError(Layer.VIO, Reaction.RESET, f"processing state {state} of an open range")
        check(self._sequence, seq_num)
        if self._range.answered(start, end, ring):
            self._events.append(DescriptorsDone(start, end))
        if state == ProcState.STOPPED:
            self._range.seq_num = None
            self._events.append(RangeStopped(self._range.next_idx))
        return False

    def _inband_answered(self, message: bytes) -> None:
        if len(message) < INBAND.size:
            raise PacketError(Layer.VDISK, Reaction.RESET, f"an in-band answer of {len(message)} bytes")
        _, _, _, _, seq_num, handle, _, _, _, status, _, nbytes, _ = INBAND.unpack_from(message)
        self._sequence.check(seq_num)
        self._events.append(InbandDone(handle, status, nbytes))


_RING_DATA: Final[Mapping[Extension, Callable[[Client, bytes], bool]]] = {
    NO_EXTENSION: Client._descriptors_done,
    Extension.POLLED_RING: Client._woken,
    Extension.OPEN_RANGES: Client._range_answered,
}
"""What ring data mean, by what was agreed; each says whether it was a doorbell."""

_CHECKS: Final[Mapping[int, Callable[[AnswerSequence, int], None]]] = {
    ProcState.ACTIVE: AnswerSequence.check_progress,
    ProcState.STOPPED: AnswerSequence.check,
}
"""What the processing state of an open range says about its number: used again, or not."""

_HANDLERS: Final[Mapping[int, Callable[[Client, bytes], None]]] = {
    Envelope.VER_INFO: Client._version_answered,
    Envelope.ATTR_INFO: Client._attributes_answered,
    Envelope.DRING_REG: Client._registered,
    Envelope.RDX: Client._ready,
    Envelope.DESC_DATA: Client._inband_answered,
}
"""What answers mean that have passed :meth:`ClientHandshake.expect`; ring data are known by their tag."""
