"""Who is at the other end of a Unix socket, as the kernel knows it.

The kernel notes process, user and group when the peer calls ``connect`` (or, seen from the client, when the
server calls ``listen``); nothing that the peer says afterwards changes them.

Source: Linux unix(7), SO_PEERCRED; socket(7), SO_PASSRIGHTS.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final, NamedTuple

__all__ = ["Credentials", "default_uids", "peer_credentials", "refuse_descriptors"]

_UCRED: Final = struct.Struct("iII")
"""``struct ucred`` of this host: pid, uid, gid. A kernel structure, not the wire's."""

SO_PASSRIGHTS: Final = 83
"""Linux 6.16, ``include/uapi/asm-generic/socket.h``; no Python knows it yet."""


class Credentials(NamedTuple):
    """Process, user and group of a peer at the time it connected."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> Credentials:
    """Return who connected ``sock``."""
    return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def default_uids() -> frozenset[int]:
    """Return the users served when nothing else is configured: our own and root."""
    return frozenset({os.geteuid(), 0})


def refuse_descriptors(sock: socket.socket) -> bool:
    """Have the kernel refuse descriptors sent to ``sock`` from now on; False where it is too old for that.

    The sender gets EPERM. Descriptors already under way still arrive, so a receiver looks for them all the
    same.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True
