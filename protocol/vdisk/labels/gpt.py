"""The GPT of a disk, called EFI label by Solaris: header, entries, checksums; little-endian.

Source: Solaris sys/efi_partition.h; vdsk_common.c, vd_efi_alloc_and_read, vd_efi_check_gpt.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, PacketError
from protocol.wire import Bytes, Int32ul, Int64ul

__all__ = [
    "ENTRY_SIZE",
    "GPT_SIZE",
    "HEADER_LBA",
    "MAX_ENTRIES",
    "RESERVED_GUID",
    "REVISION",
    "SIGNATURE",
    "SOLARIS_ENTRIES",
    "USR_GUID",
    "WHOLE_DISK_SLICE",
    "Gpt",
    "GptEntry",
    "GptEntryLayout",
    "GptLayout",
    "array_crc",
    "build_gpt",
    "entries_match",
    "gpt_devid_block",
    "gpt_slice_bounds",
    "read_entries",
    "read_gpt",
]

GPT_SIZE: Final = 512
"""Bytes of the header as declared; Solaris says so in it, the UEFI specification and illumos say 92."""
ENTRY_SIZE: Final = 128
"""Bytes of an entry."""
SIGNATURE: Final = b"EFI PART"
REVISION: Final = 0x00010000
HEADER_LBA: Final = 1
"""Block of the primary header; the other one is in the last block of the disk."""
SOLARIS_ENTRIES: Final = 9
"""Entries a GPT may have for Solaris: more, and the disk has no label. Source: vdsk_common.c, VD_MAXPART."""
MAX_ENTRIES: Final = 1024
"""Entries that anybody's GPT has at most; 128 are usual."""
WHOLE_DISK_SLICE: Final = 7
"""The slice of a GPT disk that is all of it. Source: Solaris sys/vdsk_common.h, VD_EFI_WD_SLICE."""

_HEADER_MIN: Final = 92


def _guid(text: str) -> bytes:
    """Return the bytes of a GUID: its first three parts are little-endian on disk."""
    parts = [bytes.fromhex(part) for part in text.split("-")]
    return b"".join(part[::-1] for part in parts[:3]) + b"".join(parts[3:])


USR_GUID: Final = _guid("6a898cc3-1dd2-11b2-99a6-080020736631")
"""Type of a slice with data. Source: Solaris sys/efi_partition.h, EFI_USR."""
RESERVED_GUID: Final = _guid("6a945a3b-1dd2-11b2-99a6-080020736631")
"""Type of the partition that holds the device id. Source: Solaris sys/efi_partition.h, EFI_RESERVED."""


@wire.structure("efi_gpt", size=GPT_SIZE)
class Gpt:
    """The header. Source: Solaris sys/efi_partition.h, efi_gpt_t."""

    signature: bytes = wire.field(Bytes(8), doc="EFI PART", default=SIGNATURE)
    revision: int = wire.field(Int32ul, doc="0x00010000", default=REVISION)
    header_size: int = wire.field(Int32ul, doc="bytes that the checksum covers", default=_HEADER_MIN)
    header_crc32: int = wire.field(Int32ul, doc="checksum of the header, itself as 0", default=0)
    reserved1 = wire.reserved(4)
    my_lba: int = wire.field(Int64ul, doc="block of this header", default=HEADER_LBA)
    alternate_lba: int = wire.field(Int64ul, doc="block of the other header")
    first_usable_lba: int = wire.field(Int64ul, doc="first block for partitions")
    last_usable_lba: int = wire.field(Int64ul, doc="last block for partitions")
    disk_guid: bytes = wire.field(Bytes(16), doc="id of the disk", default=bytes(16))
    partition_entry_lba: int = wire.field(Int64ul, doc="first block of the entries", default=2)
    num_partition_entries: int = wire.field(Int32ul, doc="entries")
    size_partition_entry: int = wire.field(Int32ul, doc="bytes of an entry", default=ENTRY_SIZE)
    partition_array_crc32: int = wire.field(Int32ul, doc="checksum of all entries", default=0)
    reserved2 = wire.reserved(420)


@wire.structure("efi_gpe", size=ENTRY_SIZE)
class GptEntry:
    """One partition; a type of zeros: there is none. Source: Solaris sys/efi_partition.h, efi_gpe_t."""

    type_guid: bytes = wire.field(Bytes(16), doc="what it is for", default=bytes(16))
    unique_guid: bytes = wire.field(Bytes(16), doc="id of the partition", default=bytes(16))
    starting_lba: int = wire.field(Int64ul, doc="first block", default=0)
    ending_lba: int = wire.field(Int64ul, doc="last block, included", default=0)
    attributes: int = wire.field(Int64ul, doc="bits", default=0)
    name: bytes = wire.field(Bytes(72), doc="36 characters of UTF-16", default=bytes(72))


GptLayout: Final = wire.layout(Gpt)
GptEntryLayout: Final = wire.layout(GptEntry)
_CRC: Final = next(row for row in GptLayout.fields if row.name == "header_crc32")


def _header_crc(block: bytes, header_size: int) -> int:
    after = _CRC.offset + _CRC.size
    return zlib.crc32(block[: _CRC.offset] + bytes(_CRC.size) + block[after:header_size])


def read_gpt(block: wire.Buffer, *, most: int = MAX_ENTRIES) -> Gpt | None:
    """Return the header in ``block``, one block of the disk, or None if that is none.

    Signature, header size, checksum and the number of entries (1 to ``most``; Solaris takes
    SOLARIS_ENTRIES) are checked; the checksum of the entries is :func:`entries_match`'s, Solaris does not
    look at it. Source: Solaris vdsk_common.c, vd_efi_check_gpt.
    """
    if len(block) < GPT_SIZE or bytes(block[: len(SIGNATURE)]) != SIGNATURE:
        return None
    gpt = GptLayout.parse(block, trailing=True)
    if not _HEADER_MIN <= gpt.header_size <= len(block):
        return None
    if _header_crc(bytes(block), gpt.header_size) != gpt.header_crc32:
        return None
    entry_size = gpt.size_partition_entry
    sane = 1 <= gpt.num_partition_entries <= most and entry_size >= ENTRY_SIZE and entry_size % 8 == 0
    return gpt if sane and entry_size <= GPT_SIZE * 8 else None


def build_gpt(gpt: Gpt) -> bytes:
    """Return the header's 512 bytes with its checksum.

    Raises: LocalProtocolError (a value does not fit; ``header_size`` is not 92 to 512).
    """
    if not _HEADER_MIN <= gpt.header_size <= GPT_SIZE:
        raise LocalProtocolError(
            Layer.VDISK,
            f"efi_gpt: header_size is {gpt.header_size}, must be {_HEADER_MIN} to {GPT_SIZE}",
        )
    built = GptLayout.build(gpt)
    return GptLayout.build(replace(gpt, header_crc32=_header_crc(built, gpt.header_size)))


def array_crc(gpt: Gpt, entries: wire.Buffer) -> int:
    """Return the checksum of the entries, as ``partition_array_crc32`` holds it."""
    return zlib.crc32(entries[: gpt.num_partition_entries * gpt.size_partition_entry])


def entries_match(gpt: Gpt, entries: wire.Buffer) -> bool:
    """Say whether the entries are those that ``gpt`` was written with."""
    return array_crc(gpt, entries) == gpt.partition_array_crc32


def read_entries(gpt: Gpt, entries: wire.Buffer) -> tuple[GptEntry, ...]:
    """Return the entries in ``entries``, the bytes from ``partition_entry_lba`` on.

    Raises: PacketError (fewer bytes than ``gpt``, which read_gpt() has found sane, announces).
    """
    size = gpt.size_partition_entry
    if len(entries) < gpt.num_partition_entries * size:
        raise _short(gpt, len(entries))
    return tuple(
        GptEntryLayout.parse(entries[at : at + size], trailing=True)
        for at in range(0, gpt.num_partition_entries * size, size)
    )


def gpt_slice_bounds(entries: Sequence[GptEntry], number: int, size_blocks: int) -> tuple[int, int]:
    """Return (first block, blocks) of slice ``number``, 0 to 8; 0 blocks: it is empty, or there is none.

    Slice 7 is the whole disk of ``size_blocks``, whatever the entry says. The others are not held against the
    size. Source: Solaris vds.c, vd_dskimg_validate_efi.
    """
    if number == WHOLE_DISK_SLICE:
        return 0, size_blocks
    if number >= len(entries) or _is_empty(entries[number]):
        return 0, 0
    entry = entries[number]
    return entry.starting_lba, entry.ending_lba - entry.starting_lba + 1


def gpt_devid_block(entries: Sequence[GptEntry]) -> int | None:
    """Return the block of the device id, the first of the reserved partition, or None without one.

    Source: Solaris vds.c, vd_dskimg_validate_efi, where the last reserved one counts, and
    vd_dskimg_get_devid_block.
    """
    reserved = (entry for entry in reversed(entries) if entry.type_guid == RESERVED_GUID)
    return next((entry.starting_lba for entry in reserved if not _is_empty(entry)), None)


def _is_empty(entry: GptEntry) -> bool:
    """Say whether ``entry`` has no blocks: it ends at block 0, or before it begins."""
    return entry.ending_lba == 0 or entry.ending_lba < entry.starting_lba


def _short(gpt: Gpt, have: int) -> PacketError:
    return GptEntryLayout.error(
        f"{gpt.num_partition_entries} entries of {gpt.size_partition_entry} bytes in {have}"
    )
