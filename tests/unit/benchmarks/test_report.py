"""The JSON file and the tables."""

import json
from pathlib import Path

import pytest

from benchmarks import machine, report
from benchmarks.results import Row, summarise
from tests.unit.benchmarks.test_results import a_round

ROW = Row(
    configuration="shm async polling",
    workload="randread-4k-32",
    rounds=5,
    iops=123_456.7,
    spread=0.034,
    bytes_per_s=505_678_643,
    p50_us=61.44,
    p99_us=123.4,
    p999_us=5.0,
    client_cpu=12.34,
    server_cpu=None,
    client_switches=0.004,
    server_switches=None,
)


def test_the_json_file_holds_all_that_the_summary_was_made_from(tmp_path: Path) -> None:
    rounds = [a_round(), a_round(workload="seqwrite-1m-4")]
    path = tmp_path / "run.json"
    report.write_json(
        path,
        machine=machine.describe(tmp_path),
        commit="abc",
        options={"seed": 1},
        started="2026-01-01T00:00:00+00:00",
        rounds=rounds,
        rows=summarise(rounds),
    )
    document = json.loads(path.read_text())
    assert document["schema"] == report.SCHEMA
    assert document["rounds"] == rounds
    assert [Row(**row) for row in document["summary"]] == summarise(document["rounds"])
    assert document["options"] == {"seed": 1}
    assert {"cpu", "cpus", "kernel", "python", "packages", "filesystem"} <= document["machine"].keys()


def test_markdown_has_a_table_for_each_configuration() -> None:
    rows = [ROW, *summarise([a_round("socket blocking")])]
    lines = report.markdown(rows).splitlines()
    assert [line for line in lines if line.startswith("###")] == [
        "### shm async polling",
        "### socket blocking",
    ]
    assert (
        "| 4 KiB random read, depth 32 | 123k | 3% | 0.51 | 61.4 | 123 | 5.00 | 12.3 / – | 0.00 / – |"
        in lines
    )
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("iops", "shown"),
    [(0.4, "0"), (999, "999"), (1000, "1.0k"), (99_949, "99.9k"), (99_950, "100k"), (7e5, "700k")],
)
def test_rates_are_shown_with_three_digits(iops: float, shown: str) -> None:
    (row,) = summarise([a_round(ios=1)])
    changed = Row(**{name: getattr(row, name) for name in Row.__slots__} | {"iops": iops})
    assert f"| {shown} |" in report.markdown([changed])


def test_the_screen_shows_every_row_whole(capsys: pytest.CaptureFixture[str]) -> None:
    report.show([ROW])
    shown = capsys.readouterr().out
    for word in ("shm async polling", "4 KiB random read, depth 32", "123k", "61.4", "12.3 / –"):
        assert word in shown
