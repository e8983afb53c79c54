"""Sizes, durations and rates as people write them."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["format_size", "parse_duration", "parse_rate", "parse_size"]

_SIZE: Final = re.compile(r"(\d+)(?:([KMGTP])(?:i?B)?)?")
_SIZE_UNITS: Final = "KMGTP"
_MAX_SIZE: Final = (1 << 63) - 1  # off_t
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m)?")
_DURATION_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, None: 1.0}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(%)?")


def parse_size(text: str) -> int:
    """Return ``4096``, ``64M`` or ``1GiB`` in bytes; the units are powers of 1024.

    Raises: ValueError (anything else, or 2**63 and more).
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("a size is a number and perhaps K, M, G, T or P: 4096, 64M, 1G")
    size = int(match[1]) << 10 * (_SIZE_UNITS.index(match[2]) + 1 if match[2] else 0)
    if size > _MAX_SIZE:
        raise ValueError("larger than any disk: at most 8 EiB")
    return size


def format_size(size: int) -> str:
    """Return ``size`` bytes in the largest unit that leaves at least 1: ``256.0 MiB``, ``512 bytes``."""
    unit = min(size.bit_length() - 1, 59) // 10 if size else 0
    return f"{size / (1 << 10 * unit):.1f} {_SIZE_UNITS[unit - 1]}iB" if unit else f"{size} bytes"


def parse_duration(text: str) -> float:
    """Return ``50ms``, ``2s``, ``1m``, ``100us`` or ``0.5`` in seconds. Raises: ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("a duration is a number and perhaps us, ms, s or m: 50ms, 2s")
    return float(match[1]) * _DURATION_UNITS[match[2]]


def parse_rate(text: str) -> float:
    """Return ``1%`` or ``0.01`` as a fraction from 0 to 1. Raises: ValueError."""
    match = _RATE.fullmatch(text)
    rate = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= rate <= 1:
        raise ValueError("a rate is a percentage from 0% to 100%, or a fraction from 0 to 1")
    return rate
