"""Capability bits of the rendezvous; part of the VIO layer, imports only errors.

The wire behaviour of VIO 1.0 to 1.2 is what a peer gets that offers none of them: one message per range of
descriptors, one answer per message, in order. A version number never turns an extension on, because Linux
offers 1.2 and knows none of these. Source: FWARC 2010/054 (versions); docs/extensions.md (these bits).
"""

from enum import IntFlag
from typing import Final

from protocol.errors import Layer, LocalProtocolError

__all__ = ["NO_EXTENSION", "Extension", "ring_scheme"]


class Extension(IntFlag):
    """What both ends may agree on beyond the specification."""

    POLLED_RING = 1  # one doorbell for many descriptors, one wake-up for many completions, in any order
    INLINE = 2  # socket transport: descriptors and data travel in the message instead of by COPY
    OPEN_RANGES = 4  # end_idx -1: until an entry is not READY, and the processing state says when that was


NO_EXTENSION: Final = Extension(0)
"""The specification and nothing else."""


def ring_scheme(extensions: Extension) -> Extension:
    """Return the one of ``extensions`` that gives DRING_DATA another meaning, or NO_EXTENSION.

    Raises: LocalProtocolError (two of them: an ``end_idx`` of -1 cannot mean both).
    """
    scheme = extensions & (Extension.POLLED_RING | Extension.OPEN_RANGES)
    if scheme == Extension.POLLED_RING | Extension.OPEN_RANGES:
        raise LocalProtocolError(Layer.VIO, "a ring is polled, or has open ranges; not both")
    return scheme
