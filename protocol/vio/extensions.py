"""Capability bits of the rendezvous; part of the VIO layer, imports nothing of ours.

The wire behaviour of VIO 1.0 to 1.2 is what a peer gets that offers none of them: one message per range of
descriptors, one answer per message, in order. A version number never turns an extension on, because Linux
offers 1.2 and knows none of these. Source: FWARC 2010/054 (versions); docs/extensions.md (these bits).
"""

from enum import IntFlag
from typing import Final

__all__ = ["NO_EXTENSION", "Extension"]


class Extension(IntFlag):
    """What both ends may agree on beyond the specification."""

    POLLED_RING = 1  # one doorbell for many descriptors, one wake-up for many completions, in any order
    INLINE = 2  # socket transport: descriptors and data travel in the message instead of by COPY


NO_EXTENSION: Final = Extension(0)
"""The specification and nothing else."""
