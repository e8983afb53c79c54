"""Medians, spreads, ratios and the rank test, against figures worked out by hand or by counting."""

from collections.abc import Mapping
from itertools import combinations
from math import comb

import pytest

from benchmarks.histogram import Histogram
from benchmarks.pages.load import Load
from benchmarks.pages.resultfile import Round, Usage
from benchmarks.pages.roles import Role, ratio_to_best_peer, role_of
from benchmarks.pages.statistics import (
    Sample,
    Series,
    least_chance,
    ratio_between_runs,
    series_of,
    unlikely_equal,
)

LOAD = Load(workload="randread-4k-8", pattern="randread", block_size=4096, depth=8)


def a_round(
    configuration: str = "shm async polling",
    number: int = 0,
    ios: int = 1000,
    *,
    load: Load = LOAD,
    latency_ns: int = 100,
    usage: Mapping[str, Usage] | None = None,
) -> Round:
    """So many I/Os in a second."""
    latency = Histogram()
    latency.add(latency_ns, ios)
    return Round(
        configuration=configuration,
        load=load,
        number=number,
        took_ns=1_000_000_000,
        ios=ios,
        bytes=ios * 4096,
        latency=latency,
        usage=usage or {},
    )


def only(*rounds: Round) -> Series:
    """The one series of these rounds."""
    (series,) = series_of(rounds)
    return series


def test_a_sample_has_a_median_and_half_its_range_as_spread() -> None:
    sample = Sample.of([1300, 900, 1000])
    assert (sample.median, sample.low, sample.high) == (1000, 900, 1300)
    assert sample.spread == pytest.approx(0.2)
    assert Sample.of([5]).spread == Sample.of([0, 0]).spread == 0.0
    with pytest.raises(ValueError, match="no round"):
        Sample.of([])


def test_series_keep_the_order_in_which_they_first_appear() -> None:
    other = Load(workload="randread-4k-8", pattern="randread", block_size=4096, depth=8, disks=4)
    rounds = [a_round("b"), a_round("a"), a_round("b", load=other), a_round("a", 1), a_round("b", 1)]
    assert [(one.configuration, one.load.disks, len(one.rounds)) for one in series_of(rounds)] == [
        ("b", 1, 2),
        ("a", 1, 2),
        ("b", 4, 1),
    ]


def test_percentiles_are_of_all_answers_together_and_of_each_round() -> None:
    series = only(a_round(ios=998), a_round(ios=2, number=1, latency_ns=5000))
    assert series.latency.percentile(99) == 100
    assert series.latency.percentile(99.9) == pytest.approx(5000, rel=1 / 64)
    assert series.percentile(99).low == 100
    assert series.percentile(99).high == pytest.approx(5000, rel=1 / 64)


def test_use_is_for_each_io_of_a_side_and_of_all() -> None:
    used = {
        "client": Usage(cpu_ns=2_000_000, voluntary=30, involuntary=20),
        "server": Usage(cpu_ns=4_000_000),
    }
    series = only(a_round(usage=used), a_round(number=1, ios=500, usage=used))
    assert series.cpu("client") == Sample((2_000, 4_000))
    assert series.cpu() == Sample((6_000, 12_000))
    assert series.cpu("front") is None
    assert series.switches("client") == series.switches() == Sample((0.05, 0.1))
    assert series.switches("server") is None


def test_use_that_one_round_lacks_is_not_known() -> None:
    series = only(a_round(usage={"client": Usage(cpu_ns=1)}), a_round(number=1))
    assert series.cpu("client") is None
    assert series.cpu() is None
    assert series.switches() is None


@pytest.mark.parametrize(
    ("configuration", "role"),
    [
        ("shm async polling", Role.OURS),
        ("socket blocking sleeping", Role.OURS),
        ("vdc serve --nbd, fio", Role.OURS),
        ("nbdkit file, fio", Role.PEER),
        ("qemu-storage-daemon, libnbd", Role.PEER),
        ("fio psync, bare file", Role.FLOOR),
    ],
)
def test_roles_are_known_by_name(configuration: str, role: Role) -> None:
    assert role_of(configuration) is role


def test_the_best_peer_is_found_within_each_round() -> None:
    every = series_of(
        [
            *(a_round("shm async polling", number, 1000) for number in (0, 1, 2)),
            *(a_round("nbdkit file, fio", number, ios) for number, ios in enumerate((500, 100))),
            *(a_round("qemu-nbd, fio", number, ios) for number, ios in enumerate((400, 800))),
            *(a_round("nbdkit memory, fio", number, 5000) for number in (0, 1)),
            *(a_round("fio psync, bare file", number, 9000) for number in (0, 1)),
        ]
    )
    assert ratio_to_best_peer(every[0], every) == Sample((1.25, 2.0))
    assert all(ratio_to_best_peer(series, every) is None for series in every[1:])
    assert ratio_to_best_peer(every[0], every[:1]) is None


def test_rounds_of_two_runs_are_set_against_one_another_all_with_all() -> None:
    assert ratio_between_runs(Sample((1, 2)), Sample((2, 6))) == Sample((1, 2, 3, 6))


def by_counting(before: list[int], after: list[int]) -> float:
    """The rank test from its definition: every way to share the ranks out is as likely as any other."""
    ranks = range(len(before) + len(after))

    def contrary(chosen: set[int]) -> int:
        pairs = [early < late for early in chosen for late in ranks if late not in chosen]
        return min(sum(pairs), len(pairs) - sum(pairs))

    values = sorted(before + after)
    seen = contrary({values.index(one) for one in before})
    ways = [contrary(set(chosen)) <= seen for chosen in combinations(ranks, len(before))]
    return sum(ways) / len(ways)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]),
        ([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]),
        ([1, 2, 3, 4, 6], [5, 7, 8, 9, 10]),
        ([1, 2, 3, 9], [4, 5, 6, 7, 8, 10]),
        ([1, 4, 5, 6, 7, 8], [2, 3]),
        ([1], [2, 3]),
        ([1, 2, 4, 6, 7, 9], [3, 5, 8, 10, 11]),
    ],
)
def test_the_rank_test_counts_right(before: list[int], after: list[int]) -> None:
    assert unlikely_equal(Sample.of(before), Sample.of(after)) == pytest.approx(by_counting(before, after))


def test_equal_values_speak_against_a_change() -> None:
    assert unlikely_equal(Sample((1, 2, 3)), Sample((1, 2, 3))) == 1.0
    apart = unlikely_equal(Sample((1, 2, 3, 4)), Sample((5, 6, 7, 8)))
    touching = unlikely_equal(Sample((1, 2, 3, 4)), Sample((4, 6, 7, 8)))
    assert apart == least_chance(4, 4) == 2 / comb(8, 4)
    assert touching == pytest.approx(4 / comb(8, 4))


def test_five_rounds_each_can_pass_the_rank_test_and_four_cannot() -> None:
    assert least_chance(5, 5) < 0.01 < least_chance(4, 4)


def test_the_normal_distribution_takes_over_without_a_jump() -> None:
    even = [float(one) for one in range(0, 202, 2)]
    shifted = [one + 23 for one in even]  # 101 rounds each; 23 is odd, so no two are equal
    counted = unlikely_equal(Sample.of(even[:100]), Sample.of(shifted[:100]))
    estimated = unlikely_equal(Sample.of(even), Sample.of(shifted))
    assert 0.002 < counted < 0.02
    assert estimated == pytest.approx(counted, rel=0.1)
