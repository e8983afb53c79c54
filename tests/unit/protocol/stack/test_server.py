"""The server's end: handshake, and answers in order, exactly one each, on every kind of ring."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import LocalProtocolError
from protocol.ldc.cookie import Cookie
from protocol.stack import (
    DescriptorsReady,
    DoorbellRung,
    Negotiated,
    RequestReceived,
    RingOffered,
    Server,
    SessionReady,
    SessionReset,
)
from protocol.vdisk.descriptor import Request, build_payload
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from tests.support.vioscript import ATTRIBUTES, SID, ServerScript, octets
from tests.support.viosession import only_reset, subtypes

# -- handshake -----------------------------------------------------------------------------------------------


def test_the_handshake_reports_each_step() -> None:
    script = ServerScript()
    stack = script.stack
    assert (stack.version, stack.xfer_mode, stack.is_ready) == ((0, 0), 0, False)
    script.agree(minor=1)
    known = ATTRIBUTES
    assert script.events() == [Negotiated(version=stack.version, xfer_mode=3, block_size=512, max_xfer=65536)]
    assert (stack.version, stack.xfer_mode) == ((1, 1), 3)
    body = f"{'00' * 8} 00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
    assert script.say(f"01 01 00 03 {SID} {body}", 48) == []
    assert script.events() == [RingOffered(cookie=Cookie(0x2000, 0x2000), geometry=RingGeometry(8, 64))]
    stack.accept_ring()
    (answer,) = script.answers()
    assert answer == bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001" + body[16:])
    assert script.say(f"01 01 00 05 {SID}") == [octets(f"01 02 00 05 {SID}").hex(" ")]
    assert script.events() == [SessionReady(version=stack.version, attributes=known)]
    assert stack.is_ready


def test_attributes_set_anew_are_told_at_the_next_handshake() -> None:
    script = ServerScript()
    script.data()
    script.stack.attributes = replace(ATTRIBUTES, size_blocks=0x9999)
    assert script.stack.announced.size_blocks == 0x1803
    script.say(f"01 01 00 01 {SID} 0001 0000 03")
    only_reset(script)
    script.say(f"01 01 00 02 {SID} 03 00 00 00 00000200" + "00" * 16 + "00" * 7 + "01")
    assert script.stack.announced == script.stack.attributes.for_version((1, 0))


def test_a_ring_that_cannot_be_mapped_is_a_nack_and_a_full_reset() -> None:
    script = ServerScript()
    script.agree()
    script.events()
    body = f"{'00' * 8} 00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
    script.say(f"01 01 00 03 {SID} {body}", 48)
    script.events()
    script.stack.refuse_ring("cookie leads nowhere")
    assert [answer.hex()[:8] for answer in script.answers()] == ["01040003"]
    assert only_reset(script) == SessionReset(cause="cookie leads nowhere", full=True)
    assert script.resets == 1


def test_what_follows_an_offered_ring_waits_for_the_decision() -> None:
    script = ServerScript()
    script.agree()
    script.events()
    body = f"{'00' * 8} 00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
    sent = script.send(bytes.fromhex(f"01 01 00 03 {SID} {body}"), octets(f"01 01 00 05 {SID}"))
    assert sent == []
    script.stack.accept_ring()
    assert [answer.hex()[:8] for answer in script.answers()] == ["01020003", "01020005"]
    assert script.stack.is_ready


def test_nothing_is_accepted_or_refused_that_was_not_offered() -> None:
    script = ServerScript()
    with pytest.raises(LocalProtocolError):
        script.stack.accept_ring()
    with pytest.raises(LocalProtocolError):
        script.stack.refuse_ring("no")
    with pytest.raises(LocalProtocolError):
        script.stack.reset_done()


# -- plain ring ----------------------------------------------------------------------------------------------


def test_answers_keep_the_order_of_the_requests() -> None:
    script = ServerScript()
    script.data()
    assert script.send(*(script.ring(10 + n, n, n) for n in range(3))) == []
    first, second, third = script.events()
    assert isinstance(first, DescriptorsReady)
    assert isinstance(second, DescriptorsReady)
    assert isinstance(third, DescriptorsReady)
    assert [(event.start_idx, event.count) for event in (first, second, third)] == [(0, 1), (1, 1), (2, 1)]
    assert script.stack.unanswered == 3
    script.stack.complete(third.batch, 2)
    script.stack.complete(second.batch, 1)
    assert script.answers() == []
    script.stack.complete(first.batch, 0)
    assert subtypes(script.answers()) == [(2, 0x42, 10), (2, 0x42, 11), (2, 0x42, 12)]
    assert script.stack.unanswered == 0


def test_an_acknowledgement_is_the_request_with_another_subtype() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(0xFFFFFFFF, 6, 1, state=7))
    (event,) = script.events()
    assert event == DescriptorsReady(1, 6, 4)
    for index in (1, 6, 0, 7):
        assert script.answers() == []
        script.stack.complete(1, index)
    (answer,) = script.answers()
    expected = bytearray(script.ring(0xFFFFFFFF, 6, 1, state=7))
    expected[1] = 2
    assert answer == expected


def test_entries_are_completed_in_runs() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(9, 6, 1))
    script.events()
    script.stack.complete_run(1, 0, 2)
    assert script.answers() == []
    script.stack.complete_run(1, 6, 2)
    assert subtypes(script.answers()) == [(2, 0x42, 9)]


def test_the_number_of_a_message_is_known_until_it_is_answered() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(0xFFFFFFFE, 0, 0), script.ring(0xFFFFFFFF, 1, 1))
    assert [script.stack.seq_num(batch) for batch in (1, 2)] == [0xFFFFFFFE, 0xFFFFFFFF]
    script.stack.complete(1, 0)
    with pytest.raises(LocalProtocolError, match="no batch 1"):
        script.stack.seq_num(1)


def test_more_answers_than_the_link_queues_at_once() -> None:
    script = ServerScript()
    script.agree()
    script.register(num_descriptors=2048)
    script.say(f"01 01 00 05 {SID}")
    script.events()
    for n in range(1200):
        script.send(script.ring(n, n, n))
    ready = [event for event in script.events() if isinstance(event, DescriptorsReady)]
    for event in reversed(ready):
        script.stack.complete(event.batch, event.start_idx)
    assert len(script.answers()) == 1200


def test_a_transport_fault_is_a_nack_at_its_index_after_earlier_answers() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0), script.ring(2, 3, 5), script.ring(3, 6, 6))
    first, second, third = script.events()
    assert isinstance(first, DescriptorsReady)
    assert isinstance(second, DescriptorsReady)
    assert isinstance(third, DescriptorsReady)
    script.stack.complete(third.batch, 6)
    script.stack.complete(second.batch, 3)
    script.stack.fault(second.batch, 4, "descriptor 4 is not READY")
    assert script.answers() == []
    script.stack.complete(first.batch, 0)
    assert subtypes(script.answers()) == [(2, 0x42, 1)]
    (event,) = script.events()
    assert event == SessionReset(cause="descriptor 4 is not READY", full=True)
    assert not script.stack.is_ready
    script.stack.reset_done()
    nack = script.ring(2, 3, 4).replace(b"\x02\x01", b"\x02\x04", 1)
    assert script.answers() == [nack, script.ring(3, 6, 6).replace(b"\x02\x01", b"\x02\x02", 1)]
    assert script.resets == 1
    script.data()


def test_a_fault_with_nothing_else_in_progress_is_answered_at_once() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 7, 7))
    (event,) = script.events()
    assert isinstance(event, DescriptorsReady)
    script.stack.fault(event.batch, 7, "bad cookie")
    assert script.answers() == [script.ring(1, 7, 7).replace(b"\x02\x01", b"\x02\x04", 1)]
    script.stack.fault(None, 7, "and another")
    assert len(script.events()) == 1
    script.stack.reset_done()
    script.carry()
    assert script.resets == 1
    with pytest.raises(LocalProtocolError):
        script.stack.complete(event.batch, 7)


def test_a_soft_reset_that_a_fault_makes_a_full_one() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0), script.ring(9, 0, 0))
    ready, reset = script.events()
    assert isinstance(ready, DescriptorsReady)
    assert isinstance(reset, SessionReset)
    assert not reset.full
    script.stack.fault(ready.batch, 0, "bad cookie")
    assert subtypes(script.answers()) == [(4, 0x42, 1), (4, 0x42, 9)]
    script.stack.reset_done()
    script.carry()
    assert script.resets == 1


# -- polled ring ---------------------------------------------------------------------------------------------


def _polled(polls: bool = False) -> ServerScript:
    script = ServerScript(extensions=Extension.POLLED_RING, polls=polls)
    script.data()
    return script


def test_a_doorbell_is_reported_and_answered_only_when_asked() -> None:
    script = _polled()
    assert script.send(script.ring(5, 2, -1, state=2)) == []
    assert script.events() == [DoorbellRung()]
    script.stack.end_of_batch(2, stopping=True)
    assert script.answers() == []
    script.stack.completed(2)
    script.stack.end_of_batch(2, stopping=True)
    assert [answer.hex() for answer in script.answers()] == [
        octets(
            f"02 02 00 42 {SID} 0000000000000005 0000000000000001 00000002 ffffffff 02 000000 00000002"
        ).hex()
    ]


def test_a_polling_server_says_when_it_stops() -> None:
    script = _polled(polls=True)
    script.send(script.ring(5, 2, -1, state=1))
    script.stack.end_of_batch(2, stopping=False)
    assert script.answers() == []
    script.stack.end_of_batch(2, stopping=True)
    (answer,) = script.answers()
    assert answer[32] == 2


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ((5, 8, -1, 2), True),  # no such entry
        ((5, 0, 0, 2), True),  # an end
        ((5, 0, -1, 0), False),  # no state
    ],
)
def test_a_doorbell_that_means_nothing_is_refused(message: tuple[int, int, int, int], full: bool) -> None:
    script = _polled()
    seq_num, start, end, state = message
    assert subtypes(script.send(script.ring(seq_num, start, end, state=state))) == [(4, 0x42, 5)]
    assert only_reset(script).full is full
    script.data()


def test_doorbells_are_numbered_and_carry_the_session_and_the_ring() -> None:
    for wrong in ((7, SID, 1), (6, "00 00 00 01", 1), (6, SID, 2)):
        script = _polled()
        script.send(script.ring(5, 1, -1, state=1))
        script.events()
        seq_num, sid, ident = wrong
        message = bytearray(script.ring(seq_num, 2, -1, state=1, sid=sid))
        message[23] = ident
        assert len(script.send(bytes(message))) == 1
        assert not only_reset(script).full


def test_a_fault_on_a_polled_ring_is_a_nack_with_the_index() -> None:
    script = _polled()
    script.send(script.ring(5, 4, -1, state=1))
    script.events()
    script.stack.fault(None, 3, "bad cookie")
    assert [answer.hex() for answer in script.answers()] == [
        octets(f"02 04 00 42 {SID} 0000000000000005 0000000000000001 00000003 00000003 00").hex()
    ]
    assert only_reset(script).full
    assert script.resets == 1
    script.data()


# -- in-band -------------------------------------------------------------------------------------------------


REQUEST = Request(7, 1, 0xFF, 5, 512, (Cookie(0x2000, 512),))


def _message(seq_num: int, request: Request = REQUEST) -> bytes:
    return bytes.fromhex(f"02 01 00 41 {SID} {seq_num:016x} 00000000deadbeef") + build_payload(request)


def test_in_band_requests_are_answered_in_order_with_status_and_length() -> None:
    script = ServerScript()
    script.inband()
    assert script.send(_message(1), _message(2)) == []
    first, second = script.events()
    assert isinstance(first, RequestReceived)
    assert isinstance(second, RequestReceived)
    assert first.request == REQUEST
    script.stack.complete_inband(second.batch, 5, 0)
    assert script.answers() == []
    script.stack.complete_inband(first.batch, 0, 512)
    expected = []
    for number, status, nbytes in ((1, 0, 512), (2, 5, 0)):
        answer = bytearray(_message(number))
        answer[1] = 2
        answer[36:40] = status.to_bytes(4, "big")
        answer[48:56] = nbytes.to_bytes(8, "big")
        expected.append(answer)
    assert script.answers() == expected


def test_an_in_band_fault_is_the_message_refused() -> None:
    script = ServerScript()
    script.inband()
    script.send(_message(1))
    (event,) = script.events()
    assert isinstance(event, RequestReceived)
    script.stack.fault(event.batch, 0, "bad cookie")
    assert script.answers() == [_message(1).replace(b"\x02\x01", b"\x02\x04", 1)]
    assert only_reset(script).full


@pytest.mark.parametrize(
    "message",
    [
        _message(1)[:-1],
        _message(1) + bytes(16),
        _message(3),  # after 1
        _message(2, REQUEST._replace(cookies=REQUEST.cookies * 10)),  # more than 64 KiB needs
    ],
    ids=["short", "long", "out of order", "too many cookies"],
)
def test_a_wrong_in_band_message_is_a_soft_reset(message: bytes) -> None:
    script = ServerScript()
    script.inband()
    script.send(_message(1))
    (event,) = script.events()
    assert isinstance(event, RequestReceived)
    script.stack.complete_inband(event.batch, 0, 512)
    assert len(script.answers()) == 1
    assert [answer[1] for answer in script.send(message)] == [4]
    assert not only_reset(script).full
    script.inband()


def test_an_in_band_client_has_a_bound() -> None:
    script = ServerScript()
    script.inband()
    for number in range(512):
        script.send(_message(number))
    assert len(script.events()) == script.stack.unanswered == 512
    script.send(_message(512))
    (event,) = script.events()
    assert isinstance(event, SessionReset)
    assert event.full


# -- attributes of ours --------------------------------------------------------------------------------------


def test_a_disk_that_cannot_be_is_refused_when_it_is_given() -> None:
    """Not when a client asks: nothing that a client sends may raise our own error."""
    impossible = replace(ATTRIBUTES, block_size=0)
    with pytest.raises(LocalProtocolError, match="block size"):
        Server(impossible)
    server = Server(ATTRIBUTES)
    with pytest.raises(LocalProtocolError, match="block size"):
        server.attributes = impossible
    assert server.attributes == ATTRIBUTES
