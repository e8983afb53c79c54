"""The table of connection states: every state under every input."""

from __future__ import annotations

import itertools

import pytest

from vdc.states import ANSWERS_EIO, TRANSITIONS, Input, State, step


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Input)))
def test_a_state_leads_where_the_table_says_or_nowhere(state: State, event: Input) -> None:
    assert step(state, event) is TRANSITIONS.get((state, event))


def test_every_state_can_be_closed_and_closed_is_the_end() -> None:
    assert {step(state, Input.CLOSE) for state in State} == {State.CLOSED}
    assert {step(State.CLOSED, event) for event in Input if event is not Input.CLOSE} == {None}


def test_every_state_can_be_reached() -> None:
    reached = {State.CONNECTING}
    while more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached:
        reached |= more
    assert reached == set(State)


def test_another_volume_is_never_left_for_running() -> None:
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.REPLACED} == {State.CLOSED}


def test_a_disk_that_answers_eio_is_not_running() -> None:
    assert State.RUNNING not in ANSWERS_EIO
