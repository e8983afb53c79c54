"""The server's end: the two classes of reset, what causes each, and what is left of a session after it."""

from __future__ import annotations

import pytest

from protocol.errors import PacketError
from protocol.stack import DescriptorsReady, LinkState, Server, SessionReset
from tests.support.vioscript import ATTRIBUTES, SID, ServerScript, octets
from tests.support.viosession import only_reset, subtypes

INFO, ACK, NACK = "01", "02", "04"


SOFT = [
    ("session id", "02 01 00 42 00 00 00 2b 0000000000000001 0000000000000001 00000000 00000000"),
    ("unexpected", f"01 01 00 05 {SID}"),
    ("message 0x1/0x2/0x5", f"01 02 00 05 {SID}"),
    ("message 0x2/0x1/0x41", f"02 01 00 41 {SID} 0000000000000001"),
    ("message 0x7/0x1/0x42", f"07 01 00 42 {SID}"),
    ("unregistering", f"01 01 00 04 {SID} 0000000000000001"),
    ("ring 2", f"02 01 00 42 {SID} 0000000000000001 0000000000000002 00000000 00000000"),
]


@pytest.mark.parametrize(("cause", "message"), SOFT)
def test_a_malformed_or_unexpected_message_is_a_nack_and_a_soft_reset(cause: str, message: str) -> None:
    script = ServerScript()
    script.data()
    assert [answer[3:5] for answer in script.say(message)] == [NACK]
    event = only_reset(script)
    assert not event.full
    assert cause in event.cause or cause == "unexpected"
    assert script.resets == 0
    script.data()


@pytest.mark.parametrize(("start", "end"), [(8, 8), (0, 8), (8, 0), (0, -1), (0xFFFFFFFF, 0), (0, -2)])
def test_an_index_outside_the_ring_is_a_nack_and_a_full_reset(start: int, end: int) -> None:
    script = ServerScript()
    script.data()
    assert subtypes(script.send(script.ring(1, start, end))) == [(4, 0x42, 1)]
    assert only_reset(script).full
    assert script.resets == 1
    script.data()


@pytest.mark.parametrize("size", [55, 57, 8, 64])
def test_ring_data_of_another_length_is_a_soft_reset(size: int) -> None:
    script = ServerScript()
    script.data()
    message = (script.ring(1, 0, 0) + bytes(8))[:size]
    (answer,) = script.send(message)
    assert answer[:2] == b"\x02\x04"
    assert len(answer) == size
    assert not only_reset(script).full


@pytest.mark.parametrize("size", [1, 7])
def test_a_message_without_a_tag_is_a_full_reset_and_no_answer(size: int) -> None:
    script = ServerScript()
    assert script.send(bytes(size)) == []
    assert only_reset(script) == SessionReset(cause=f"a message of {size} bytes", full=True)
    assert script.resets == 1
    script.data()


def test_a_wrong_message_before_any_session_is_a_nack_and_nothing_else() -> None:
    script = ServerScript()
    assert script.say(f"01 01 00 02 {SID}")[0].startswith("01 04 00 02")
    assert script.say(f"01 01 00 01 {SID} 0001 0001 04")[0].startswith("01 04 00 01")
    assert script.events() == []
    script.data()


def test_what_was_sent_before_a_full_reset_is_not_taken_after_it() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 9, 9), script.ring(2, 0, 0), octets(f"01 01 00 01 {SID} 0001 0001 03"))
    assert only_reset(script).full
    assert script.events() == []
    assert script.answers() == []
    script.data()


def test_what_was_sent_before_a_soft_reset_is_taken_after_it() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0), script.ring(9, 0, 0), octets(f"01 01 00 01 {SID} 0001 0001 03"))
    ready, reset = script.events()
    assert isinstance(ready, DescriptorsReady)
    assert isinstance(reset, SessionReset)
    script.stack.complete(ready.batch, 0)
    assert subtypes(script.answers()) == [(2, 0x42, 1), (4, 0x42, 9)]
    script.stack.reset_done()
    assert [answer.hex()[:8] for answer in script.answers()] == ["01020001"]


def test_a_version_in_mid_session_restarts_after_the_old_session_is_drained() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0), octets("01 01 00 01 00 00 00 99 0001 0002 03"))
    ready, reset = script.events()
    assert isinstance(ready, DescriptorsReady)
    assert reset == SessionReset(cause="the client started again", full=False)
    script.stack.complete(ready.batch, 0)
    assert subtypes(script.answers()) == [(2, 0x42, 1)]
    script.stack.reset_done()
    assert script.answers() == [octets("01 02 00 01 00 00 00 99 0001 0002 04")]
    assert script.stack.version == (1, 2)


def test_a_restart_that_a_fault_overtakes_is_forgotten() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0), octets("01 01 00 01 00 00 00 99 0001 0002 03"))
    ready, reset = script.events()
    assert isinstance(ready, DescriptorsReady)
    assert isinstance(reset, SessionReset)
    script.stack.fault(ready.batch, 0, "bad cookie")
    script.stack.reset_done()
    assert subtypes(script.answers()) == [(4, 0x42, 1)]
    assert script.stack.version == (0, 0)
    assert script.events() == []
    script.data()


def test_a_reset_of_the_link_ends_the_session_and_leaves_answers_unsent() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0))
    (ready,) = script.events()
    assert isinstance(ready, DescriptorsReady)
    script.stack.link_state(LinkState.RESET)
    (reset,) = script.events()
    assert isinstance(reset, SessionReset)
    assert not reset.full
    script.stack.complete(ready.batch, 0)
    assert script.answers() == []
    script.stack.reset_done()
    script.carry()
    script.data()


def test_a_peer_that_goes_and_comes_again() -> None:
    script = ServerScript()
    script.data()
    script.stack.link_state(LinkState.DOWN)
    (event,) = (script.stack.next_event(),)
    assert event == SessionReset(cause="the peer is gone", full=True)
    script.stack.reset_done()
    assert script.stack.next_event() is None
    again = ServerScript()
    again.stack.link_state(LinkState.DOWN)  # without a session there is nothing to report
    assert again.stack.next_event() is None


def test_a_reset_of_an_idle_link_is_not_worth_an_event() -> None:
    script = ServerScript()
    script.stack.link_state(LinkState.RESET)
    script.stack.link_state(LinkState.UP)
    script.carry()
    assert script.events() == []
    script.data()


def test_only_a_packet_that_is_none_raises() -> None:
    stack = Server(ATTRIBUTES)
    stack.link_state(LinkState.UP)
    with pytest.raises(PacketError):
        stack.receive_packet(bytes(63))


def test_a_reset_takes_packets_that_were_not_sent_but_not_the_notice_of_a_reset() -> None:
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0))
    ready = script.stack.next_event()
    assert isinstance(ready, DescriptorsReady)
    script.stack.fault(ready.batch, 0, "bad cookie")
    script.stack.reset_done()  # a NACK and the notice that our queue was reconfigured wait to be carried
    script.stack.link_state(LinkState.RESET)
    outputs = []
    while (output := script.stack.next_output()) is not None:
        outputs.append(output)
    assert sum(not isinstance(output, bytes) for output in outputs) == 1
    assert all(output[0] == 1 for output in outputs if isinstance(output, bytes))  # the new handshake alone
