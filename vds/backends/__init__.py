"""What a disk is made of: a file, a block device, memory, nothing. One module each, one small interface.

A backend knows bytes and offsets, and neither slices nor clients. A new one is a module with a class that
implements :class:`Backend` and an entry in :mod:`vds.backends.registry`.
"""

from vds.backends.base import Backend, Spec
from vds.backends.registry import open_backend

__all__ = ["Backend", "Spec", "open_backend"]
