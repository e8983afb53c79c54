"""What tests of the reliable mode share: a piece, the window, and how a reset looks."""

from __future__ import annotations

from protocol.ldc.events import LinkReset
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import TransportState
from tests.support.links import MARK, events, outputs

PIECE = bytes(range(48))
WINDOW = 1023  # mtu 8192: four of them are 682 packets, the queue has 1024 entries


def reset(link: ReliableLink, cause: str) -> bool:
    """Whether the link is back at READY, has told both sides so, and sent nothing else."""
    return (events(link), outputs(link), link.state) == ([LinkReset(cause)], [MARK], TransportState.READY)


def fill(link: ReliableLink) -> int:
    """Write more than the window holds; return how many bytes were taken."""
    return sum(link.send(bytes(48 * 100)) for _ in range(12))
