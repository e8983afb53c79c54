"""NBD server on a disk: fixed newstyle, over a Unix socket. :class:`NbdServer` is all that others need."""

from .server import NbdServer

__all__ = ["NbdServer"]
