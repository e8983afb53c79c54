"""The fuzzer's input as a tape that a target reads from the front, and the one way a decoder may refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeAlias, TypeVar

from protocol.errors import RemoteProtocolError

__all__ = ["Check", "Tape", "attempt", "mutated"]

T = TypeVar("T")
P = ParamSpec("P")


def attempt(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Return what ``call`` returns, None where it refuses the peer's bytes; any other error is a finding."""
    try:
        return call(*args, **kwargs)
    except RemoteProtocolError:
        return None


class Tape:
    """Bytes read once, from the front; behind the end there are zeroes, so that every input is a program."""

    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self._at = 0

    def __bool__(self) -> bool:
        """Say whether anything is left."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found.ljust(size, b"\0")

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def number(self, size: int) -> int:
        """Return the next ``size`` bytes as a big-endian number."""
        return int.from_bytes(self.take(size), "big")

    def pick(self, options: Sequence[T]) -> T:
        """Return the one of ``options`` that the next byte says."""
        return options[self.byte() % len(options)]

    def rest(self) -> bytes:
        """Return all that is left."""
        found = self._data[self._at :]
        self._at = len(self._data)
        return found


Check: TypeAlias = Callable[[Tape], None]
"""Runs a decoder on what is left of a tape, and asserts what has to hold."""


def mutated(message: bytes, tape: Tape) -> bytes:
    """Return ``message`` with the damage that the tape asks for: a byte changed, cut short, made longer."""
    how, place = tape.byte(), tape.byte()
    if how < 0xC0:
        place %= len(message)
        return message[:place] + bytes([tape.byte()]) + message[place + 1 :]
    if how < 0xE0:
        return message[: place % len(message)]
    return message + tape.take(place)
