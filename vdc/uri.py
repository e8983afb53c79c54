"""Where a disk is: ``vdisk+unix:///NAME?socket=PATH`` taken apart and checked once.

>>> Target.parse("vdisk+unix:///disk0?socket=/run/vds.sock").volume
'disk0'
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from hypervisor.rendezvous import Transport
from protocol.errors import ConfigError

__all__ = ["DEFAULT_POLL_US", "Target"]

SCHEME = "vdisk+unix"
DEFAULT_POLL_US = 50
"""How long to look at the ring before sleeping; it must outlast the server's longest batch."""
MAX_POLL_US = 10_000
MAX_TIMEOUT_S = 365 * 86_400.0

_TRANSPORTS = {"shm": Transport.SHM, "socket": Transport.SOCKET}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A volume at a server, and how to reach it.

    ``timeout_s`` is the time without a usable server after which waiting requests fail with EIO;
    0 waits for ever. ``poll_us`` 0 never polls.
    """

    volume: str
    socket: str
    transport: Transport = Transport.SHM
    timeout_s: float = 0.0
    poll_us: int = DEFAULT_POLL_US

    @classmethod
    def parse(cls, uri: str) -> Target:
        """Read a URI of the form ``vdisk+unix:///NAME?socket=PATH[&transport=…][&timeout=…][&poll-us=…]``.

        Raises: ConfigError naming the part that is wrong.
        """
        parts = urlsplit(uri)
        if parts.scheme != SCHEME:
            raise ConfigError(None, "uri", uri, f"expected {SCHEME}:///NAME?socket=PATH")
        if parts.netloc:
            raise ConfigError("uri", "host", parts.netloc, f"a Unix socket has none: write {SCHEME}:///NAME")
        values: dict[str, str] = {}
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            if key not in _PARAMETERS:
                known = ", ".join(sorted(_PARAMETERS))
                raise ConfigError("uri", key, value, f"unknown parameter; known are {known}")
            if key in values:
                raise ConfigError("uri", key, value, "given twice")
            values[key] = value
        volume = unquote(parts.path.removeprefix("/"))
        if not volume:
            raise ConfigError(None, "uri", uri, f"the volume is missing: write {SCHEME}:///NAME?socket=PATH")
        if not values.get("socket"):
            raise ConfigError(None, "uri", uri, "the server's socket is missing: add ?socket=PATH")
        return cls(
            volume=volume,
            socket=values["socket"],
            transport=_transport(values.get("transport", "shm")),
            timeout_s=_number("timeout", values.get("timeout", "0"), MAX_TIMEOUT_S),
            poll_us=int(_number("poll-us", values.get("poll-us", str(DEFAULT_POLL_US)), MAX_POLL_US)),
        )


_PARAMETERS = frozenset({"socket", "transport", "timeout", "poll-us"})


def _transport(word: str) -> Transport:
    try:
        return _TRANSPORTS[word]
    except KeyError:
        raise ConfigError("uri", "transport", word, "expected shm or socket") from None


def _number(key: str, word: str, most: float) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ConfigError("uri", key, word, "expected a number") from None
    if not 0 <= value <= most:
        raise ConfigError("uri", key, word, f"expected 0 to {most:.15g}")
    return value
