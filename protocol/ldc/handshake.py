"""The handshake and the sequence numbers, the half of a link that unreliable and reliable mode share.

All transitions are in :mod:`protocol.ldc.state`. Faults of the peer are dealt with here as the protocol
says (NACK, reset), they do not raise. Control packets are the same in both modes but for the mode number in
RTS and RTR: what stands behind the header is zero, or the version, or an ``ackid`` where reliable mode has
it.

Source: Solaris ldc.c; FWARC 2006/571. Where they disagree this follows the code: nothing is ever sent
    again, and loss means reset.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, NamedTuple

from protocol.ldc.events import LinkReset, LinkUp
from protocol.ldc.packet import (
    CTRL_MASK,
    PACKET_SIZE,
    SEQID_MASK,
    PacketCtrl,
    PacketStype,
    PacketType,
    UnreliablePacketLayout,
    VersionPacketLayout,
)
from protocol.ldc.state import RECEIVED, TRANSITIONS, Action, Handshake, Move, TransportState
from protocol.ldc.transport import Transport, refuse_packet
from protocol.wire import Buffer

__all__ = ["INIT_SEQID", "UNCHECKED", "VERSIONS", "HandshakeLink", "Version"]


class Version(NamedTuple):
    """A version of the link protocol."""

    major: int
    minor: int


VERSIONS: Final = (Version(1, 0),)  # highest first; 1.0 is the only one there has ever been
INIT_SEQID: Final = 0  # what RTS and RTR carry, and what both counters start from; LDC_INIT_SEQID

_CTRL: Final = int(PacketType.CTRL)
_DATA: Final = int(PacketType.DATA)
_INFO: Final = int(PacketStype.INFO)
_ACK: Final = int(PacketStype.ACK)
_NACK: Final = int(PacketStype.NACK)
_VER: Final = int(PacketCtrl.VER)
_RTS: Final = int(PacketCtrl.RTS)
_RTR: Final = int(PacketCtrl.RTR)
_RDX: Final = int(PacketCtrl.RDX)

UNCHECKED: Final = frozenset((_VER, _RTS, _RTR))
"""ctrl of packets whose sequence number is not checked: the whole byte. Source: ldc.c, i_ldc_check_seqid."""

_pack: Final = UnreliablePacketLayout.codec.pack
_pack_version: Final = VersionPacketLayout.codec.pack
_unpack_version: Final = VersionPacketLayout.codec.unpack_from


class HandshakeLink(Transport):
    """One endpoint of a link that comes up by a handshake; what data packets mean is the subclass's."""

    _transitions: ClassVar = TRANSITIONS

    def __init__(self, queue_packets: int) -> None:
        super().__init__(queue_packets)
        self._handshake = Handshake.NONE
        self._version: Version | None = None
        self._last_msg_snt = INIT_SEQID
        self._last_msg_rcd = INIT_SEQID

    @property
    def has_begun(self) -> bool:
        """Whether a handshake has begun, from either end: ``up()`` would begin none."""
        return bool(self._handshake)

    @property
    def version(self) -> Version | None:
        """The link version agreed, if any."""
        return self._version

    def receive_packet(self, packet: Buffer) -> None:
        """Take one packet from the peer.

        While there was no ``up()`` since the last reset, data waits for it, and all that follows data.

        Raises: PacketError (not 64 bytes; nothing has changed).
        """
        if len(packet) != PACKET_SIZE:
            raise refuse_packet(packet)
        if self._in_reset and self._state is TransportState.UP and (self._held or _carries_data(packet)):
            if (
                len(self._held) < self._queue_packets
            ):  # beyond that it is lost: the sequence check will notice
                self._held.append(bytes(packet))
            return
        self._process(packet)

    # --------------------------------------------------------------------------------------- received packets

    @abstractmethod
    def _process(self, packet: Buffer) -> None:
        """Check the sequence number and act on one packet, now."""

    def _refuse(self, type_: int, stype: int, ctrl: int) -> None:
        """Answer a wrong sequence number: NACK, purge what waits.

        A NACK out of sequence is not answered with a NACK as in Solaris: where packets were lost both ways
        the two ends would go on so for ever. It says that the peer has lost something, and that is a reset.
        """
        if stype & _NACK:
            self._fail("packets lost in both directions")
            return
        self._held.clear()
        self._send_control(type_, _NACK, ctrl & CTRL_MASK)

    def _receive_control(self, ctrl: int, stype: int, env: int, seqid: int, packet: Buffer) -> None:
        """Act on a control packet by the table; what is not in it is ignored."""
        action = RECEIVED.get((ctrl, stype, self._state))
        if action is not None:
            _HANDLERS[action](self, ctrl, env, seqid, packet)

    def _answer_version(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """ACK the version offered if it is known, else NACK with the best there is."""
        stype, answer = _choose_version(*_unpack_version(packet)[5:])
        if self._send_version(stype, answer) and stype == _ACK:
            self._version = answer
            self._handshake |= Handshake.RCVD_VER
            self._move(Move.VERSION_AGREED)

    def _adopt_version(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Record the version that the peer agreed to and go on with RTS."""
        self._version = Version(*_unpack_version(packet)[5:])
        self._move(Move.VERSION_AGREED)
        self._last_msg_rcd = INIT_SEQID
        if self._send_mode(_RTS):
            self._handshake |= Handshake.SENT_RTS

    def _confirm_version(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Go on with RTS if the peer agreed to the version that we agreed to before, else reset."""
        if self._version == _unpack_version(packet)[5:]:
            self._adopt_version(ctrl, env, seqid, packet)
        else:
            self._fail("peer agreed to two versions")

    def _offer_again(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Offer the version that the peer's NACK proposes, or the next lower one of ours; else give up."""
        major, minor = _unpack_version(packet)[5:]
        for own in VERSIONS:
            if major == own.major:
                return self._offer(Version(major, min(minor, own.minor)))
            if major > own.major:
                return self._offer(own)
        return self._fail("no common link version")

    def _restart(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Forget the old handshake, which the peer has forgotten, and take the packet as a first one.

        Solaris tells the layer above nothing but UP a second time; here it gets a reset first.
        """
        if self.is_up:
            self._in_reset = True
            self._events.append(LinkReset("peer restarted"))
        self._flush_output()
        self._forget()
        self._receive_control(ctrl, packet[1], env, seqid, packet)

    def _answer_rts(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Adopt the peer's sequence number and send RTR; another mode is refused and changes nothing."""
        if env != self.mode:
            self._send_control(_CTRL, _NACK, _RTS)
            return
        self._handshake |= Handshake.RCVD_RTS
        self._last_msg_snt = self._last_msg_rcd = seqid
        if self._send_mode(_RTR):
            self._handshake |= Handshake.SENT_RTR

    def _answer_rtr(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Adopt the peer's sequence number and send RDX; another mode is refused and changes nothing."""
        if env != self.mode:
            self._send_control(_CTRL, _NACK, _RTR)
            return
        self._handshake |= Handshake.RCVD_RTR
        self._last_msg_snt = seqid
        if self._send_control(_CTRL, _INFO, _RDX):
            self._handshake |= Handshake.SENT_RDX
            self._exchange()

    def _accept_rdx(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """End the handshake; when both ends began one, RDX comes when the link is UP already."""
        if self._handshake & Handshake.RCVD_RDX:
            self._fail("second RDX")
        else:
            self._handshake |= Handshake.RCVD_RDX
            self._exchange()

    def _violated(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Reset: the peer has refused a step of the handshake, or acknowledged what takes no answer."""
        self._fail(f"peer refused {PacketCtrl(ctrl).name}")

    # -------------------------------------------------------------------------------------- sending and state

    def _begin(self) -> None:
        """Offer our best version if no handshake has begun in either direction."""
        if not self._handshake:
            self._offer(VERSIONS[0])

    def _offer(self, version: Version) -> None:
        if self._send_version(_INFO, version):
            self._handshake |= Handshake.SENT_VER

    def _send_version(self, stype: int, version: Version) -> bool:
        return self._send(_pack_version(_CTRL, stype, _VER, 0, 0, *version))

    def _send_mode(self, ctrl: int) -> bool:
        """Send RTS or RTR. Source: Solaris ldc.c, i_ldc_process_VER and i_ldc_process_RTS."""
        return self._send(_pack(_CTRL, _INFO, ctrl, self.mode, INIT_SEQID, b""))

    def _send_control(self, type_: int, stype: int, ctrl: int) -> bool:
        """Send RDX, an ACK or a NACK. Source: Solaris ldc.c, i_ldc_send_pkt."""
        if ctrl in (_RTS, _RTR):  # carry no numbers
            return self._send(_pack(type_, stype, ctrl, 0, 0, b""))
        seqid = (self._last_msg_snt + 1) & SEQID_MASK
        ackid = self._last_msg_rcd.to_bytes(8, "big")  # at offset 12; ignored on receipt in unreliable mode
        sent = self._send(_pack(type_, stype, ctrl, 0, seqid, ackid))
        if sent:
            self._last_msg_snt = seqid
        return sent

    def _exchange(self) -> None:
        """The handshake is done."""
        was_up = self._state is TransportState.UP
        self._move(Move.EXCHANGED)
        if not was_up and not self._in_reset:
            self._events.append(LinkUp())

    def _forget(self) -> None:
        super()._forget()
        self._handshake = Handshake.NONE
        self._version = None
        self._last_msg_snt = self._last_msg_rcd = INIT_SEQID


def _carries_data(packet: Buffer) -> bool:
    return bool(packet[0] & _DATA and packet[1] & _INFO)


def _choose_version(major: int, minor: int) -> tuple[int, Version]:
    """Return the answer to a version offered: ACK or NACK, and which.

    Source: Solaris ldc.c, i_ldc_process_VER.
    """
    for own in VERSIONS:
        if major == own.major:
            return _ACK, Version(major, min(minor, own.minor))
        if major > own.major:
            return _NACK, own
    return _NACK, Version(0, 0)


_HANDLERS: Final[Mapping[Action, Callable[[HandshakeLink, int, int, int, Buffer], None]]] = {
    Action.ANSWER_VERSION: HandshakeLink._answer_version,
    Action.ADOPT_VERSION: HandshakeLink._adopt_version,
    Action.CONFIRM_VERSION: HandshakeLink._confirm_version,
    Action.OFFER_AGAIN: HandshakeLink._offer_again,
    Action.RESTART: HandshakeLink._restart,
    Action.ANSWER_RTS: HandshakeLink._answer_rts,
    Action.ANSWER_RTR: HandshakeLink._answer_rtr,
    Action.ACCEPT_RDX: HandshakeLink._accept_rdx,
    Action.RESET: HandshakeLink._violated,
}
