"""What the asyncio disk and the blocking one have in common: facts, checks, and requests made from calls."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from errno import EIO, EROFS
from typing import Final, TypeAlias

from hypervisor.patience import Patience, polling
from hypervisor.rendezvous import Transport
from protocol.errors import DiskError
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vdisk.payloads import CAPACITY_NBYTES, GEOMETRY_NBYTES, CapacityLayout
from protocol.vio.extensions import Extension

from .buffers import Buffer
from .engine import Engine
from .requests import Finish, Request
from .session import WANTED_XFER
from .states import ANSWERS_EIO, State

__all__ = ["FLUSH", "READ", "WRITE", "DiskFacts", "ReadTarget", "WriteSource", "make_patience"]

READ: Final = int(Operation.BREAD)  # plain ints hash, compare and pack faster than enum members
WRITE: Final = int(Operation.BWRITE)
FLUSH: Final = int(Operation.FLUSH)
RUNNING: Final = State.RUNNING  # an attribute of an enumeration is slow to look up

WriteSource: TypeAlias = bytes | bytearray | memoryview | Buffer
ReadTarget: TypeAlias = bytearray | memoryview | Buffer

log = logging.getLogger("vdc")


def make_patience(poll_us: int) -> Patience:
    """How long a disk looks for answers before it sleeps: as asked, where this machine can poll at all."""
    poll_us, why = polling(poll_us)
    if why:
        log.info(why)
    return Patience(poll_us / 1e6)


class DiskFacts:
    """A disk's facts as the server last told them; the base of both kinds of disk."""

    size: int
    """Bytes."""
    block_size: int
    """Bytes; every offset and length is a multiple of it."""
    max_xfer: int
    """Bytes one request carries; a longer call is split."""
    operations: int
    """Mask of what the server executes: bit n is operation n."""

    _engine: Engine
    _learned = 0  # the connection whose facts these are

    def _learn(self) -> None:
        """Take the facts of a new connection; those of the last one hold until then."""
        attributes = self._engine.attributes
        if attributes is None or self._learned == self._engine.connections:
            return
        self._learned = self._engine.connections
        self.block_size = block = attributes.block_size
        self.size = attributes.size_blocks * block
        self.operations = attributes.operations
        self.max_xfer = max(min(attributes.max_xfer_blocks * block, WANTED_XFER) // block, 1) * block

    @property
    def volume(self) -> str:
        """The volume's name at the server."""
        return self._engine.target.volume

    @property
    def transport(self) -> Transport:
        """Shared memory or socket only."""
        return self._engine.target.transport

    @property
    def read_only(self) -> bool:
        """The server offers no BWRITE."""
        return not self.offers(Operation.BWRITE)

    @property
    def state(self) -> str:
        """Where the connection stands: one of :class:`vdc.states.State`, in lower case."""
        return self._engine.state.name.lower()

    @property
    def version(self) -> tuple[int, int]:
        """The vDisk version agreed with the server."""
        return self._engine.version

    @property
    def extensions(self) -> Extension:
        """What beyond the original protocol was agreed in the rendezvous."""
        return self._engine.extensions

    @property
    def instance(self) -> str:
        """The volume's identity in hex; another one after a reconnect means other data."""
        return (self._engine.instance or b"").hex()

    @property
    def counters(self) -> dict[str, int]:
        """Requests submitted and resubmitted, and connections made, since the disk was opened."""
        table = self._engine.table
        return {
            "submitted": table.submitted,
            "resubmitted": table.resubmitted,
            "connections": self._engine.connections,
        }

    def offers(self, operation: Operation) -> bool:
        """Whether the server executes ``operation``."""
        return bool(self.operations >> operation & 1)

    # -- checks ------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._engine.state is State.CLOSED:
            raise ValueError(f"disk {self.volume} is closed")

    def _check_served(self) -> None:
        self._check_open()
        if self._engine.state in ANSWERS_EIO:
            raise OSError(EIO, f"disk {self.volume} is {self.state}: {self._engine.cause}")

    def _check(self, offset: int, nbytes: int) -> None:
        block = self.block_size
        if offset % block or nbytes % block:
            raise ValueError(f"offset {offset} and length {nbytes} must be multiples of {block}")
        if offset < 0 or nbytes < 0 or offset + nbytes > self.size:
            raise ValueError(f"{nbytes} bytes at {offset} are not within the disk's {self.size}")
        if self._engine.state is not RUNNING:
            self._check_open()

    def _check_buffer(self, nbytes: int) -> None:
        self._check_open()
        if not 0 < nbytes <= self.max_xfer:
            raise ValueError(f"a buffer has 1 to {self.max_xfer} bytes, not {nbytes}")

    # -- requests ----------------------------------------------------------------------------------------

    def _split(self, offset: int, nbytes: int) -> Iterator[tuple[int, int, int]]:
        """(where in the data, block address, length) of each request that ``nbytes`` at ``offset`` take."""
        for start in range(0, nbytes, self.max_xfer):
            yield start, (offset + start) // self.block_size, min(self.max_xfer, nbytes - start)

    def _reads(self, offset: int, nbytes: int, finish: Finish) -> list[Request]:
        self._check(offset, nbytes)
        if 0 < nbytes <= self.max_xfer:
            return [Request(READ, offset // self.block_size, nbytes, finish)]
        return [Request(READ, addr, size, finish) for _, addr, size in self._split(offset, nbytes)]

    def _reads_into(
        self, offset: int, targets: ReadTarget | Sequence[ReadTarget], finish: Finish
    ) -> list[Request]:
        sequence = targets if isinstance(targets, list | tuple) else (targets,)
        requests = []
        for target in sequence:
            view = _bytes_view(target)
            self._check(offset, len(view))
            if isinstance(target, Buffer):
                requests.append(Request(READ, offset // self.block_size, len(view), finish, buffer=target))
            else:
                requests += [
                    Request(READ, addr, size, finish, into=view[start : start + size])
                    for start, addr, size in self._split(offset, len(view))
                ]
            offset += len(view)
        return requests

    def _writes(self, offset: int, data: WriteSource, finish: Finish) -> list[Request]:
        view = data if type(data) is bytes else _bytes_view(data)
        nbytes = len(view)
        self._check(offset, nbytes)
        if not self.operations >> WRITE & 1:
            raise DiskError(
                EROFS, Operation.BWRITE, slice=SLICE_NONE, addr=offset // self.block_size, nbytes=nbytes
            )
        buffer = data if type(data) is Buffer else None
        if 0 < nbytes <= self.max_xfer:
            return [Request(WRITE, offset // self.block_size, nbytes, finish, None, view, None, buffer)]
        view = memoryview(view)  # a part of it is no copy
        return [
            Request(WRITE, addr, size, finish, source=view[start : start + size], buffer=buffer)
            for start, addr, size in self._split(offset, nbytes)
        ]

    def _flush(self, finish: Finish) -> list[Request]:
        """No request on a disk that offers no FLUSH: there is nothing that it could lose."""
        self._check_open()
        return [Request(FLUSH, 0, 0, finish)] if self.offers(Operation.FLUSH) else []

    def _capacity(self, finish: Finish) -> list[Request]:
        self._check_open()
        offered = self.offers(Operation.GET_CAPACITY)
        return [Request(int(Operation.GET_CAPACITY), 0, CAPACITY_NBYTES, finish)] if offered else []

    def _geometry(self, finish: Finish) -> list[Request]:
        self._check_open()
        return [Request(int(Operation.GET_DISKGEOM), 0, GEOMETRY_NBYTES, finish)]

    def _learn_capacity(self, results: Iterable[Request]) -> tuple[int, int]:
        for request in results:
            capacity = CapacityLayout.parse(request.result or b"")
            if capacity.vdisk_block_size != self.block_size:
                raise request.error(EIO)
            self.size = capacity.vdisk_size * self.block_size
        return self.block_size, self.size // self.block_size


def _bytes_view(data: ReadTarget | WriteSource) -> memoryview:
    """``data`` as a flat view of bytes."""
    view = data.view if isinstance(data, Buffer) else memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
