"""What the server is to do, read and checked once: the command line over a TOML file over defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from hypervisor.capture import check_capture
from protocol.errors import ConfigError
from vds.backends.registry import is_path
from vds.units import parse_duration
from vds.volume import Volume, make_volume, parse_volume

__all__ = ["LOG_LEVELS", "LOOPS", "Config", "make_config"]

LOOPS: Final = ("uvloop", "asyncio")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
MAX_CHANNELS: Final = 4096
"""Channels a server has at most unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A server's configuration, complete and checked."""

    volumes: tuple[Volume, ...] = ()
    listen: str | None = None
    """Path of the socket."""
    allow_uid: tuple[int, ...] | None = None
    """Users served; None: our own and root."""
    max_channels: int = MAX_CHANNELS
    poll_us: int = 50
    threads: int = 4
    """Worker threads of each volume."""
    stop_timeout: float = 10.0
    """Seconds that requests under way have to end when the server stops."""
    capture: str | None = None
    """Path of a file that all channels are captured to."""
    loop: str = "uvloop"
    log_level: str = "info"
    exit_with_parent: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return the configuration as the file would say it, for ``--show-config``."""
        settings: dict[str, object] = {
            _spelled(item.name): getattr(self, item.name) for item in fields(self) if item.name != "volumes"
        }
        settings["volume"] = {
            volume.name: {"backend": volume.backend, "options": list(volume.options)}
            for volume in self.volumes
        }
        return settings


def make_config(given: Mapping[str, object], volumes: Sequence[str] = (), file: str | None = None) -> Config:
    """Return the configuration: ``given`` (only what was really given) over ``file`` over the defaults.

    Keys are those of :class:`Config`. A volume given replaces one of the same name in the file.

    Raises: ConfigError (file unreadable or no TOML; unknown key; value out of its range; the capture is
        something else that is used).
    """
    settings, of_file = _read_file(file) if file is not None else ({}, {})
    of_line: dict[str, Volume] = {}
    for text in volumes:
        volume = parse_volume(text)
        if volume.name in of_line:
            raise ConfigError(None, "volume", volume.name, "given twice")
        of_line[volume.name] = volume
    values: dict[str, Any] = {}
    for key, value in given.items():
        values[key] = _check(key, value, None)
    for key, value in settings.items():
        values.setdefault(key, value)
    config = Config(volumes=tuple({**of_file, **of_line}.values()), **values)
    check_capture(config.capture, _paths(config), file=None if "capture" in given else file)
    return config


def _paths(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each path that the server uses, and what it is for."""
    if config.listen is not None:
        yield config.listen, "the socket to listen on"
    for volume in config.volumes:
        if is_path(volume.backend):
            yield volume.backend, f"the backend of volume {volume.name}"


def _read_file(file: str) -> tuple[dict[str, Any], dict[str, Volume]]:
    try:
        content = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(None, "--config", file, error.strerror or str(error)) from error
    except ValueError as error:
        raise ConfigError(None, "--config", file, f"no TOML: {error}") from error
    tables = content.pop("volume", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError(file, "volume", tables, "volumes are tables: [volume.NAME]")
    volumes = {name: _volume_of_table(name, table, file) for name, table in tables.items()}
    return {
        _attribute(key, file): _check(_attribute(key, file), value, file) for key, value in content.items()
    }, volumes


def _volume_of_table(name: str, table: dict[str, object], file: str) -> Volume:
    """``[volume.disk0]``: ``backend``, and options as keys (``ro = true``) or as ``options = [...]``."""
    table = dict(table)
    backend = table.pop("backend", "")
    listed = table.pop("options", [])
    if not isinstance(backend, str) or not isinstance(listed, list):
        raise ConfigError(file, name, backend, "backend is a string, options are a list of strings")
    options = [str(option) for option in listed]
    for key, value in table.items():
        if value is not False:
            options.append(key if value is True else f"{key}={value}")
    return make_volume(name, backend, options, file)


def _spelled(attribute: str) -> str:
    return attribute.replace("_", "-")


def _attribute(key: str, file: str) -> str:
    attribute = key.replace("-", "_")
    if attribute not in _CHECKS:
        known = ", ".join(map(_spelled, _CHECKS))
        raise ConfigError(file, key, "", f"no such setting; there are {known}, volume")
    return attribute


def _check(key: str, value: object, file: str | None) -> object:
    try:
        return _CHECKS[key](value)
    except (ValueError, TypeError) as error:
        raise ConfigError(file, _spelled(key), value, str(error)) from error


def _whole(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return check


def _one_of(choices: Sequence[str]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return check


def _path(what: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"must be the path of a {what}")
        return value

    return check


def _seconds(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds")
    return float(value)


def _uids(value: object) -> tuple[int, ...]:
    check = _whole(0, 0xFFFFFFFE)
    return tuple(check(uid) for uid in (value if isinstance(value, list | tuple) else [value]))


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


_CHECKS: Final[Mapping[str, Callable[[object], object]]] = {
    "listen": _path("socket"),
    "allow_uid": _uids,
    "max_channels": _whole(1, 65536),
    "poll_us": _whole(0, 1_000_000),
    "threads": _whole(1, 64),
    "stop_timeout": _seconds,
    "capture": _path("file"),
    "loop": _one_of(LOOPS),
    "log_level": _one_of(LOG_LEVELS),
    "exit_with_parent": _switch,
}
