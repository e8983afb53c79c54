"""Workloads: names that can be typed again, places that stay on the disk and come back with the seed."""

from collections import Counter
from itertools import islice

import pytest

from benchmarks.workload import FULL, QUICK, KiB, MiB, Workload, parse_workload, places


@pytest.mark.parametrize("workload", FULL, ids=lambda workload: workload.name)
def test_a_name_gives_its_workload_back(workload: Workload) -> None:
    assert parse_workload(workload.name) == workload


def test_the_full_set_is_what_the_table_promises() -> None:
    assert [workload.name for workload in FULL] == [
        *(f"rand{way}-4k-{depth}" for way in ("read", "write") for depth in (1, 8, 32, 64)),
        "randrw70-4k-32",
        *("randread-64k-16", "randwrite-64k-16", "seqread-1m-4", "seqwrite-1m-4"),
    ]
    assert set(QUICK) < set(FULL)


@pytest.mark.parametrize(
    ("name", "title", "word"),
    [
        ("randread-4k-32", "4 KiB random read, depth 32", "randread"),
        ("randrw70-64k-8", "64 KiB random 70 % read, depth 8", "randrw"),
        ("seqrw5-1m-1", "1 MiB sequential 5 % read, depth 1", "rw"),
        ("seqwrite-2m-4", "2 MiB sequential write, depth 4", "write"),
    ],
)
def test_a_workload_for_people_and_for_fio(name: str, title: str, word: str) -> None:
    assert (parse_workload(name).title, parse_workload(name).fio_rw) == (title, word)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "randread",
        "randread-4k-0",
        "randread-0k-1",
        "zigread-4k-1",
        "randread-4g-1",
        "randrw-4k-1",
        "randrw0-4k-1",
        "randrw100-4k-1",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not like"):
        parse_workload(name)


@pytest.mark.parametrize("workload", FULL, ids=lambda workload: workload.name)
def test_places_are_aligned_and_within_the_disk(workload: Workload) -> None:
    size = 64 * MiB + 4 * KiB  # not a whole number of MiB
    for place in islice(places(workload, size, seed=7), 100_000):
        assert (place & ~1) % workload.block_size == 0
        assert 0 <= place & ~1 <= size - workload.block_size


@pytest.mark.parametrize(
    ("name", "share"), [("randread-4k-1", 0), ("randwrite-4k-1", 1), ("randrw70-4k-1", 0.3)]
)
def test_a_place_says_whether_it_is_written(name: str, share: float) -> None:
    writes = sum(place & 1 for place in islice(places(parse_workload(name), 64 * MiB, seed=1), 50_000))
    assert writes / 50_000 == pytest.approx(share, abs=0.02)


def test_the_same_seed_gives_the_same_places_and_another_gives_others() -> None:
    workload = parse_workload("randrw50-4k-32")
    first, again, other = (list(islice(places(workload, 64 * MiB, seed), 1000)) for seed in (1, 1, 2))
    assert first == again != other


def test_random_places_reach_the_whole_disk() -> None:
    seen = set(islice(places(parse_workload("randread-64k-16"), 4 * MiB, seed=1), 16 * 64))
    assert seen == set(range(0, 4 * MiB, 64 * KiB))


def test_random_places_of_a_large_disk_are_spread_evenly() -> None:
    drawn = islice(places(parse_workload("randread-4k-1"), 1024 * MiB, seed=1), 1 << 19)
    quarters = Counter(place // (256 * MiB) for place in drawn)
    assert all(count / (1 << 19) == pytest.approx(0.25, abs=0.01) for count in quarters.values())


def test_sequential_places_follow_each_other_and_begin_again() -> None:
    read, write = parse_workload("seqread-1m-4"), parse_workload("seqwrite-1m-4")
    assert list(islice(places(read, 5 * MiB, seed=1), 7)) == [n * MiB for n in (0, 1, 2, 3, 4, 0, 1)]
    assert list(islice(places(write, 5 * MiB, seed=1), 2)) == [1, MiB + 1]


def test_a_disk_too_small_for_the_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        places(parse_workload("seqread-1m-4"), 3 * MiB, seed=1)
