"""Any structure of the wire, field by field: name, raw value, meaning; made from its layout table.

What a number means beyond its name comes from one table, by the field's name, which the drivers' headers use
for one thing only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from protocol import wire
from protocol.ldc.cookie import ALIGNMENT, CookieLayout, PageSizeCode, page_shift, split_cookie
from protocol.vdisk.attributes import UNKNOWN_SIZE
from protocol.vdisk.descriptor import ACK_FLAG, STATUS_UNSET
from protocol.vdisk.operations import SLICE_NONE, SLICES, Operation
from protocol.vdisk.status import WireErrno
from protocol.vio.messages import OPEN_ENDED

from .lines import Line, field, raw, remark, size, warn
from .rules import Rule

__all__ = ["LINUX_ACK_FLAG", "Values", "fields_of", "operations", "status_words", "values_of"]

Values: TypeAlias = Mapping[str, Any]

LINUX_ACK_FLAG: Final = 0x01
"""``flags`` of an entry as Linux writes it. Source: Linux arch/sparc/include/asm/vio.h, vio_dring_hdr."""

_STATUS: Final = {int(status): status.name for status in WireErrno} | {STATUS_UNSET: "not answered yet"}
_PAGE_SIZES: Final = frozenset(map(int, PageSizeCode))


def values_of(layout: wire.Layout[Any], data: bytes) -> dict[str, Any]:
    """Return the fixed fields of a structure by name; ``data`` is at least so long."""
    return dict(zip(layout.codec.fields, layout.codec.unpack_from(data), strict=True))


def fields_of(layout: wire.Layout[Any], data: bytes) -> Iterator[Line]:
    """Yield the fields of ``data``, at least the structure without its tail."""
    values = values_of(layout, data)
    for row in layout.fields:
        if row.kind is wire.Kind.RESERVED:
            yield from _reserved(row, data)
        elif row.counted_by:
            yield from _cookies(data[row.offset :], values)
        else:
            yield from _field(row, values[row.name], values)


def _field(row: wire.FieldInfo, value: int, values: Values) -> Iterator[Line]:
    known = wire.meaning(row, value)
    words = _MEANINGS[row.name](value, values) if row.name in _MEANINGS else ""
    yield field(row.name, raw(value, row.size), ", ".join(filter(None, (known, words))))
    if known is None:
        members = ", ".join(f"{member.name} {member:#x}" for member in row.enum or ())
        yield warn(Rule.NUMBER, f"{row.name} {value:#x} is unknown, known are {members}")


def _reserved(row: wire.FieldInfo, data: bytes) -> Iterator[Line]:
    found = data[row.offset : row.offset + row.size]
    if any(found):
        yield remark(f"{row.name} is reserved and not zero, {found.hex()} (Solaris sends stack bytes)")


def _cookies(data: bytes, values: Values) -> Iterator[Line]:
    """Yield as many of the cookies as there are; of a request of no bytes they are left from an older one."""
    codec = CookieLayout.codec
    used = values.get("nbytes", 1)
    for number in range(min(values["ncookies"], len(data) // codec.size)):
        addr, nbytes = codec.unpack_from(data, number * codec.size)
        code, index, offset = split_cookie(addr)
        page = size(1 << page_shift(code)) if code in _PAGE_SIZES else f"unknown page size {code}"
        where = f"page {index} of the map table, offset {offset:#x}, pages of {page}"
        yield field(f"cookie[{number}].addr", raw(addr, 8), where)
        yield field(f"cookie[{number}].size", raw(nbytes, 8), size(nbytes))
        if used and (code not in _PAGE_SIZES or (addr | nbytes) % ALIGNMENT):
            yield warn(Rule.COOKIE, f"cookie {number} is {nbytes} bytes at {addr:#x}")
        elif not used:
            yield remark("a request of no bytes has no cookies (Solaris leaves an old one there)")


# -- what the numbers mean -----------------------------------------------------------------------------------


def operations(mask: int) -> list[str]:
    """Return the names of the operations in a mask; bits without a meaning as ``bit n``."""
    names = {int(operation): operation.name for operation in Operation}
    return [names.get(bit, f"bit {bit}") for bit in range(mask.bit_length()) if mask >> bit & 1]


def status_words(status: int) -> str:
    """Return what the status of a request says."""
    return _STATUS.get(status, f"unknown number {status}, to be taken as EIO")


def _operations(mask: int, values: Values) -> str:
    return " ".join(operations(mask)) or "none"


def _number(value: int, values: Values) -> str:
    return str(value)


def _bytes(value: int, values: Values) -> str:
    return size(value)


def _block_size(value: int, values: Values) -> str:
    return size(value) if value else "not told: max_xfer_sz is in bytes"


def _disk_size(value: int, values: Values) -> str:
    if value == UNKNOWN_SIZE:
        return "unknown now"
    return f"{value} blocks, {size(value * values['vdisk_block_size'])}" if value else ""


def _transfer(value: int, values: Values) -> str:
    block_size = values["vdisk_block_size"]
    return f"{value} blocks, {size(value * block_size)}" if block_size else size(value)


def _entries(value: int, values: Values) -> str:
    return f"{value} entries, {size(value * values['descriptor_size'])} in all"


def _end(value: int, values: Values) -> str:
    return "open: until one is not READY" if value == OPEN_ENDED else str(value)


def _slice(value: int, values: Values) -> str:
    if value == SLICE_NONE:
        return "the whole disk"
    return f"slice {value}" if value < SLICES else f"no slice: there are {SLICES}"


def _block(value: int, values: Values) -> str:
    return f"block {value}"


def _flags(value: int, values: Values) -> str:
    if value == LINUX_ACK_FLAG:
        return "answer wanted, as Linux writes it"
    return "answer wanted" if value & ACK_FLAG else "no answer wanted; vds answers all the same"


def _status(value: int, values: Values) -> str:
    return status_words(value)


_MEANINGS: Final[Mapping[str, Callable[[int, Values], str]]] = {
    "addr": _block,
    "completions": _number,
    "descriptor_size": _bytes,
    "end_idx": _end,
    "flags": _flags,
    "major": _number,
    "max_xfer_sz": _transfer,
    "minor": _number,
    "nbytes": _bytes,
    "ncookies": _number,
    "num_descriptors": _entries,
    "operations": _operations,
    "phys_block_size": _bytes,
    "seq_num": _number,
    "slice": _slice,
    "start_idx": _number,
    "status": _status,
    "vdisk_block_size": _block_size,
    "vdisk_size": _disk_size,
}
