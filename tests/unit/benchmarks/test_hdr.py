"""HdrHistogram logs, read by HdrHistogram's own reader."""

from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from benchmarks import hdr
from tests.unit.benchmarks.rounds import a_round


@pytest.mark.parametrize(
    ("configuration", "disks", "name"),
    [
        ("shm async polling", 1, "shm-async-polling-randread-4k-1.hlog"),
        ("shm async polling, shared buffers", 1, "shm-async-polling-shared-buffers-randread-4k-1.hlog"),
        ("vdc serve --nbd, fio", 16, "vdc-serve---nbd-fio-16disks-randread-4k-1.hlog"),
    ],
)
def test_a_log_is_named_after_what_it_holds(configuration: str, disks: int, name: str) -> None:
    assert hdr.file_name(a_round(configuration, disks=disks)) == name


def test_a_log_for_each_configuration_and_workload_with_an_interval_for_each_round(tmp_path: Path) -> None:
    rounds = [
        a_round(number=0, ios=1000, latency_ns=50_000),
        a_round("nbdkit file, fio"),
        a_round(number=1, ios=500, latency_ns=8_000_000),
    ]
    folder = tmp_path / "made" / "anew"
    hdr.write_logs(folder, rounds, 1_700_000_000.0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "nbdkit-file-fio-randread-4k-1.hlog",
        "shm-async-polling-randread-4k-1.hlog",
    ]
    path = folder / "shm-async-polling-randread-4k-1.hlog"
    assert "#[Histogram log format version 1.3]\n" in path.read_text()
    reference = HdrHistogram(1, 3_600_000_000_000, 3)
    reader = HistogramLogReader(str(path), reference)
    first, second = iter(reader.get_next_interval_histogram, None)
    reader.close()
    assert (first.get_total_count(), second.get_total_count()) == (1000, 500)
    assert first.get_value_at_percentile(50) == pytest.approx(50_000, rel=0.02)
    assert second.get_value_at_percentile(99) == pytest.approx(8_000_000, rel=0.02)
