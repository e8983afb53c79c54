"""The settings of ``vdc serve``: read once, checked, and then never changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TypedDict, Unpack

from hypervisor.capture import check_capture
from protocol.errors import ConfigError
from vdc.uri import Target

__all__ = ["LOG_LEVELS", "LOOPS", "ServeConfig", "Settings"]

LOG_LEVELS = ("debug", "info", "warning", "error")
LOOPS = ("uvloop", "asyncio")
MAX_NAME = 4096


class Settings(TypedDict):
    """What the command line gives; ``None`` means that an option was not given."""

    nbd: str
    export: str | None
    read_only: bool
    capture: str | None
    poll_us: int | None
    log_level: str
    loop: str
    exit_with_parent: bool
    wait_s: float
    stop_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """What to serve, where, and how.

    ``export`` is the name that NBD clients ask for. ``wait_s`` is how long to try to reach the server at the
    start, ``stop_timeout_s`` how long requests may still run when the daemon is told to stop.
    """

    target: Target
    nbd: str
    export: str
    read_only: bool
    capture: str | None
    log_level: str
    loop: str
    exit_with_parent: bool
    wait_s: float
    stop_timeout_s: float

    @classmethod
    def read(cls, uri: str, **settings: Unpack[Settings]) -> ServeConfig:
        """Check what the command line gave. Raises: ConfigError."""
        target = Target.parse(uri)
        if settings["poll_us"] is not None:
            target = replace(target, poll_us=settings["poll_us"])
        name = target.volume if settings["export"] is None else settings["export"]
        if len(name.encode()) > MAX_NAME:
            raise ConfigError(None, "export", f"{name[:32]}…", f"at most {MAX_NAME} bytes")
        taken = (settings["nbd"], "the socket of the NBD server"), (target.socket, "the server's socket")
        check_capture(settings["capture"], taken)
        return cls(
            target=target,
            nbd=settings["nbd"],
            export=name,
            read_only=settings["read_only"],
            capture=settings["capture"],
            log_level=settings["log_level"],
            loop=settings["loop"],
            exit_with_parent=settings["exit_with_parent"],
            wait_s=settings["wait_s"],
            stop_timeout_s=settings["stop_timeout_s"],
        )

    def shown(self) -> dict[str, object]:
        """The settings as plain values, for ``--show-config``."""
        values = asdict(self)
        target: dict[str, object] = values.pop("target")
        target["transport"] = self.target.transport.name.lower()
        return target | values
