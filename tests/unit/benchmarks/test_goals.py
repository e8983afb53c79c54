"""Ratios within a round, and what they say of a goal."""

from dataclasses import replace

import pytest

from benchmarks.contest import WORKLOADS
from benchmarks.goals import BEST_PEER, GOALS, Goal, Standing, evaluate
from benchmarks.results import Round
from benchmarks.workload import parse_workload
from tests.unit.benchmarks.rounds import a_round

ASYNC = "shm async polling"
FIRST = Goal(workload="randread-4k-1", configuration=ASYNC, against=BEST_PEER, goal=6.0)


def standing(*ratios: float, goal: float = 2.0) -> Standing:
    """A goal with these ratios."""
    one = Goal(workload="randread-4k-1", configuration=ASYNC, against="x", goal=goal)
    return Standing(goal=one, ratios=ratios, best=("x",) * len(ratios), ours=(ASYNC,) * len(ratios))


def rounds(number: int, **iops: int) -> list[Round]:
    """One round of the first workload, by configuration."""
    names = {"ours": ASYNC, "kit_fio": "nbdkit file, fio", "kit": "nbdkit file, libnbd"}
    names |= {"qemu": "qemu-nbd, libnbd", "memory": "nbdkit memory, libnbd"}
    return [a_round(names[name], number=number, ios=ios) for name, ios in iops.items()]


def first(measured: list[Round]) -> Standing:
    """How the first goal stands."""
    return next(one for one in evaluate(measured) if one.goal == FIRST)


def test_the_ratio_is_taken_within_a_round_to_the_best_peer_of_that_round() -> None:
    one = first(
        [
            *rounds(0, ours=6000, kit_fio=900, kit=1000, qemu=500),
            *rounds(1, ours=8000, kit_fio=2000, kit=100, qemu=500),
            *rounds(2, ours=3000, kit_fio=10, kit=20, qemu=500),
        ]
    )
    assert one.ratios == (6.0, 4.0, 6.0)
    assert one.best == ("nbdkit file, libnbd", "nbdkit file, fio", "qemu-nbd, libnbd")
    assert one.ratio == 6.0
    assert one.spread == pytest.approx(1 / 6)


def test_the_better_of_our_clients_counts_in_each_round() -> None:
    def both(number: int, one: int, other: int) -> list[Round]:
        return [
            replace(each, workload=parse_workload("randread-4k-8"))
            for each in (
                a_round(ASYNC, number=number, ios=one),
                a_round("shm blocking polling", number=number, ios=other),
                a_round("nbdkit file, fio", number=number, ios=1000),
            )
        ]

    goal = next(one for one in GOALS if one.workload == "randread-4k-8")
    found = next(one for one in evaluate([*both(0, 2000, 3000), *both(1, 2500, 2400)]) if one.goal == goal)
    assert found.ratios == (3.0, 2.5)
    assert found.ours == ("shm blocking polling", ASYNC)
    assert found.usual_ours == "shm blocking polling"


def test_memory_is_shown_but_never_counted() -> None:
    assert first(rounds(0, ours=6000, kit=1000, memory=9000)).ratios == (6.0,)


def test_a_round_in_which_one_side_is_missing_does_not_count() -> None:
    one = first([*rounds(0, ours=6000), *rounds(1, kit=1000), *rounds(2, ours=5000, kit=1000)])
    assert one.ratios == (5.0,)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((3.0, 3.1, 2.9), "met"),
        ((1.0, 1.1, 0.9), "missed"),
        ((2.1, 1.9, 2.3), "tie"),
        ((1.9, 1.7, 2.1), "tie"),
        ((2.1, 2.1, 2.1), "met"),
        ((2.0,), "tie"),
        ((), "not measured"),
    ],
)
def test_a_distance_within_the_spread_is_a_tie(ratios: tuple[float, ...], verdict: str) -> None:
    assert standing(*ratios).verdict == verdict


def test_the_usual_best_is_named_only_where_the_goal_names_nobody() -> None:
    assert (standing(1.0).usual_best, standing(1.0).usual_ours) == ("", "")
    named = Standing(goal=FIRST, ratios=(1.0, 1.0, 1.0), best=("a", "b", "b"), ours=("x", "y", "y"))
    assert named.usual_best == "b"


def test_what_was_not_measured_stands_in_the_table_too() -> None:
    standings = evaluate([])
    assert [one.goal for one in standings] == list(GOALS)
    assert {one.verdict for one in standings} == {"not measured"}
    assert {one.ratio for one in standings} == {0.0}


def test_a_standing_as_json() -> None:
    assert standing(3.0, 3.0).to_json() == {
        "workload": "randread-4k-1",
        "title": "4 KiB random read, depth 1",
        "configuration": ASYNC,
        "against": "x",
        "goal": 2.0,
        "ratios": [3.0, 3.0],
        "best": ["x", "x"],
        "ours": [ASYNC, ASYNC],
        "ratio": 3.0,
        "spread": 0.0,
        "verdict": "met",
    }


def test_the_goals_are_those_that_were_set() -> None:
    assert [(one.workload, one.configuration, one.against, one.goal) for one in GOALS] == [
        ("randread-4k-1", "shm async polling", "best NBD peer", 6.0),
        ("randread-4k-1", "shm blocking polling", "best NBD peer", 10.0),
        ("randread-4k-1", "shm async sleeping", "best NBD peer", 1.0),
        ("randread-4k-1", "shm blocking sleeping", "best NBD peer", 1.0),
        ("randread-4k-8", "shm polling, the better API", "best NBD peer", 2.0),
        ("randread-4k-32", "shm polling, the better API", "best NBD peer", 2.5),
        ("randwrite-4k-32", "shm polling, the better API", "best NBD peer", 2.5),
        ("randread-64k-16", "shm polling, the better API", "best NBD peer", 2.0),
        ("seqread-1m-4", "shm polling, the better API, shared buffers", "best NBD peer", 2.5),
        ("seqwrite-1m-4", "shm polling, the better API, shared buffers", "best NBD peer", 2.5),
        ("seqread-1m-4", "shm polling, the better API, shared buffers", "fio psync, bare file", 1.0),
        ("seqwrite-1m-4", "shm polling, the better API, shared buffers", "fio psync, bare file", 1.0),
        ("randread-4k-32", "shm polling, the better API", "fio psync, bare file", 0.7),
        ("randread-4k-32", "vdc serve --nbd, fio", "nbdkit file, fio", 0.6),
        ("randread-4k-32", "vdc serve --nbd, fio", "qemu-nbd, fio", 1.0),
        ("randread-4k-32", "socket polling, the better API", "best NBD peer", 1.0),
    ]
    assert {one.workload for one in GOALS} == {workload.name for workload in WORKLOADS}
