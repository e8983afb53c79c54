"""How long to look at a ring before sleeping, learnt from what looking brought.

Looking pays when the peer answers sooner than a wake-up takes, and only with a processor to spare. Where it
brings nothing time after time (a slow disk, more processes than processors), it takes from the peer the very
time that it needs. So every vain look makes the next ones rarer, and one that brings something restores them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Patience"]

VAIN_LOOKS: Final = 32
"""Looks in a row that may bring nothing before any are left out: a busy moment must not end polling, since both
sides have to look at the same time before it pays again."""
MOST_LEFT_OUT: Final = 8
"""Looks left out at most between two tries: so rarely they cost little, so often both sides find back soon."""


class Patience:
    """Says, each time before sleeping, for how long to look first. ``most_s`` 0 never looks."""

    __slots__ = ("_left_out", "_most_s", "_skip", "_vain")

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._vain = 0  # looks in a row that brought nothing
        self._left_out = 1  # how many are left out after the next such look
        self._skip = 0  # how many are still to be left out

    def span(self) -> float:
        """Seconds to look now; 0: sleep at once."""
        if self._skip:
            self._skip -= 1
            return 0.0
        return self._most_s

    def paid(self) -> None:
        """Looking brought something."""
        self._vain = self._skip = 0
        self._left_out = 1

    def vain(self) -> None:
        """Looking brought nothing, and now we sleep."""
        self._vain += 1
        if self._vain >= VAIN_LOOKS:
            self._skip = self._left_out
            self._left_out = min(self._left_out * 2, MOST_LEFT_OUT)
