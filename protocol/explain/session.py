"""The session of one channel, message after message: the handshake, and what it has settled.

The rules are those of the ends themselves: the server's state and what it expects are a
:class:`~protocol.vio.handshake.ServerHandshake`, attributes and ring are checked by the functions that check
them in a server and a client. Data messages are :mod:`.data`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.vdisk.attributes import (
    AttributeMessage,
    DiskAttributes,
    attributes_from,
    layout_of,
    max_xfer,
)
from protocol.vio.dring import RingGeometry
from protocol.vio.handshake import NO_VERSION, ServerHandshake
from protocol.vio.messages import (
    DringRegisterLayout,
    Envelope,
    MessageType,
    Subtype,
    TagLayout,
    TransferMode,
    Version,
    VersionLayout,
)
from protocol.vio.state import SERVER_STEPS, ServerState, ServerStep

from .data import DataWatch
from .lines import Line, remark, say, warn
from .message import name_of
from .rules import Rule
from .structure import values_of

__all__ = ["SessionWatch"]

_ANSWERS: Final = frozenset({Subtype.ACK, Subtype.NACK})
_FIRST_DATA: Final = int(Envelope.PKT_DATA)


class SessionWatch:
    """A session between two ends, 0 and 1. ``client`` is the end that asks, None before anyone has.

    ``is_known`` says whether the handshake is in the capture; otherwise nothing is judged by it. ``number``
    counts sessions. ``export`` is the disk as announced, None before.
    """

    def __init__(self) -> None:
        self.client: int | None = None
        self.is_known = False
        self.number = 0
        self.export: DiskAttributes | None = None
        self._handshake = ServerHandshake(())
        self._offered = NO_VERSION
        self._wish: AttributeMessage | None = None
        self._geometry: RingGeometry | None = None
        self._asked: int | None = None  # envelope of the handshake message that is not answered yet
        self.data = DataWatch(is_known=False)

    @property
    def version(self) -> Version | None:
        """The version agreed, if one is."""
        version = self._handshake.version
        return None if version == NO_VERSION else version

    @property
    def ring(self) -> RingGeometry | None:
        """The ring that is registered."""
        return self._handshake.ring

    def reset(self) -> None:
        """Forget the session: the link is new, or a message was refused."""
        self.is_known = True
        self.number += 1
        self.export = None
        self._handshake.reset()
        self._wish = None
        self._geometry = None
        self._asked = None
        self.data = DataWatch(is_known=True)

    def message(self, sender: int, message: bytes, time_ns: int) -> Iterator[Line]:
        """Take a message from the end ``sender``; yield what it does to the session and what is wrong."""
        if len(message) < TagLayout.size:
            return
        msgtype, subtype, envelope, sid = TagLayout.codec.unpack_from(message)
        if self.client is None:
            self.client = sender if subtype == Subtype.INFO else 1 - sender
        if subtype == Subtype.INFO:
            yield from self._question(sender, message, msgtype, envelope, sid, time_ns)
        elif subtype in _ANSWERS:
            yield from self._answer(sender, message, subtype, envelope, sid, time_ns)

    # -- questions -------------------------------------------------------------------------------------------

    def _question(
        self, sender: int, message: bytes, msgtype: int, envelope: int, sid: int, time_ns: int
    ) -> Iterator[Line]:
        if sender != self.client:
            yield warn(Rule.TURN, "the server asks, where it only answers")
            return
        if self._begins(msgtype, envelope):
            if self._handshake.state is not ServerState.INIT:
                yield remark("the handshake is begun again")
            self.reset()
        if self.is_known:
            yield from self._expect(msgtype, envelope, sid)
        if envelope >= _FIRST_DATA:
            yield from self.data.question(message, envelope, time_ns, self._handshake.ring)
        else:
            self._asked = envelope
            _QUESTIONS.get(envelope, SessionWatch._no_question)(self, message)

    def _begins(self, msgtype: int, envelope: int) -> bool:
        """Say whether a question starts a handshake that is not the one at hand."""
        starts = envelope == Envelope.VER_INFO and msgtype == MessageType.CTRL
        return starts and (not self.is_known or self._handshake.state is not ServerState.INIT)

    def _expect(self, msgtype: int, envelope: int, sid: int) -> Iterator[Line]:
        try:
            self._handshake.expect(msgtype, Subtype.INFO, envelope, sid)
        except RemoteProtocolError as error:
            other = sid != self._handshake.sid and self._handshake.state is not ServerState.INIT
            yield warn(Rule.SID if other else Rule.TURN, error.reason)

    def _offer_version(self, message: bytes) -> None:
        if len(message) >= VersionLayout.size:
            values = values_of(VersionLayout, message)
            self._offered = Version(values["major"], values["minor"])

    def _wish_attributes(self, message: bytes) -> None:
        layout = layout_of(self._handshake.version)
        if len(message) == layout.size:
            self._wish = layout.parse(message)

    def _offer_ring(self, message: bytes) -> None:
        if len(message) >= DringRegisterLayout.size:
            values = values_of(DringRegisterLayout, message)
            self._geometry = RingGeometry(values["num_descriptors"], values["descriptor_size"])

    def _no_question(self, message: bytes) -> None:
        """Nothing to remember."""

    # -- answers ---------------------------------------------------------------------------------------------

    def _answer(
        self, sender: int, message: bytes, subtype: int, envelope: int, sid: int, time_ns: int
    ) -> Iterator[Line]:
        if sender == self.client:
            yield warn(Rule.TURN, "the client answers, where it only asks")
            return
        if self.is_known and envelope != Envelope.VER_INFO and sid != self._handshake.sid:
            yield warn(Rule.SID, f"session id {sid:#x}, not {self._handshake.sid:#x}")
        if envelope >= _FIRST_DATA:
            yield from self.data.answer(message, envelope, subtype, time_ns, self._handshake.ring)
        else:
            if self.is_known and envelope != self._asked:
                yield warn(Rule.ANSWER, f"{name_of(envelope, subtype)}, which nobody has asked for")
                return
            self._asked = None
        if subtype == Subtype.NACK:
            yield from self._refused(message, envelope)
        elif envelope in _ACKS:
            yield from _ACKS[envelope](self, message)

    def _refused(self, message: bytes, envelope: int) -> Iterator[Line]:
        if envelope == Envelope.VER_INFO and len(message) >= VersionLayout.size:
            values = values_of(VersionLayout, message)
            version = Version(values["major"], values["minor"])
            yield remark("no common version" if version == NO_VERSION else f"the server proposes {version}")
            return
        yield warn(Rule.NACKED, f"{name_of(envelope, Subtype.NACK)}")
        self.reset()

    def _step(self, step: ServerStep) -> None:
        if (self._handshake.state, step) in SERVER_STEPS:
            self._handshake.step(step)

    def _version_agreed(self, message: bytes) -> Iterator[Line]:
        if len(message) < VersionLayout.size:
            return
        values = values_of(VersionLayout, message)
        version = Version(values["major"], values["minor"])
        if version.major != self._offered.major or version > self._offered:
            yield warn(Rule.AGREED_VERSION, f"version {version}, offered {self._offered}")
        self._handshake.version = version
        self._handshake.sid = values["sid"]
        self._step(ServerStep.VERSION_AGREED)
        yield say(f"version {version} is agreed")

    def _attributes_agreed(self, message: bytes) -> Iterator[Line]:
        version = self._handshake.version
        wish = self._wish
        if wish is None or len(message) != layout_of(version).size:
            return
        try:
            self.export = attributes_from(
                message, version, xfer_mode=wish.xfer_mode, max_xfer_bytes=max_xfer(wish)
            )
        except RemoteProtocolError as error:
            yield warn(Rule.ATTRIBUTES, error.reason)
        inband = wish.xfer_mode == TransferMode.INBAND
        self._step(ServerStep.INBAND_AGREED if inband else ServerStep.RING_AGREED)
        self._handshake.xfer_mode = wish.xfer_mode

    def _ring_registered(self, message: bytes) -> Iterator[Line]:
        if self._geometry is None or len(message) < DringRegisterLayout.size:
            return
        self.data.ident = values_of(DringRegisterLayout, message)["dring_ident"]
        self._handshake.ring = self._geometry
        self._step(ServerStep.RING_REGISTERED)
        yield say(f"ring {self.data.ident} is registered")

    def _ready(self, message: bytes) -> Iterator[Line]:
        self._step(ServerStep.PEER_READY)
        yield say("the session is ready")


_QUESTIONS: Final[Mapping[int, Callable[[SessionWatch, bytes], None]]] = {
    Envelope.VER_INFO: SessionWatch._offer_version,
    Envelope.ATTR_INFO: SessionWatch._wish_attributes,
    Envelope.DRING_REG: SessionWatch._offer_ring,
}
_ACKS: Final[Mapping[int, Callable[[SessionWatch, bytes], Iterator[Line]]]] = {
    Envelope.VER_INFO: SessionWatch._version_agreed,
    Envelope.ATTR_INFO: SessionWatch._attributes_agreed,
    Envelope.DRING_REG: SessionWatch._ring_registered,
    Envelope.RDX: SessionWatch._ready,
}
