"""Messages of the data phase, and answers made out of requests; nothing here has a state."""

from __future__ import annotations

from typing import Final

from protocol.vdisk.descriptor import INBAND
from protocol.vio.doorbell import Doorbell
from protocol.vio.messages import DoorbellLayout, DringDataLayout, Envelope, MessageType, Subtype, echo

__all__ = ["acknowledge_inband", "build_doorbell", "nack_at", "seq_num_of"]

_DRING_DATA: Final = DringDataLayout.codec
_DOORBELL: Final = DoorbellLayout.codec
_DRING_SEQ_NUM_AT: Final = _DRING_DATA.fields.index("seq_num")
_DATA: Final = int(MessageType.DATA)  # plain ints: looking an enum member up costs as much as packing it
_ENVELOPE: Final = int(Envelope.DRING_DATA)
_SUBTYPE_AT, _STATUS_AT, _NBYTES_AT = (INBAND.fields.index(name) for name in ("subtype", "status", "nbytes"))


def build_doorbell(doorbell: Doorbell, subtype: int, sid: int, ident: int, end_idx: int) -> bytes:
    """Return the DRING_DATA of a polled ring; ``end_idx`` is -1 in all but a NACK."""
    return _DOORBELL.pack(
        _DATA,
        subtype,
        _ENVELOPE,
        sid,
        doorbell.seq_num,
        ident,
        doorbell.start_idx,
        end_idx,
        doorbell.proc_state,
        doorbell.completions,
    )


def seq_num_of(message: bytes) -> int:
    """Return the number of ring data."""
    return int(_DRING_DATA.unpack_from(message)[_DRING_SEQ_NUM_AT])


def nack_at(message: bytes, index: int) -> bytes:
    """Return the NACK of a data message, for ring data with the entry that failed as its end."""
    msgtype, _, envelope, sid, *rest = _DRING_DATA.unpack_from(message)
    if envelope != Envelope.DRING_DATA:
        return echo(message, Subtype.NACK)
    seq_num, ident, start, _, state = rest
    return _DRING_DATA.pack(msgtype, Subtype.NACK, envelope, sid, seq_num, ident, start, index, state)


def acknowledge_inband(message: bytes, status: int, nbytes: int) -> bytes:
    """Return the answer to an in-band request.

    Solaris sends status and length back unchanged for some, a defect (vds.c, vd_process_desc_msg).
    """
    values = list(INBAND.unpack_from(message))
    values[_SUBTYPE_AT], values[_STATUS_AT], values[_NBYTES_AT] = Subtype.ACK, status, nbytes
    return INBAND.pack(*values) + message[INBAND.size :]
