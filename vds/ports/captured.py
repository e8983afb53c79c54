"""The ports of a channel that is captured: the plain ones, with a ring that tells the capture."""

from __future__ import annotations

from hypervisor.captured import CapturedServerRing
from protocol.vdisk.ring import ServerRing
from protocol.vio.dring import RingGeometry
from vds.ports.base import Port
from vds.ports.copied import CopiedPort
from vds.ports.mapped import MappedPort
from vds.ports.quick import Serve

__all__ = ["CapturedCopiedPort", "CapturedMappedPort"]


class _Captured(Port):
    """What both have."""

    _captured: CapturedServerRing

    def make_ring(self, memory: memoryview, ring: RingGeometry) -> ServerRing:
        """Return our end of the ring in ``memory``, which tells the session's tap."""
        assert self.session.tap is not None
        self._captured = CapturedServerRing(memory, ring, self.session.tap)
        return self._captured

    def offer(self, batch: int, start_idx: int, count: int) -> None:
        """As :meth:`Port.offer`; the ring hears first which message it was."""
        last = (start_idx + count - 1) % self._captured.geometry.num_descriptors
        self._captured.announced(start_idx, last, self._stack.seq_num(batch))
        super().offer(batch, start_idx, count)


class CapturedMappedPort(_Captured, MappedPort):
    """A port by views of the client's memory. Every request goes the long way, past the ring that tells."""

    def make_quick(self, entries: memoryview, ring: RingGeometry) -> Serve:
        """Return a way that nothing takes."""
        return lambda at, most, longest: 0


class CapturedCopiedPort(_Captured, CopiedPort):
    """A port by COPY."""
