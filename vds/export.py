"""An export: a backend, what was asked for it, and what clients are told. Its clients' requests go to
``executor``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from protocol.errors import ConfigError, LocalProtocolError
from protocol.vdisk.attributes import DiskAttributes, check_attributes, is_block_size
from protocol.vdisk.operations import Operation, operations_mask
from protocol.vdisk.payloads import Capacity, CapacityLayout, build_geometry, default_geometry
from vds.backends.base import Backend, Spec
from vds.backends.registry import open_backend
from vds.layers import Layers
from vds.units import format_size

if TYPE_CHECKING:
    from vds.execute import Executor
    from vds.volume import Volume

__all__ = ["MAX_TRANSFER", "Export", "open_export"]

MAX_TRANSFER: Final = 1024 * 1024
"""Bytes that one request may have: enough for a disk's full speed, little enough for a fair turn."""

log = logging.getLogger("vds")


def open_export(volume: Volume) -> Export:
    """Open the backend of ``volume``.

    Raises: ConfigError (the backend cannot be, or the options do not fit it); OSError (path and sentence).
    """
    spec = Spec(
        target=volume.backend,
        read_only=volume.read_only,
        direct=volume.direct,
        share=volume.share,
        block_size=volume.block_size,
    )
    try:
        backend = open_backend(spec)
    except ValueError as error:
        raise ConfigError(None, volume.name, volume.backend, str(error)) from error
    try:
        return Export(volume, backend)
    except ConfigError:
        backend.close()
        raise


class Export:
    """One volume as clients see it: a full disk. Owns its backend.

    ``executor`` is set by whoever runs the loop, before the first session.

    Raises: ConfigError (the blocks asked for are smaller than the backend's with ``direct``, or larger than
    it; sizes that no disk can have).
    """

    executor: Executor

    def __init__(self, volume: Volume, backend: Backend) -> None:
        self.name = volume.name
        self.backend = backend
        self.layers = Layers(volume.layers)
        self.read_only = volume.read_only
        self.write_cache = volume.write_cache
        """Whether an acknowledged write waits for a FLUSH to become stable."""
        self.block_size = volume.block_size or backend.block_size
        if not is_block_size(self.block_size):
            raise ConfigError(
                None, f"{self.name}: blocksize", self.block_size, "not 512 times a power of two"
            )
        if volume.direct and self.block_size < backend.block_size:
            why = f"direct I/O on this device needs at least {backend.block_size}"
            raise ConfigError(None, f"{self.name}: blocksize", self.block_size, why)
        self.size = backend.size - backend.size % self.block_size
        """Bytes, whole blocks."""
        if not self.size:
            why = f"the backend has {backend.size} bytes, not one block"
            raise ConfigError(None, f"{self.name}: blocksize", self.block_size, why)
        self.instance = backend.instance
        self.attributes = DiskAttributes(
            size_blocks=self.size // self.block_size,
            max_xfer_blocks=MAX_TRANSFER // self.block_size,
            block_size=self.block_size,
            operations=operations_mask((1, 2), self.read_only),
            phys_block_size=max(self.block_size, backend.block_size),
        )
        try:
            check_attributes(self.attributes)
        except LocalProtocolError as error:
            raise ConfigError(None, self.name, volume.backend, error.reason) from error
        self._facts = {
            Operation.GET_CAPACITY: CapacityLayout.build(
                Capacity(vdisk_block_size=self.block_size, vdisk_size=self.attributes.size_blocks)
            ),
            Operation.GET_DISKGEOM: build_geometry(default_geometry(self.size)),
        }

    def facts(self, operation: int) -> bytes:
        """Return the answer to GET_CAPACITY or GET_DISKGEOM."""
        return self._facts[Operation(operation)]

    def describe(self) -> str:
        """Return one phrase for the log: ``disk0 (256.0 MiB, file, rw)``."""
        words = [format_size(self.size), self.backend.kind, "ro" if self.read_only else "rw"]
        if self.write_cache:
            words.append("wce")
        return f"{self.name} ({', '.join(words)})"

    def close(self) -> None:
        """Close the backend; nothing runs any more. Logs what the layers did. Harmless when done twice."""
        report = self.layers.report()
        if report:
            log.info("%s: injected %s", self.name, report)
        self.backend.close()
