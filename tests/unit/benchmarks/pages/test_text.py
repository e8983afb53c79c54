"""Numbers and loads as people read them."""

import pytest

from benchmarks.pages.load import Load
from benchmarks.pages.text import count, factor, microseconds, number, percent, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.4, "0"),
        (999, "999"),
        (999.6, "1.00k"),
        (1234, "1.23k"),
        (61_749, "61.7k"),
        (99_960, "100k"),
        (999_400, "999k"),
        (999_600, "1.00M"),
    ],
)
def test_rates_have_three_digits(value: float, shown: str) -> None:
    assert count(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0.00"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234, "1234"),
    ],
)
def test_numbers_have_three_digits(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_units_are_those_of_the_tables() -> None:
    assert (microseconds(12_345), percent(0.056), factor(1.0), factor(12.34)) == (
        "12.3",
        "6%",
        "1.00 ×",
        "12.3 ×",
    )
    assert [size(one) for one in (512, 4096, 3 << 20, 1 << 30)] == ["512 bytes", "4 KiB", "3 MiB", "1 GiB"]


@pytest.mark.parametrize(
    ("load", "title"),
    [
        (("randread-4k-32", "randread", 4096, 32), "4 KiB random read, depth 32"),
        (("seqwrite-1m-4", "write", 1 << 20, 4, 16), "1 MiB sequential write, depth 4, 16 disks"),
        (("randread-4k-32", "randread", 4096, 32, 1, 20_000.0), "4 KiB random read, at 20,000 a second"),
        (("randrw70-4k-8", "randrw", 4096, 8, 1, None, 70), "4 KiB random 70 % read, depth 8"),
        (("randwrite-4k-8-flush", "randwrite", 4096, 8), "4 KiB random write, flush, depth 8"),
    ],
)
def test_a_load_is_called_by_what_it_does(load: tuple[object, ...], title: str) -> None:
    names = ("workload", "pattern", "block_size", "depth", "disks", "rate", "reads")
    assert Load(**dict(zip(names, load, strict=False))).title == title  # type: ignore[arg-type]  # one of each
