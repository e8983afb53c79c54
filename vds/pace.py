"""Whether short writes are done in the event loop: as long as they take less than a millisecond.

A write into the page cache is a copy; when the kernel throttles writers because the medium is behind, it is
not, and the whole server would stand still. So each write is measured and the moving average decides. From
time to time one write is tried in the loop again.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

LIMIT_S: Final = 1e-3
"""Average beyond which writes go to the threads."""
WEIGHT: Final = 1 / 8
"""Of the latest write."""
MOST_S: Final = 6e-3
"""A slower write counts as one of so long: one alone may have had its processor taken away; two are slow."""
RETURN_S: Final = 1.0
"""After so long in the threads a write is tried in the loop again; one slow write then sends all back."""


class Pace:
    """The moving decision of one disk. Times are seconds of one clock, given by the caller."""

    def __init__(self) -> None:
        self.quick = True
        """Whether writes may be done in the loop; ``again`` decides while it is False."""
        self._average = 0.0
        self._return_at = 0.0

    def measured(self, started: float, ended: float) -> None:
        """Account for one write done in the loop."""
        self._average += (min(ended - started, MOST_S) - self._average) * WEIGHT
        if self._average > LIMIT_S:
            self.quick = False
            self._return_at = ended + RETURN_S

    def again(self, now: float) -> bool:
        """Return, while not ``quick``, whether it is time to try."""
        if now >= self._return_at:
            self.quick = True
            self._average = LIMIT_S
        return self.quick
