"""What calls cost: loops around them, the loop's own cost taken off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter_ns
from typing import Final, TypeAlias

__all__ = ["Call", "cost", "laps"]

REPEATS: Final = 9
CALLS: Final = 3000

Call: TypeAlias = Callable[[], object]


def cost(call: Call) -> float:
    """Nanoseconds of ``call``: the median of several loops."""
    return _median(lambda: _loop(call)) - _median(lambda: _loop(_nothing))


def laps(calls: Sequence[Call]) -> list[float]:
    """Nanoseconds of each of ``calls``, made in turn again and again: medians of several loops.

    The clock is read after each, and what that costs is taken off.
    """
    empty = [_nothing] * len(calls)
    with_calls = [_rounds(calls) for _ in range(REPEATS)]
    without = [_rounds(empty) for _ in range(REPEATS)]
    return [
        median(one[place] for one in with_calls) - median(one[place] for one in without)
        for place in range(len(calls))
    ]


def _median(loop: Callable[[], float]) -> float:
    return median(loop() for _ in range(REPEATS))


def _loop(call: Call) -> float:
    started = perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (perf_counter_ns() - started) / CALLS


def _rounds(calls: Sequence[Call]) -> list[float]:
    sums = [0] * len(calls)
    for _ in range(CALLS):
        before = perf_counter_ns()
        for place, call in enumerate(calls):
            call()
            now = perf_counter_ns()
            sums[place] += now - before
            before = now
    return [spent / CALLS for spent in sums]


def _nothing() -> None: ...
