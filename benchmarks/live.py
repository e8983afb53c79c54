"""What a run shows while it runs: on a terminal a table that grows, elsewhere a line for each measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from benchmarks import tables
from benchmarks.results import Round, summarise
from benchmarks.runner import Step

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["Progress", "watching"]


class Progress:
    """Told of each measurement before and after it. All of it goes to standard error."""

    def __init__(self, console: Console, total: int, live: Live | None = None) -> None:
        self._console = console
        self._live = live
        self._total = total
        self._done: list[Round] = []
        self._begin = monotonic()

    def say(self, text: str) -> None:
        """A remark outside the table."""
        self._console.print(text, markup=False, highlight=False)

    def coming(self, step: Step) -> None:
        """``step`` is about to be measured."""
        if self._live is not None:
            self._live.update(self._view(step), refresh=True)

    def measured(self, step: Step, one: Round) -> None:
        """``step`` has been measured."""
        self._done.append(one)
        if self._live is None:
            rate = tables.count(one.iops)
            p99 = tables.number(one.latency.percentile(99) / 1e3)
            self.say(
                f"{len(self._done):4d}/{self._total} {self._left():>9s}  round {step.number + 1}  "
                f"{step.workload.name:16s} {one.configuration:34s} {rate:>6s} IOPS  p99 {p99} µs"
            )

    def _left(self) -> str:
        done = len(self._done)
        if not done:
            return ""
        seconds = (monotonic() - self._begin) / done * (self._total - done)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"

    def _view(self, step: Step) -> RenderableType:
        """The workload that is being measured, with the rounds so far."""
        rows = [row for row in summarise(self._done) if row.workload == step.workload]
        title = (
            f"{len(self._done)} of {self._total}, {self._left()}: {step.workload.title}, "
            f"round {step.number + 1}: {step.subject.name}"
        )
        return tables.rows_table(title, rows)


@contextmanager
def watching(total: int) -> Iterator[Progress]:
    """The progress of ``total`` measurements."""
    console = tables.make_console(stderr=True)
    if not console.is_terminal:
        yield Progress(console, total)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Progress(console, total, live)
