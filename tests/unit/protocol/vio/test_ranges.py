"""Open ranges by themselves: which pieces a client takes, and what a server may take and tell."""

from __future__ import annotations

import pytest

from protocol.errors import LocalProtocolError, RingError
from protocol.vio.dring import RingGeometry
from protocol.vio.messages import DringDataLayout, Envelope, MessageType, Subtype
from protocol.vio.ranges import ClientRange, RangeQueue

GEOMETRY = RingGeometry(8, 64)
FULL = r"descriptor \d is READY before it was answered"


def opened(next_idx: int) -> ClientRange:
    """A client's range whose next entry is ``next_idx``."""
    client = ClientRange()
    client.open(7, next_idx)
    return client


@pytest.mark.parametrize(("next_idx", "nothing"), [(0, 7), (1, 0), (5, 4), (7, 6)])
def test_an_answer_without_a_piece_names_the_entry_before_twice(next_idx: int, nothing: int) -> None:
    client = opened(next_idx)
    assert not client.answered(nothing, nothing, GEOMETRY)
    assert client.next_idx == next_idx


@pytest.mark.parametrize("start", range(8))
@pytest.mark.parametrize("end", range(8))
@pytest.mark.parametrize("next_idx", [0, 3, 7])
def test_any_other_answer_begins_with_the_next_entry_or_is_wrong(next_idx: int, start: int, end: int) -> None:
    client = opened(next_idx)
    before = (next_idx - 1) % 8
    if start == next_idx:
        assert client.answered(start, end, GEOMETRY)
        assert client.next_idx == (end + 1) % 8
    elif start == end == before:
        assert not client.answered(start, end, GEOMETRY)
    else:
        with pytest.raises(RingError, match=f"descriptors {start} to {end}, next comes {next_idx}"):
            client.answered(start, end, GEOMETRY)
        assert client.next_idx == next_idx


def message(start: int) -> bytes:
    """DRING_DATA that opens a range."""
    return DringDataLayout.codec.pack(
        MessageType.DATA, Subtype.INFO, Envelope.DRING_DATA, 1, 9, 1, start, -1, 0
    )


def told(answer: bytes | None) -> tuple[int, int, int]:
    """(start, end, processing state) of an answer."""
    assert answer is not None
    *_, start, end, state = DringDataLayout.codec.unpack_from(answer)
    return start, end, state


@pytest.mark.parametrize("done", range(8))
def test_an_entry_is_taken_again_only_after_it_was_told(done: int) -> None:
    """The ring is full when all eight are taken; what progress() told has room again, and no more."""
    queue = RangeQueue()
    batch = queue.open_ended(message(6), 6, GEOMETRY)
    for number in range(8):
        queue.taken(batch, (6 + number) % 8)
    with pytest.raises(RingError, match=FULL):
        queue.taken(batch, 6)
    for number in range(done):
        queue.complete(batch, (6 + number) % 8)
    with pytest.raises(RingError, match=FULL):  # complete, but the client cannot know
        queue.taken(batch, 6)
    if done:
        assert told(queue.progress(batch)) == (6, (6 + done - 1) % 8, 1)
    for number in range(done):
        queue.taken(batch, (6 + number) % 8)
    with pytest.raises(RingError, match=FULL):
        queue.taken(batch, (6 + done) % 8)


@pytest.mark.parametrize("wrong", [0, 1, 2, 4, 5, 6, 7])
def test_entries_are_taken_in_ring_order(wrong: int) -> None:
    queue = RangeQueue()
    batch = queue.open_ended(message(3), 3, GEOMETRY)
    with pytest.raises(LocalProtocolError, match=f"next comes descriptor 3, not {wrong}"):
        queue.taken(batch, wrong)
    queue.taken(batch, 3)
    assert queue.progress(batch) is None  # nothing is complete


def test_an_entry_that_is_ready_again_may_be_in_progress() -> None:
    """What was taken of it before is completed as ever, and waited for."""
    queue = RangeQueue()
    batch = queue.open_ended(message(2), 2, GEOMETRY)
    for index in GEOMETRY.indices(2, 1):
        queue.taken(batch, index)
    with pytest.raises(RingError, match=FULL):
        queue.taken(batch, 2)
    queue.answer(batch, 2, b"NACK")
    for index in GEOMETRY.indices(2, 1):
        assert not list(queue.ready())
        queue.complete(batch, index)
    assert list(queue.ready()) == [b"NACK"]


@pytest.mark.parametrize("failed", [1, 5])
def test_an_entry_that_fails_in_a_full_range_is_waited_for_no_more(failed: int) -> None:
    """It is not the one that would come next: it stands for itself alone."""
    queue = RangeQueue()
    batch = queue.open_ended(message(2), 2, GEOMETRY)
    for index in GEOMETRY.indices(2, 1):
        queue.taken(batch, index)
    queue.answer(batch, failed, b"NACK")
    for index in set(GEOMETRY.indices(2, 1)) - {failed}:
        assert not list(queue.ready())
        queue.complete(batch, index)
    assert list(queue.ready()) == [b"NACK"]


def test_progress_tells_the_complete_entries_up_to_the_first_that_is_not() -> None:
    queue = RangeQueue()
    batch = queue.open_ended(message(6), 6, GEOMETRY)
    for index in (6, 7, 0, 1):
        queue.taken(batch, index)
    for index in (7, 1):
        queue.complete(batch, index)
    assert queue.progress(batch) is None
    queue.complete(batch, 6)
    assert told(queue.progress(batch)) == (6, 7, 1)
    assert queue.progress(batch) is None
    queue.complete(batch, 0)
    assert told(queue.progress(batch)) == (0, 1, 1)
    queue.stop(batch)
    (last,) = queue.ready()
    assert told(last) == (1, 1, 2)  # nothing more: the entry before, twice
    with pytest.raises(LocalProtocolError, match=f"batch {batch} is no range that is open"):
        queue.taken(batch, 2)


def test_a_range_that_found_nothing_stops_at_the_entry_before() -> None:
    queue = RangeQueue()
    batch = queue.open_ended(message(0), 0, GEOMETRY)
    queue.stop(batch)
    (answer,) = queue.ready()
    assert told(answer) == (7, 7, 2)


def test_progress_waits_for_its_turn() -> None:
    queue = RangeQueue()
    first = queue.open(b"first" + bytes(60), (5,), 8)
    batch = queue.open_ended(message(0), 0, GEOMETRY)
    queue.taken(batch, 0)
    queue.complete(batch, 0)
    assert queue.progress(batch) is None
    queue.answer(first, 5, b"answer")
    assert list(queue.ready()) == [b"answer"]
    assert told(queue.progress(batch)) == (0, 0, 1)


def test_drained_ranges_are_forgotten() -> None:
    queue = RangeQueue()
    batch = queue.open_ended(message(0), 0, GEOMETRY)
    assert list(queue.drained()) == []
    for call in (queue.stop, queue.progress):
        with pytest.raises(LocalProtocolError):
            call(batch)
