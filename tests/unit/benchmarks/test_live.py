"""What is shown while a run goes on."""

from io import StringIO

import pytest
from rich.console import Console
from rich.live import Live

from benchmarks.live import Progress, watching
from benchmarks.processes import Server
from benchmarks.results import Round
from benchmarks.runner import Step
from benchmarks.workload import Workload, parse_workload
from tests.unit.benchmarks.rounds import a_round


class Subject:
    """One that only has a name."""

    name = "shm async polling"
    servers: dict[str, Server] = {}  # noqa: RUF012 - nobody changes it

    def measure(self, workload: Workload, number: int) -> Round:
        """Nothing is measured here."""
        raise NotImplementedError


STEP = Step(1, parse_workload("randread-4k-1"), Subject())


def test_elsewhere_than_on_a_terminal_each_measurement_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(2) as progress:
        progress.coming(STEP)
        progress.measured(STEP, a_round(ios=12_345, latency_ns=50_000))
        progress.say("disturbed: [somebody] used 5%")
    first, second = capsys.readouterr().err.splitlines()
    assert first.split()[:1] == ["1/2"]
    assert "round 2  randread-4k-1" in first
    assert first.endswith("12.3k IOPS  p99 50.0 µs")
    assert second == "disturbed: [somebody] used 5%"


def test_on_a_terminal_the_table_has_the_rounds_so_far_and_what_is_being_measured() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=150)
    with Live(console=console, auto_refresh=False) as live:
        progress = Progress(console, 4, live)
        progress.coming(STEP)
        progress.measured(STEP, a_round("nbdkit file, fio", ios=12_345))
        progress.measured(STEP, a_round("nbdkit file, fio", "randwrite-4k-1", ios=777))
        progress.coming(STEP)
    shown = screen.getvalue()
    assert "2 of 4" in shown
    assert "4 KiB random read, depth 1, round 2: shm async polling" in shown
    assert "12.3k" in shown
    assert "777" not in shown, "that is another workload"
