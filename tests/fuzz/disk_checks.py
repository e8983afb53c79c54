"""The checks of ``decoders`` for labels, device ids, EFI and SCSI: what a client says, and what a disk holds.

An odd first byte repairs checksums, counts or lengths of what comes after it, so that the fuzzer gets past
them; after an even one the bytes are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.vdisk.labels import (
    SOLARIS_ENTRIES,
    DiskLabel,
    DiskLabelLayout,
    Gpt,
    array_crc,
    backup_blocks,
    build_devid_block,
    build_gpt,
    build_label,
    check_geometry,
    devid_block,
    entries_match,
    geometry_of,
    gpt_devid_block,
    gpt_slice_bounds,
    label_from,
    read_devid_block,
    read_entries,
    read_gpt,
    read_label,
    slice_bounds,
    vtoc_of,
)
from protocol.vdisk.labels.gpt import ENTRY_SIZE, GPT_SIZE, MAX_ENTRIES
from protocol.vdisk.payloads import (
    MAX_EFI_DATA,
    PARTITIONS,
    DeviceId,
    DeviceIdType,
    Geometry,
    GeometryLayout,
    VtocLayout,
    build_device_id,
    build_efi,
    build_geometry,
    parse_device_id,
    parse_efi,
    parse_geometry,
)
from protocol.vdisk.scsi import ScsiLayout, parse_scsi, scsi_areas
from tests.fuzz.tape import Check, Tape, attempt
from tests.support.sealed import sealed_devid, sealed_gpt, sealed_label

__all__ = ["CHECKS"]

SECTOR: Final = 512
BLOCKS: Final = (512, 4096)
MOST_ENTRIES: Final = 16  # one check with a thousand would take as long as all others
DISK_BLOCKS: Final = 1 << 40


def _fitted(tape: Tape, size: int) -> bytes:
    return tape.rest()[:size].ljust(size, b"\0")


def _drawn_geometry(tape: Tape) -> Geometry:
    return GeometryLayout.parse(tape.take(GeometryLayout.size))


# -- VTOC --------------------------------------------------------------------------------------------------


def _read_label(tape: Tape) -> None:
    """A label builds back to the same, and so does what SET_VTOC makes of what GET_VTOC answers."""
    repaired = tape.byte() & 1
    sector = _fitted(tape, SECTOR)
    label = read_label(sealed_label(sector) if repaired else sector)
    assert label is not None or not repaired
    if label is not None:
        _check_built(label)
        rewritten = attempt(label_from, vtoc_of(label), geometry_of(label))
        if rewritten is not None:
            assert (rewritten.map, rewritten.v_part) == (label.map, label.v_part)


def _label_from(tape: Tape) -> None:
    """What SET_VTOC may write is a label with the partitions that were asked for, down to the cylinder."""
    repaired = tape.byte() & 1
    geometry, vtoc = _drawn_geometry(tape), VtocLayout.parse(tape.take(VtocLayout.size))
    if repaired:
        vtoc = replace(vtoc, sector_size=SECTOR, num_partitions=PARTITIONS)
    label = attempt(label_from, vtoc, geometry)
    if label is not None:
        check_geometry(geometry)
        _check_built(label)
        for number, part in enumerate(vtoc.partition):
            first, blocks = slice_bounds(label, number)
            assert first <= part.start < first + geometry.nhead * geometry.nsect
            assert blocks == part.nblocks


def _check_built(label: DiskLabel) -> None:
    again = read_label(build_label(label))
    assert again is not None
    assert replace(again, cksum=label.cksum) == label  # it covers reserved bytes, which are not written back
    for number in range(PARTITIONS):
        assert min(slice_bounds(label, number)) >= 0
    _check_places(geometry_of(label))


def _vtoc_of(tape: Tape) -> None:
    """What GET_VTOC and GET_DISKGEOM answer of any label at all fits their payloads."""
    label = DiskLabelLayout.parse(_fitted(tape, SECTOR))
    vtoc, geometry = vtoc_of(label), geometry_of(label)
    assert VtocLayout.parse(VtocLayout.build(vtoc)) == vtoc
    assert parse_geometry(build_geometry(geometry)) == geometry


def _places(tape: Tape) -> None:
    """A geometry that SET_DISKGEOM refuses places nothing."""
    geometry = _drawn_geometry(tape)
    _check_places(geometry)
    try:
        check_geometry(geometry)
    except RemoteProtocolError:
        assert not list(backup_blocks(geometry))
        assert devid_block(geometry) is None


def _check_places(geometry: Geometry) -> None:
    """Backup labels and device id are on the disk that the geometry says, in order and not on block 0."""
    size = (geometry.ncyl + geometry.acyl) * geometry.nhead * geometry.nsect
    backups, devid = list(backup_blocks(geometry)), devid_block(geometry)
    assert len(backups) <= 5
    assert backups == sorted(set(backups))
    assert all(0 < place < size for place in backups)
    assert devid is None or 0 < devid < size


# -- GPT ---------------------------------------------------------------------------------------------------


def _read_gpt(tape: Tape) -> None:
    """A header builds back to one that says the same, but for reserved bytes."""
    repaired, size, most = tape.byte() & 1, tape.pick(BLOCKS), tape.pick((MAX_ENTRIES, SOLARIS_ENTRIES))
    block = _fitted(tape, size)
    gpt = read_gpt(sealed_gpt(block) if repaired else block, most=most)
    if gpt is not None:
        assert 1 <= gpt.num_partition_entries <= most
        assert gpt.size_partition_entry >= ENTRY_SIZE
        assert gpt.header_size <= size
        again = read_gpt(build_gpt(replace(gpt, header_size=min(gpt.header_size, GPT_SIZE))))
        assert again is not None
        assert replace(again, header_size=gpt.header_size, header_crc32=gpt.header_crc32) == gpt


def _read_entries(tape: Tape) -> None:
    """There are as many entries as the header says, and nothing that they place is before the disk."""
    repaired = tape.byte() & 1
    count, size = 1 + tape.byte() % MOST_ENTRIES, ENTRY_SIZE + 8 * (tape.byte() % 8)
    gpt = Gpt(
        alternate_lba=DISK_BLOCKS - 1,
        first_usable_lba=34,
        last_usable_lba=DISK_BLOCKS - 34,
        num_partition_entries=count,
        size_partition_entry=size,
    )
    octets = _fitted(tape, count * size) if repaired else tape.rest()
    entries = attempt(read_entries, gpt, octets)
    assert (entries is None) == (len(octets) < count * size)
    if entries is not None:
        assert len(entries) == count
        assert entries_match(replace(gpt, partition_array_crc32=array_crc(gpt, octets)), octets)
        for number in range(SOLARIS_ENTRIES):
            assert min(gpt_slice_bounds(entries, number, DISK_BLOCKS)) >= 0
        starts = {entry.starting_lba for entry in entries}
        assert gpt_devid_block(entries) in {None, *starts}


# -- device ids --------------------------------------------------------------------------------------------


def _read_devid_block(tape: Tape) -> None:
    """An id has a type, is as long as it says, and builds back to the same."""
    repaired = tape.byte() & 1
    sector = _fitted(tape, SECTOR)
    devid = read_devid_block(sealed_devid(sector) if repaired else sector)
    if devid is not None:
        assert DeviceIdType.NONE < devid.type <= max(DeviceIdType)
        assert len(devid.id) == devid.id_len
        assert read_devid_block(build_devid_block(devid)) == devid


def _parse_device_id(tape: Tape) -> None:
    """An answer holds as much of an id as fits; an id that was sent whole arrives whole."""
    data = tape.rest()
    found = attempt(parse_device_id, data)
    if found is not None:
        kind, length, octets = found
        assert len(octets) == min(length, len(data) - 11)
        whole = DeviceId(type=kind, length=len(octets), id=octets)
        assert parse_device_id(build_device_id(whole, len(data))) == (kind, len(octets), octets)


# -- EFI and SCSI ------------------------------------------------------------------------------------------


def _parse_efi(tape: Tape) -> None:
    """The data are as long as they say, in the buffer, and build back to the same."""
    data = tape.rest()
    efi = attempt(parse_efi, data)
    if efi is not None:
        assert len(efi.data) == efi.length <= min(MAX_EFI_DATA, len(data))
        assert parse_efi(build_efi(efi.lba, efi.data)) == efi


def _scsi_buffer(tape: Tape) -> bytes:
    """Return a command; a repaired one has lengths of one byte each, which are likely to fit."""
    if not tape.byte() & 1:
        return tape.rest()
    lengths = b"".join(tape.byte().to_bytes(8, "big") for _ in range(4))
    return tape.take(ScsiLayout.size - len(lengths)) + lengths + tape.rest()


def _scsi_areas(tape: Tape) -> None:
    """The areas are as long as the client said, in order, apart from each other and in the buffer."""
    buffer = _scsi_buffer(tape)
    areas = attempt(scsi_areas, buffer)
    if areas is not None:
        end = ScsiLayout.size
        for area, length in zip(areas, ScsiLayout.codec.unpack_from(buffer)[-4:], strict=True):
            assert area.start == end
            assert len(area) == length
            assert area.stop <= len(buffer)
            end += -(-length // 8) * 8
        assert not (areas.datain and areas.dataout)


def _parse_scsi(tape: Tape) -> None:
    """A command has all its areas, and says where they are unless data go both ways."""
    buffer = _scsi_buffer(tape)
    command = attempt(parse_scsi, buffer)
    if command is not None:
        assert ScsiLayout.size + len(command.data) <= len(buffer)
        areas = attempt(scsi_areas, buffer)
        assert (areas is None) == bool(command.datain_len and command.dataout_len)


CHECKS: Final[Mapping[str, Check]] = {
    "read_label": _read_label,
    "label_from": _label_from,
    "vtoc_of": _vtoc_of,
    "backup_blocks": _places,
    "devid_block": _places,
    "read_gpt": _read_gpt,
    "read_entries": _read_entries,
    "read_devid_block": _read_devid_block,
    "parse_device_id": _parse_device_id,
    "parse_efi": _parse_efi,
    "scsi_areas": _scsi_areas,
    "parse_scsi": _parse_scsi,
}
"""Name of a function → what has to hold for any input."""
