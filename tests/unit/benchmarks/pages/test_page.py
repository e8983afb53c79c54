"""The report: what the page says, that it needs nothing else, and that its plots show what the tables say."""

import re
import struct
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import combinations
from math import dist
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.pages.canvas import DARK, LIGHT, Theme, looks, spread_apart
from benchmarks.pages.chapters import Draw, chapters
from benchmarks.pages.commands import report
from benchmarks.pages.plots import draw_cost, draw_depths, draw_disks, draw_latency, draw_rates
from benchmarks.pages.resultfile import read_result
from benchmarks.pages.statistics import Series, series_of
from tests.support.benchresults import a_file, a_job, a_peers_file, a_run, write

VOID = {"meta", "img", "source"}


class Page(HTMLParser):
    """A page taken apart; every tag must be closed in order, and nothing is fetched from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            if name in ("src", "srcset", "href"):
                self.links.append(value or "")
            elif name == "id":
                self.ids.add(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def make(tmp_path: Path, *documents: dict[str, Any]) -> tuple[Page, Path]:
    """Run the command on these documents; the page and its folder."""
    files = [str(write(tmp_path / f"run{number}.json", one)) for number, one in enumerate(documents)]
    out = tmp_path / "out" / "deeper"
    done = CliRunner().invoke(report, [*files, "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return Page(out / "report.html"), out


def refused(*arguments: str) -> Result:
    """Run the command where it should not do anything."""
    return CliRunner().invoke(report, list(arguments))


@pytest.mark.slow
def test_a_page_of_everything_stands_alone(tmp_path: Path) -> None:
    page, out = make(tmp_path, a_peers_file())
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    for word in ("Made-up 9000", "6.1.0-0", "0123456789ab", "nbdkit 1.32.5", "seconds 1.2", "seed"):
        assert word in page.text
    for title in ("Goals", "How much", "How long", "At what cost", "With many disks"):
        assert title in page.text
    (goal,) = [row for row in page.rows if row[-1] == "missed"]
    assert goal[:3] == [
        "4 KiB random read, depth 1",
        "shm async polling",
        "best NBD peer nbdkit file, libnbd (4 of 5), qemu-nbd, fio (1 of 5)",
    ]
    assert goal[3:5] == ["≥ 6.00 ×", "3.06 × ± 6%"]
    plots = {path.name for path in out.glob("*.png")}
    assert {
        "rate-4-kib-random-read.png",
        "rate-4-kib-random-read-dark.png",
        "rate-1-mib-sequential-read-depth-4.png",
        "latency-4-kib-random-read-depth-32.png",
        "latency-4-kib-random-read-at-20-000-a-second.png",
        "cost-4-kib-random-read-depth-32.png",
        "disks-4-kib-random-read-depth-4.png",
    } <= plots
    for path in out.glob("*.png"):
        head = path.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", head[16:])
        assert width == 1152
        assert height > 200


@pytest.mark.slow
def test_several_runs_stand_one_after_the_other(tmp_path: Path) -> None:
    one = a_file(a_run("shm async polling", "randread-4k-1", [50_000, 51_000]))
    other = a_file(a_run("nbdkit file, fio", "randread-4k-1", [10_000, 11_000]))
    page, out = make(tmp_path, one, other)
    assert [link for link in page.links if not link.startswith("data:")] == ["#run1", "#run2"]
    assert {"run1", "run2"} <= page.ids
    assert "not to be divided by one another" in page.text
    assert all("best peer" not in row for row in page.rows), "no ratio between the two files"
    names = {path.name for path in out.glob("*.png")}
    assert {"1-rate-4-kib-random-read-depth-1.png", "2-rate-4-kib-random-read-depth-1.png"} <= names


@pytest.mark.slow
def test_ratios_to_the_best_peer_are_of_one_run(tmp_path: Path) -> None:
    jobs = a_run("shm async polling", "randread-4k-1", [60_000, 30_000, 50_000])
    jobs += a_run("nbdkit file, fio", "randread-4k-1", [20_000, 15_000, 20_000])
    page, _ = make(tmp_path, a_file(jobs))
    assert ["configuration", "depth 1: IOPS", "GB/s", "best peer"] in page.rows
    assert ["shm async polling", "50.0k ± 30%", "0.20", "2.50 × ± 20%"] in page.rows
    assert ["nbdkit file, fio", "20.0k ± 12%", "0.08", ""] in page.rows


@pytest.mark.slow
def test_text_from_a_file_is_text(tmp_path: Path) -> None:
    name = "shm <script>alert(1)</script> & co"
    page, out = make(tmp_path, a_file([a_job(name)]))
    assert "<script>" not in (out / "report.html").read_text()
    assert any(row[0] == name for row in page.rows)


@pytest.mark.slow
def test_wrong_answers_are_said_before_any_figure(tmp_path: Path) -> None:
    page, _ = make(tmp_path, a_file([a_job(verify_errors=4)]))
    assert page.text.index("4 wrong answers: do not use these figures.") < page.text.index("How much")


@pytest.mark.slow
def test_percentiles_without_ten_answers_beyond_are_in_brackets(tmp_path: Path) -> None:
    page, _ = make(tmp_path, a_file([a_job(latencies=range(1000, 3000))]))
    (row,) = [row for row in page.rows if len(row) == 9 and row[0].startswith("shm")]
    assert row[-2:] == ["3.00", "2.00k"]
    assert row[1] == "1.00"
    assert [text.startswith("(") for text in row[2:7]] == [False, False, False, True, True]


def test_a_file_that_is_none_makes_no_page(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{}")
    done = refused(str(path), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert done.stderr.startswith(f"benchmarks: {path}: not a result of python -m benchmarks")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = refused(str(write(tmp_path / "run.json", a_file([a_job()]))), "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert done.stderr == "benchmarks: report needs matplotlib: pip install -e '.[bench]'\n"


def every(tmp_path: Path) -> list[Series]:
    """All series of a run of everything."""
    return series_of(read_result(write(tmp_path / "all.json", a_peers_file())).rounds)


def test_every_series_is_in_every_chapter_that_is_about_it(tmp_path: Path) -> None:
    series = every(tmp_path)
    found = {chapter.title: chapter for chapter in chapters(series)}
    shown = {
        title: [one for plate in chapter.plates for one in plate.series] for title, chapter in found.items()
    }
    several = {one for one in series if one.load.disks > 1}
    given = {one for one in series if one.load.rate is not None}
    assert set(shown["How much"]) == set(series) - several - given
    assert set(shown["How long"]) == set(series)
    assert set(shown["At what cost"]) == set(series) - several
    assert {one.load.disks for one in shown["With many disks"]} == {1, 4, 16, 64}
    names = [plate.name for chapter in found.values() for plate in chapter.plates]
    assert len(set(names)) == len(names)


def test_a_load_with_a_configuration_of_one_depth_has_rows_beside_the_lines(tmp_path: Path) -> None:
    jobs = [a_job(name, f"randread-4k-{depth}") for name in ("shm a", "shm b") for depth in (1, 8)]
    jobs.append(a_job("shm c", "randread-4k-1"))
    series = series_of(read_result(write(tmp_path / "run.json", a_file(jobs))).rounds)
    plates = chapters(series)[0].plates
    assert [(plate.title, plate.draw, [one.configuration for one in plate.series]) for plate in plates] == [
        ("4 KiB random read", draw_depths, ["shm a", "shm a", "shm b", "shm b"]),
        ("4 KiB random read, depth 1", draw_rates, ["shm a", "shm b", "shm c"]),
    ]


def test_lines_are_of_the_better_client_of_each_peer_and_rows_of_both(tmp_path: Path) -> None:
    jobs = [
        job
        for name, rate in (
            ("nbdkit file, fio", 10),
            ("nbdkit file, libnbd", 20),
            ("shm one, a", 5),
            ("shm one, b", 6),
        )
        for job in a_run(name, "randread-4k-8", [rate * 1000.0])
    ]
    series = series_of(read_result(write(tmp_path / "run.json", a_file(jobs))).rounds)
    rates, latency, cost = (chapter.plates[0] for chapter in chapters(series))
    assert [one.configuration for one in latency.drawn] == ["nbdkit file, libnbd", "shm one, a", "shm one, b"]
    assert latency.series == tuple(series)
    assert rates.drawn == cost.drawn == tuple(series)


def test_lines_go_through_the_medians_and_bars_to_the_extremes(tmp_path: Path) -> None:
    chosen = [
        one for one in every(tmp_path) if one.load.family == "4 KiB random read" and one.load.rate is None
    ]
    figure = draw_depths(chosen, looks([one.configuration for one in chosen], LIGHT), LIGHT)
    (axes,) = figure.axes
    drawn = {tuple(float(y) for y in bars.lines[0].get_ydata()) for bars in axes.containers}  # type: ignore[attr-defined]  # ErrorbarContainer
    by_depth = sorted(
        (one for one in chosen if one.configuration == "nbdkit file, libnbd"), key=lambda one: one.load.depth
    )
    assert tuple(one.iops.median for one in by_depth) in drawn
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > max(one.iops.high for one in chosen)
    words = {text.get_text() for text in axes.texts}
    assert words == {one.configuration for one in chosen}, "every line has its name"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("draw", [draw_rates, draw_latency, draw_cost, draw_disks, draw_depths])
def test_one_round_of_one_answer_can_be_drawn(tmp_path: Path, draw: Draw, theme: Theme) -> None:
    job = a_job("qemu-nbd, fio", latencies=[5_000], sides={})
    series = series_of(read_result(write(tmp_path / "one.json", a_file([job]))).rounds)
    figure = draw(series, looks(["qemu-nbd, fio"], theme), theme)
    assert figure.get_facecolor()[:3] == pytest.approx(
        [int(theme.paper[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    )


def test_a_polling_and_a_sleeping_configuration_share_a_colour_but_not_a_line() -> None:
    chosen = looks(
        [
            "shm async polling",
            "nbdkit file, fio",
            "shm async sleeping",
            "fio psync, bare file",
            "shm blocking polling",
        ],
        LIGHT,
    )
    polling, sleeping = chosen["shm async polling"], chosen["shm async sleeping"]
    assert polling.colour == sleeping.colour != chosen["shm blocking polling"].colour
    assert (polling.dash, sleeping.dash, chosen["fio psync, bare file"].dash) == ("-", "--", ":")
    assert polling.colour in LIGHT.ours
    assert chosen["nbdkit file, fio"].colour in LIGHT.others


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ([], []),
        ([50], [50]),
        ([20, 60], [20, 60]),
        ([50, 50], [45, 55]),
        ([60, 50, 55], [65, 45, 55]),
        ([0, 0], [0, 10]),
        ([100, 99, 98], [100, 90, 80]),
        ([1, 2, 90], [0, 10, 90]),
    ],
)
def test_labels_move_apart_and_keep_their_order(wanted: list[float], places: list[float]) -> None:
    assert spread_apart(wanted, 10, 0, 100) == pytest.approx(places)


def test_labels_without_room_start_at_the_bottom() -> None:
    assert spread_apart([5, 5, 5], 10, 0, 15) == pytest.approx([0, 10, 20])


def linear(colour: str) -> list[float]:
    """The parts of a colour in light. Source: IEC 61966-2-1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21. Source: WCAG 2.2, contrast ratio."""
    dark, light = sorted(times_matrix(XYZ, linear(colour))[1] for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_names_in_colour_can_be_read(theme: Theme) -> None:
    assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in (*theme.ours, *theme.others))
    assert min(contrast(colour, theme.paper) for colour in (*theme.ours, *theme.others)) >= 4.2


#: What an eye with one kind of cone missing makes of linear red, green and blue. Source: Machado, Oliveira
#: and Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency, 2009; severity 1.0.
EYES = {
    "all three": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
#: Linear RGB to CIE XYZ, and the white point. Source: IEC 61966-2-1.
XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.089)


def seen(colour: str, eye: str) -> tuple[float, float, float]:
    """A colour in CIE L*a*b*, as an eye sees it."""
    rgb = [min(1.0, max(0.0, value)) for value in times_matrix(EYES[eye], linear(colour))]
    x, y, z = (
        value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116
        for value in (one / white for one, white in zip(times_matrix(XYZ, rgb), WHITE, strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def times_matrix(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_told_apart_by_every_eye(theme: Theme, eye: str) -> None:
    for colours in (theme.ours, theme.sides):
        pairs = combinations([seen(colour, eye) for colour in colours], 2)
        assert min(dist(one, other) for one, other in pairs) > 15  # of 2.3, which is just noticeable
