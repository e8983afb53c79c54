"""Sequence numbers: what a server demands of requests, a client of answers."""

from __future__ import annotations

import pytest

from protocol.errors import Reaction, SequenceError
from protocol.vio.sequence import AnswerSequence, RequestSequence


@pytest.mark.parametrize("first", [0, 1, 2, 0xFFFFFFF0, 0xFFFF_FFFF_FFFF_FFFF])
def test_the_first_request_may_have_any_number_and_each_later_one_the_next(first: int) -> None:
    sequence = RequestSequence()
    for step in range(3):
        sequence.check((first + step) % 2**64)
    assert sequence.last == (first + 2) % 2**64


@pytest.mark.parametrize("second", [0, 6, 7, 9, 1 << 63])
def test_any_other_number_is_a_nack(second: int) -> None:
    sequence = RequestSequence()
    sequence.check(7)
    with pytest.raises(SequenceError) as caught:
        sequence.check(second)
    assert caught.value.reaction is Reaction.NACK
    sequence.check(8)


def test_answers_rise_and_never_answer_what_was_not_sent() -> None:
    sequence = AnswerSequence()
    assert [sequence.next() for _ in range(4)] == [1, 2, 3, 4]
    sequence.check(1)
    sequence.check(3)  # Solaris does not mind a gap
    for wrong in (3, 2, 0, 5):
        with pytest.raises(SequenceError):
            sequence.check(wrong)
    sequence.check(4)


@pytest.mark.parametrize("seq_num", [1, 2, 3, 4])
def test_progress_leaves_its_number_open_and_closes_those_before(seq_num: int) -> None:
    answers = AnswerSequence()
    for _ in range(4):
        answers.next()
    answers.check_progress(seq_num)
    answers.check_progress(seq_num)
    for wrong in (seq_num - 1, 5):
        with pytest.raises(SequenceError):
            answers.check_progress(wrong)
    answers.check(seq_num)
    with pytest.raises(SequenceError):
        answers.check_progress(seq_num)
