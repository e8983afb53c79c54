"""Answers go out once each, in the order of the messages, whatever order the requests finish in."""

from __future__ import annotations

import pytest

from protocol.errors import LocalProtocolError, Reaction, RingError
from protocol.vio.answers import AnswerQueue
from protocol.vio.messages import Subtype, echo

MESSAGES = [bytes([2, 1, 0, 0x7F, 0, 0, 0, number]) for number in range(4)]
ACKS = [echo(message, Subtype.ACK) for message in MESSAGES]


def _queue() -> tuple[AnswerQueue, list[int]]:
    queue = AnswerQueue()
    return queue, [queue.open(message, [number], 8) for number, message in enumerate(MESSAGES)]


def test_a_finished_request_waits_for_those_before_it() -> None:
    queue, batches = _queue()
    queue.complete(batches[2], 2)
    queue.complete(batches[1], 1)
    assert list(queue.ready()) == []
    queue.complete(batches[0], 0)
    assert list(queue.ready()) == ACKS[:3]
    assert len(queue) == 1
    assert list(queue.ready()) == []


def test_a_range_is_answered_when_its_last_descriptor_is_done() -> None:
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], [6, 7, 0], 8)
    for index in (0, 6):
        queue.complete(batch, index)
        assert list(queue.ready()) == []
    queue.complete(batch, 7)
    assert list(queue.ready()) == ACKS[:1]


def test_nothing_is_completed_twice_or_unasked() -> None:
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], [1, 2], 8)
    queue.complete(batch, 1)
    for wrong in ((batch, 1), (batch, 3), (batch + 1, 2)):
        with pytest.raises(LocalProtocolError):
            queue.complete(*wrong)
    queue.complete(batch, 2)
    assert list(queue.ready()) == ACKS[:1]
    with pytest.raises(LocalProtocolError):
        queue.complete(batch, 2)
    with pytest.raises(LocalProtocolError):
        queue.message(batch)


def test_a_run_is_completed_in_one_step_or_not_at_all() -> None:
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], range(1, 6), 5)
    queue.complete_run(batch, range(2, 4))
    for wrong in (range(3, 5), range(5, 7), range(2, 4)):
        with pytest.raises(LocalProtocolError):
            queue.complete_run(batch, wrong)
    assert list(queue.ready()) == []
    queue.open(MESSAGES[1], [7, 0], 5)  # the two that are done made room
    with pytest.raises(RingError):
        queue.open(MESSAGES[2], [6], 5)
    queue.complete(batch, 1)
    queue.complete_run(batch, range(4, 6))
    assert list(queue.ready()) == ACKS[:1]
    with pytest.raises(LocalProtocolError):
        queue.complete_run(batch, range(4, 6))


def test_a_run_may_be_all_of_a_message() -> None:
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], range(1, 6), 8)
    queue.complete_run(batch, range(1, 6))
    assert list(queue.ready()) == ACKS[:1]


def test_a_run_does_not_undo_the_answer_of_another_entry() -> None:
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], [1, 2, 3], 8)
    queue.answer(batch, 1, b"no")
    queue.complete_run(batch, range(2, 4))
    assert list(queue.ready()) == [b"no"]


def test_an_answer_of_its_own_waits_for_what_else_is_in_progress() -> None:
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], [1, 2, 3], 8)
    assert queue.message(batch) == MESSAGES[0]
    queue.complete(batch, 1)
    queue.answer(batch, 2, b"no")
    assert list(queue.ready()) == []
    queue.complete(batch, 3)
    assert list(queue.ready()) == [b"no"]


def test_what_is_appended_comes_after_all_messages_so_far() -> None:
    queue, batches = _queue()
    queue.append(b"last")
    for number, batch in enumerate(batches):
        queue.complete(batch, number)
    assert list(queue.ready()) == [*ACKS, b"last"]


def test_draining_gives_what_answers_there_are_and_forgets_the_rest() -> None:
    queue, batches = _queue()
    queue.complete(batches[1], 1)
    queue.answer(batches[2], 2, b"no")
    queue.append(b"last")
    assert list(queue.drained()) == [ACKS[1], b"no", b"last"]
    assert len(queue) == 0
    with pytest.raises(LocalProtocolError):
        queue.complete(batches[0], 0)


def test_too_many_unanswered_messages_are_a_full_reset() -> None:
    queue = AnswerQueue()
    queue.open(MESSAGES[0], [0], 2)
    queue.open(MESSAGES[1], [1], 2)
    with pytest.raises(RingError) as caught:
        queue.open(MESSAGES[2], [2], 2)
    assert caught.value.reaction is Reaction.RESET
    assert len(queue) == 2


@pytest.mark.parametrize("limit", [2, 300])
def test_messages_for_no_descriptor_are_bounded_too(limit: int) -> None:
    queue = AnswerQueue()
    for _ in range(limit):
        queue.append(b"answer")
    with pytest.raises(RingError, match=f"{limit} messages are unanswered") as caught:
        queue.open(MESSAGES[0], [], limit)
    assert caught.value.reaction is Reaction.RESET
    queue.append(b"one more of ours")
    with pytest.raises(RingError, match="unanswered already"):
        queue.open(MESSAGES[0], [], limit)


def test_answers_of_our_own_are_no_batch() -> None:
    queue = AnswerQueue()
    first = queue.open(MESSAGES[0], [0], 8)
    queue.append(b"ours")
    last = queue.open(MESSAGES[1], [1], 8)
    queue.complete(first, 0)
    assert list(queue.ready()) == [ACKS[0], b"ours"]
    queue.complete(last, 1)
    assert list(queue.ready()) == [ACKS[1]]


def test_an_answer_of_our_own_that_goes_out_leaves_every_batch_alone() -> None:
    queue = AnswerQueue()
    queue.append(b"ours")
    batch = queue.open(MESSAGES[0], [0], 8)
    assert list(queue.ready()) == [b"ours"]
    queue.complete(batch, 0)
    assert list(queue.ready()) == [ACKS[0]]


def test_no_more_descriptors_are_in_progress_than_there_are() -> None:
    """Else a few thousand messages, each for a whole ring, would fill the server's memory."""
    queue = AnswerQueue()
    batch = queue.open(MESSAGES[0], range(8), 8)
    with pytest.raises(RingError) as caught:
        queue.open(MESSAGES[1], [0], 8)
    assert caught.value.reaction is Reaction.RESET
    queue.complete(batch, 0)
    queue.open(MESSAGES[1], [0], 8)
    queue.answer(batch, 1, b"nack")
    queue.answer(batch, 1, b"nack")  # the same descriptor is not taken off twice
    queue.open(MESSAGES[2], [1], 8)
    with pytest.raises(RingError):
        queue.open(MESSAGES[3], [2], 8)
    assert list(queue.drained()) == [b"nack"]
    queue.open(MESSAGES[0], range(8), 8)
    with pytest.raises(RingError, match="more than 8 descriptors"):
        queue.open(MESSAGES[1], [0], 8)


def test_descriptors_in_progress_are_added_up() -> None:
    queue = AnswerQueue()
    queue.open(MESSAGES[0], range(5), 8)
    with pytest.raises(RingError):
        queue.open(MESSAGES[1], range(4), 8)  # 5 + 4, whatever their bits have in common
    queue.open(MESSAGES[1], range(3), 8)
