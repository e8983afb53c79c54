"""How long to look at a ring before sleeping, learnt from what looking brought.

Looking pays when the peer answers sooner than a wake-up takes, and only while both sides look: one that
slept answers later than the other is willing to look, so both would sleep for ever after one busy moment. So
a vain look is followed by a long one, which outlasts a wake-up and finds the peer awake. Where that brings
nothing either (a slow disk, more processes than processors), looking takes from the peer the very time that
it needs: then looks become rarer, and one that pays restores them.
"""

from __future__ import annotations

import os
import platform
from typing import Final

__all__ = ["Patience", "polling"]

LONG: Final = 4
"""A long look is so many times the usual one: 200 µs, twice what waking another processor takes at worst."""
MOST_LEFT_OUT: Final = 64
"""Looks left out at most between two tries: the price of finding out that it pays again."""


def polling(poll_us: int) -> tuple[int, str]:
    """Return how long this machine should poll, and why not as long as asked.

    Polling on one core keeps the peer from working, and elsewhere than on x86-64 stores become visible in
    any order, so that every publication needs a system call.
    """
    if poll_us and len(os.sched_getaffinity(0)) < 2:
        return 0, "polling is off: there is one processor only"
    if poll_us and platform.machine() != "x86_64":
        return 0, f"polling is off: it is for x86_64, this is {platform.machine()}"
    return poll_us, ""


class Patience:
    """Says, each time before sleeping, how long to look; ``most_s`` is the usual look, 0 never looks."""

    __slots__ = ("_left_out", "_most_s", "_skip", "_vain")

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._vain = 0  # looks in a row that brought nothing
        self._left_out = 1  # how many are left out after the next vain long look
        self._skip = 0  # how many are still to be left out

    def span(self) -> float:
        """Seconds to look now; 0: sleep at once."""
        if self._skip:
            self._skip -= 1
            return 0.0
        return self._most_s * LONG if self._vain else self._most_s

    def paid(self) -> None:
        """Looking brought something."""
        self._vain = self._skip = 0
        self._left_out = 1

    def vain(self) -> None:
        """Looking brought nothing, and now we sleep."""
        self._vain += 1
        if self._vain > 1:
            self._skip = self._left_out
            self._left_out = min(self._left_out * 2, MOST_LEFT_OUT)
