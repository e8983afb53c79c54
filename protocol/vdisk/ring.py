"""The descriptor ring of a disk: the ring of the VIO layer, and where a disk's answer stands in an entry.

Both ends are on the data path: no construct, no objects made per request but what is returned.
Source: Solaris vds.c, vd_mark_elem_done; vdc.c, vdc_depopulate_descriptor.
"""

from __future__ import annotations

from typing import Final

from protocol.vio.dring import Dstate, ExportedRing, ImportedRing

from .descriptor import NBYTES, NBYTES_AT, RESULT, STATUS, STATUS_AT

__all__ = ["ClientRing", "ServerRing"]

_FREE: Final = int(Dstate.FREE)
_ACCEPTED: Final = int(Dstate.ACCEPTED)
_DONE: Final = int(Dstate.DONE)
_put_status: Final = STATUS.pack_into
_put_nbytes: Final = NBYTES.pack_into
_result: Final = RESULT.unpack_from


class ServerRing(ImportedRing):
    """The server's end of a disk's ring."""

    __slots__ = ()

    def finish(self, index: int, status: int, nbytes: int) -> None:
        """Answer entry ``index``: length, status, then DONE; tell the client next.

        Raises: RingError (the client changed the entry's state; nothing was written): NACK with its index,
            then full reset. Source: Solaris vds.c, vd_mark_elem_done.
        """
        memory = self._memory
        offset = index * self._stride
        if memory[offset] != _ACCEPTED:
            self._unexpected(index, Dstate.ACCEPTED)
        _put_nbytes(memory, offset + NBYTES_AT, nbytes)
        _put_status(memory, offset + STATUS_AT, status)
        memory[offset] = _DONE  # last: the client may be polling it


class ClientRing(ExportedRing):
    """The client's end of a disk's ring."""

    __slots__ = ()

    def reap(self, index: int) -> tuple[int, int]:
        """Return (status, nbytes) of entry ``index``, which :meth:`is_done` has found DONE, and free it.

        Both are the server's word: check them against what was asked.
        """
        memory = self._memory
        offset = index * self._stride
        status, _, nbytes = _result(memory, offset + STATUS_AT)
        memory[offset] = _FREE
        return status, nbytes
