"""A volume as it is configured: ``NAME=BACKEND,option,option``, read and checked once."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from protocol.errors import ConfigError
from vds.layers import OPERATIONS, LayerOptions
from vds.units import parse_duration, parse_rate

__all__ = ["Volume", "make_volume", "parse_volume"]

BLOCK_SIZES: Final = (512, 4096)
_WHICH_BLOCKS: Final = f"must be {' or '.join(map(str, BLOCK_SIZES))}"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume: a name, a backend and options. Made by :func:`parse_volume`.

    Raises: ConfigError (blocks of a size that is not offered).
    """

    name: str
    backend: str
    """A path, ``memory:SIZE`` or ``null:SIZE``."""
    read_only: bool = False
    write_cache: bool = False
    direct: bool = False
    share: bool = False
    block_size: int | None = None
    layers: LayerOptions = field(default_factory=LayerOptions)
    options: tuple[str, ...] = ()
    """The options as they were given."""

    def __post_init__(self) -> None:
        if self.block_size not in (None, *BLOCK_SIZES):
            raise ConfigError(None, f"{self.name}: blocksize", self.block_size, _WHICH_BLOCKS)


def parse_volume(text: str, *, file: str | None = None) -> Volume:
    """Return the volume of ``NAME=BACKEND[,option…]``; ``,,`` stands for a comma in the backend or an option.

    Raises: ConfigError.
    """
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        why = "a volume is NAME=BACKEND[,option...], for example disk0=disk.img"
        raise ConfigError(file, "volume", text, why)
    backend, *options = _split(rest)
    return make_volume(name, backend, options, file)


def _split(text: str) -> list[str]:
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def make_volume(name: str, backend: str, options: Sequence[str], file: str | None) -> Volume:
    """Return the volume of a name, a backend and options, as ``file`` has them. Raises: ConfigError."""
    if not _NAME.fullmatch(name):
        why = "a name has letters, digits and . _ @ + -, at most 255, and begins with a letter or digit"
        raise ConfigError(file, "volume", name, why)
    if not backend or "\0" in backend:
        raise ConfigError(file, name, backend, "no backend: a path, memory:SIZE or null:SIZE")
    volume = Volume(name=name, backend=backend, options=tuple(options))
    for option in options:
        word, _, value = option.partition("=")
        setter = _VOLUME_OPTIONS.get(word)
        if setter is None:
            known = ", ".join(sorted(_VOLUME_OPTIONS))
            raise ConfigError(file, name, option, f"no such option; there are {known}")
        try:
            volume = setter(volume, value)
        except ValueError as error:
            raise ConfigError(file, name, option, str(error)) from error
    if volume.read_only and volume.write_cache:
        raise ConfigError(file, name, "ro,wce", "nothing is written, so there is no write cache")
    return volume


Setter = Callable[[Volume, str], Volume]


def _flag(attribute: str) -> Setter:
    def setter(volume: Volume, value: str) -> Volume:
        if value:
            raise ValueError("takes no value")
        changes: dict[str, Any] = {attribute: True}
        return replace(volume, **changes)

    return setter


def _layer(attribute: str, parse: Callable[[str], object]) -> Setter:
    def setter(volume: Volume, value: str) -> Volume:
        changes: dict[str, Any] = {attribute: parse(value)}
        return replace(volume, layers=replace(volume.layers, **changes))

    return setter


def _delay(operation: str) -> Setter:
    def setter(volume: Volume, value: str) -> Volume:
        delays = {**volume.layers.delays, OPERATIONS[operation]: parse_duration(value)}
        return replace(volume, layers=replace(volume.layers, delays=delays))

    return setter


def _block_size(volume: Volume, value: str) -> Volume:
    if value not in map(str, BLOCK_SIZES):
        raise ValueError(_WHICH_BLOCKS)
    return replace(volume, block_size=int(value))


def _parse_operations(text: str) -> frozenset[int]:
    names = text.split("+")
    if not set(names) <= set(OPERATIONS):
        raise ValueError(f"operations are {', '.join(OPERATIONS)}; several are joined by +")
    return frozenset(OPERATIONS[name] for name in names)


def _parse_errno(text: str) -> int:
    number = getattr(errno, text, None)
    if not isinstance(number, int):
        raise ValueError("an error is named as in errno(3): EIO, ENOSPC")
    return number


def _parse_path(text: str) -> str:
    if not text:
        raise ValueError("needs the path of a file")
    return os.path.abspath(text)


_VOLUME_OPTIONS: Final[Mapping[str, Setter]] = {
    "ro": _flag("read_only"),
    "wce": _flag("write_cache"),
    "direct": _flag("direct"),
    "share": _flag("share"),
    "blocksize": _block_size,
    "error-rate": _layer("error_rate", parse_rate),
    "error-op": _layer("error_operations", _parse_operations),
    "error-errno": _layer("error_errno", _parse_errno),
    "error-file": _layer("error_file", _parse_path),
    "delay-read": _delay("read"),
    "delay-write": _delay("write"),
    "delay-flush": _delay("flush"),
    "pause-file": _layer("pause_file", _parse_path),
}
