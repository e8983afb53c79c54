"""Numbers as people read them: three digits, and a unit where there is one."""

from __future__ import annotations

__all__ = ["count", "factor", "microseconds", "number", "percent", "size"]

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def count(value: float) -> str:
    """Three digits, thousands as k: ``617``, ``61.7k``, ``617k``, ``1.23M``."""
    for least, divisor, unit in ((999_500, 1e6, "M"), (999.5, 1e3, "k")):
        if value >= least:
            return number(value / divisor) + unit
    return f"{value:.0f}"


def number(value: float | None) -> str:
    """Three digits of a number below 1000; a dash where there is none."""
    if value is None:
        return "–"
    return next(
        (f"{value:.{digits}f}" for digits, least in ((0, 99.95), (1, 9.995)) if value >= least),
        f"{value:.2f}",
    )


def microseconds(nanoseconds: float) -> str:
    """Nanoseconds as microseconds."""
    return number(nanoseconds / 1e3)


def percent(part: float) -> str:
    """A part of one in percent."""
    return f"{part:.0%}"


def factor(value: float) -> str:
    """A ratio: ``1.05 ×``."""
    return f"{value:.2f} ×" if value < 9.995 else f"{value:.1f} ×"


def size(value: int) -> str:
    """A number of bytes in the largest unit that divides it: ``4 KiB``."""
    return next((f"{value // unit} {name}" for unit, name in _UNITS if value % unit == 0), f"{value} bytes")
