"""The descriptor ring of a disk: the ring of the VIO layer, and where a disk's answer stands in an entry.

Both ends are on the data path: no construct, no objects made per request but what is returned.
Source: Solaris vds.c, vd_mark_elem_done; vdc.c, vdc_depopulate_descriptor.
"""

from __future__ import annotations

from typing import Final

from protocol.vio.dring import Dstate, ExportedRing, ImportedRing

from .descriptor import ACK_FLAG, ENTRY_ONE, NBYTES, NBYTES_AT, RESULT, STATUS, STATUS_AT, STATUS_UNSET

__all__ = ["ClientRing", "ServerRing"]

_FREE: Final = int(Dstate.FREE)
_READY: Final = int(Dstate.READY)
_ACCEPTED: Final = int(Dstate.ACCEPTED)
_DONE: Final = int(Dstate.DONE)
_put_status: Final = STATUS.pack_into
_put_nbytes: Final = NBYTES.pack_into
_result: Final = RESULT.unpack_from
_put_entry: Final = ENTRY_ONE.pack_into


class ServerRing(ImportedRing):
    """The server's end of a disk's ring."""

    __slots__ = ()

    def copy(self, index: int) -> bytes:
        """Return a private copy of all of entry ``index``."""
        offset = index * self._stride
        return bytes(self._memory[offset : offset + self._stride])

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

    def submit(
        self,
        index: int,
        req_id: int,
        operation: int,
        slice: int,
        addr: int,
        nbytes: int,
        cookie: int,
        size: int,
    ) -> None:
        """Fill entry ``index`` with a request of one cookie, or of no bytes, and hand it over.

        The data path's :meth:`post`: the entry is written in place. Tell the server next.
        """
        memory = self._memory
        offset = index * self._stride
        _put_entry(
            memory,
            offset,
            _FREE,
            ACK_FLAG,
            req_id,
            operation,
            slice,
            STATUS_UNSET,
            addr,
            nbytes,
            1 if nbytes else 0,
            cookie,
            size,
        )
        memory[offset] = _READY  # last: everything else is in place

    def reap(self, index: int) -> tuple[int, int]:
        """Return (status, nbytes) of entry ``index``, which :meth:`is_done` has found DONE, and free it.

        Both are the server's word: check them against what was asked.
        """
        memory = self._memory
        offset = index * self._stride
        status, _, nbytes = _result(memory, offset + STATUS_AT)
        memory[offset] = _FREE
        return status, nbytes
