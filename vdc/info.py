"""What a disk is, for people and for programs: the answers of ``vdc info``."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.vdisk.operations import Operation
from vdc.disk import Disk

__all__ = ["DiskInfo", "format_size"]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskInfo:
    """A disk's facts when it was looked at. Sizes are bytes; names stand for the numbers of the wire."""

    volume: str
    socket: str
    transport: str
    state: str
    size: int
    block_size: int
    max_transfer: int
    read_only: bool
    version: str
    operations: list[str]
    extensions: list[str]
    instance: str

    @classmethod
    def of(cls, disk: Disk, socket: str) -> DiskInfo:
        """Look at ``disk``, which was reached at ``socket``."""
        return cls(
            volume=disk.volume,
            socket=socket,
            transport=disk.transport.name.lower(),
            state=disk.state,
            size=disk.size,
            block_size=disk.block_size,
            max_transfer=disk.max_xfer,
            read_only=disk.read_only,
            version=".".join(map(str, disk.version)),
            operations=[operation.name for operation in Operation if disk.offers(operation)],
            extensions=[flag.name.lower() for flag in disk.extensions if flag.name],
            instance=disk.instance,
        )

    def text(self) -> str:
        """The facts as lines for a terminal."""
        rows = {
            "size": f"{self.size} bytes ({format_size(self.size)})",
            "block size": f"{self.block_size} bytes",
            "largest transfer": format_size(self.max_transfer),
            "access": "read-only" if self.read_only else "read and write",
            "operations": ", ".join(self.operations),
            "version": self.version,
            "transport": self.transport,
            "extensions": ", ".join(self.extensions) or "none",
            "instance": self.instance,
            "server": self.socket,
            "state": self.state,
        }
        width = max(map(len, rows)) + 1
        return "\n".join(
            [f"{self.volume}", *(f"  {f'{name}:':<{width}} {row}" for name, row in rows.items())]
        )


def format_size(nbytes: int) -> str:
    """``nbytes`` in the largest unit that leaves at least 1: ``256.0 MiB``, ``512 bytes``."""
    power = min((max(nbytes, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{nbytes / 1024**power:.1f} {_UNITS[power]}" if power else f"{nbytes} bytes"
