"""The tables for the screen and for Markdown."""

import pytest

from benchmarks import tables
from benchmarks.goals import evaluate
from benchmarks.path import Step
from benchmarks.results import summarise
from tests.unit.benchmarks.rounds import a_round

ROUNDS = [
    a_round(ios=123_456, latency_ns=61_440),
    a_round("vdc serve --nbd, fio", sides=("client", "front", "server"), ios=1000),
    a_round("nbdkit file, fio", ios=10_000),
    a_round(workload="seqwrite-1m-4", sides=("client",), disks=16, rate=500.0),
]


def test_markdown_has_a_table_for_each_workload() -> None:
    lines = tables.markdown(summarise(ROUNDS)).splitlines()
    assert [line for line in lines if line.startswith("###")] == [
        "### 4 KiB random read, depth 1",
        "### 1 MiB sequential write, depth 4, 500 due a second",
    ]
    assert (
        "| shm async polling | 123k | 0% | 0.51 | 61.4 | 61.4 | 61.4 | 61.4 | 0.02 / 0.02 | 0.41 / 0.41 |"
        in lines
    )
    assert any("| 2.00 / 2.00 / 2.00 |" in line for line in lines)
    assert any(line.startswith("| shm async polling, 16 disks | 1.0k |") for line in lines)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_markdown_has_the_goals_with_ratio_and_verdict() -> None:
    text = tables.markdown(summarise(ROUNDS), evaluate(ROUNDS))
    assert (
        "| 4 KiB random read, depth 1 | shm async polling | best NBD peer: nbdkit file, fio | ≥ 6 × | "
        "12.35 × | 0% | 12.35 | met |" in text
    )
    assert (
        "| 4 KiB random read, depth 8 | shm polling, the better API | best NBD peer | ≥ 2 × | – | – | – |"
        in text
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.4, "0"), (999, "999"), (1000, "1.0k"), (99_949, "99.9k"), (99_950, "100k"), (7e5, "700k")],
)
def test_rates_are_shown_with_three_digits(value: float, shown: str) -> None:
    assert tables.count(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (5, "5.00"), (61.44, "61.4"), (123.4, "123")])
def test_numbers_are_shown_with_three_digits(value: float | None, shown: str) -> None:
    assert tables.number(value) == shown


def test_the_screen_shows_every_row_and_goal_whole(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(summarise(ROUNDS), evaluate(ROUNDS))
    shown = capsys.readouterr().out
    for word in (
        "shm async polling, 16 disks",
        "2.00 / 2.00 / 2.00",
        "123k",
        "≥ 6 ×",
        "12.35 ×",
        "not measured",
    ):
        assert word in shown


def test_a_part_of_a_step_is_indented_below_the_title(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show_path(
        {"Polled": [Step("server", "one look", 3030.0), Step("server", "read", 1020.0, part=True)]}
    )
    title, first, second = capsys.readouterr().out.splitlines()
    assert title == "Polled"
    assert first.startswith("  server  one look ")
    assert second.startswith("  server      read ")
    assert second.endswith("1.02 µs")
