"""Labels on disk: sectors typed from the layouts, the arithmetic of vdisk geometry, and what is no label."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, PacketError
from protocol.vdisk.labels import devid, gpt, vtoc
from protocol.vdisk.payloads import Geometry, Partition, PartitionTag, Vtoc, default_geometry
from tests.support.sealed import sealed_devid, sealed_gpt, sealed_label

MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40


# -- VTOC --------------------------------------------------------------------------------------------------


def test_the_default_label_of_100_mib_octet_by_octet() -> None:
    """341 cylinders of 600 sectors, 2 of them alternates. Source: Solaris vds.c, vd_build_default_label."""
    sector = vtoc.build_label(vtoc.default_label(100 * MiB))
    assert len(sector) == 512
    assert sector[:128].rstrip(b"\0") == b"SUN-DiskImage-100MB cyl 339 alt 2 hd 1 sec 600"
    assert sector[128:132] == bytes.fromhex("00000001")
    assert sector[140:142] == bytes.fromhex("0008")
    assert sector[142:174] == bytes.fromhex("00000000 00000000 00050000" + "00000000" * 5)
    assert sector[188:192] == bytes.fromhex("600ddeee")
    assert sector[420:426] == bytes.fromhex("1c20 0155 0000")  # rpm, pcyl, apc
    assert sector[430:440] == bytes.fromhex("0000 0153 0002 0001 0258")  # intrlv ncyl acyl nhead nsect
    assert sector[444:508] == bytes(20) + (339 * 600).to_bytes(4, "big") + bytes(40)
    assert sector[508:510] == bytes.fromhex("dabe")
    words = 0
    for at in range(0, 512, 2):
        words ^= int.from_bytes(sector[at : at + 2], "big")
    assert words == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (512, b"SUN-DiskImage-0KB cyl 1 alt 0 hd 1 sec 200"),
        (MiB - 1, b"SUN-DiskImage-1023KB cyl 8 alt 2 hd 1 sec 200"),
        (MiB, b"SUN-DiskImage-1MB cyl 8 alt 2 hd 1 sec 200"),
        (GiB, b"SUN-DiskImage-1GB cyl 3493 alt 2 hd 1 sec 600"),
        (1024 * GiB, b"SUN-DiskImage-1TB cyl 29125 alt 2 hd 96 sec 768"),
    ],
)
def test_the_size_in_the_label_is_cut_to_its_unit(size: int, text: bytes) -> None:
    assert vtoc.default_label(size).asciilabel.rstrip(b"\0") == text


@pytest.mark.parametrize(
    ("size", "text", "nblocks"),
    [
        (2 * TiB - 1, b"SUN-DiskImage-1TB cyl 58252 alt 2 hd 96 sec 768", 58252 * 96 * 768),
        (2 * TiB, b"SUN-DiskImage-2TB cyl 58252 alt 2 hd 96 sec 768", 58252 * 96 * 768),
        (2 * TiB + GiB, b"SUN-DiskImage-2TB cyl 58280 alt 2 hd 96 sec 768", 0xFFFFFFFF),
        (3 * TiB, b"SUN-DiskImage-3TB cyl 65533 alt 2 hd 96 sec 768", 0xFFFFFFFF),
        (16 * TiB, b"SUN-DiskImage-16TB cyl 65533 alt 2 hd 96 sec 768", 0xFFFFFFFF),
    ],
)
def test_partition_2_stops_at_its_32_bits(size: int, text: bytes, nblocks: int) -> None:
    label = vtoc.default_label(size)
    assert label.asciilabel.rstrip(b"\0") == text
    assert vtoc.slice_bounds(label, 2) == (0, nblocks)
    assert vtoc.read_label(vtoc.build_label(label)) is not None


def test_a_label_reads_as_it_was_built() -> None:
    label = vtoc.default_label(10 * GiB)
    sector = vtoc.build_label(label)
    found = vtoc.read_label(sector)
    assert found == replace(label, cksum=int.from_bytes(sector[510:], "big"))
    assert vtoc.read_label(memoryview(sector)) == found


@pytest.mark.parametrize("at", [0, 100, 141, 443, 508, 511])
def test_a_changed_octet_is_no_label(at: int) -> None:
    sector = bytearray(vtoc.build_label(vtoc.default_label(MiB)))
    sector[at] ^= 0x10
    assert vtoc.read_label(sector) is None


@pytest.mark.parametrize("wrong", [{"magic": 0xDABF}, {"v_nparts": 7}, {"v_nparts": 16}])
def test_magic_and_count_are_looked_at_and_the_sanity_is_not(wrong: dict[str, int]) -> None:
    label = vtoc.default_label(MiB)
    assert vtoc.read_label(vtoc.build_label(replace(label, **wrong))) is None  # type: ignore[arg-type]  # ints
    assert vtoc.read_label(vtoc.build_label(replace(label, v_sanity=0))) is not None


@pytest.mark.parametrize("size", [0, 511, 513, 1024])
def test_a_label_has_one_sector(size: int) -> None:
    assert vtoc.read_label(bytes(size)) is None


def test_all_zeros_have_a_good_checksum_and_are_no_label() -> None:
    assert vtoc.read_label(bytes(512)) is None


def test_vtoc_and_geometry_make_a_label_and_come_back() -> None:
    label = vtoc.default_label(100 * MiB)
    table = vtoc.vtoc_of(label)
    geometry = vtoc.geometry_of(label)
    assert geometry == default_geometry(100 * MiB)
    assert (table.sector_size, table.num_partitions) == (512, 8)
    assert table.partition[2] == Partition(id_tag=PartitionTag.BACKUP, nblocks=339 * 600)
    assert vtoc.label_from(table, geometry) == label


def test_a_start_off_the_cylinder_is_rounded_down() -> None:
    label = vtoc.default_label(100 * MiB)
    parts = list(vtoc.vtoc_of(label).partition)
    parts[0] = Partition(id_tag=PartitionTag.ROOT, perm=0x10, start=1799, nblocks=601)
    made = vtoc.label_from(replace(vtoc.vtoc_of(label), partition=tuple(parts)), vtoc.geometry_of(label))
    assert vtoc.slice_bounds(made, 0) == (1200, 601)
    assert made.v_part[0] == vtoc.LabelPart(tag=2, flag=0x10)
    assert vtoc.slice_bounds(made, 1) == (0, 0)
    assert vtoc.vtoc_of(made).partition[0].start == 1200


GEOMETRY = Geometry(ncyl=339, acyl=2, nhead=4, nsect=150, pcyl=341)
VTOC = vtoc.vtoc_of(vtoc.default_label(100 * MiB))
NO_PLACES = [{"nhead": 0}, {"nsect": 0}, {"apc": 600}, {"apc": 0xFFFF}]
"""Of GEOMETRY: no head, no sector, no block left in a cylinder."""


def with_slice_0(**place: int) -> Vtoc:
    """VTOC with this as its first partition."""
    return replace(VTOC, partition=(Partition(**place), *VTOC.partition[1:]))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"sector_size": 0}, "sector_size is 0, must be 512"),
        ({"sector_size": 4096}, "sector_size is 4096, must be 512"),
        ({"num_partitions": 7}, "num_partitions is 7, must be 8"),
        ({"num_partitions": 16}, "num_partitions is 16, must be 8"),
    ],
)
def test_a_vtoc_that_is_not_acceptable(wrong: dict[str, int], why: str) -> None:
    with pytest.raises(PacketError, match=f"vd_vtoc: {why}"):
        vtoc.label_from(replace(VTOC, **wrong), GEOMETRY)  # type: ignore[arg-type]  # ints all


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"nhead": 0}, "0 heads of 150 sectors"),
        ({"nsect": 0}, "4 heads of 0 sectors"),
        ({"apc": 600}, "600 alternates in a cylinder of 600 blocks"),
        ({"apc": 0xFFFF}, "65535 alternates in a cylinder of 600 blocks"),
    ],
)
def test_a_geometry_that_no_label_can_have(wrong: dict[str, int], why: str) -> None:
    with pytest.raises(PacketError, match=f"vd_geom: {why}"):
        vtoc.check_geometry(replace(GEOMETRY, **wrong))
    with pytest.raises(PacketError, match=f"vd_geom: {why}"):
        vtoc.label_from(VTOC, replace(GEOMETRY, **wrong))


def test_a_geometry_with_a_block_left_in_a_cylinder_will_do() -> None:
    vtoc.check_geometry(replace(GEOMETRY, apc=599))
    assert vtoc.label_from(VTOC, replace(GEOMETRY, apc=599)).apc == 599


@pytest.mark.parametrize(
    "place",
    [{"nblocks": 1 << 32}, {"nblocks": (1 << 64) - 1}, {"start": 600 << 32}, {"start": (1 << 64) - 1}],
)
def test_a_place_that_does_not_fit_its_32_bits(place: dict[str, int]) -> None:
    with pytest.raises(PacketError, match="partition 0 does not fit"):
        vtoc.label_from(with_slice_0(**place), GEOMETRY)


def test_the_last_place_that_fits_its_32_bits() -> None:
    made = vtoc.label_from(with_slice_0(start=(600 << 32) - 1, nblocks=(1 << 32) - 1), GEOMETRY)
    assert vtoc.build_label(made)[444:452] == bytes.fromhex("ffffffff ffffffff")


@pytest.mark.parametrize("wrong", NO_PLACES)
def test_a_label_whose_geometry_has_no_places(wrong: dict[str, int]) -> None:
    """Whoever writes block 0 can write a good checksum: the label is one, and nothing else is on its disk."""
    written = vtoc.label_from(VTOC, GEOMETRY)
    label = vtoc.read_label(vtoc.build_label(replace(written, **wrong)))  # type: ignore[arg-type]  # ints all
    assert label is not None
    geometry = vtoc.geometry_of(label)
    assert list(vtoc.backup_blocks(geometry)) == []
    assert vtoc.devid_block(geometry) is None
    assert vtoc.slice_bounds(label, 2) == (0, 339 * 600)
    with pytest.raises(PacketError):
        vtoc.label_from(vtoc.vtoc_of(label), geometry)


def test_backups_and_device_id_are_on_the_last_track_of_the_last_cylinders() -> None:
    geometry = Geometry(ncyl=339, acyl=2, nhead=4, nsect=100, apc=2, pcyl=341)
    assert list(vtoc.backup_blocks(geometry)) == [340 * 398 + 300 + offset for offset in (1, 3, 5, 7, 9)]
    assert vtoc.devid_block(geometry) == 339 * 398 + 300 + 1


@pytest.mark.parametrize(("nsect", "offsets"), [(10, 5), (9, 4), (8, 4), (2, 1), (1, 0)])
def test_backups_end_with_the_track(nsect: int, offsets: int) -> None:
    assert len(list(vtoc.backup_blocks(Geometry(ncyl=1, acyl=2, nhead=1, nsect=nsect)))) == offsets


def test_without_alternate_cylinders_there_is_no_place() -> None:
    assert list(vtoc.backup_blocks(Geometry(ncyl=2, acyl=0, nhead=1, nsect=200))) == []
    assert vtoc.devid_block(Geometry(ncyl=2, acyl=0, nhead=1, nsect=200)) is None
    assert vtoc.devid_block(Geometry(ncyl=2, acyl=1, nhead=1, nsect=200)) is None


# -- GPT ---------------------------------------------------------------------------------------------------

ENTRY = gpt.GptEntry(type_guid=gpt.USR_GUID, starting_lba=34, ending_lba=1033)


def header(entries: int = 9, **more: int) -> gpt.Gpt:
    """A sane header."""
    fields: dict[str, int] = {
        "alternate_lba": 20479,
        "first_usable_lba": 34,
        "last_usable_lba": 20445,
        "num_partition_entries": entries,
    }
    return gpt.Gpt(**(fields | more))  # type: ignore[arg-type]  # ints all


def test_a_header_octet_by_octet() -> None:
    block = gpt.build_gpt(header())
    assert block[:16] == b"EFI PART" + bytes.fromhex("00000100 5c000000")
    assert block[16:20] == zlib.crc32(block[:16] + bytes(4) + block[20:92]).to_bytes(4, "little")
    assert block[24:40] == bytes.fromhex("0100000000000000 ff4f000000000000")
    assert block[80:88] == bytes.fromhex("09000000 80000000")
    assert block[92:] == bytes(420)


def test_guids_have_their_first_parts_little_endian() -> None:
    assert gpt.USR_GUID.hex() == "c38c896ad21db21199a6080020736631"
    assert gpt.RESERVED_GUID.hex() == "3b5a946ad21db21199a6080020736631"


@pytest.mark.parametrize("size", [92, 512])
def test_a_header_reads_as_it_was_built_whatever_its_size_says(size: int) -> None:
    block = gpt.build_gpt(header(header_size=size))
    found = gpt.read_gpt(block)
    assert found is not None
    assert replace(found, header_crc32=0) == header(header_size=size)


def test_a_header_in_a_block_of_4096_bytes() -> None:
    wide = gpt.build_gpt(header(header_size=512)) + bytes(3584)
    assert gpt.read_gpt(wide) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        *({"num_partition_entries": count} for count in (0, 1025, 0xFFFFFFFF)),
        *({"size_partition_entry": size} for size in (0, 127, 129, 4104, 0xFFFFFFF8)),
    ],
)
def test_a_header_that_cannot_be(wrong: dict[str, int]) -> None:
    assert gpt.read_gpt(gpt.build_gpt(header(**wrong))) is None


@pytest.mark.parametrize("size", [0, 91, 513, 0xFFFFFFFF])
def test_a_header_size_that_cannot_be(size: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"efi_gpt: header_size is {size}, must be 92 to 512"):
        gpt.build_gpt(header(header_size=size))
    block = bytearray(gpt.build_gpt(header()))
    block[12:16] = size.to_bytes(4, "little")
    block[16:20] = bytes(4)
    block[16:20] = zlib.crc32(block[:size]).to_bytes(4, "little")
    assert gpt.read_gpt(block) is None


def test_solaris_takes_nine_entries_at_most() -> None:
    for count, taken in ((9, True), (10, False), (128, False)):
        block = gpt.build_gpt(header(count))
        assert (gpt.read_gpt(block, most=gpt.SOLARIS_ENTRIES) is not None) == taken
        assert gpt.read_gpt(block) is not None


@pytest.mark.parametrize("at", [0, 7, 12, 16, 24, 91])
def test_a_changed_octet_is_no_header(at: int) -> None:
    block = bytearray(gpt.build_gpt(header()))
    block[at] ^= 1
    assert gpt.read_gpt(block) is None


def test_a_short_block_is_no_header() -> None:
    assert gpt.read_gpt(gpt.build_gpt(header())[:511]) is None


def test_entries_and_their_checksum() -> None:
    octets = gpt.GptEntryLayout.build(ENTRY) + bytes(128)
    head = header(2)
    head = replace(head, partition_array_crc32=gpt.array_crc(head, octets + b"more"))
    assert head.partition_array_crc32 == zlib.crc32(octets)
    assert gpt.entries_match(head, octets)
    assert not gpt.entries_match(head, bytes(256))
    assert gpt.read_entries(head, octets) == (ENTRY, gpt.GptEntry())
    assert octets[32:48] == bytes.fromhex("2200000000000000 0904000000000000")
    with pytest.raises(PacketError, match="2 entries of 128 bytes in 255"):
        gpt.read_entries(head, octets[:-1])


def test_entries_may_be_longer_than_what_is_known_of_them() -> None:
    head = header(2, size_partition_entry=256)
    octets = gpt.GptEntryLayout.build(ENTRY).ljust(256, b"x") * 2
    assert gpt.read_entries(head, octets) == (ENTRY, ENTRY)


def entries(*places: tuple[int, int], kind: bytes = gpt.USR_GUID) -> tuple[gpt.GptEntry, ...]:
    """Entries from their first to their last blocks."""
    return tuple(gpt.GptEntry(type_guid=kind, starting_lba=at, ending_lba=to) for at, to in places)


def test_slices_of_a_gpt_are_its_entries_and_slice_7_is_the_disk() -> None:
    """Source: Solaris vds.c, vd_dskimg_validate_efi."""
    found = entries(*((100 * number, 100 * number + number) for number in range(1, 12)))
    bounds = [gpt.gpt_slice_bounds(found, number, 20480) for number in range(9)]
    assert bounds[:7] == [(100 * number, number + 1) for number in range(1, 8)]
    assert bounds[7] == (0, 20480)
    assert bounds[8] == (900, 10)


def test_slices_that_a_gpt_does_not_have_are_empty() -> None:
    assert gpt.gpt_slice_bounds(entries((34, 99)), 1, 20480) == (0, 0)
    assert gpt.gpt_slice_bounds((), 7, 20480) == (0, 20480)
    assert gpt.gpt_slice_bounds(entries((0, 0)), 0, 20480) == (0, 0)


@pytest.mark.parametrize(
    ("place", "bounds"),
    [
        ((0, 1), (0, 2)),
        ((1, 1), (1, 1)),
        ((2, 1), (0, 0)),  # ends before it begins
        (((1 << 64) - 1, 0), (0, 0)),
        ((1, (1 << 64) - 1), (1, (1 << 64) - 1)),  # beyond the disk: the reader's to refuse
    ],
)
def test_a_slice_is_as_its_entry_says_or_empty(place: tuple[int, int], bounds: tuple[int, int]) -> None:
    assert gpt.gpt_slice_bounds(entries(place), 0, 20480) == bounds


def test_the_device_id_is_at_the_start_of_the_reserved_partition() -> None:
    """The last one counts, wherever it stands. Source: Solaris vds.c, vd_dskimg_get_devid_block."""
    reserved = entries((20000, 20400), kind=gpt.RESERVED_GUID)
    assert gpt.gpt_devid_block(entries((34, 19999)) + reserved) == 20000
    assert gpt.gpt_devid_block(reserved + entries((34, 19999))) == 20000
    assert gpt.gpt_devid_block(reserved + entries((300, 400), kind=gpt.RESERVED_GUID)) == 300
    assert gpt.gpt_devid_block(entries(*[(1, 2)] * 7) + reserved) == 20000  # slice 7 is still the disk


@pytest.mark.parametrize("place", [(0, 0), (2, 1)])
def test_an_empty_reserved_partition_has_no_room_for_an_id(place: tuple[int, int]) -> None:
    assert gpt.gpt_devid_block(entries(place, kind=gpt.RESERVED_GUID)) is None
    assert gpt.gpt_devid_block(entries((34, 99))) is None
    assert gpt.gpt_devid_block(()) is None


# -- device id ---------------------------------------------------------------------------------------------


def test_a_made_up_id_octet_by_octet() -> None:
    made = devid.fabricated(0x80ABCDEF, 0x4E8F0000, 123456, 7)
    assert devid.EncodedDevidLayout.build(made) == bytes.fromhex(
        "6964 0001 0003 000e 76647300 80abcdef 4e8f0000 0001e240 0007"
    )


def test_the_sector_octet_by_octet() -> None:
    sector = devid.build_devid_block(devid.fabricated(1, 2, 3))
    assert sector[:3] == bytes.fromhex("000100")
    assert sector[3:7] == bytes.fromhex("69640001")
    assert sector[3 + 26 : 508] == bytes(508 - 29)
    words = 0
    for at in range(0, 508, 4):
        words ^= int.from_bytes(sector[at : at + 4], "big")
    assert int.from_bytes(sector[508:], "big") == words
    assert devid.read_devid_block(sector) == devid.fabricated(1, 2, 3)


@pytest.mark.parametrize("at", [0, 1, 3, 20, 507, 511])
def test_a_changed_octet_is_no_id(at: int) -> None:
    sector = bytearray(devid.build_devid_block(devid.fabricated(1, 2, 3)))
    sector[at] ^= 1
    assert devid.read_devid_block(sector) is None


@pytest.mark.parametrize("wrong", [{"magic": 0x6965}, {"rev": 2}, {"type": 0}, {"type": 9}, {"type": 0xFFFF}])
def test_an_id_that_says_it_is_none(wrong: dict[str, int]) -> None:
    made = replace(devid.fabricated(1, 2, 3), **wrong)  # type: ignore[arg-type]  # ints all
    assert devid.read_devid_block(devid.build_devid_block(made)) is None


@pytest.mark.parametrize("kind", range(1, 9))
def test_every_type_of_id_there_is(kind: int) -> None:
    made = devid.EncodedDevid(type=kind, id_len=4, id=b"1234")
    assert devid.read_devid_block(devid.build_devid_block(made)) == made


def test_an_id_longer_than_the_sector() -> None:
    sector = bytearray(devid.build_devid_block(devid.fabricated(1, 2, 3)))
    sector[9:11] = (494).to_bytes(2, "big")
    checksum = 0
    for at in range(0, 508, 4):
        checksum ^= int.from_bytes(sector[at : at + 4], "big")
    sector[508:] = checksum.to_bytes(4, "big")
    assert devid.read_devid_block(sector) is None
    with pytest.raises(LocalProtocolError):
        devid.build_devid_block(devid.EncodedDevid(type=1, id_len=494, id=bytes(494)))


@pytest.mark.parametrize("size", [0, 511, 513])
def test_an_id_has_one_sector(size: int) -> None:
    assert devid.read_devid_block(bytes(size)) is None


# -- any bytes ---------------------------------------------------------------------------------------------

sectors = st.binary(min_size=512, max_size=512)


@given(sectors)
def test_any_sector_is_no_label_and_no_id(sector: bytes) -> None:
    for read in (vtoc.read_label, devid.read_devid_block):
        assert read(sector) is None  # nobody draws a checksum
    assert gpt.read_gpt(b"EFI PART" + sector[8:]) is None


@given(sectors)
@example(bytes(512))  # no heads, no sectors
@example(
    bytes(424) + b"\xff\xff" + bytes(8) + bytes.fromhex("0002 0001 0001") + bytes(72)
)  # apc above a cylinder
def test_any_sector_with_a_good_checksum_is_a_label(sector: bytes) -> None:
    """Of a label that a client has written nothing is known but that: all that follows from it holds."""
    label = vtoc.read_label(sealed_label(sector))
    assert label is not None
    again = vtoc.read_label(vtoc.build_label(label))
    assert again is not None
    assert replace(again, cksum=label.cksum) == label
    assert all(vtoc.slice_bounds(label, number) >= (0, 0) for number in range(8))
    table, geometry = vtoc.vtoc_of(label), vtoc.geometry_of(label)
    size = (geometry.ncyl + geometry.acyl) * geometry.nhead * geometry.nsect
    assert all(0 < place < size for place in vtoc.backup_blocks(geometry))
    place = vtoc.devid_block(geometry)
    assert place is None or 0 < place < size
    try:
        made = vtoc.label_from(table, geometry)
    except PacketError:
        assert geometry.apc >= geometry.nhead * geometry.nsect
    else:
        assert (made.map, made.v_part) == (label.map, label.v_part)


numbers_of_16_bits = st.integers(0, 0xFFFF)
geometries = st.builds(
    Geometry, **dict.fromkeys(("ncyl", "acyl", "nhead", "nsect", "apc"), numbers_of_16_bits)
)
numbers_of_some_bits = st.sampled_from([16, 32, 33, 64]).map(lambda bits: st.integers(0, (1 << bits) - 1))
eight_partitions = numbers_of_some_bits.flatmap(
    lambda numbers: st.tuples(*[st.builds(Partition, start=numbers, nblocks=numbers)] * 8)
)


@given(geometries, eight_partitions)
def test_any_vtoc_makes_a_label_or_is_refused(geometry: Geometry, partition: tuple[Partition, ...]) -> None:
    cylinder = geometry.nhead * geometry.nsect
    try:
        label = vtoc.label_from(replace(VTOC, partition=partition), geometry)
    except PacketError:
        assert geometry.apc >= cylinder or any(
            part.nblocks >> 32 or part.start // cylinder >> 32 for part in partition
        )
        return
    assert vtoc.read_label(vtoc.build_label(label)) is not None
    for number, part in enumerate(partition):
        assert vtoc.slice_bounds(label, number) == (part.start // cylinder * cylinder, part.nblocks)


@given(sectors, st.integers(0, 8), st.integers(0, 493))
def test_any_sector_with_a_good_checksum_holds_an_id(sector: bytes, kind: int, length: int) -> None:
    block = sector[:7] + kind.to_bytes(2, "big") + length.to_bytes(2, "big") + sector[11:]
    found = devid.read_devid_block(sealed_devid(block))
    if kind:
        expected = devid.EncodedDevid(
            type=kind, id_len=length, driver_hint=block[11:15], id=block[15 : 15 + length]
        )
        assert found == expected
    else:
        assert found is None


@given(sectors, st.sampled_from([512, 4096]), st.integers(0, 1100), st.integers(120, 4200))
def test_any_block_with_a_good_checksum_is_a_gpt(
    sector: bytes, size: int, count: int, entry_size: int
) -> None:
    numbers = count.to_bytes(4, "little") + entry_size.to_bytes(4, "little")
    found = gpt.read_gpt(sealed_gpt((sector[:80] + numbers + sector[88:]).ljust(size, b"\0")))
    sane = 1 <= count <= 1024 and 128 <= entry_size <= 4096 and entry_size % 8 == 0
    assert (found is not None) == sane
