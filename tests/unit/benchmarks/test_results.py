"""Medians, spread, percentiles and rates from raw rounds."""

from typing import Any

import pytest

from benchmarks.histogram import Histogram
from benchmarks.results import spread, summarise


def a_round(
    configuration: str = "shm async",
    workload: str = "randread-4k-1",
    *,
    ios: int = 1000,
    latency_ns: int = 100,
) -> dict[str, Any]:
    """1000 I/Os of 100 ns in a second, or as told."""
    histogram = Histogram()
    histogram.add(latency_ns, ios)
    used = {"cpu_ns": 2_000_000, "voluntary": 30, "involuntary": 20}
    return {
        "configuration": configuration,
        "workload": workload,
        "round": 0,
        "ios": ios,
        "took_ns": 1_000_000_000,
        "usage": {"client": used, "server": {"cpu_ns": 4_000_000, "voluntary": 0, "involuntary": 7}},
        "latency": histogram.to_json(),
    }


def test_the_rate_is_the_median_of_the_rounds_and_the_spread_half_their_range() -> None:
    (row,) = summarise([a_round(ios=900), a_round(ios=1000), a_round(ios=1300)])
    assert (row.iops, row.rounds) == (1000, 3)
    assert row.spread == pytest.approx(0.2)
    assert row.bytes_per_s == 1000 * 4096


def test_percentiles_are_of_all_answers_not_of_the_rounds_percentiles() -> None:
    (row,) = summarise([a_round(ios=998, latency_ns=100), a_round(ios=2, latency_ns=5000)])
    assert row.p50_us == 0.1
    assert row.p99_us == 0.1
    assert row.p999_us == pytest.approx(5, rel=0.02)


def test_cpu_is_seconds_a_million_and_switches_are_a_thousand() -> None:
    (row,) = summarise([a_round(), a_round()])
    assert row.client_cpu == pytest.approx(2.0)
    assert row.server_cpu == pytest.approx(4.0)
    assert row.client_switches == pytest.approx(50)
    assert row.server_switches == pytest.approx(7)


def test_a_side_that_was_not_measured_stays_unknown() -> None:
    one = a_round()
    del one["usage"]["server"]
    (row,) = summarise([one])
    assert (row.server_cpu, row.server_switches) == (None, None)
    assert row.client_cpu is not None


def test_a_side_may_have_cpu_time_alone() -> None:
    one = a_round()
    one["usage"]["server"] = {"cpu_ns": 1_000_000}
    (row,) = summarise([one])
    assert (row.server_cpu, row.server_switches) == (1.0, None)


def test_rows_keep_the_order_in_which_they_first_appear() -> None:
    rows = summarise(
        [
            a_round("b", "randread-4k-8"),
            a_round("a", "randread-4k-1"),
            a_round("b", "randread-4k-1"),
            a_round("a", "randread-4k-1"),
        ]
    )
    assert [(row.configuration, row.workload, row.rounds) for row in rows] == [
        ("b", "randread-4k-8", 1),
        ("a", "randread-4k-1", 2),
        ("b", "randread-4k-1", 1),
    ]


def test_the_spread_of_one_round_is_nothing() -> None:
    assert spread([5.0]) == spread([0.0, 0.0]) == 0.0
