"""What is printed: lines with a depth, and the few ways to make one; numbers, sizes and times in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .rules import Rule

__all__ = ["Line", "duration", "field", "head", "raw", "remark", "render", "say", "size", "warn"]

_LAYER: Final = 1  # depth of what names a layer
_DETAIL: Final = 2  # depth of what it says
_NAME_WIDTH: Final = 17
_RAW_WIDTH: Final = 18  # 64 bits in hex
_INDENT: Final = "  "


class Line(NamedTuple):
    """One line; ``rule`` is the one that a warning says is broken."""

    depth: int
    text: str
    rule: Rule | None = None


def head(layer: str, text: str) -> Line:
    """Return the line that begins a layer."""
    return Line(_LAYER, f"{layer:<6}{text}")


def field(name: str, number: str, meaning: str = "") -> Line:
    """Return the line of a field: its name, its raw value, and what that means."""
    return Line(_DETAIL, f"{name:<{_NAME_WIDTH}} {number:<{_RAW_WIDTH}}  {meaning}".rstrip())


def say(text: str) -> Line:
    """Return a line about what the fields mean together."""
    return Line(_DETAIL, text)


def remark(text: str) -> Line:
    """Return a line about what is unusual, but allowed."""
    return Line(_DETAIL, f"remark: {text}")


def warn(rule: Rule, text: str) -> Line:
    """Return a line about what breaks ``rule``."""
    return Line(_DETAIL, f"warning: {text} [{rule.text}: {rule.source}]", rule)


def render(lines: Iterable[Line]) -> Iterator[str]:
    """Yield lines as text."""
    for line in lines:
        yield _INDENT * line.depth + line.text


def raw(value: int, nbytes: int) -> str:
    """Return a number as it stands in ``nbytes`` on the wire; a negative one as people write it."""
    return str(value) if value < 0 else f"{value:#0{2 + 2 * nbytes}x}"


_SIZES: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_DURATIONS: Final = ((1_000_000_000, "s"), (1_000_000, "ms"))  # in ns, largest first


def size(nbytes: int) -> str:
    """Return a number of bytes in words, rounded down."""
    power = min(max(nbytes.bit_length() - 1, 0) // 10, len(_SIZES) - 1)
    return f"{nbytes} bytes" if not power else f"{_tenths(nbytes, 1 << 10 * power)} {_SIZES[power]}"


def duration(time_ns: int) -> str:
    """Return a time in words: microseconds to a tenth, or what is larger."""
    for unit, name in _DURATIONS:
        if time_ns >= 10 * unit:
            return f"{_tenths(time_ns, unit)} {name}"
    return f"{time_ns / 1000:.1f} µs"


def _tenths(number: int, unit: int) -> str:
    whole, tenth = divmod(number * 10 // unit, 10)
    return f"{whole}.{tenth}" if tenth else str(whole)
