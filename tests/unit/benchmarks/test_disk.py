"""The plan of a run: which configurations, which servers, which data."""

from pathlib import Path

from benchmarks.disk import configurations, fill
from benchmarks.workload import MiB


def test_both_stands_for_both_of_a_kind() -> None:
    names = [one.name for one in configurations("both", "both", "both")]
    assert len(set(names)) == 8
    assert names[0] == "shm async polling"


def test_one_of_each_is_one_configuration() -> None:
    (only,) = configurations("socket", "blocking", "off")
    assert only.name == "socket blocking sleeping"


def test_no_two_blocks_of_the_image_are_alike(tmp_path: Path) -> None:
    image = tmp_path / "image"
    fill(image, 4 * MiB, seed=3)
    data = image.read_bytes()
    assert len(data) == 4 * MiB
    assert len({data[at : at + 4096] for at in range(0, len(data), 4096)}) == 1024
