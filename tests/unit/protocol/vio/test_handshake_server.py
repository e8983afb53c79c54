"""The server's half of the handshake: what it takes at each step, and what it answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import NegotiationError, PacketError, Reaction, RingError, SequenceError
from protocol.ldc.cookie import Cookie
from protocol.vio.dring import RingGeometry
from protocol.vio.handshake import NO_VERSION, RING_IDENT, ClientHandshake, ServerHandshake
from protocol.vio.messages import (
    DeviceClass,
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
)
from protocol.vio.state import SERVER_EXPECTS, ClientState, ServerState, ServerStep

RING = RingGeometry(8, 64)
COOKIE = Cookie(0x2000, 0x2000)
OWN = (Version(3, 1), Version(1, 2))


def _offer(**fields: int) -> bytes:
    values = {"sid": 7, "major": 1, "minor": 1, "dev_class": int(DeviceClass.DISK)} | fields
    return VersionLayout.build(VersionMessage(**values))


def _server(state: ServerState = ServerState.INIT) -> ServerHandshake:
    handshake = ServerHandshake(OWN)
    if state is not ServerState.INIT:
        handshake.negotiate(_offer())
        handshake.state = state
    return handshake


def test_server_agrees_on_a_version_and_adopts_the_session_id() -> None:
    handshake = _server()
    answer = VersionLayout.parse(handshake.negotiate(_offer(minor=9)))
    assert answer == VersionMessage(
        subtype=Subtype.ACK, sid=7, major=1, minor=2, dev_class=DeviceClass.DISK_SERVER
    )
    assert (handshake.state, handshake.sid, handshake.version) == (ServerState.VERSION, 7, (1, 2))


def test_server_that_knows_no_such_version_stays_where_it_is() -> None:
    handshake = _server()
    answer = VersionLayout.parse(handshake.negotiate(_offer(major=2)))
    assert answer == VersionMessage(
        subtype=Subtype.NACK, sid=7, major=1, minor=2, dev_class=DeviceClass.DISK_SERVER
    )
    assert (handshake.state, handshake.version) == (ServerState.INIT, NO_VERSION)


@pytest.mark.parametrize("dev_class", [0, 1, 2, 4, 5, 255])
def test_server_wants_a_disk_client(dev_class: int) -> None:
    with pytest.raises(NegotiationError) as caught:
        _server().negotiate(_offer(dev_class=dev_class))
    assert caught.value.reaction is Reaction.NACK


def test_session_id_is_looked_at_from_the_version_on() -> None:
    _server().expect(MessageType.CTRL, Subtype.INFO, Envelope.VER_INFO, 12345)
    handshake = _server(ServerState.VERSION)
    handshake.expect(MessageType.CTRL, Subtype.INFO, Envelope.ATTR_INFO, 7)
    with pytest.raises(SequenceError, match="session id"):
        handshake.expect(MessageType.CTRL, Subtype.INFO, Envelope.ATTR_INFO, 8)
    handshake.sid = int.from_bytes(b"\xff" * 4, "big")
    handshake.expect(MessageType.CTRL, Subtype.INFO, Envelope.ATTR_INFO, 0xFFFFFFFF)


@pytest.mark.parametrize("state", ServerState)
@pytest.mark.parametrize("envelope", [*Envelope, 0, 0x7F, 0x200, 0xFFFF])
def test_each_state_takes_its_messages_and_no_others(state: ServerState, envelope: int) -> None:
    handshake = _server(state)
    msgtype = MessageType.CTRL if envelope < 0x40 else MessageType.DATA
    other = MessageType.DATA if envelope < 0x40 else MessageType.CTRL
    if envelope in SERVER_EXPECTS[state]:
        handshake.expect(msgtype, Subtype.INFO, envelope, handshake.sid)
    else:
        with pytest.raises(SequenceError) as caught:
            handshake.expect(msgtype, Subtype.INFO, envelope, handshake.sid)
        assert caught.value.reaction is Reaction.NACK
    for wrong in ((msgtype, Subtype.ACK), (msgtype, Subtype.NACK), (msgtype, 0), (other, Subtype.INFO)):
        with pytest.raises(SequenceError):
            handshake.expect(*wrong, envelope, handshake.sid)


def test_version_info_in_mid_session_restarts() -> None:
    info = (MessageType.CTRL, Subtype.INFO, Envelope.VER_INFO)
    assert not _server().restarts(*info)
    for state in set(ServerState) - {ServerState.INIT}:
        assert _server(state).restarts(*info)
    assert not _server(ServerState.RING).restarts(MessageType.CTRL, Subtype.ACK, Envelope.VER_INFO)
    assert not _server(ServerState.RING).restarts(MessageType.DATA, Subtype.INFO, Envelope.VER_INFO)
    assert not _server(ServerState.RING).restarts(MessageType.CTRL, Subtype.INFO, Envelope.RDX)
    for place in range(3):
        assert not _server(ServerState.RING).restarts(*(0 if n == place else info[n] for n in range(3)))


def _registration(**fields: object) -> bytes:
    message = DringRegisterMessage(
        sid=7,
        num_descriptors=RING.num_descriptors,
        descriptor_size=RING.descriptor_size,
        options=1,
        ncookies=1,
        cookie=(COOKIE,),
    )
    return DringRegisterLayout.build(replace(message, **fields))  # type: ignore[arg-type]  # fields by name


def test_server_takes_one_ring_and_names_it() -> None:
    handshake = _server(ServerState.ATTRIBUTES_RING)
    message = _registration()
    assert handshake.offered_ring(message) == (COOKIE, RING)
    assert handshake.accept_ring(message, RING) == _registration(subtype=Subtype.ACK, dring_ident=RING_IDENT)
    assert (handshake.state, handshake.ring) == (ServerState.RING, RING)
    with pytest.raises(RingError, match="second"):
        handshake.offered_ring(message)


@pytest.mark.parametrize(
    "fields",
    [
        {"ncookies": 0, "cookie": ()},
        {"ncookies": 2, "cookie": (COOKIE, COOKIE)},
        {"num_descriptors": 0},
        {"num_descriptors": 0x7FFFFFFF},
        {"descriptor_size": 48},
        {"descriptor_size": 100},
    ],
)
def test_server_refuses_a_ring_that_cannot_be(fields: dict[str, object]) -> None:
    handshake = _server(ServerState.ATTRIBUTES_RING)
    with pytest.raises(RingError) as caught:
        handshake.offered_ring(_registration(**fields))
    assert caught.value.reaction is Reaction.NACK
    assert handshake.ring is None


def test_server_takes_a_ring_that_its_cookie_does_not_hold_for_a_fault_of_memory() -> None:
    handshake = _server(ServerState.ATTRIBUTES_RING)
    with pytest.raises(RingError) as caught:
        handshake.offered_ring(_registration(cookie=(Cookie(0, RING.nbytes - 8),)))
    assert caught.value.reaction is Reaction.RESET
    assert handshake.ring is None


@pytest.mark.parametrize("change", [-1, 1, 16])
def test_a_registration_is_as_long_as_its_cookies_say(change: int) -> None:
    message = _registration()
    with pytest.raises(PacketError):
        _server(ServerState.ATTRIBUTES_RING).offered_ring((message + bytes(16))[: len(message) + change])


def test_unregistering_is_refused() -> None:
    with pytest.raises(RingError) as caught:
        _server(ServerState.RING).refuse_unregistration(bytes(56))
    assert caught.value.reaction is Reaction.NACK


@pytest.mark.parametrize(
    ("mode", "agreed", "data"),
    [
        (2, ServerState.ATTRIBUTES_INBAND, ServerState.DATA_INBAND),
        (3, ServerState.ATTRIBUTES_RING, None),
        (4, ServerState.ATTRIBUTES_RING, None),
    ],
)
def test_the_transfer_mode_decides_the_way(mode: int, agreed: ServerState, data: ServerState | None) -> None:
    handshake = _server(ServerState.VERSION)
    handshake.attributes_agreed(mode)
    assert (handshake.state, handshake.xfer_mode) == (agreed, mode)
    rdx = RdxLayout.build(RdxMessage(sid=7))
    if data is None:
        handshake.step(ServerStep.RING_REGISTERED)
        data = ServerState.DATA_RING
    assert handshake.peer_ready(rdx) == RdxLayout.build(RdxMessage(sid=7, subtype=Subtype.ACK))
    assert handshake.state is data
    with pytest.raises(PacketError):
        handshake.peer_ready(rdx[:8])


def test_a_reset_server_has_forgotten_everything() -> None:
    handshake = _server(ServerState.ATTRIBUTES_RING)
    handshake.accept_ring(_registration(), RING)
    handshake.reset()
    fresh = _server()
    for name in ("state", "sid", "version", "xfer_mode", "ring"):
        assert getattr(handshake, name) == getattr(fresh, name)


def test_server_forgets_a_session_that_was_reset() -> None:
    handshake = _server()
    handshake.negotiate(_offer())
    handshake.attributes_agreed(TransferMode.RING)
    handshake.accept_ring(_registration(), RING)
    assert (handshake.sid, handshake.version, handshake.xfer_mode, handshake.ring) == (7, (1, 1), 3, RING)
    handshake.reset()
    assert (handshake.sid, handshake.version, handshake.xfer_mode, handshake.ring) == (0, NO_VERSION, 0, None)
    assert handshake.state is ServerState.INIT


def test_nothing_is_agreed_before_the_first_message() -> None:
    server, client = ServerHandshake(OWN), ClientHandshake(OWN)
    assert (server.state, server.sid, server.version, server.xfer_mode, server.ring) == (
        ServerState.INIT,
        0,
        NO_VERSION,
        0,
        None,
    )
    assert (client.state, client.sid, client.version, client.ring, client.ring_ident) == (
        ClientState.DOWN,
        0,
        NO_VERSION,
        None,
        0,
    )
