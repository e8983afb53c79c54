"""Open-ended ranges and the processing state, both roles, octet by octet.

Sources: FWARC 2010/054, DRING_DATA (end_idx -1; processing state ACTIVE 1, STOPPED 2); docs/extensions.md,
OPEN_RANGES. What the drivers of disks do is in test_data.py: they refuse -1.
"""

from __future__ import annotations

import pytest

from protocol.errors import LocalProtocolError, RingError
from protocol.ldc.cookie import Cookie
from protocol.stack import (
    Client,
    DescriptorsDone,
    DescriptorsReady,
    RangeOpened,
    RangeStopped,
    Server,
    SessionLost,
    SessionReset,
)
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from protocol.vio.messages import OPEN_ENDED
from tests.support.vioscript import ATTRIBUTES, SID, ClientScript, ServerScript, octets

ACK, NACK = "02", "04"
ECHOED, ACTIVE, STOPPED = "00", "01", "02"


def _message(subtype: str, seq_num: int, start: str, end: str, state: str) -> bytes:
    """Return ring data; the indices in hexadecimal."""
    return octets(f"02 {subtype} 00 42 {SID} {seq_num:016x} 0000000000000001 {start:>08} {end:>08} {state}")


def _server() -> ServerScript:
    """Return a client's script against a server with a ring of 8."""
    script = ServerScript(extensions=Extension.OPEN_RANGES)
    script.data()
    return script


def _opened(script: ServerScript, seq_num: int, start: int) -> int:
    """Open a range and return its batch; nothing is answered yet."""
    assert script.send(_message("01", seq_num, f"{start:x}", "ffffffff", "00")) == []
    (event,) = script.events()
    assert isinstance(event, RangeOpened)
    assert event.start_idx == start
    return event.batch


def _take(script: ServerScript, batch: int, *indices: int) -> None:
    """Take entries of an open range."""
    for index in indices:
        script.stack.taken(batch, index)


def _done(script: ServerScript, batch: int, *indices: int) -> list[bytes]:
    """Complete entries; return what is answered."""
    for index in indices:
        script.stack.complete(batch, index)
    return script.answers()


# -- server --------------------------------------------------------------------------------------------------


def test_a_server_that_stops_names_the_last_entry() -> None:
    """ACK, end_idx the last entry processed, STOPPED: the sender has to send a message for later ones."""
    script = _server()
    batch = _opened(script, 5, 2)
    _take(script, batch, 2, 3, 4)
    assert _done(script, batch, 2, 3, 4) == []
    script.stack.stopped(batch)
    assert script.answers() == [_message(ACK, 5, "2", "4", STOPPED)]
    assert script.stack.unanswered == 0


def test_stopped_is_told_when_all_that_was_taken_is_complete() -> None:
    """The last entry processed: the others of the range were before it."""
    script = _server()
    batch = _opened(script, 1, 0)
    _take(script, batch, 0, 1, 2)
    script.stack.stopped(batch)
    assert _done(script, batch, 2, 0) == []
    assert _done(script, batch, 1) == [_message(ACK, 1, "0", "2", STOPPED)]


def test_a_server_that_goes_on_looking_says_active_and_at_last_stopped() -> None:
    """Several ACKs of one seq_num, each with the next piece, the last one STOPPED."""
    script = _server()
    batch = _opened(script, 9, 6)
    _take(script, batch, 6, 7, 0)
    assert not script.stack.progress(batch)
    assert _done(script, batch, 7) == []
    assert not script.stack.progress(batch)  # 6 is not complete, and nothing is told out of order
    assert _done(script, batch, 6) == []
    assert script.stack.progress(batch)
    assert script.answers() == [_message(ACK, 9, "6", "7", ACTIVE)]
    assert not script.stack.progress(batch)
    _take(script, batch, 1)
    _done(script, batch, 0, 1)
    assert script.stack.progress(batch)
    assert script.answers() == [_message(ACK, 9, "0", "1", ACTIVE)]
    _take(script, batch, 2)
    script.stack.stopped(batch)
    assert _done(script, batch, 2) == [_message(ACK, 9, "2", "2", STOPPED)]


@pytest.mark.parametrize(("start", "before"), [(3, "2"), (0, "7")])
def test_a_range_of_no_ready_entry_stops_at_once(start: int, before: str) -> None:
    """Not a fault: another client's message may have crossed; Linux sunvnet_common.c, vnet_walk_rx."""
    script = _server()
    script.stack.stopped(_opened(script, 1, start))
    assert script.answers() == [_message(ACK, 1, before, before, STOPPED)]
    assert script.stack.is_ready


def test_a_server_with_nothing_new_to_tell_stops_at_the_entry_before() -> None:
    script = _server()
    batch = _opened(script, 1, 4)
    _take(script, batch, 4)
    _done(script, batch, 4)
    assert script.stack.progress(batch)
    script.stack.stopped(batch)
    assert script.answers() == [_message(ACK, 1, "4", "4", ACTIVE), _message(ACK, 1, "4", "4", STOPPED)]


def test_a_whole_ring_and_more_is_one_range() -> None:
    """The open end is where an entry is not READY, however often the ring goes round before."""
    script = _server()
    batch = _opened(script, 1, 5)
    order = [5, 6, 7, 0, 1, 2, 3, 4]
    for _ in range(3):
        _take(script, batch, *order)
        _done(script, batch, *order)
        assert script.stack.progress(batch)
        assert script.answers() == [_message(ACK, 1, "5", "4", ACTIVE)]
    script.stack.stopped(batch)
    assert script.answers() == [_message(ACK, 1, "4", "4", STOPPED)]


def test_answers_stay_in_the_order_of_messages() -> None:
    """A range with an end before, one open, one after: each waits for those before it."""
    script = _server()
    script.send(_message("01", 1, "0", "0", "00"))
    (bounded,) = script.events()
    assert isinstance(bounded, DescriptorsReady)
    first, second = _opened(script, 2, 1), _opened(script, 3, 3)
    _take(script, first, 1)
    _take(script, second, 3)
    assert _done(script, second, 3) == []
    script.stack.stopped(second)
    assert _done(script, first, 1) == []
    assert not script.stack.progress(first)  # message 1 is not answered
    assert _done(script, bounded.batch, 0) == [_message(ACK, 1, "0", "0", ECHOED)]
    assert script.stack.progress(first)
    assert script.answers() == [_message(ACK, 2, "1", "1", ACTIVE)]
    script.stack.stopped(first)
    assert script.answers() == [
        _message(ACK, 2, "1", "1", STOPPED),
        _message(ACK, 3, "3", "3", STOPPED),
    ]


def test_a_range_with_an_end_is_as_ever() -> None:
    script = _server()
    script.send(_message("01", 1, "6", "0", "00"))
    assert [type(event) for event in script.events()] == [DescriptorsReady]
    assert script.send(_message("01", 2, "0", "fffffffe", "00")) == []  # its NACK waits for the answer to 1
    (reset,) = script.events()
    assert isinstance(reset, SessionReset)
    assert reset.full


@pytest.mark.parametrize("start", ["8", "ffffffff"])
def test_a_range_opens_inside_the_ring(start: str) -> None:
    script = _server()
    assert script.send(_message("01", 1, start, "ffffffff", "00")) == [
        _message(NACK, 1, start, "ffffffff", "00")
    ]
    assert [event.full for event in script.events() if isinstance(event, SessionReset)] == [True]


def test_an_open_range_is_numbered_like_any_message() -> None:
    script = _server()
    script.stack.stopped(_opened(script, 5, 0))
    script.answers()
    assert script.send(_message("01", 5, "0", "ffffffff", "00")) == [_message(NACK, 5, "0", "ffffffff", "00")]
    assert [event.full for event in script.events() if isinstance(event, SessionReset)] == [False]


def test_a_fault_is_a_nack_with_the_entry_and_a_full_reset() -> None:
    """As in a range with an end: the others in progress are waited for."""
    script = _server()
    batch = _opened(script, 1, 2)
    _take(script, batch, 2, 3)
    script.stack.fault(batch, 3, "cookies that name no memory")
    assert script.answers() == []
    (reset,) = script.events()
    assert isinstance(reset, SessionReset)
    assert reset.full
    assert _done(script, batch, 2) == [_message(NACK, 1, "2", "3", "00")]
    for call in (script.stack.stopped, script.stack.progress):
        with pytest.raises(LocalProtocolError):
            call(batch)
    script.stack.reset_done()
    script.carry()
    assert script.resets == 1


def test_an_entry_is_not_taken_again_before_it_was_answered() -> None:
    """A client that fills what no answer has told of: NACK with its index, full reset."""
    script = _server()
    batch = _opened(script, 1, 0)
    _take(script, batch, *range(8))
    _done(script, batch, *range(8))
    with pytest.raises(RingError) as caught:
        script.stack.taken(batch, 0)
    script.stack.fault(batch, 0, str(caught.value))
    assert script.answers() == [_message(NACK, 1, "0", "0", "00")]


def test_no_more_is_in_progress_than_the_ring_has() -> None:
    """Over all ranges: what is in progress of another one counts."""
    script = _server()
    script.send(_message("01", 1, "0", "5", "00"))
    script.events()
    batch = _opened(script, 2, 6)
    _take(script, batch, 6, 7)
    with pytest.raises(RingError, match="descriptor 0"):
        script.stack.taken(batch, 0)


def test_no_more_ranges_are_open_than_the_ring_has_entries() -> None:
    script = _server()
    for number in range(1, 9):
        _opened(script, number, 0)
    script.send(_message("01", 9, "0", "ffffffff", "00"))
    assert [event.full for event in script.events() if isinstance(event, SessionReset)] == [True]


def test_entries_are_taken_in_order_and_of_an_open_range_only() -> None:
    script = _server()
    batch = _opened(script, 1, 7)
    for wrong in (6, 0, OPEN_ENDED):
        with pytest.raises(LocalProtocolError):
            script.stack.taken(batch, wrong)
    _take(script, batch, 7)
    for wrong in (0, OPEN_ENDED):
        with pytest.raises(LocalProtocolError):
            script.stack.complete(batch, wrong)
    script.stack.stopped(batch)
    with pytest.raises(LocalProtocolError):
        script.stack.taken(batch, 0)


def test_a_reset_forgets_what_was_open() -> None:
    script = _server()
    batch = _opened(script, 1, 0)
    _take(script, batch, 0)
    script.reset()
    assert [type(event) for event in script.events()] == [SessionReset]
    script.stack.reset_done()
    with pytest.raises(LocalProtocolError, match="no range that is open"):
        script.stack.taken(batch, 1)
    script.carry()
    script.data()
    script.stack.stopped(_opened(script, 1, 1))
    assert script.answers() == [_message(ACK, 1, "0", "0", STOPPED)]


def test_a_ring_is_polled_or_has_open_ranges() -> None:
    """-1 cannot mean both."""
    both = Extension.POLLED_RING | Extension.OPEN_RANGES
    with pytest.raises(LocalProtocolError):
        Server(ATTRIBUTES, extensions=both)
    with pytest.raises(LocalProtocolError):
        Client(max_xfer_blocks=256, extensions=both)
    Client(max_xfer_blocks=256, extensions=Extension.OPEN_RANGES | Extension.INLINE)


# -- client --------------------------------------------------------------------------------------------------


def _client(extensions: Extension = Extension.OPEN_RANGES) -> ClientScript:
    """Return a server's script against a client with a ring of 8."""
    script = ClientScript(extensions=extensions)
    shape = "00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
    script.stack.start(0x2A)
    script.send(octets(f"01 02 00 01 {SID} 0001 0002 04"))
    script.send(
        octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080")
    )
    script.stack.register_ring(Cookie(0x2000, 0x2000), RingGeometry(8, 64))
    script.send(bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001 {shape}"))
    script.send(octets(f"01 02 00 05 {SID}"))
    assert script.stack.is_ready
    script.events()
    return script


def _looks(script: ClientScript) -> bool:
    """Say whether the client takes the server for looking at the ring."""
    return script.stack.server_looks


def _announced(start: int) -> ClientScript:
    """Return a client whose first message is an open range."""
    script = _client()
    assert not _looks(script)
    assert script.stack.announce(start, OPEN_ENDED) == 1
    assert script.answers() == [_message("01", 1, f"{start:x}", "ffffffff", "00")]
    assert _looks(script)
    return script


def test_the_client_hears_what_is_done_and_that_the_server_has_stopped() -> None:
    script = _announced(6)
    script.send(_message(ACK, 1, "6", "7", ACTIVE), _message(ACK, 1, "0", "0", ACTIVE))
    assert script.events() == [DescriptorsDone(6, 7), DescriptorsDone(0, 0)]
    assert _looks(script)
    script.send(_message(ACK, 1, "1", "3", STOPPED))
    assert script.events() == [DescriptorsDone(1, 3), RangeStopped(4)]
    assert not _looks(script)
    assert script.stack.announce(4, OPEN_ENDED) == 2


@pytest.mark.parametrize(("start", "before"), [(3, "2"), (0, "7")])
def test_a_server_that_found_nothing_has_stopped_where_it_began(start: int, before: str) -> None:
    script = _announced(start)
    script.send(_message(ACK, 1, before, before, STOPPED))
    assert script.events() == [RangeStopped(start)]


def test_a_server_may_have_nothing_new_to_tell() -> None:
    script = _announced(0)
    script.send(*(_message(ACK, 1, "0", "7", ACTIVE),) * 2)
    script.send(_message(ACK, 1, "7", "7", ACTIVE), _message(ACK, 1, "7", "7", STOPPED))
    assert script.events() == [DescriptorsDone(0, 7), DescriptorsDone(0, 7), RangeStopped(0)]


def test_a_client_whose_range_is_open_has_nothing_to_announce() -> None:
    """The server looks; a message would be answered only after it has stopped."""
    script = _announced(0)
    for end in (OPEN_ENDED, 3):
        with pytest.raises(LocalProtocolError):
            script.stack.announce(3, end)
    assert script.answers() == []
    script.send(_message(ACK, 1, "7", "7", STOPPED))
    assert script.stack.announce(3, 4) == 2
    assert script.answers() == [_message("01", 2, "3", "4", "00")]
    script.events()
    script.send(_message(ACK, 2, "3", "4", ECHOED))
    assert script.events() == [DescriptorsDone(3, 4)]


@pytest.mark.parametrize("extensions", [Extension(0), Extension.INLINE, Extension.POLLED_RING])
def test_a_client_opens_no_range_unasked(extensions: Extension) -> None:
    script = _client(extensions)
    with pytest.raises(LocalProtocolError):
        script.stack.announce(0, OPEN_ENDED)
    assert script.answers() == []


@pytest.mark.parametrize(
    "answers",
    [
        [_message(ACK, 1, "2", "2", ECHOED)],
        [_message(ACK, 1, "2", "2", "03")],
        [_message(ACK, 1, "2", "8", ACTIVE)],
        [_message(ACK, 1, "2", "ffffffff", STOPPED)],
        [_message(ACK, 1, "8", "2", STOPPED)],
        [_message(ACK, 1, "3", "4", ACTIVE)],
        [_message(ACK, 1, "1", "2", STOPPED)],
        [_message(ACK, 1, "2", "3", ACTIVE), _message(ACK, 1, "2", "4", ACTIVE)],
        [_message(ACK, 1, "2", "3", STOPPED), _message(ACK, 1, "4", "4", STOPPED)],
        [_message(ACK, 1, "2", "3", STOPPED), _message(ACK, 1, "4", "4", ACTIVE)],
        [_message(ACK, 0, "2", "2", STOPPED)],
        [_message(ACK, 2, "2", "2", STOPPED)],
        [_message(NACK, 1, "2", "2", STOPPED)],
        [_message(ACK, 1, "2", "2", ACTIVE), _message(NACK, 1, "2", "3", "00")],
    ],
    ids=[
        "no state",
        "unknown state",
        "end outside",
        "open end",
        "start outside",
        "a gap",
        "before the range",
        "told again",
        "stopped twice",
        "active after stopped",
        "an old number",
        "a number never sent",
        "refused",
        "refused later",
    ],
)
def test_an_answer_that_cannot_be_ends_the_session(answers: list[bytes]) -> None:
    script = _announced(2)
    script.send(*answers)
    assert isinstance(script.events()[-1], SessionLost)
    script.stack.reset_done()
    assert not _looks(script)


def test_an_answer_to_an_earlier_message_may_still_be_under_way() -> None:
    """But not after one to the open range: answers are in the order of messages."""
    script = _client()
    script.stack.announce(0, 1)
    script.stack.announce(2, OPEN_ENDED)
    script.send(_message(ACK, 1, "0", "1", ECHOED), _message(ACK, 2, "2", "2", ACTIVE))
    assert script.events() == [DescriptorsDone(0, 1), DescriptorsDone(2, 2)]
    script.send(_message(ACK, 1, "0", "1", ECHOED))
    assert isinstance(script.events()[-1], SessionLost)
