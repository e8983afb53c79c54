"""Who is who among the configurations: ours, the peers beside us, the floors beneath us."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from statistics import geometric_mean

from benchmarks.pages.statistics import Sample, Series

__all__ = ["Role", "better_clients", "ratio_to_best_peer", "role_of"]

_OURS = ("shm ", "socket ", "vdc ")
_FLOORS = ("fio ",)
_NOT_COUNTED = "memory"  # a peer that serves memory is shown; a file is what everybody else serves


class Role(Enum):
    """What a configuration is to the reader."""

    OURS = "ours"  # what is being measured
    PEER = "peer"  # another disk server, on the same file
    FLOOR = "floor"  # no server at all: the file itself


def role_of(configuration: str) -> Role:
    """Tell it by its name, which starts with our transport or program, or with fio on the bare file."""
    if configuration.startswith(_OURS):
        return Role.OURS
    return Role.FLOOR if configuration.startswith(_FLOORS) else Role.PEER


def _is_counted(series: Series) -> bool:
    return role_of(series.configuration) is Role.PEER and _NOT_COUNTED not in series.configuration


def better_clients(every: Sequence[Series]) -> list[Series]:
    """``every`` less those of a peer's clients that another client of the same peer is ahead of.

    A peer's configuration is called ``SERVER, CLIENT``; ahead is the client with the greater rate, taken over
    all loads together (the geometric mean of the medians).
    """
    rates: dict[str, list[float]] = {}
    for series in every:
        rates.setdefault(series.configuration, []).append(series.iops.median)
    best: dict[str, str] = {}
    for name in rates:
        server = name.rpartition(", ")[0] if role_of(name) is Role.PEER else name
        ahead = best.setdefault(server, name)
        if geometric_mean(rates[name]) > geometric_mean(rates[ahead]):
            best[server] = name
    return [series for series in every if series.configuration in best.values()]


def ratio_to_best_peer(ours: Series, every: Iterable[Series]) -> Sample | None:
    """Our rate divided by that of the fastest peer under the same load, within each round.

    ``None`` for what is not ours, and where no peer was measured.
    """
    if role_of(ours.configuration) is not Role.OURS:
        return None
    best: dict[int, float] = {}
    for series in every:
        if series.load == ours.load and _is_counted(series):
            for one in series.rounds:
                best[one.number] = max(one.iops, best.get(one.number, 0.0))
    ratios = [one.iops / best[one.number] for one in ours.rounds if one.number in best]
    return Sample.of(ratios) if ratios else None
