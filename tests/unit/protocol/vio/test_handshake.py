"""The handshake's two halves: version rules, checks at each step, and the tables behind them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import (
    LocalProtocolError,
    NegotiationError,
    PacketError,
    ProtocolError,
    Reaction,
    RingError,
    SequenceError,
)
from protocol.ldc.cookie import Cookie
from protocol.vio.dring import RingGeometry
from protocol.vio.handshake import (
    NO_VERSION,
    RING_IDENT,
    ClientHandshake,
    ServerHandshake,
    answer_version,
    lower_version,
)
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
from protocol.vio.state import (
    CLIENT_EXPECTS,
    CLIENT_STEPS,
    SERVER_EXPECTS,
    SERVER_STEPS,
    ClientState,
    ClientStep,
    ServerState,
    ServerStep,
)

RING = RingGeometry(8, 64)
COOKIE = Cookie(0x2000, 0x2000)
OWN = (Version(3, 1), Version(1, 2))


# -- version rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ((1, 0), (True, (1, 0))),
        ((1, 2), (True, (1, 2))),
        ((1, 9), (True, (1, 2))),
        ((3, 0), (True, (3, 0))),
        ((4, 0), (False, (3, 1))),  # above the best
        ((2, 7), (False, (1, 2))),  # between
        ((0, 9), (False, (0, 0))),  # below all
    ],
)
def test_a_server_answers_a_version(offered: tuple[int, int], answer: tuple[bool, tuple[int, int]]) -> None:
    assert answer_version(Version(*offered), OWN) == answer


@pytest.mark.parametrize(
    ("answer", "offered", "lower"),
    [
        ((0, 0), (3, 1), None),
        ((3, 1), (3, 1), (1, 2)),
        ((1, 2), (3, 1), (1, 2)),
        ((1, 0), (1, 2), None),
        ((2, 0), (3, 1), (1, 2)),
        ((0, 1), (3, 1), None),
        ((3, 1), (1, 2), None),  # a server that asks for more than was refused: never up again
    ],
)
def test_a_client_goes_down_after_a_nack(
    answer: tuple[int, int], offered: tuple[int, int], lower: tuple[int, int] | None
) -> None:
    assert lower_version(Version(*answer), Version(*offered), OWN) == lower


def test_a_nack_with_no_version_ends_it_even_for_a_client_that_knows_major_0() -> None:
    assert lower_version(Version(0, 0), Version(1, 0), (Version(1, 0), Version(0, 5))) is None
    assert lower_version(Version(0, 1), Version(1, 0), (Version(1, 0), Version(0, 5))) == (0, 5)


def test_version_numbers_use_all_their_16_bits() -> None:
    own = (Version(0x8000, 2),)
    offer = VersionLayout.parse(VersionLayout.build(VersionMessage(major=0x8000, minor=1, dev_class=3)))
    assert answer_version(Version(offer.major, offer.minor), own) == (True, (0x8000, 1))
    client = ClientHandshake(own)
    client.step(ClientStep.LINK_UP)
    client.start(9)
    assert client.version_answered(_answer(major=0x8000, minor=1)) is None


# -- tables --------------------------------------------------------------------------------------------------


def test_every_state_says_what_it_expects() -> None:
    assert set(SERVER_EXPECTS) == set(ServerState)
    assert set(CLIENT_EXPECTS) == set(ClientState)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {ServerState.INIT} | set(SERVER_STEPS.values())
    assert reached == set(ServerState)
    assert {state for state, _ in SERVER_STEPS} == set(ServerState)
    assert {ClientState.DOWN} | set(CLIENT_STEPS.values()) == set(ClientState)
    assert {state for state, _ in CLIENT_STEPS} == set(ClientState)


@pytest.mark.parametrize("state", ServerState)
@pytest.mark.parametrize("step", ServerStep)
def test_a_server_takes_the_steps_of_the_table_and_no_others(state: ServerState, step: ServerStep) -> None:
    handshake = ServerHandshake(OWN)
    handshake.state = state
    if (state, step) in SERVER_STEPS:
        handshake.step(step)
        assert handshake.state is SERVER_STEPS[state, step]
    else:
        with pytest.raises(LocalProtocolError):
            handshake.step(step)
        assert handshake.state is state


@pytest.mark.parametrize("state", ClientState)
@pytest.mark.parametrize("step", ClientStep)
def test_a_client_takes_the_steps_of_the_table_and_no_others(state: ClientState, step: ClientStep) -> None:
    handshake = ClientHandshake(OWN)
    handshake.state = state
    if (state, step) in CLIENT_STEPS:
        handshake.step(step)
        assert handshake.state is CLIENT_STEPS[state, step]
    else:
        with pytest.raises(LocalProtocolError):
            handshake.step(step)
        assert handshake.state is state


def test_a_client_loses_what_has_begun_and_nothing_else() -> None:
    losable = {state for state, step in CLIENT_STEPS if step is ClientStep.LOSE}
    assert losable == set(ClientState) - {ClientState.DOWN, ClientState.LOST}


# -- server --------------------------------------------------------------------------------------------------


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


# -- client --------------------------------------------------------------------------------------------------


def _client(state: ClientState) -> ClientHandshake:
    handshake = ClientHandshake(OWN)
    handshake.state = ClientState.UP
    handshake.start(9)
    handshake.state = state
    return handshake


def _answer(**fields: int) -> bytes:
    values = {"subtype": int(Subtype.ACK), "sid": 9, "major": 3, "minor": 1, "dev_class": 4} | fields
    return VersionLayout.build(VersionMessage(**values))


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
