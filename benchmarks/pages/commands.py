"""The two commands that read result files: ``report`` and ``compare``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.pages import comparison
from benchmarks.pages.comparison import CPU, LEVEL, P99, RATE, Row, Verdict
from benchmarks.pages.resultfile import Result, ResultError, read_result
from benchmarks.pages.roles import Role, role_of
from benchmarks.pages.statistics import Sample
from benchmarks.pages.text import count, factor, microseconds

__all__ = ["compare", "register", "report"]

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_UNUSABLE = 2  # exit code: nothing could be made of these files, or on this machine

_CAVEAT = (
    "Two runs, at different times: the machine's mood is in every ratio, and peers tell how much of it. "
    f"A change is called one if the rank test gives at most {LEVEL:g} and the median ratio is at least "
    f"{RATE.least:g} × (latency {P99.least:g} ×) either way, beyond what the peers went through."
)


def _fail(text: str) -> None:
    click.echo(f"benchmarks: {text}", err=True)
    sys.exit(_UNUSABLE)


def _read(paths: Sequence[Path]) -> list[Result]:
    """All of them, or one line and the end."""
    results = []
    try:
        results = [read_result(path) for path in paths]
    except ResultError as error:
        _fail(str(error))
    return results


@click.command()
@click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Made if need be."
)
def report(files: tuple[Path, ...], out: Path) -> None:
    """Make a page of result files: DIR/report.html, which needs nothing else, and its plots as PNG files."""
    try:
        import matplotlib  # noqa: F401  # asked for by itself, so that only its absence is called so
    except ImportError:
        _fail("report needs matplotlib: pip install -e '.[bench]'")
    from benchmarks.pages.page import write_report

    page, *plots = write_report(_read(files), out)
    click.echo(f"{page}; {len(plots)} plots beside it")


@click.command()
@click.argument("before", type=_FILE, metavar="A")
@click.argument("after", type=_FILE, metavar="B")
@click.option(
    "--despite",
    multiple=True,
    metavar="NAME",
    help="Compare although this differs, like machine.kernel; may be repeated.",
)
def compare(before: Path, after: Path, despite: tuple[str, ...]) -> None:
    """What changed from result file A to B beyond the noise.

    Exits with 1 on a loss, with 2 if the files are not comparable.
    """
    old, new = _read([before, after])
    found = comparison.differences(old, new)
    reasons = [one for one in found if one.name not in despite or one.name == "nothing"]
    for one in reasons:
        click.echo(f"benchmarks: not comparable: {one.name}: {one.before} | {one.after}", err=True)
    if reasons:
        sys.exit(_UNUSABLE)
    for one in found:
        click.echo(f"in spite of {one.name}: {one.before} | {one.after}")
    rows = comparison.compare(old, new)
    _show(old, new, rows)
    lost = sum(comparison.is_lost(row) for row in rows)
    won = sum(role_of(row.configuration) is Role.OURS and row.verdict is Verdict.BETTER for row in rows)
    click.echo(f"{lost} lost, {won} won, of {len(rows)} rows")
    if new.verify_errors:
        click.echo(f"{new.verify_errors} wrong answers in {after}")
    sys.exit(1 if lost or new.verify_errors else 0)


def _show(old: Result, new: Result, rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    for letter, result in (("A", old), ("B", new)):
        console.print(f"{letter}: {result.path}, {result.time}, commit {result.commit}", highlight=False)
    for name in sorted(old.versions.keys() | new.versions.keys()):
        if old.versions.get(name) != new.versions.get(name):
            click.echo(f"{name}: {old.versions.get(name)} in A, {new.versions.get(name)} in B")
    console.print(_CAVEAT, highlight=False)
    table = Table(
        caption="* beyond the noise too, but does not decide. chance: of such ranks without a change."
    )
    for number, title in enumerate(("configuration", "load", "A", "B", "B / A", "chance", "p99", "CPU", "")):
        table.add_column(title, justify="left" if number in (0, 1, 8) else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: Row) -> list[str]:
    """A row of the table: the figure that decides, then the other two as ratios."""
    change = row.changes[row.decisive.name]
    verdict = change.verdict.value
    if role_of(row.configuration) is not Role.OURS:
        verdict = f"({verdict})"
    return [
        row.configuration,
        row.load.title,
        _figure(row, change.before),
        _figure(row, change.after),
        f"{factor(change.ratio.median)} ({change.ratio.low:.2f}–{change.ratio.high:.2f})",
        f"{change.chance:.3f}",
        _aside(row, P99.name),
        _aside(row, CPU.name),
        verdict,
    ]


def _figure(row: Row, sample: Sample) -> str:
    text = count(sample.median) if row.decisive is RATE else f"{microseconds(sample.median)} µs"
    return f"{text} ±{sample.spread:.0%}"


def _aside(row: Row, name: str) -> str:
    change = row.changes.get(name)
    if change is None:
        return "–"
    return factor(change.ratio.median) + ("*" if change.verdict in (Verdict.BETTER, Verdict.WORSE) else "")


def register(group: click.Group) -> None:
    """Add the two to ``group``."""
    for command in (report, compare):
        group.add_command(command)
