"""Workloads: names that can be typed again, offsets that stay on the disk and come back with the seed."""

from itertools import islice

import pytest

from benchmarks.workload import FULL, QUICK, KiB, MiB, Workload, offsets, parse_workload


@pytest.mark.parametrize("workload", FULL, ids=lambda workload: workload.name)
def test_a_name_gives_its_workload_back(workload: Workload) -> None:
    assert parse_workload(workload.name) == workload


def test_the_full_set_is_what_the_table_promises() -> None:
    assert [workload.name for workload in FULL] == [
        *(f"rand{way}-4k-{depth}" for way in ("read", "write") for depth in (1, 8, 32, 64)),
        *("randread-64k-16", "randwrite-64k-16", "seqread-1m-4", "seqwrite-1m-4"),
    ]
    assert set(QUICK) < set(FULL)


@pytest.mark.parametrize(
    "name", ["", "randread", "randread-4k-0", "randread-0k-1", "zigread-4k-1", "randread-4g-1"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not like"):
        parse_workload(name)


@pytest.mark.parametrize("workload", FULL, ids=lambda workload: workload.name)
def test_offsets_are_aligned_and_within_the_disk(workload: Workload) -> None:
    size = 64 * MiB + 4 * KiB  # not a whole number of MiB
    for offset in islice(offsets(workload, size, seed=7), 100_000):
        assert offset % workload.block_size == 0
        assert 0 <= offset <= size - workload.block_size


def test_the_same_seed_gives_the_same_offsets_and_another_gives_others() -> None:
    workload = parse_workload("randread-4k-32")
    first, again, other = (list(islice(offsets(workload, 64 * MiB, seed), 1000)) for seed in (1, 1, 2))
    assert first == again != other


def test_random_offsets_reach_the_whole_disk() -> None:
    workload = parse_workload("randread-64k-16")
    seen = set(islice(offsets(workload, 4 * MiB, seed=1), 16 * 64))
    assert seen == set(range(0, 4 * MiB, 64 * KiB))


def test_sequential_offsets_follow_each_other_and_begin_again() -> None:
    workload = parse_workload("seqwrite-1m-4")
    assert list(islice(offsets(workload, 5 * MiB, seed=1), 7)) == [n * MiB for n in (0, 1, 2, 3, 4, 0, 1)]


def test_a_disk_too_small_for_the_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        offsets(parse_workload("seqread-1m-4"), 3 * MiB, seed=1)
