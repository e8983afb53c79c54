"""What a bad disk does, on demand: errors, delays, pauses; named after nbdkit's filters.

Layers decide in the event loop, before a request reaches the backend: they never occupy a worker thread, and
a waiting request can be dropped at once when its client dies or the server stops.

Source: nbdkit-error-filter(1), nbdkit-delay-filter(1), nbdkit-pause-filter(1).
"""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.vdisk.operations import Operation

__all__ = ["OPERATIONS", "LayerOptions", "Layers"]

OPERATIONS: Final[Mapping[str, int]] = {
    "read": Operation.BREAD,
    "write": Operation.BWRITE,
    "flush": Operation.FLUSH,
}
"""What layers apply to, by the name it has in options."""
_NAMES: Final = {operation: name for name, operation in OPERATIONS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """The layers of a volume as configured; the defaults leave requests alone."""

    error_rate: float = 0.0
    """Which part of the requests fails, 0 to 1."""
    error_operations: frozenset[int] = frozenset({Operation.BREAD, Operation.BWRITE})
    """Which requests may fail. Not FLUSH unless asked for: after one failed flush all fail, for good."""
    error_errno: int = errno.EIO
    error_file: str | None = None
    """Requests fail only while this file exists; None: always."""
    delays: Mapping[int, float] = field(default_factory=dict)
    """Operation → seconds that it waits."""
    pause_file: str | None = None
    """Requests wait while this file exists."""

    @property
    def any(self) -> bool:
        """Whether there is any layer at all."""
        return bool(self.error_rate or self.delays or self.pause_file)


class Layers:
    """The layers of one volume at work; ``injected`` counts errors by the name of the operation."""

    def __init__(self, options: LayerOptions, dice: random.Random | None = None) -> None:
        self.options = options
        self.injected: Counter[str] = Counter()
        self._dice = dice or random.Random()

    def fault(self, operation: int) -> int:
        """Return the errno that this request is to fail with, or 0."""
        options = self.options
        if (
            operation not in options.error_operations
            or (options.error_file is not None and not os.path.exists(options.error_file))
            or self._dice.random() >= options.error_rate
        ):
            return 0
        self.injected[_NAMES[operation]] += 1
        return options.error_errno

    def delay(self, operation: int) -> float:
        """Return how many seconds this request waits."""
        return self.options.delays.get(operation, 0.0)

    @property
    def paused(self) -> bool:
        """Whether requests wait at present."""
        return self.options.pause_file is not None and os.path.exists(self.options.pause_file)

    def report(self) -> str:
        """Return what was injected, for the log: ``3 errors (2 read, 1 write)``; empty without an error
        layer.
        """
        if not self.options.error_rate:
            return ""
        parts = ", ".join(f"{count} {name}" for name, count in sorted(self.injected.items()))
        return f"{self.injected.total()} errors ({parts or 'none'})"
