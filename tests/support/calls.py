"""How many functions of Python a call takes: a short way is short, however fast the machine is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def count_calls(function: Callable[..., object], *arguments: object) -> int:
    """Call ``function`` and return how many functions written in Python that ran, itself included."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return count
