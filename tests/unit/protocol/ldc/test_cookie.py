"""Cookies and map tables: their bits, what resolves, and every status of a cookie that does not."""

from __future__ import annotations

import struct

import pytest

from protocol.errors import CookieError, HvStatus, LocalProtocolError
from protocol.ldc.cookie import (
    PAGE_SIZE,
    Cookie,
    CookieLayout,
    MapTable,
    MapTableSlot,
    MapTableSlotLayout,
    MapType,
    MemoryPermission,
    PageSizeCode,
    Permission,
    build_mte,
    map_permissions,
    page_shift,
    split_cookie,
)
from tests.support.calls import count_calls
from tests.support.maptables import COPY, RW, make_table, refused


def poke(memory: bytearray, index: int, mte: int) -> None:
    """Write a map table entry as a peer could."""
    struct.pack_into(">Q", memory, index * 16, mte)


# ---------------------------------------------------------------------------------------------- bit layouts


def test_cookie_is_two_words() -> None:
    data = bytes.fromhex("3000000000002008 0000000000000200")
    assert CookieLayout.parse(data) == Cookie(0x3000000000002008, 512)
    assert CookieLayout.build(Cookie(0x3000000000002008, 512)) == data


def test_slot_is_entry_and_revocation_cookie() -> None:
    data = bytes.fromhex("0000000000012600 0000000000000001")
    assert MapTableSlotLayout.parse(data) == MapTableSlot(mte=0x12600, revocation_cookie=1)


@pytest.mark.parametrize(
    ("permission", "bit"), [("R", 4), ("W", 5), ("X", 6), ("IR", 7), ("IW", 8), ("CR", 9), ("CW", 10)]
)
def test_permission_bits_are_those_of_the_map_table_entry(permission: str, bit: int) -> None:
    assert Permission[permission] == 1 << bit


def test_page_sizes_are_those_of_the_map_table() -> None:
    sizes = {code.name: (int(code), 1 << page_shift(code)) for code in PageSizeCode}
    assert sizes == {
        "SIZE_8K": (0, 8192),
        "SIZE_64K": (1, 65536),
        "SIZE_512K": (2, 524288),
        "SIZE_4M": (3, 4194304),
        "SIZE_32M": (4, 33554432),
        "SIZE_256M": (5, 268435456),
        "SIZE_2G": (6, 2147483648),
        "SIZE_16G": (7, 17179869184),
    }


def test_words_of_the_drivers_have_the_numbers_of_the_header() -> None:
    assert {each.name: int(each) for each in MapType} == {"SHADOW": 1, "DIRECT": 2, "IO": 4}
    assert {each.name: int(each) for each in MemoryPermission} == {"R": 1, "W": 2, "X": 4}


@pytest.mark.parametrize(
    ("types", "permissions", "bits"),
    [
        (1, 1, 0x200),  # SHADOW sets CR and CW
        (1, 2, 0x400),
        (1, 7, 0x600),
        (2, 1, 0x10),  # DIRECT sets R, W and X
        (2, 2, 0x20),
        (2, 4, 0x40),
        (2, 7, 0x70),
        (4, 1, 0x80),  # IO sets IR and IW
        (4, 2, 0x100),
        (4, 7, 0x180),
        (3, 3, 0x630),  # a ring: copied or mapped, read and written
        (7, 7, 0x7F0),
        (0, 7, 0),
        (7, 0, 0),
        (5, 4, 0),  # nothing but a mapping can be executed
    ],
)
def test_types_and_permissions_make_the_bits_of_the_entry(types: int, permissions: int, bits: int) -> None:
    assert map_permissions(MapType(types), MemoryPermission(permissions)) == bits


def test_mte_holds_address_permissions_and_page_size() -> None:
    assert build_mte(0x12000, COPY) == 0x12600
    assert build_mte(0x80000, RW, page_size_code=2) == 0x80032
    assert build_mte((1 << 56) - PAGE_SIZE, Permission.X) == 0x00FFFFFFFFFFE040


@pytest.mark.parametrize(
    ("ra", "code"), [(0x1000, 0), (1, 0), (1 << 56, 0), (1 << 57, 0), (-PAGE_SIZE, 0), (PAGE_SIZE, 1)]
)
def test_mte_of_no_page_is_refused(ra: int, code: int) -> None:
    with pytest.raises(LocalProtocolError, match="is no page"):
        build_mte(ra, RW, code)


@pytest.mark.parametrize(
    ("addr", "parts"),
    [
        (0, (0, 0, 0)),
        (3 * 8192 + 16, (0, 3, 16)),
        (0x1000000000030008, (1, 3, 8)),  # 64 KiB pages
        (0x7000000C00000010, (7, 3, 16)),  # 16 GiB pages
        (0x0FFFFFFFFFFFFFFF, (0, (1 << 47) - 1, 8191)),
    ],
)
def test_cookie_address_splits_by_its_page_size(addr: int, parts: tuple[int, int, int]) -> None:
    assert split_cookie(addr) == parts


# -------------------------------------------------------------------------------------------------- resolve


def test_one_page_resolves_to_its_address() -> None:
    table, _ = make_table()
    (cookie,) = table.export(0x123 * PAGE_SIZE + 0x208, 512, COPY)
    assert table.resolve(*cookie, Permission.CR) == [(0x123 * PAGE_SIZE + 0x208, 512)]
    assert table.resolve(cookie.addr + 8, 496, int(Permission.CW)) == [(0x123 * PAGE_SIZE + 0x210, 496)]


@pytest.mark.parametrize(
    ("addr", "length"),
    [
        (0, 8),
        (0, PAGE_SIZE),
        (8, 8),
        (16, 512),
        (512, PAGE_SIZE - 512),
        (PAGE_SIZE - 8, 8),
        (PAGE_SIZE + 8, 16),
    ],
)
@pytest.mark.parametrize("need", [0, 0x200, 0x400, 0x600])
def test_one_page_takes_the_short_way(addr: int, length: int, need: int) -> None:
    """The data path resolves a page for each request: it makes no other call."""
    table, _ = make_table(2)
    table.export(0, 2 * PAGE_SIZE, COPY)
    assert count_calls(table.resolve, addr, length, need) == 1


def test_permission_by_name_costs_no_more_than_its_number() -> None:
    table, _ = make_table()
    table.export(0, PAGE_SIZE, COPY)
    assert count_calls(table.resolve, 0, 8, COPY) == 1


def test_adjacent_pages_are_merged_and_others_are_not() -> None:
    table, memory = make_table()
    for index, page in enumerate((7, 8, 3, 4, 9)):
        poke(memory, index, page * PAGE_SIZE | COPY)
    assert table.resolve(16, 5 * PAGE_SIZE - 32, COPY) == [
        (7 * PAGE_SIZE + 16, 2 * PAGE_SIZE - 16),
        (3 * PAGE_SIZE, 2 * PAGE_SIZE),
        (9 * PAGE_SIZE, PAGE_SIZE - 16),
    ]


def test_what_reaches_into_the_next_page_is_not_taken_from_the_first_alone() -> None:
    table, memory = make_table()
    poke(memory, 0, 7 * PAGE_SIZE | COPY)
    poke(memory, 1, 3 * PAGE_SIZE | COPY)
    expected = [(7 * PAGE_SIZE + 16, PAGE_SIZE - 16), (3 * PAGE_SIZE, 8)]
    assert table.resolve(16, PAGE_SIZE - 8, COPY) == expected
    assert table.resolve(16, PAGE_SIZE - 16, COPY) == expected[:1]
    poke(memory, 1, 0)
    assert refused(table, 16, PAGE_SIZE - 8) is HvStatus.ENOMAP


def test_first_page_may_be_real_address_zero() -> None:
    table, memory = make_table()
    poke(memory, 0, int(COPY))
    poke(memory, 1, PAGE_SIZE | COPY)
    assert table.resolve(0, 2 * PAGE_SIZE, COPY) == [(0, 2 * PAGE_SIZE)]


def test_an_address_in_the_first_page_is_looked_up_in_the_first_slot() -> None:
    table, memory = make_table(1 << 17)
    for index in (1, 8 * 13, 8 << 13):
        poke(memory, index, (index + 1) * PAGE_SIZE | COPY)
    poke(memory, 0, 5 * PAGE_SIZE | COPY)
    assert table.resolve(8, 8, COPY) == [(5 * PAGE_SIZE + 8, 8)]
    assert table.resolve(16, 8, COPY) == [(5 * PAGE_SIZE + 16, 8)]


def test_table_is_read_anew_at_each_call() -> None:
    table, memory = make_table()
    (cookie,) = table.export(0, 8, COPY)
    poke(memory, 0, 9 * PAGE_SIZE | COPY)
    assert table.resolve(*cookie, COPY) == [(9 * PAGE_SIZE, 8)]


def test_reserved_and_software_bits_are_ignored() -> None:
    table, memory = make_table()
    poke(memory, 0, 0xFF << 56 | 3 << 11 | 2 * PAGE_SIZE | COPY)
    poke(memory, 1, 0xFF << 56 | 3 << 11 | 3 * PAGE_SIZE | COPY)
    assert table.resolve(0, 8, COPY) == [(2 * PAGE_SIZE, 8)]
    assert table.resolve(0, 2 * PAGE_SIZE, COPY) == [(2 * PAGE_SIZE, 2 * PAGE_SIZE)]


def test_page_size_is_no_permission() -> None:
    table, memory = make_table()
    poke(memory, 0, 7)
    assert refused(table, 7 << 60, 8, 0) is HvStatus.ENOMAP


def test_who_has_mapped_a_page_in_does_not_say_where_it_is() -> None:
    table, memory = make_table()
    struct.pack_into(">QQ", memory, 0, 3 * PAGE_SIZE | COPY, 5 * PAGE_SIZE | COPY)
    assert table.resolve(8, 8, COPY) == [(3 * PAGE_SIZE + 8, 8)]
    assert table.page(0) == 3 * PAGE_SIZE | COPY


def test_larger_pages_resolve() -> None:
    table, memory = make_table()
    large = 64 * 1024
    poke(memory, 2, 5 * large | COPY | 1)
    poke(memory, 3, 6 * large | COPY | 1)
    addr = 1 << 60 | 2 * large + 8
    assert table.resolve(addr, large, COPY) == [(5 * large + 8, large)]


@pytest.mark.parametrize(("addr", "length"), [(4, 8), (8, 4), (4, 4), (0, 1), (1, 7), (-8, 8)])
def test_misaligned_is_ebadalign(addr: int, length: int) -> None:
    table, memory = make_table()
    poke(memory, 0, int(COPY))
    assert refused(table, addr, length) is HvStatus.EBADALIGN


@pytest.mark.parametrize(
    ("addr", "length"),
    [
        (0, 0),  # nothing
        (0, -8),
        (2 * PAGE_SIZE, 8),  # entry not valid
        (PAGE_SIZE, PAGE_SIZE + 8),  # runs into it
        (16 * PAGE_SIZE, 8),  # index outside
        (15 * PAGE_SIZE, PAGE_SIZE + 8),  # runs out of the table
        (0, 1 << 63),
        ((1 << 60) - 8, 8),
    ],
)
def test_no_entry_is_enomap(addr: int, length: int) -> None:
    table, memory = make_table()
    for index in (0, 1, 15):
        poke(memory, index, int(COPY))
    assert refused(table, addr, length) is HvStatus.ENOMAP


def test_entry_with_an_address_and_no_permission_is_enomap_even_if_none_is_needed() -> None:
    table, memory = make_table()
    poke(memory, 0, 5 * PAGE_SIZE)
    assert refused(table, 0, 8, 0) is HvStatus.ENOMAP


@pytest.mark.parametrize("need", [Permission.CR, COPY, Permission.R])
def test_missing_permission_is_enoaccess(need: Permission) -> None:
    table, memory = make_table()
    poke(memory, 2, int(Permission.CW))  # of the page at 0
    assert refused(table, 2 * PAGE_SIZE, 8, need) is HvStatus.ENOACCESS
    poke(memory, 0, int(COPY))
    poke(memory, 1, 9 * PAGE_SIZE | Permission.CW)
    assert refused(table, PAGE_SIZE, 8, need) is HvStatus.ENOACCESS
    with pytest.raises(CookieError, match="permissions 0x400 "):
        table.resolve(PAGE_SIZE, 8, need)
    assert refused(table, 0, PAGE_SIZE + 8, need) is HvStatus.ENOACCESS


@pytest.mark.parametrize("addr", [1 << 60, 8 << 60, 15 << 60])
def test_other_page_size_is_ebadpgsz(addr: int) -> None:
    table, memory = make_table()
    poke(memory, 0, int(COPY))
    assert refused(table, addr, 8) is HvStatus.EBADPGSZ
    if addr >> 60 > PageSizeCode.SIZE_16G:
        poke(memory, 0, COPY | addr >> 60)  # a size that does not exist is none, though both name it
        assert refused(table, addr, 8) is HvStatus.EBADPGSZ
    poke(memory, 0, int(COPY) | 2)
    assert refused(table, 0, 8) is HvStatus.EBADPGSZ
    with pytest.raises(CookieError, match="page size code 2 "):
        table.resolve(0, 8, COPY)


# ---------------------------------------------------------------------------------------------------- table


@pytest.mark.parametrize("nentries", [-2, 0, 1, 3, 5, 6, 7, 9, 12, 513, 8191])
def test_number_of_entries_is_a_power_of_two(nentries: int) -> None:
    with pytest.raises(CookieError) as caught:
        MapTable(memoryview(bytearray(8192 * 16)), nentries)
    assert caught.value.hv_status is HvStatus.EINVAL


def test_table_must_fit_its_memory() -> None:
    MapTable(memoryview(bytearray(32)), 2)
    MapTable(memoryview(bytearray(48)), 2)  # more memory than it needs is no fault
    with pytest.raises(CookieError) as caught:
        MapTable(memoryview(bytearray(31)), 2)
    assert caught.value.hv_status is HvStatus.ENORADDR


@pytest.mark.parametrize("index", [-1, 16, 1 << 47])
def test_page_outside_the_table_is_enomap(index: int) -> None:
    table, _ = make_table()
    with pytest.raises(CookieError) as caught:
        table.page(index)
    assert caught.value.hv_status is HvStatus.ENOMAP
