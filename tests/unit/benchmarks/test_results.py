"""Medians, spread, percentiles and rates from rounds."""

import pytest

from benchmarks.results import spread, summarise
from tests.unit.benchmarks.rounds import a_round


def test_the_rate_is_the_median_of_the_rounds_and_the_spread_half_their_range() -> None:
    (row,) = summarise([a_round(ios=900), a_round(ios=1000), a_round(ios=1300)])
    assert (row.iops, row.rounds) == (1000, 3)
    assert row.spread == pytest.approx(0.2)
    assert row.bytes_per_s == 1000 * 4096


def test_percentiles_are_of_all_answers_not_of_the_rounds_percentiles() -> None:
    (row,) = summarise([a_round(ios=998, latency_ns=100), a_round(ios=2, latency_ns=5000)])
    assert row.latency.percentile(50) == 100
    assert row.latency.percentile(99) == 100
    assert row.latency.percentile(99.9) == pytest.approx(5000, rel=0.02)


def test_cpu_is_seconds_a_million_and_switches_are_a_thousand() -> None:
    (row,) = summarise([a_round(sides=("client", "front", "server"))] * 2)
    assert row.cpu == pytest.approx({"client": 2.0, "front": 2.0, "server": 2.0})
    assert row.switches == pytest.approx({"client": 50, "front": 50, "server": 50})


def test_a_side_that_is_not_there_is_in_no_column() -> None:
    (row,) = summarise([a_round(sides=("client",))])
    assert list(row.cpu) == list(row.switches) == ["client"]


def test_reads_and_writes_count_together() -> None:
    read, write = a_round(), a_round(workload="randwrite-4k-1", latency_ns=300)
    both = read.__class__(
        configuration="x",
        workload=read.workload,
        number=0,
        took_ns=read.took_ns,
        reads=read.reads,
        writes=write.writes,
    )
    assert (both.ios, both.iops) == (2000, 2000)
    assert both.latency.mean == 200


def test_rows_keep_the_order_in_which_they_first_appear() -> None:
    rows = summarise(
        [
            a_round("b", "randread-4k-8"),
            a_round("a", "randread-4k-1"),
            a_round("a", "randread-4k-1", disks=4),
            a_round("b", "randread-4k-1"),
            a_round("a", "randread-4k-1"),
        ]
    )
    assert [(row.configuration, row.workload.name, row.disks, row.rounds) for row in rows] == [
        ("b", "randread-4k-8", 1, 1),
        ("a", "randread-4k-1", 1, 2),
        ("a", "randread-4k-1", 4, 1),
        ("b", "randread-4k-1", 1, 1),
    ]


def test_wrong_answers_add_up() -> None:
    (row,) = summarise([a_round(verify_errors=0), a_round(verify_errors=3)])
    assert row.verify_errors == 3
    (row,) = summarise([a_round()])
    assert row.verify_errors is None


def test_the_spread_of_one_round_is_nothing() -> None:
    assert spread([5.0]) == spread([0.0, 0.0]) == 0.0
