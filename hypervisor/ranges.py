"""Arithmetic on ranges: of cookies, and of the real addresses behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.errors import CookieError, HvStatus
from protocol.ldc.cookie import ALIGNMENT

__all__ = ["cut_cookies", "merge_runs", "skip_cookies", "trim_runs"]


def cut_cookies(cookies: Sequence[tuple[int, int]], nbytes: int) -> list[tuple[int, int]]:
    """Return the parts of ``cookies`` that ``nbytes``, rounded up to 8, need. Raises: CookieError."""
    rest = -(-nbytes // ALIGNMENT) * ALIGNMENT
    parts: list[tuple[int, int]] = []
    for addr, size in cookies:
        if rest <= 0:
            break
        if size <= 0 or (addr | size) % ALIGNMENT:
            raise CookieError(HvStatus.EBADALIGN, f"cookie of {size} bytes at {addr:#x}")
        parts.append((addr, min(size, rest)))
        rest -= size
    if nbytes <= 0 or rest > 0:
        raise CookieError(HvStatus.EINVAL, f"{len(cookies)} cookies do not cover {nbytes} bytes")
    return parts


def merge_runs(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join runs that follow one another."""
    merged: list[tuple[int, int]] = []
    for ra, length in runs:
        if merged and sum(merged[-1]) == ra:
            ra, length = merged[-1][0], merged.pop()[1] + length
        merged.append((ra, length))
    return merged


def trim_runs(runs: list[tuple[int, int]], nbytes: int) -> list[tuple[int, int]]:
    """Take the bytes that rounding up to 8 has added off the last run."""
    ra, length = runs[-1]
    return [*runs[:-1], (ra, length - -nbytes % ALIGNMENT)]


def skip_cookies(cookies: Sequence[tuple[int, int]], skip: int) -> list[tuple[int, int]]:
    """Return what of ``cookies`` lies behind their first ``skip`` bytes. Raises: CookieError (EBADALIGN)."""
    if not skip:
        return list(cookies)
    if skip < 0 or skip % ALIGNMENT:
        raise CookieError(HvStatus.EBADALIGN, f"offset {skip} is not a multiple of {ALIGNMENT}")
    rest: list[tuple[int, int]] = []
    for addr, size in cookies:
        passed = min(skip, size)
        skip -= passed
        if passed < size:
            rest.append((addr + passed, size - passed))
    return rest
