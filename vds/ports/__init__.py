"""Where a session's requests come from and where their answers go: the ring in place, or through COPY.

Every request goes the same way, whatever brings it:

    taken (one private copy) → admitted (validated on the copy) → lent (the guest's buffers) → executed
      → stored (data in the guest) → published (status, nbytes, DONE) → answered (a message, if one is due)

:class:`MappedPort` reaches guest memory by views of it, so *lent*, *stored* and *published* are done at once;
:class:`CopiedPort` sends COPY records and goes on when they are answered, and serves in one step what came
pushed and can be done at once (:class:`PushedWay`). A step that fails because of the guest's own memory is a
fault: NACK and full reset. Every request that arrives is answered or faulted exactly once. The captured ones
do the same and tell a capture of it.
"""

from vds.ports.base import Port
from vds.ports.captured import CapturedCopiedPort, CapturedMappedPort
from vds.ports.copied import CopiedPort
from vds.ports.mapped import MappedPort
from vds.ports.pushed import PushedWay

__all__ = ["CapturedCopiedPort", "CapturedMappedPort", "CopiedPort", "MappedPort", "Port", "PushedWay"]
