"""The client's end: what it sends, what it takes, and what ends a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import LocalProtocolError
from protocol.ldc.cookie import Cookie
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    DescriptorsDone,
    InbandDone,
    LinkState,
    SessionLost,
    SessionReady,
    Woken,
)
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request, build_payload
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from protocol.vio.messages import Version
from tests.support.vioscript import SID, ClientScript, octets

RING = RingGeometry(8, 64)
COOKIE = Cookie(0x2000, 0x2000)
WISH = octets(f"01 01 00 02 {SID} 03 00 00 00 00000200" + "00" * 16 + "0000000000000100")
ATTRIBUTES = "02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080 00001000"
KNOWN = DiskAttributes(size_blocks=0x1803, max_xfer_blocks=128, phys_block_size=4096)


def _agree(script: ClientScript, mode: str = "03", version: str = "0001 0002") -> None:
    """Play the server up to the attributes."""
    assert script.events() == [ChannelUp()]
    script.stack.start(0x2A)
    assert script.answers() == [octets(f"01 01 00 01 {SID} 0001 0002 03")]
    (wish,) = script.send(octets(f"01 02 00 01 {SID} {version} 04"))
    assert wish[:8] == WISH[:8]
    script.send(octets(f"01 02 00 02 {SID} {mode} {ATTRIBUTES}"))


def _ring(script: ClientScript, ident: int = 1) -> None:
    """Play the server up to ring data."""
    _agree(script)
    script.events()
    script.stack.register_ring(COOKIE, RING)
    shape = "00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
    assert script.answers() == [bytes.fromhex(f"01 01 00 03 {SID} {'00' * 8} {shape}")]
    rdx = script.send(bytes.fromhex(f"01 02 00 03 {SID} {ident:016x} {shape}"))
    assert rdx == [octets(f"01 01 00 05 {SID}")]
    script.send(octets(f"01 02 00 05 {SID}"))
    assert script.events() == [SessionReady(version=Version(1, 2), attributes=KNOWN)]
    assert script.stack.is_ready


def _inband(script: ClientScript) -> None:
    """Play the server up to in-band data."""
    _agree(script, mode="02")
    script.events()
    script.stack.start_data()
    assert script.answers() == [octets(f"01 01 00 05 {SID}")]
    script.send(octets(f"01 02 00 05 {SID}"))
    script.events()
    assert script.stack.is_ready


def _data(subtype: str, seq_num: int, start: int, end: int, *, ident: int = 1, tail: str = "") -> bytes:
    fields = f"{seq_num:016x} {ident:016x} {start:08x} {end & 0xFFFFFFFF:08x}"
    return octets(f"02 {subtype} 00 42 {SID} {fields} {tail}")


def _lost(script: ClientScript) -> str:
    """Return why the session was lost, which is the one event there is, and begin again."""
    (event,) = script.events()
    assert isinstance(event, SessionLost)
    assert not script.stack.is_ready
    script.stack.reset_done()
    return event.cause


# -- handshake -----------------------------------------------------------------------------------------------


def test_the_handshake_reports_each_step() -> None:
    script = ClientScript()
    assert script.stack.attributes is None
    _agree(script)
    assert script.events() == [AttributesReceived(attributes=KNOWN, version=Version(1, 2))]
    assert script.stack.version == (1, 2)
    assert script.stack.attributes == KNOWN


def test_the_client_asks_for_what_it_was_told_to_want() -> None:
    script = ClientScript(block_size=4096)
    script.events()
    script.stack.start(0x2A)
    script.answers()
    (wish,) = script.send(octets(f"01 02 00 01 {SID} 0001 0001 04"))
    assert wish == WISH[:12] + bytes.fromhex("00001000") + WISH[16:]


def test_a_lower_minor_lays_out_the_attributes() -> None:
    script = ClientScript()
    _agree(script, version="0001 0001")
    (event,) = script.events()
    assert event == AttributesReceived(attributes=replace(KNOWN, phys_block_size=512), version=Version(1, 1))


def test_lower_versions_are_offered_after_a_nack() -> None:
    script = ClientScript(versions=((2, 0), (1, 2), (1, 1)))
    script.events()
    script.stack.start(0x2A)
    assert script.answers() == [octets(f"01 01 00 01 {SID} 0002 0000 03")]
    assert script.send(octets(f"01 04 00 01 {SID} 0001 0001 03")) == [
        octets("01 01 00 01 00 00 00 2b 0001 0002 03")
    ]
    assert script.send(octets("01 04 00 01 00 00 00 2b 0001 0001 03")) == [
        octets("01 01 00 01 00 00 00 2c 0001 0001 03")
    ]
    script.send(octets("01 04 00 01 00 00 00 2c 0000 0000 03"))
    assert "no common version" in _lost(script)


def test_an_rdx_ack_of_a_tag_alone_will_do() -> None:
    script = ClientScript(xfer_mode=2)
    _agree(script, mode="02")
    script.events()
    script.stack.start_data()
    script.answers()
    script.send(bytes.fromhex(f"01 02 00 05 {SID}"))
    assert [type(event) for event in script.events()] == [SessionReady]


@pytest.mark.parametrize("call", ["start", "register", "data", "announce", "ring", "send", "reset"])
def test_nothing_is_sent_out_of_turn(call: str) -> None:
    script = ClientScript()
    if call == "start":
        script.stack.start(1)
    calls = {
        "start": lambda: script.stack.start(2),
        "register": lambda: script.stack.register_ring(COOKIE, RING),
        "data": script.stack.start_data,
        "announce": lambda: script.stack.announce(0, 0),
        "ring": lambda: script.stack.ring(sleeping=True),
        "send": lambda: script.stack.send_inband(1, bytes(40)),
        "reset": script.stack.reset_done,
    }
    with pytest.raises(LocalProtocolError):
        calls[call]()


# -- plain ring ----------------------------------------------------------------------------------------------


def test_requests_are_announced_and_answers_reported() -> None:
    script = ClientScript()
    _ring(script, ident=5)
    assert [script.stack.announce(index, index) for index in (3, 4)] == [1, 2]
    assert script.answers() == [_data("01", 1, 3, 3, ident=5), _data("01", 2, 4, 4, ident=5)]
    script.send(_data("02", 1, 3, 3, ident=5), _data("02", 2, 4, 4, ident=5))
    assert script.events() == [DescriptorsDone(3, 3), DescriptorsDone(4, 4)]


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (_data("04", 1, 0, 0), "refused DRING_DATA"),
        (_data("01", 1, 0, 0), "message 0x2/0x1/0x42"),
        (_data("02", 0, 0, 0), "answer 0 after 0"),
        (_data("02", 2, 0, 0), "1 sent"),
        (_data("02", 1, 8, 0), "ring of 8"),
        (_data("02", 1, 0, -1), "ring of 8"),
        (_data("02", 1, 0, 0, ident=2), "ring 2 is not ours"),
        (_data("02", 1, 0, 0)[:55], "55 bytes"),
        (octets("02 02 00 42 00 00 00 01"), "session id"),
        (octets(f"01 02 00 05 {SID}"), "message 0x1/0x2/0x5"),
        (b"1234567", "7 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_out_of_turn_ends_the_session(message: bytes, cause: str) -> None:
    script = ClientScript()
    _ring(script)
    script.stack.announce(0, 0)
    script.answers()
    script.send(message)
    assert cause in _lost(script)
    script.carry()
    assert script.resets == 1
    _ring(script)


def test_a_lost_session_takes_nothing_more() -> None:
    script = ClientScript()
    _ring(script)
    script.stack.announce(0, 0)
    script.answers()
    script.send(_data("04", 1, 0, 0), _data("02", 1, 0, 0))
    _lost(script)
    assert script.events() == [ChannelUp()]
    assert script.stack.attributes is None
    assert script.stack.version == (0, 0)


# -- polled ring ---------------------------------------------------------------------------------------------


def test_a_doorbell_goes_out_when_the_server_needs_one() -> None:
    script = ClientScript(extensions=Extension.POLLED_RING)
    _ring(script)
    assert not script.stack.ring(sleeping=True)
    script.stack.posted(2)
    assert script.stack.ring(sleeping=True)
    assert script.answers() == [_data("01", 1, 2, -1, tail="02 000000 00000000")]
    script.send(_data("02", 1, 2, -1, tail="02 000000 00000002"))
    assert script.events() == [Woken()]
    script.stack.consumed(2)
    script.stack.posted(1)
    assert script.stack.ring(sleeping=False)
    assert script.answers() == [_data("01", 2, 3, -1, tail="01 000000 00000002")]
    assert not script.stack.server_looks
    script.send(_data("02", 2, 3, -1, tail="01 000000 00000002"))
    assert script.stack.server_looks


@pytest.mark.parametrize(
    "message",
    [
        _data("04", 1, 0, 0),
        _data("02", 2, 0, -1, tail="02 000000 00000000"),
        _data("02", 1, 0, -1, tail="02 000000 00000002"),
        _data("02", 1, 8, -1, tail="02 000000 00000000"),
        _data("02", 1, 0, -1, tail="00 000000 00000000"),
        _data("02", 1, 0, 0, tail="02 000000 00000000"),
        _data("02", 1, 0, -1, ident=2, tail="02 000000 00000000"),
    ],
    ids=["NACK", "never rung", "more than posted", "no such entry", "no state", "an end", "another ring"],
)
def test_a_doorbell_that_means_nothing_ends_the_session(message: bytes) -> None:
    script = ClientScript(extensions=Extension.POLLED_RING, server_polls=True)
    _ring(script)
    script.stack.posted(1)
    script.stack.ring(sleeping=True)
    script.answers()
    script.send(message)
    assert _lost(script)


# -- in-band -------------------------------------------------------------------------------------------------

PAYLOAD = build_payload(Request(7, 1, 0xFF, 5, 512, (Cookie(0x2000, 512),)))


def test_in_band_requests_and_their_answers() -> None:
    script = ClientScript(xfer_mode=2)
    _inband(script)
    assert script.stack.send_inband(0xDEADBEEF, PAYLOAD) == 1
    head = f"00 41 {SID} 0000000000000001 00000000deadbeef"
    assert script.answers() == [bytes.fromhex("02 01" + head) + PAYLOAD]
    answer = PAYLOAD[:12] + (5).to_bytes(4, "big") + PAYLOAD[16:24] + bytes(8) + PAYLOAD[32:]
    script.send(bytes.fromhex("02 02" + head) + answer)
    assert script.events() == [InbandDone(0xDEADBEEF, 5, 0)]


@pytest.mark.parametrize(
    "message",
    [
        bytes.fromhex(f"02 02 00 41 {SID} 0000000000000002") + bytes(48),
        bytes.fromhex(f"02 02 00 41 {SID} 0000000000000001") + bytes(47),
        bytes.fromhex(f"02 04 00 41 {SID} 0000000000000001") + bytes(48),
    ],
    ids=["never sent", "too short", "NACK"],
)
def test_an_in_band_answer_out_of_turn_ends_the_session(message: bytes) -> None:
    script = ClientScript(xfer_mode=2)
    _inband(script)
    script.stack.send_inband(1, PAYLOAD)
    script.answers()
    script.send(message)
    assert _lost(script)


# -- link ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True])
def test_a_reset_of_the_link_loses_the_session_and_is_not_answered_with_another(begun: bool) -> None:
    script = ClientScript()
    if begun:
        _ring(script)
    else:
        script.events()
    script.link.down()
    assert _lost(script) == "peer reset"
    script.carry()
    assert script.events() == [ChannelUp()]


def test_a_peer_that_goes_and_comes_again() -> None:
    script = ClientScript()
    script.events()
    script.stack.link_state(LinkState.DOWN)
    assert script.stack.next_event() == SessionLost(cause="the peer is gone")
    script.stack.reset_done()
    assert script.stack.next_event() is None
    script.stack.link_state(LinkState.DOWN)
    script.link.link_state(LinkState.RESET)
    script.stack.link_state(LinkState.UP)
    script.carry()
    assert script.events() == [ChannelUp()]


def test_a_client_that_lost_its_peer_while_cleaning_up_waits_for_it() -> None:
    script = ClientScript()
    _ring(script)
    script.stack.announce(0, 0)
    script.send(_data("04", 1, 0, 0))
    script.stack.link_state(LinkState.DOWN)
    assert _lost(script)
    assert script.stack.next_event() is None


def test_a_session_lost_before_it_was_begun_is_not_to_be_begun() -> None:
    script = ClientScript()
    script.events()
    script.stack.link_state(LinkState.DOWN)
    _lost(script)
    script.carry()  # the server takes no packets, and goes through the link's handshake all the same
    script.send(octets(f"01 02 00 05 {SID}"))
    script.stack.link_state(LinkState.UP)
    assert _lost(script) == "vio: session id 0x2a, not 0x0"
    script.carry()
    assert script.events() == [ChannelUp()]


@pytest.mark.parametrize(
    "wish", [{"max_xfer_blocks": 0}, {"max_xfer_blocks": 8, "block_size": 513}, {"max_xfer_blocks": -1}]
)
def test_a_wish_that_cannot_be_is_refused_at_once(wish: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Client(**wish)
