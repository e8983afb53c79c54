"""Who the clients are, over all their connections: the secret behind each client id.

A client proves with its secret that a new connection is its own, so that its old one may be fenced; nobody
else can claim its id. Ids with a session are remembered, of the others the latest.
"""

from __future__ import annotations

import hmac
from collections import Counter, OrderedDict

__all__ = ["Clients"]


class Clients:
    """The client ids known to one server; at most ``limit`` of them besides those with a session."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._secrets: OrderedDict[bytes, bytes] = OrderedDict()
        self._sessions: Counter[bytes] = Counter()

    def claim(self, client_id: bytes, secret: bytes) -> bool:
        """Return whether ``secret`` is that of ``client_id``; the first one to come is."""
        known = self._secrets.setdefault(client_id, secret)
        if not hmac.compare_digest(known, secret):
            return False
        self._secrets.move_to_end(client_id)
        self._forget_some()
        return True

    def joined(self, client_id: bytes) -> None:
        """A session of this client begins: keep its secret until it :meth:`left`."""
        self._sessions[client_id] += 1

    def left(self, client_id: bytes) -> None:
        """A session of this client has ended."""
        self._sessions[client_id] -= 1
        if not self._sessions[client_id]:
            del self._sessions[client_id]
        self._forget_some()

    def __len__(self) -> int:
        return len(self._secrets)

    def _forget_some(self) -> None:
        """Forget the ids longest unused, those with a session never."""
        excess = len(self._secrets) - len(self._sessions) - self._limit
        if excess > 0:
            idle = (client_id for client_id in self._secrets if client_id not in self._sessions)
            for client_id in [client_id for client_id, _ in zip(idle, range(excess), strict=False)]:
                del self._secrets[client_id]
