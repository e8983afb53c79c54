"""The report: one HTML page that needs nothing beside it, and its plots as PNG files."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks.pages.canvas import DARK, LIGHT, looks, png
from benchmarks.pages.chapters import Chapter, Plate, chapters
from benchmarks.pages.plots import Looks
from benchmarks.pages.resultfile import Result
from benchmarks.pages.statistics import series_of
from benchmarks.pages.tables import Cell, Table, facts, goal_table

__all__ = ["PAGE", "write_report"]

PAGE = "report.html"
THEMES = (LIGHT, DARK)

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --soft: #5c6670; --line: #e2e5e9;
  --good: #00705c; --bad: #b3261e; --even: #7a5d00; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e9ec; --soft: #9aa4ae;
  --line: #2b3037; --good: #2fc9a8; --bad: #ff8a80; --even: #e3c044; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.35rem; margin: 3rem 0 .5rem; }
h3 { font-size: 1.1rem; margin: 2.5rem 0 .25rem; }
p, caption { color: var(--soft); } p { max-width: 46rem; } a { color: inherit; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1rem 0; }
.wide img { display: block; width: 100%; min-width: 36rem; max-width: 54rem; height: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .4rem; font-size: .8rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; } tbody th { font-weight: 400; }
th:first-child, .words th, .words td { text-align: left; }
small { color: var(--soft); } .met { color: var(--good); } .missed, .wrong { color: var(--bad); }
.tie { color: var(--even); } .met, .missed, .tie, .wrong { font-weight: 600; }
figure { margin: 0 0 2.5rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""

_HEAD = (
    "<!doctype html>\n"
    '<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>Virtual disk measurements</title><style>{_STYLE}</style></head><body>\n"
    "<h1>Virtual disk measurements</h1>\n"
)


def write_report(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write the page and its plots into ``folder``, which is made if need be; gives what was written.

    The results stand one after the other. Nothing of one is ever divided by something of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    parts = [_HEAD]
    if len(results) > 1:
        parts.append(_contents(results))
    for number, result in enumerate(results, 1):
        prefix = f"{number}-" if len(results) > 1 else ""
        for text, plots in _run(result, f"run{number}", prefix):
            parts.append(text)
            for name, data in plots:
                (folder / name).write_bytes(data)
                written.append(folder / name)
    parts.append("</body></html>\n")
    page = folder / PAGE
    page.write_text("".join(parts), encoding="utf-8")
    return [page, *written]


def _contents(results: Sequence[Result]) -> str:
    links = "".join(
        f'<li><a href="#run{number}">{escape(result.path.name)}</a>, {escape(result.time)}</li>'
        for number, result in enumerate(results, 1)
    )
    return (
        "<p>Several runs, one after the other. Figures of different runs are not to be divided by one "
        "another: the machine was in another mood. To see what changed, use "
        "<code>python -m benchmarks compare</code>.</p>"
        f"<ol>{links}</ol>\n"
    )


def _run(result: Result, anchor: str, prefix: str) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The texts of one run in turn, each with the files of its plots."""
    yield f'<section id="{anchor}"><h2>{escape(result.path.name)}</h2>\n', []
    yield _facts(result), []
    if result.verify_errors:
        yield f'<p class="wrong">{result.verify_errors} wrong answers: do not use these figures.</p>\n', []
    if result.goals:
        yield f"<h3>Goals</h3>\n{_table(goal_table(result.goals), words=True)}", []
    every = series_of(result.rounds)
    names = [series.configuration for series in every]
    styles = {theme.name: looks(names, theme) for theme in THEMES}
    for chapter in chapters(every):
        yield _opening(chapter), []
        for plate in chapter.plates:
            yield _plate(plate, styles, prefix)
    yield "</section>\n", []


def _facts(result: Result) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts(result))
    return f"<dl>{rows}</dl>\n"


def _opening(chapter: Chapter) -> str:
    return f"<h3>{escape(chapter.title)}</h3>\n<p>{escape(chapter.words)}</p>\n"


def _plate(plate: Plate, styles: Mapping[str, Looks], prefix: str) -> tuple[str, list[tuple[str, bytes]]]:
    """A plot in both themes with its table, and its files."""
    files = []
    for theme in THEMES:
        suffix = "" if theme is LIGHT else f"-{theme.name}"
        data = png(plate.draw(plate.drawn, styles[theme.name], theme))
        files.append((f"{prefix}{plate.name}{suffix}.png", data))
    light, dark = (f"data:image/png;base64,{b64encode(data).decode()}" for _, data in files)
    text = (
        '<figure><div class="wide"><picture>'
        f'<source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="{escape(plate.title)}: the numbers are in the table below" loading="lazy">'
        f"</picture></div>{_table(plate.tabulate(plate.series))}</figure>\n"
    )
    return text, files


def _table(table: Table, words: bool = False) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join(
        f'<tr><th scope="row">{_cell(first)}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in table.rows
    )
    kind = ' class="words"' if words else ""
    return (
        f'<div class="wide"><table{kind}><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.mood:
        text = f'<span class="{escape(cell.mood)}">{text}</span>'
    return f"{text} <small>{escape(cell.small)}</small>" if cell.small else text
