"""The attribute message in each version, both ways, and what either side refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import LocalProtocolError, NegotiationError, PacketError, Reaction
from protocol.vdisk import attributes as a
from protocol.vdisk.operations import DiskType, MediaType, Operation, operations_mask
from protocol.wire import STRUCTURES, Kind

FIELDS = {
    "msgtype": (0, 1),
    "subtype": (1, 1),
    "subtype_env": (2, 2),
    "sid": (4, 4),
    "xfer_mode": (8, 1),
    "vdisk_type": (9, 1),
    "vdisk_mtype": (10, 1),
    "vdisk_block_size": (12, 4),
    "operations": (16, 8),
    "vdisk_size": (24, 8),
    "max_xfer_sz": (32, 8),
}
DISK = a.DiskAttributes(size_blocks=0x1803, max_xfer_blocks=0x800, phys_block_size=4096)
V10, V11, V12 = (1, 0), (1, 1), (1, 2)


def test_layouts_are_those_of_the_specification() -> None:
    for name, fields in (
        ("vd_attr_msg", FIELDS),
        ("vd_attr_msg_v1_2", {**FIELDS, "phys_block_size": (40, 4)}),
    ):
        layout = STRUCTURES[name]
        assert layout.size == 56
        assert {f.name: (f.offset, f.size) for f in layout.fields if f.kind is not Kind.RESERVED} == fields
    assert a.layout_of(V10) is a.layout_of(V11) is a.AttributeLayout
    assert a.layout_of(V12) is a.layout_of((1, 6)) is a.layout_of((2, 0)) is a.AttributeLayoutV12


def _wish(
    version: tuple[int, int] = V12, xfer_mode: int = 3, block_size: int = 512, most: int = 256
) -> bytes:
    return a.build_wish(version, 7, xfer_mode=xfer_mode, block_size=block_size, max_xfer_blocks=most)


def test_a_wish_octet_by_octet() -> None:
    head = "01 01 0002 00000007 03 00 00 00 00000200 0000000000000000 0000000000000000 0000000000000100"
    for version in (V10, V11, V12):
        assert _wish(version) == bytes.fromhex(head) + bytes(16)


@pytest.mark.parametrize(
    ("version", "operations", "phys"), [(V10, "10e", "0"), (V11, "2010e", "0"), (V12, "2010e", "1000")]
)
def test_an_answer_octet_by_octet(version: tuple[int, int], operations: str, phys: str) -> None:
    answer = a.build_answer(a.parse_wish(_wish(version), version), version, DISK)
    head = "01 02 0002 00000007 03 02 01 00 00000200" + operations.zfill(16)
    assert answer == bytes.fromhex(head + "0000000000001803 0000000000000800" + phys.zfill(8)) + bytes(12)


@pytest.mark.parametrize("version", [V10, V11, V12])
@pytest.mark.parametrize("mode", range(6))
def test_transfer_modes_by_version(version: tuple[int, int], mode: int) -> None:
    known = {2, 3, 4} if version >= V12 else {2, 3}
    assert a.transfer_modes(version) == known
    if mode in known:
        assert a.parse_wish(_wish(version, mode), version).xfer_mode == mode
    else:
        with pytest.raises(NegotiationError) as caught:
            a.parse_wish(_wish(version, mode), version)
        assert caught.value.reaction is Reaction.NACK


def test_a_client_wants_to_transfer_something() -> None:
    with pytest.raises(NegotiationError, match="largest transfer") as caught:
        a.parse_wish(_wish(most=0), V12)
    assert caught.value.reaction is Reaction.NACK
    with pytest.raises(PacketError):
        a.parse_wish(_wish()[:48], V12)


def test_the_largest_transfer_is_in_blocks_or_in_bytes() -> None:
    assert a.max_xfer(a.parse_wish(_wish(block_size=512, most=256), V11)) == 128 * 1024
    assert a.max_xfer(a.parse_wish(_wish(block_size=0, most=65536), V11)) == 65536


def test_what_a_server_says_is_what_a_client_knows() -> None:
    answer = a.build_answer(a.parse_wish(_wish(), V12), V12, DISK)
    known = a.attributes_from(answer, V12, xfer_mode=3, max_xfer_bytes=1 << 30)
    assert known == DISK
    assert known.size == 0x1803 * 512
    assert not known.read_only


def test_the_largest_transfer_is_the_lower_of_both() -> None:
    answer = a.build_answer(a.parse_wish(_wish(), V12), V12, DISK)
    for most, blocks in ((65536, 128), (1 << 30, 0x800), (100, 1)):
        assert a.attributes_from(answer, V12, xfer_mode=3, max_xfer_bytes=most).max_xfer_blocks == blocks


def test_a_1_0_client_does_not_believe_a_size() -> None:
    answer = a.build_answer(
        a.parse_wish(_wish(V10), V10), V10, replace(DISK, media_type=MediaType.DVD, size_blocks=0)
    )
    known = a.attributes_from(answer, V10, xfer_mode=3, max_xfer_bytes=65536)
    assert known.size_blocks == a.UNKNOWN_SIZE
    assert known.media_type is MediaType.FIXED
    assert known.operations == operations_mask(V10, read_only=False)


def test_before_1_2_the_physical_block_is_a_block() -> None:
    answer = a.build_answer(a.parse_wish(_wish(V11), V11), V11, DISK)
    assert a.attributes_from(answer, V11, xfer_mode=3, max_xfer_bytes=65536).phys_block_size == 512


def _answer(**fields: int) -> bytes:
    good = a.AttributeMessage(1, 2, 2, 7, 3, 2, 1, 512, 0x2010E, 100, 128, 512)
    return a.AttributeLayoutV12.build(good._replace(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"vdisk_size": 0},
        {"vdisk_size": 1 << 63},
        {"vdisk_size": a.UNKNOWN_SIZE - 1},
        {"max_xfer_sz": 0},
        {"operations": 0},
        {"vdisk_type": 3},
        {"vdisk_type": 255},
        {"xfer_mode": 2},
        {"xfer_mode": 4},
        {"xfer_mode": 0},
        *({"vdisk_block_size": size} for size in (0, 1, 256, 511, 513, 1536, 3 * 512, 0xFFFFFFFF)),
    ],
)
def test_a_client_refuses_a_disk_that_cannot_be(fields: dict[str, int]) -> None:
    with pytest.raises(NegotiationError) as caught:
        a.attributes_from(_answer(**fields), V12, xfer_mode=3, max_xfer_bytes=65536)
    assert caught.value.reaction is Reaction.RESET


@pytest.mark.parametrize(
    "fields",
    [
        {"vdisk_size": 1},
        {"vdisk_size": (1 << 63) - 1},
        {"vdisk_size": a.UNKNOWN_SIZE},
        {"vdisk_size": a.UNKNOWN_SIZE, "vdisk_block_size": 0},
        {"vdisk_type": 0},
        {"vdisk_type": 1},
        {"vdisk_mtype": 9},
        *({"vdisk_block_size": 512 << n} for n in range(8)),
    ],
)
def test_a_client_takes_a_disk_that_can_be(fields: dict[str, int]) -> None:
    known = a.attributes_from(_answer(**fields), V12, xfer_mode=3, max_xfer_bytes=65536)
    assert known.block_size == fields.get("vdisk_block_size", 512)
    assert known.disk_type == fields.get("vdisk_type", DiskType.DISK)
    assert known.media_type is MediaType.FIXED


LARGE = 1 << 64


@pytest.mark.parametrize(
    "fields",
    [
        *({"block_size": size} for size in (0, 1, 256, 513, 1536, -512, 1 << 32)),
        *({"phys_block_size": size} for size in (0, 511, 1536, -4096, 1 << 32)),
        *({"size_blocks": size} for size in (0, -1, 1 << 63, a.UNKNOWN_SIZE - 1, LARGE)),
        *({"max_xfer_blocks": size} for size in (0, -1, LARGE)),
        *({"operations": mask} for mask in (0, -1, LARGE, 1 << Operation.GET_CAPACITY)),
        {"disk_type": 3},
        {"disk_type": -1},
        {"media_type": 256},
    ],
)
def test_a_disk_of_ours_that_cannot_be_is_refused_before_it_is_announced(fields: dict[str, Any]) -> None:
    """GET_CAPACITY alone is nothing at 1.0, which a client may settle for."""
    with pytest.raises(LocalProtocolError):
        a.check_attributes(replace(DISK, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        *({"block_size": 512 << n, "phys_block_size": 512 << n} for n in (0, 3, 22)),
        *({"size_blocks": size} for size in (1, a.MAX_SIZE, a.UNKNOWN_SIZE)),
        *({"max_xfer_blocks": size} for size in (1, LARGE - 1)),
        {"operations": operations_mask(V10, read_only=True)},
        {"media_type": MediaType.CD},
        {"disk_type": DiskType.SLICE},
    ],
)
def test_a_disk_of_ours_that_can_be_is_one_that_a_client_takes(fields: dict[str, Any]) -> None:
    disk = replace(DISK, **fields)
    a.check_attributes(disk)
    answer = a.build_answer(a.parse_wish(_wish(), V12), V12, disk)
    known = a.attributes_from(answer, V12, xfer_mode=3, max_xfer_bytes=LARGE * disk.block_size)
    assert known == disk


@pytest.mark.parametrize(
    ("block_size", "most"),
    [(513, 1), (1, 1), (-512, 1), (1 << 32, 1), (512, 0), (512, -1), (0, 0), (512, LARGE)],
)
def test_a_wish_that_cannot_be_is_refused_before_it_is_sent(block_size: int, most: int) -> None:
    with pytest.raises(LocalProtocolError):
        a.check_wish(block_size=block_size, max_xfer_blocks=most)


@pytest.mark.parametrize(("block_size", "most"), [(0, 1), (512, 1), (1 << 31, LARGE - 1)])
def test_a_wish_in_blocks_or_in_bytes(block_size: int, most: int) -> None:
    a.check_wish(block_size=block_size, max_xfer_blocks=most)


def test_an_answer_is_56_bytes() -> None:
    with pytest.raises(PacketError):
        a.attributes_from(bytes(55), V12, xfer_mode=3, max_xfer_bytes=65536)


def test_read_only_is_a_mask_without_writing() -> None:
    assert a.DiskAttributes(
        size_blocks=1, max_xfer_blocks=1, operations=operations_mask(V12, read_only=True)
    ).read_only
