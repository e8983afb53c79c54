"""The handshake of both roles: what to offer, what to accept, what to refuse; attributes are the device's.

Neither class sends anything: they check what was received, keep the state and return the bytes to send.
Source: Solaris vds.c, vd_process_ver_msg, vd_process_dring_reg_msg; vdc.c, vdc_ver_negotiation and following;
FWARC 2010/054, handshake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from protocol.errors import (
    Layer,
    LocalProtocolError,
    NegotiationError,
    PacketError,
    Reaction,
    RingError,
    SequenceError,
)
from protocol.ldc.cookie import Cookie

from .dring import RingGeometry
from .messages import (
    DeviceClass,
    DringOption,
    DringRegisterLayout,
    DringRegisterMessage,
    Envelope,
    MessageType,
    RdxLayout,
    RdxMessage,
    Subtype,
    TransferMode,
    Version,
    VersionLayout,
    VersionMessage,
    echo,
)
from .state import (
    CLIENT_EXPECTS,
    CLIENT_STEPS,
    SERVER_EXPECTS,
    SERVER_STEPS,
    ClientState,
    ClientStep,
    ServerState,
    ServerStep,
)

__all__ = [
    "NO_VERSION",
    "RING_IDENT",
    "ClientHandshake",
    "ServerHandshake",
    "answer_version",
    "lower_version",
]

RING_IDENT: Final = 1
"""``dring_ident`` of the only ring of a session. Source: Solaris vds.c, vd_process_dring_reg_msg."""

_FIRST_DATA: Final = int(Envelope.PKT_DATA)  # envelopes below are of CTRL messages
_SID_MASK: Final = 0xFFFFFFFF
_IDENT: Final = DringRegisterLayout.codec.fields.index("dring_ident")
NO_VERSION: Final = Version(0, 0)
"""No version yet; in a NACK: nothing you could offer will do."""


def answer_version(offered: Version, own: Sequence[Version]) -> tuple[bool, Version]:
    """Return (agreed, version to answer with); ``own`` is the best of each major, highest first.

    Same major: the lower minor. Otherwise the next lower major of ours, 0.0 if there is none.
    Source: Solaris vds.c, vd_process_ver_msg.
    """
    for version in own:
        if offered.major == version.major:
            return True, Version(version.major, min(offered.minor, version.minor))
        if offered.major > version.major:
            return False, version
    return False, NO_VERSION


def lower_version(answer: Version, offered: Version, own: Sequence[Version]) -> Version | None:
    """Return what a client offers after a NACK of ``offered`` with ``answer``, None if nothing is left.

    Source: Linux viohs.c, process_ver_nack. Solaris vdc goes on as if it had been acknowledged, a defect.
    """
    if answer == NO_VERSION:
        return None
    return next((version for version in own if version < offered and version.major <= answer.major), None)


def _type_of(envelope: int) -> MessageType:
    return MessageType.CTRL if envelope < _FIRST_DATA else MessageType.DATA


class ServerHandshake:
    """The server's half. ``version`` is 0.0 and ``ring`` None until agreed, ``xfer_mode`` 0."""

    def __init__(self, versions: Sequence[Version]) -> None:
        self._versions: Final = tuple(versions)
        self.state = ServerState.INIT
        self.sid = 0
        self.version = NO_VERSION
        self.xfer_mode = 0
        self.ring: RingGeometry | None = None

    def restarts(self, msgtype: int, subtype: int, envelope: int) -> bool:
        """Say whether this is a VER_INFO in mid-session, which restarts the handshake.

        Solaris refuses it and is asked again; FWARC 2010/054 restarts at once, and every client can live with
        that.
        """
        return (
            envelope == Envelope.VER_INFO
            and subtype == Subtype.INFO
            and msgtype == MessageType.CTRL
            and self.state is not ServerState.INIT
        )

    def expect(self, msgtype: int, subtype: int, envelope: int, sid: int) -> None:
        """Check that a message is legal now; before a version is agreed the session id is not looked at.

        Raises: SequenceError (another session id; a message that this state does not expect): NACK and soft
            reset. Source: Solaris 11 vds.c, vd_do_process_msg, ENOMSG (illumos makes it a full reset).
        """
        if sid != self.sid and self.state is not ServerState.INIT:
            raise SequenceError(Layer.VIO, Reaction.NACK, f"session id {sid:#x}, not {self.sid:#x}")
        if (
            envelope not in SERVER_EXPECTS[self.state]
            or subtype != Subtype.INFO
            or msgtype != _type_of(envelope)
        ):
            raise SequenceError(
                Layer.VIO,
                Reaction.NACK,
                f"message {msgtype:#x}/{subtype:#x}/{envelope:#x} in state {self.state.value}",
            )

    def step(self, step: ServerStep) -> None:
        """Move on. Raises: LocalProtocolError (not a step of this state)."""
        state = SERVER_STEPS.get((self.state, step))
        if state is None:
            raise LocalProtocolError(Layer.VIO, f"{step.value} in state {self.state.value}")
        self.state = state

    def negotiate(self, message: bytes) -> bytes:
        """Take a VER_INFO; return the answer, an ACK if the state is VERSION afterwards, else a NACK.

        Both say that we are a disk server: vds has written it before it looks at the version.

        Raises: PacketError (not 56 bytes), NegotiationError (not a disk client): NACK.
        Source: Solaris vds.c, vd_process_ver_msg.
        """
        offer = VersionLayout.parse(message)
        if offer.dev_class != DeviceClass.DISK:
            raise NegotiationError(
                Layer.VIO, Reaction.NACK, f"device class {offer.dev_class} is no disk client"
            )
        agreed, version = answer_version(Version(offer.major, offer.minor), self._versions)
        if agreed:
            self.step(ServerStep.VERSION_AGREED)
            self.sid = offer.sid
            self.version = version
        return VersionLayout.build(
            VersionMessage(
                subtype=Subtype.ACK if agreed else Subtype.NACK,
                sid=offer.sid,
                major=version.major,
                minor=version.minor,
                dev_class=DeviceClass.DISK_SERVER,
            )
        )

    def attributes_agreed(self, xfer_mode: int) -> None:
        """Note the transfer mode that the attributes settled."""
        inband = xfer_mode == TransferMode.INBAND
        self.step(ServerStep.INBAND_AGREED if inband else ServerStep.RING_AGREED)
        self.xfer_mode = xfer_mode

    def offered_ring(self, message: bytes) -> tuple[Cookie, RingGeometry]:
        """Take a DRING_REG; return where the ring is, for the driver to map.

        Raises: PacketError (length is not that of its cookies), RingError (a second ring, not one cookie,
            geometry out of bounds): NACK and soft reset. RingError (cookie too short): NACK and full reset.
        Source: Solaris vds.c, vd_process_dring_reg_msg; Solaris ldc_shm.c, ldc_mem_dring_map.
        """
        offer = DringRegisterLayout.parse(message)
        geometry = RingGeometry(offer.num_descriptors, offer.descriptor_size)
        if self.ring is not None:
            raise RingError(Layer.VIO, Reaction.NACK, "a second ring")
        if offer.ncookies != 1:
            raise RingError(Layer.VIO, Reaction.NACK, f"a ring in {offer.ncookies} pieces")
        geometry.validate()
        if offer.cookie[0].size < geometry.nbytes:
            raise RingError(
                Layer.VIO, Reaction.RESET, f"a ring of {geometry.nbytes} bytes in {offer.cookie[0].size}"
            )
        return offer.cookie[0], geometry

    def accept_ring(self, message: bytes, geometry: RingGeometry) -> bytes:
        """Return the ACK of a DRING_REG; everything but the ident is echoed."""
        self.step(ServerStep.RING_REGISTERED)
        self.ring = geometry
        offer = DringRegisterLayout.parse(message)
        return DringRegisterLayout.build(replace(offer, subtype=Subtype.ACK, dring_ident=RING_IDENT))

    def refuse_unregistration(self, message: bytes) -> None:
        """Take a DRING_UNREG. Raises: RingError always: NACK and soft reset.

        Source: Solaris vds.c, vd_process_dring_unreg_msg, ENOTSUP.
        """
        raise RingError(Layer.VIO, Reaction.NACK, f"unregistering a ring ({len(message)} bytes)")

    def peer_ready(self, message: bytes) -> bytes:
        """Take an RDX; return its ACK. Raises: PacketError (not 56 bytes): NACK and soft reset."""
        RdxLayout.parse(message)
        self.step(ServerStep.PEER_READY)
        return echo(message, Subtype.ACK)

    def reset(self) -> None:
        """Forget the session. Source: Solaris vds.c, vd_reset_if_needed."""
        self.step(ServerStep.RESET)
        self.sid = 0
        self.version = NO_VERSION
        self.xfer_mode = 0
        self.ring = None


class ClientHandshake:
    """The client's half. ``version`` is 0.0 and ``ring`` None until agreed; ``versions`` highest first."""

    def __init__(self, versions: Sequence[Version]) -> None:
        self._versions: Final = tuple(versions)
        self.state = ClientState.DOWN
        self.sid = 0
        self._offered = self._versions[0]
        self.version = NO_VERSION
        self.ring: RingGeometry | None = None
        self.ring_ident = 0

    def step(self, step: ClientStep) -> None:
        """Move on. Raises: LocalProtocolError (not a step of this state)."""
        state = CLIENT_STEPS.get((self.state, step))
        if state is None:
            raise LocalProtocolError(Layer.VIO, f"{step.value} in state {self.state.value}")
        self.state = state

    def expect(self, msgtype: int, subtype: int, envelope: int, sid: int) -> None:
        """Check that a message is the answer awaited; the session id of a VER_INFO is not looked at.

        Raises: SequenceError (another session id, envelope or subtype), NegotiationError (a NACK, of VER_INFO
            excepted): reset.
        Source: Solaris vdc.c, vdc_process_msg_thread and the handlers.
        """
        if sid != self.sid and envelope != Envelope.VER_INFO:
            raise SequenceError(Layer.VIO, Reaction.RESET, f"session id {sid:#x}, not {self.sid:#x}")
        if (
            envelope != CLIENT_EXPECTS[self.state]
            or subtype not in (Subtype.ACK, Subtype.NACK)
            or msgtype != _type_of(envelope)
        ):
            raise SequenceError(
                Layer.VIO,
                Reaction.RESET,
                f"message {msgtype:#x}/{subtype:#x}/{envelope:#x} in state {self.state.value}",
            )
        if subtype == Subtype.NACK and envelope != Envelope.VER_INFO:
            raise NegotiationError(Layer.VIO, Reaction.RESET, f"the server refused {Envelope(envelope).name}")

    def start(self, sid: int) -> bytes:
        """Return the first VER_INFO."""
        self.step(ClientStep.START)
        return self._offer(self._versions[0], sid)

    def _offer(self, version: Version, sid: int) -> bytes:
        self._offered = version
        self.sid = sid & _SID_MASK
        return VersionLayout.build(
            VersionMessage(sid=self.sid, major=version.major, minor=version.minor, dev_class=DeviceClass.DISK)
        )

    def version_answered(self, message: bytes) -> bytes | None:
        """Take the answer to VER_INFO; return the next VER_INFO after a NACK, None when a version is agreed.

        Raises: PacketError (not 56 bytes), NegotiationError (not a disk server, a version never offered, no
            common version): reset. Source: Solaris vdc.c, vdc_handle_ver_msg; Linux viohs.c.
        """
        answer = VersionLayout.parse(message)
        version = Version(answer.major, answer.minor)
        if answer.subtype == Subtype.NACK:
            lower = lower_version(version, self._offered, self._versions)
            if lower is None:
                raise NegotiationError(
                    Layer.VIO, Reaction.RESET, f"no common version: {self._offered} refused with {version}"
                )
            return self._offer(lower, self.sid + 1)  # every VER_INFO has a session id of its own
        if answer.dev_class != DeviceClass.DISK_SERVER:
            raise NegotiationError(
                Layer.VIO, Reaction.RESET, f"device class {answer.dev_class} is no disk server"
            )
        if version.major != self._offered.major or version > self._offered:
            raise NegotiationError(Layer.VIO, Reaction.RESET, f"version {version}, offered {self._offered}")
        self.step(ClientStep.VERSION_AGREED)
        self.version = version
        return None

    def register(self, cookie: Cookie, geometry: RingGeometry) -> bytes:
        """Return the DRING_REG of a ring of ours. Raises: LocalProtocolError (not now)."""
        self.step(ClientStep.REGISTER)
        self.ring = geometry
        return DringRegisterLayout.build(
            DringRegisterMessage(
                sid=self.sid,
                num_descriptors=geometry.num_descriptors,
                descriptor_size=geometry.descriptor_size,
                options=DringOption.TX | DringOption.RX,
                ncookies=1,
                cookie=(cookie,),
            )
        )

    def registered(self, message: bytes) -> bytes:
        """Take the ACK of DRING_REG, of which only the ident counts; return the RDX.

        OpenBSD zeroes all the rest. Raises: PacketError (too short): reset. Source: OpenBSD vdsp.c.
        """
        if len(message) < DringRegisterLayout.size:
            raise PacketError(Layer.VIO, Reaction.RESET, f"a ring acknowledged in {len(message)} bytes")
        self.step(ClientStep.REGISTERED)
        self.ring_ident = DringRegisterLayout.codec.unpack_from(message)[_IDENT]
        return self._rdx()

    def start_data(self) -> bytes:
        """Return the RDX of in-band mode, which has no ring. Raises: LocalProtocolError (not now)."""
        self.step(ClientStep.START_DATA)
        return self._rdx()

    def _rdx(self) -> bytes:
        return RdxLayout.build(RdxMessage(sid=self.sid))

    def peer_ready(self) -> None:
        """Take the ACK of RDX, whatever its length: OpenBSD answers with the 8 bytes of a tag (vdsp.c)."""
        self.step(ClientStep.INBAND_READY if self.ring is None else ClientStep.RING_READY)

    def reset(self) -> None:
        """Forget the session. Raises: LocalProtocolError (it was not lost)."""
        self.step(ClientStep.RESET)
        self.version = NO_VERSION
        self.ring = None
        self.ring_ident = 0
