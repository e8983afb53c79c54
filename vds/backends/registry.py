"""Which backend a volume names: ``kind:target``, or a path, whose kind is what is found there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from vds.backends.base import Backend, Spec
from vds.backends.device import DeviceBackend
from vds.backends.file import FileBackend
from vds.backends.memory import MemoryBackend
from vds.backends.null import NullBackend

__all__ = ["KINDS", "is_path", "open_backend"]

KINDS: Final[Mapping[str, Callable[[Spec], Backend]]] = {
    MemoryBackend.kind: MemoryBackend,
    NullBackend.kind: NullBackend,
}
"""Prefix → what opens it. A file of such a name is reached as ``./memory:1``."""


def is_path(target: str) -> bool:
    """Tell whether ``target`` names a file or device, rather than a backend of another kind."""
    return target.partition(":")[0] not in KINDS or ":" not in target


def open_backend(spec: Spec) -> Backend:
    """Open what ``spec.target`` names, as it is written in the configuration.

    Raises: OSError (path and sentence; the system's word), ValueError (a size that is none).
    """
    if not is_path(spec.target):
        kind, _, rest = spec.target.partition(":")
        return KINDS[kind](replace(spec, target=rest))
    mode = os.stat(spec.target).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(
            errno.EISDIR, "a directory is no disk: name a file in it, or a block device", spec.target
        )
    return DeviceBackend(spec) if stat.S_ISBLK(mode) else FileBackend(spec)
