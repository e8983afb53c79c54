"""Waiting in tests without a clock: let the event loop turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["turns", "until"]

LIMIT_S = 30.0
"""What does not happen in this time never will."""


async def turns(count: int) -> None:
    """Let the loop turn ``count`` times, so that whatever would happen by itself has happened."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until ``condition()``. Raises: TimeoutError."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0)
