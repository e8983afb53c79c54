"""The client's half of the handshake: what it sends, and which answers it takes."""

from __future__ import annotations

import pytest

from protocol.errors import (
    LocalProtocolError,
    NegotiationError,
    PacketError,
    ProtocolError,
    Reaction,
    SequenceError,
)
from protocol.ldc.cookie import Cookie
from protocol.vio.dring import RingGeometry
from protocol.vio.handshake import NO_VERSION, ClientHandshake, answer_version
from protocol.vio.messages import (
    DeviceClass,
    DringRegisterLayout,
    DringRegisterMessage,
    Envelope,
    MessageType,
    RdxLayout,
    RdxMessage,
    Subtype,
    Version,
    VersionLayout,
    VersionMessage,
)
from protocol.vio.state import CLIENT_EXPECTS, CLIENT_STEPS, ClientState, ClientStep

RING = RingGeometry(8, 64)
COOKIE = Cookie(0x2000, 0x2000)
OWN = (Version(3, 1), Version(1, 2))


def test_version_numbers_use_all_their_16_bits() -> None:
    own = (Version(0x8000, 2),)
    offer = VersionLayout.parse(VersionLayout.build(VersionMessage(major=0x8000, minor=1, dev_class=3)))
    assert answer_version(Version(offer.major, offer.minor), own) == (True, (0x8000, 1))
    client = ClientHandshake(own)
    client.step(ClientStep.LINK_UP)
    client.start(9)
    assert client.version_answered(_answer(major=0x8000, minor=1)) is None


def test_a_client_loses_what_has_begun_and_nothing_else() -> None:
    losable = {state for state, step in CLIENT_STEPS if step is ClientStep.LOSE}
    assert losable == set(ClientState) - {ClientState.DOWN, ClientState.LOST}


def _client(state: ClientState) -> ClientHandshake:
    handshake = ClientHandshake(OWN)
    handshake.state = ClientState.UP
    handshake.start(9)
    handshake.state = state
    return handshake


def _answer(**fields: int) -> bytes:
    values = {"subtype": int(Subtype.ACK), "sid": 9, "major": 3, "minor": 1, "dev_class": 4} | fields
    return VersionLayout.build(VersionMessage(**values))


def test_client_offers_its_best_version_first() -> None:
    handshake = ClientHandshake(OWN)
    handshake.step(ClientStep.LINK_UP)
    offer = VersionLayout.parse(handshake.start(0x1_0000_0009))
    assert offer == VersionMessage(sid=9, major=3, minor=1, dev_class=DeviceClass.DISK)
    with pytest.raises(LocalProtocolError):
        handshake.start(10)


def test_client_takes_a_lower_minor() -> None:
    handshake = _client(ClientState.VERSION)
    assert handshake.version_answered(_answer(minor=0)) is None
    assert (handshake.version, handshake.state) == ((3, 0), ClientState.ATTRIBUTES)


def test_client_offers_a_lower_version_with_another_session_id() -> None:
    handshake = _client(ClientState.VERSION)
    again = handshake.version_answered(_answer(subtype=Subtype.NACK, major=1, minor=2))
    assert again is not None
    assert VersionLayout.parse(again) == VersionMessage(sid=10, major=1, minor=2, dev_class=DeviceClass.DISK)
    assert handshake.version_answered(_answer(sid=10, major=1, minor=1)) is None
    assert (handshake.version, handshake.sid) == ((1, 1), 10)


@pytest.mark.parametrize(
    "fields",
    [
        {"dev_class": 3},
        {"dev_class": 0},
        {"dev_class": 5},
        {"major": 1},
        {"minor": 2},
        {"major": 4, "minor": 0},
        {"subtype": 4, "major": 0, "minor": 0},
    ],
)
def test_client_refuses_a_version_it_cannot_use(fields: dict[str, int]) -> None:
    handshake = _client(ClientState.VERSION)
    with pytest.raises(NegotiationError) as caught:
        handshake.version_answered(_answer(**fields))
    assert caught.value.reaction is Reaction.RESET


def test_client_looks_at_the_session_id_except_of_versions() -> None:
    _client(ClientState.VERSION).expect(MessageType.CTRL, Subtype.ACK, Envelope.VER_INFO, 1234)
    with pytest.raises(SequenceError, match="session id"):
        _client(ClientState.ATTRIBUTES).expect(MessageType.CTRL, Subtype.ACK, Envelope.ATTR_INFO, 1234)
    with pytest.raises(SequenceError, match="session id"):
        _client(ClientState.ATTRIBUTES).expect(MessageType.CTRL, Subtype.ACK, 0, 1234)
    handshake = _client(ClientState.ATTRIBUTES)
    handshake.sid = int.from_bytes(b"\xff" * 4, "big")
    handshake.expect(MessageType.CTRL, Subtype.ACK, Envelope.ATTR_INFO, 0xFFFFFFFF)


@pytest.mark.parametrize("state", ClientState)
@pytest.mark.parametrize("envelope", [*Envelope, 0, 0x7F, 0xFFFF])
def test_client_takes_the_answer_it_waits_for_and_no_other(state: ClientState, envelope: int) -> None:
    handshake = _client(state)
    msgtype = MessageType.CTRL if envelope < 0x40 else MessageType.DATA
    other = MessageType.DATA if envelope < 0x40 else MessageType.CTRL
    if CLIENT_EXPECTS[state] == envelope:
        handshake.expect(msgtype, Subtype.ACK, envelope, 9)
    else:
        with pytest.raises(SequenceError):
            handshake.expect(msgtype, Subtype.ACK, envelope, 9)
    for wrong in ((msgtype, Subtype.INFO), (msgtype, 0), (other, Subtype.ACK)):
        with pytest.raises(SequenceError):
            handshake.expect(*wrong, envelope, 9)


@pytest.mark.parametrize(
    ("state", "msgtype"),
    [
        (ClientState.ATTRIBUTES, MessageType.CTRL),
        (ClientState.RING, MessageType.CTRL),
        (ClientState.READY, MessageType.CTRL),
        (ClientState.DATA_RING, MessageType.DATA),
        (ClientState.DATA_INBAND, MessageType.DATA),
    ],
)
def test_any_nack_but_of_a_version_ends_the_session(state: ClientState, msgtype: MessageType) -> None:
    envelope = CLIENT_EXPECTS[state]
    assert envelope is not None
    with pytest.raises(NegotiationError, match=f"refused {envelope.name}"):
        _client(state).expect(msgtype, Subtype.NACK, envelope, 9)
    _client(ClientState.VERSION).expect(MessageType.CTRL, Subtype.NACK, Envelope.VER_INFO, 9)


def test_client_registers_its_ring_and_reads_the_ident_alone() -> None:
    handshake = _client(ClientState.AGREED)
    sent = DringRegisterLayout.parse(handshake.register(COOKIE, RING))
    assert sent == DringRegisterMessage(
        sid=9, num_descriptors=8, descriptor_size=64, options=3, ncookies=1, cookie=(COOKIE,)
    )
    openbsd = bytes.fromhex("01 02 0003 00000009 0000000000000005") + bytes(32)
    assert handshake.registered(openbsd) == RdxLayout.build(RdxMessage(sid=9))
    assert handshake.ring_ident == 5
    handshake.peer_ready()
    assert handshake.state is ClientState.DATA_RING


def test_client_wants_a_ring_ack_that_holds_an_ident() -> None:
    handshake = _client(ClientState.RING)
    with pytest.raises(PacketError):
        handshake.registered(bytes(31))
    assert handshake.state is ClientState.RING


def test_client_without_a_ring_is_in_band() -> None:
    handshake = _client(ClientState.AGREED)
    assert handshake.start_data() == RdxLayout.build(RdxMessage(sid=9))
    handshake.peer_ready()
    assert handshake.state is ClientState.DATA_INBAND


def test_client_forgets_a_lost_session() -> None:
    handshake = _client(ClientState.VERSION)
    handshake.version_answered(_answer())
    handshake.step(ClientStep.ATTRIBUTES_AGREED)
    handshake.registered(handshake.register(COOKIE, RING)[:8] + bytes(7) + b"\x05" + bytes(16))
    assert (handshake.version, handshake.ring, handshake.ring_ident) == ((3, 1), RING, 5)
    handshake.step(ClientStep.LOSE)
    handshake.reset()
    assert (handshake.state, handshake.version, handshake.ring, handshake.ring_ident) == (
        ClientState.DOWN,
        NO_VERSION,
        None,
        0,
    )
    with pytest.raises(ProtocolError):
        handshake.reset()
