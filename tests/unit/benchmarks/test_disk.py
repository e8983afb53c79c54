"""The plan of a run: which configurations, which data."""

from pathlib import Path

import pytest

from benchmarks.disk import configurations
from benchmarks.images import fill
from benchmarks.ours import disk_uri
from benchmarks.processes import Server
from benchmarks.workload import MiB


def test_both_stands_for_both_of_a_kind() -> None:
    names = [one.name for one in configurations("both", "both", "both")]
    assert len(set(names)) == 8
    assert names[0] == "shm async polling"


def test_all_stands_for_the_nbd_front_end_too() -> None:
    names = [one.name for one in configurations("shm", "all", "on")]
    assert names == ["shm async polling", "shm blocking polling", "shm nbd polling"]


def test_one_of_each_is_one_configuration() -> None:
    (only,) = configurations("socket", "blocking", "off")
    assert only.name == "socket blocking sleeping"


def test_no_two_blocks_of_the_image_are_alike(tmp_path: Path) -> None:
    image = tmp_path / "image"
    fill(image, 4 * MiB, seed=3)
    data = image.read_bytes()
    assert len(data) == 4 * MiB
    assert len({data[at : at + 4096] for at in range(0, len(data), 4096)}) == 1024


@pytest.mark.parametrize("transport", ["shm", "socket"])
def test_a_disk_has_a_uri_that_the_client_reads(transport: str) -> None:
    from vdc import Target

    target = Target.parse(disk_uri(Server(["x"], Path("/run/s.sock")), 7, transport))
    assert (target.volume, target.socket) == ("bench7", "/run/s.sock")
