"""The handshake: version rules, and the tables behind its two halves."""

from __future__ import annotations

import pytest

from protocol.errors import LocalProtocolError
from protocol.vio.handshake import ClientHandshake, ServerHandshake, answer_version, lower_version
from protocol.vio.messages import Version
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
