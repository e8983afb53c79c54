"""What is counted over one channel, and the summary that it makes; its size is bounded, whatever comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from protocol.vdisk.status import WireErrno

from .lines import Line, duration
from .request import Ask

__all__ = ["Latency", "Tally"]

_ERRORS: Final = {int(status): status.name for status in WireErrno}
_DIGITS: Final = 3


class Latency:
    """Times in nanoseconds: the least and the longest exactly, the median to three digits."""

    def __init__(self) -> None:
        self._counts: Final[Counter[int]] = Counter()  # at most 900 numbers for each power of ten
        self._least = 0
        self._most = 0

    def add(self, time_ns: int) -> None:
        """Count one."""
        self._least = min(self._least, time_ns) if self._counts else time_ns
        self._most = max(self._most, time_ns)
        unit = 10 ** max(0, len(str(time_ns)) - _DIGITS)
        self._counts[time_ns // unit * unit] += 1

    def __str__(self) -> str:
        if not self._counts:
            return "none"
        return f"min {duration(self._least)}, median {duration(self._median())}, max {duration(self._most)}"

    def _median(self) -> int:
        """Return the middle one, of two the lesser."""
        ordered = sorted(self._counts)
        upto = accumulate(self._counts[time_ns] for time_ns in ordered)
        middle = (self._counts.total() + 1) // 2
        found = next(time_ns for time_ns, count in zip(ordered, upto, strict=True) if count >= middle)
        return max(self._least, found)


class Tally:
    """The counts of one channel."""

    def __init__(self) -> None:
        self.packets: Final = [0, 0]  # received, sent
        self.requests: Final[Counter[str]] = Counter()
        self.errors: Final[Counter[str]] = Counter()
        self.lost = 0
        self.resubmitted = 0
        self.latency: Final = Latency()
        self.warnings = 0

    def asked(self, ask: Ask) -> None:
        """A request was handed over."""
        self.requests[ask.name] += 1

    def answered(self, ask: Ask, time_ns: int) -> None:
        """A request was answered, so long after it was handed over."""
        if ask.status:
            self.errors[_ERRORS.get(ask.status, "other")] += 1
        self.latency.add(max(0, time_ns))

    def lines(self, unanswered: int, facts: Mapping[str, str]) -> Iterator[Line]:
        """Yield the summary; ``unanswered`` requests are open now, ``facts`` come first."""
        for name, fact in facts.items():
            yield _row(name, fact)
        yield _row("packets", f"{self.packets[1]} sent, {self.packets[0]} received")
        yield _row("requests", _list(self.requests))
        yield _row("errors", _list(self.errors))
        yield _row("unanswered", f"{unanswered} at the end, {self.lost} lost by resets")
        yield _row("resubmitted", str(self.resubmitted))
        yield _row("latency", str(self.latency))
        yield _row("warnings", str(self.warnings))


def _row(name: str, text: str) -> Line:
    return Line(1, f"{name:<12}{text}")


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
