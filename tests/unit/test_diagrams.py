"""The page of states shows the tables that the code moves by, and the drawing itself is right."""

from __future__ import annotations

from enum import Enum

import pytest

from scripts.draw_states import DRAWINGS, PAGE, comments, diagram, drawn, expected, matrix, redraw


class Lamp(Enum):
    """Where a lamp stands."""

    OFF = "off"  # waits for ``press``
    ON = "on"  # shines
    DIM = "dim"
    BLINK = "blink"  # says # something
    BROKEN = "broken"  # the end


class Hand(Enum):
    """What a hand does to it."""

    PRESS = "a press"
    TURN = 2
    DROP = "a drop"


STEPS: dict[tuple[Lamp, Hand], Lamp] = {
    (Lamp.OFF, Hand.PRESS): Lamp.ON,
    (Lamp.OFF, Hand.TURN): Lamp.ON,
    (Lamp.ON, Hand.PRESS): Lamp.OFF,
    (Lamp.DIM, Hand.TURN): Lamp.DIM,
    **{(lamp, Hand.DROP): Lamp.BROKEN for lamp in Lamp if lamp is not Lamp.BROKEN},
}


def test_the_page_is_what_the_tables_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == redraw(page), "run python -m scripts.draw_states"


def test_inputs_that_join_the_same_states_share_an_arrow_and_common_ones_are_drawn_once() -> None:
    assert diagram(STEPS, Lamp.OFF) == (
        "stateDiagram-v2\n"
        "    [*] --> OFF\n"
        "    OFF --> ON: a press / TURN\n"
        "    ON --> OFF: a press\n"
        "    DIM --> DIM: TURN\n"
        '    state "any state but BROKEN" as any1\n'
        "    any1 --> BROKEN: a drop\n"
    )


def test_an_input_from_every_state_leaves_none_out() -> None:
    every = {(lamp, Hand.DROP): Lamp.BROKEN for lamp in Lamp}
    assert 'state "any state" as any1' in diagram(every, Lamp.OFF)


def test_words_are_the_comments_of_the_members() -> None:
    assert comments(Lamp) == {
        "OFF": "waits for `press`",
        "ON": "shines",
        "BLINK": "says # something",
        "BROKEN": "the end",
    }
    assert comments(Hand) == {}


def test_states_and_inputs_of_other_tables_are_not_listed() -> None:
    assert drawn({(Lamp.ON, Hand.DROP): Lamp.BROKEN}, Lamp.ON) == (
        "```mermaid\n"
        "stateDiagram-v2\n"
        "    [*] --> ON\n"
        "    ON --> BROKEN: a drop\n"
        "```\n"
        "\n"
        "| State | Waits for, or is |\n"
        "| --- | --- |\n"
        "| ON | shines |\n"
        "| BROKEN | the end |\n"
    )


def test_a_state_that_does_not_say_what_it_waits_for_cannot_be_drawn() -> None:
    with pytest.raises(KeyError, match="DIM"):
        drawn(STEPS, Lamp.OFF)


def test_a_cell_without_a_word_is_a_dash() -> None:
    assert matrix("Hand", Hand, {"left": {Hand.TURN: "slow"}}) == (
        "| Hand | PRESS | TURN | DROP |\n| --- | --- | --- | --- |\n| left | — | slow | — |\n"
    )


def test_a_state_may_take_one_message_or_several_or_none() -> None:
    expects: dict[Lamp, int | frozenset[int] | None] = {
        Lamp.OFF: 1,
        Lamp.ON: frozenset({1, 0x42}),
        Lamp.DIM: None,
    }
    assert expected(expects, "yes").splitlines()[2:] == [
        "| VER_INFO | yes | yes | — | — | — |",
        "| DRING_DATA | — | yes | — | — | — |",
    ]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_page_without_one_of_the_blocks_is_refused(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="one block for each"):
        redraw(page.replace(f"<!-- drawn: {name} -->", ""))
