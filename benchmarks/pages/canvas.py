"""How a plot looks: two themes, the colours of configurations, labels beside their lines.

The colours can be told apart with any kind of colour blindness, as a test counts, and never stand alone:
each line has its marker, and its name at its end. A polling and a sleeping configuration of the same kind are
a solid and a dashed line of one colour, and what is not ours is grey.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image  # comes with matplotlib

from benchmarks.pages.roles import Role, role_of

__all__ = [
    "DARK",
    "LIGHT",
    "Look",
    "Theme",
    "canvas",
    "label_ends",
    "looks",
    "name_axes",
    "place",
    "png",
    "spread_apart",
]

WIDTH = 8.0  # inches
DPI = 144
COLOURS = 128  # of a plot: a dozen, and their way into the background
SMALL, NORMAL, TITLE = 8.5, 9.5, 12.0  # points


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours for one kind of page."""

    name: str
    paper: str
    ink: str
    faint: str  # grid lines
    ours: tuple[str, ...]
    others: tuple[str, ...]
    sides: tuple[str, str, str]  # client, server, front end


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1c2024",
    faint="#e2e5e9",
    ours=("#0068b5", "#c2410c", "#7f1fe6", "#532531", "#b35081", "#07188c"),
    others=("#4a535c", "#717b85", "#2b3238"),
    sides=("#2c4a5a", "#e0a030", "#a9b3bc"),
)
DARK = Theme(
    name="dark",
    paper="#15181c",
    ink="#e6e9ec",
    faint="#2b3037",
    ours=("#5ab4f5", "#ff8a57", "#e8d02a", "#8a7aff", "#ff4f8f", "#f3c9ff"),
    others=("#a4aeb8", "#808a94", "#c9d0d7"),
    sides=("#8fb3c7", "#e0a030", "#5d6770"),
)


@dataclass(frozen=True, slots=True)
class Look:
    """How one configuration is drawn, everywhere on a page."""

    colour: str
    dash: str
    marker: str
    weight: float


def looks(configurations: Iterable[str], theme: Theme) -> dict[str, Look]:
    """A look for each configuration, in their order; two that differ in polling alone share a colour."""
    fresh = zip(cycle(theme.ours), cycle("os^vDPX"), strict=False)
    others = zip(cycle(theme.others), cycle("xdP*p"), strict=False)
    kinds: dict[str, tuple[str, str]] = {}
    chosen = {}
    for name in dict.fromkeys(configurations):
        if role_of(name) is Role.OURS:
            kind = name.replace("sleeping", "polling")
            if kind not in kinds:
                kinds[kind] = next(fresh)
            chosen[name] = Look(kinds[kind][0], "--" if "sleeping" in name else "-", kinds[kind][1], 2.0)
        else:
            dash = ":" if role_of(name) is Role.FLOOR else "-"
            colour, marker = next(others)
            chosen[name] = Look(colour, dash, marker, 1.2)
    return chosen


def canvas(theme: Theme, title: str, note: str, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with its title and a line below it, and ``panels`` empty plots side by side."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=theme.paper)
    FigureCanvasAgg(figure)
    figure.text(0.02 / WIDTH, 1 - 0.12 / height, title, size=TITLE, weight="bold", color=theme.ink, va="top")
    figure.text(0.02 / WIDTH, 1 - 0.4 / height, note, size=SMALL, color=theme.ink, alpha=0.75, va="top")
    every = figure.subplots(1, panels, squeeze=False)[0]
    for axes in every:
        axes.set_facecolor(theme.paper)
        axes.tick_params(which="both", length=0, labelsize=NORMAL, labelcolor=theme.ink)
        axes.grid(visible=True, color=theme.faint, linewidth=0.8)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure, list(every)


def place(
    figure: Figure, *, left: float, right: float, top: float = 0.95, bottom: float = 0.6, gap: float = 0.5
) -> None:
    """Leave so many inches around the plots, and ``gap`` between them."""
    height = float(figure.get_figheight())
    figure.subplots_adjust(
        left=left / WIDTH, right=1 - right / WIDTH, top=1 - top / height, bottom=bottom / height
    )
    panels = len(figure.axes)
    if panels > 1:
        wide = (WIDTH - left - right - gap * (panels - 1)) / panels
        figure.subplots_adjust(wspace=gap / wide)


def name_axes(axes: Axes, theme: Theme, across: str, up: str) -> None:
    """Say what the axes are and in which unit; the upright one lies above its axis, to be read straight."""
    axes.set_xlabel(across, size=NORMAL, color=theme.ink)
    axes.set_title(up, size=NORMAL, color=theme.ink, loc="left", pad=7)


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near to ``wanted`` as can be, in the same order, ``gap`` apart, from ``low`` on.

    They stay below ``high`` if there is room for all of them.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Less i gaps each, the places need only not descend; neighbours that do are pooled to their mean.
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        middle, members = wanted[i] - rank * gap, 1
        while pools and pools[-1][0] > middle:
            other, others = pools.pop()
            middle = (middle * members + other * others) / (members + others)
            members += others
        pools.append((middle, members))
    level = [middle for middle, members in pools for _ in range(members)]
    top = max(low, high - (len(wanted) - 1) * gap)
    places = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        places[i] = min(max(level[rank], low), top) + rank * gap
    return places


def label_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each ``(name, x, y, colour)`` to the right of the plot, beside the end of its line.

    Names that would lie on one another move apart. To be called last: it measures where the ends are.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    box = axes.get_window_extent()
    points = DPI / 72
    ends_at = [axes.transData.transform((x, y)) for _, x, y, _ in ends]
    gap = (SMALL + 3.5) * points
    levels = spread_apart([float(at[1]) for at in ends_at], gap, box.y0, box.y1)
    for (name, x, y, colour), level in zip(ends, levels, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(box.x1 + 14 * points, level),
            textcoords="figure pixels",
            annotation_clip=False,
            size=SMALL,
            color=colour,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "alpha": 0.5,
                "shrinkA": 1,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, with a palette: a third of the size, and nothing to see of it."""
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS).save(file, format="png", optimize=True)
    return file.getvalue()
