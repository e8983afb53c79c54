"""The exporting side of a map table: which cookies are made of which slots, and what revoking takes back."""

from __future__ import annotations

import pytest

from protocol.errors import HvStatus, LocalProtocolError
from protocol.ldc.cookie import PAGE_SIZE, Cookie, PageSizeCode, Permission
from tests.support.maptables import COPY, make_table, refused

# --------------------------------------------------------------------------------------------------- export


def test_export_keeps_the_offset_and_covers_pages_in_a_row_with_one_cookie() -> None:
    table, memory = make_table()
    cookies = table.export(5 * PAGE_SIZE + 24, 2 * PAGE_SIZE, Permission.CW)
    assert cookies == [Cookie(24, 2 * PAGE_SIZE)]
    assert [table.page(index) for index in range(4)] == [0xA400, 0xC400, 0xE400, 0]
    assert memory[:16] == bytes.fromhex("000000000000a400 0000000000000000")  # big-endian, word 1 zero


def test_slots_are_taken_round_robin() -> None:
    table, _ = make_table(4)
    first = table.export(0, 8, COPY)
    table.revoke(first[0])
    assert table.export(0, 8, COPY) == [Cookie(1 * PAGE_SIZE, 8)]  # not slot 0, although it is free
    assert table.export(0, 8, COPY) == [Cookie(2 * PAGE_SIZE, 8)]


def test_wrap_from_the_last_slot_starts_a_new_cookie() -> None:
    table, _ = make_table(4)
    table.revoke(table.export(0, 3 * PAGE_SIZE, COPY)[0])
    cookies = table.export(8 * PAGE_SIZE + 8, 3 * PAGE_SIZE - 16, COPY)
    assert cookies == [Cookie(3 * PAGE_SIZE + 8, PAGE_SIZE - 8), Cookie(0, 2 * PAGE_SIZE - 8)]
    assert sum(cookie.size for cookie in cookies) == 3 * PAGE_SIZE - 16


def test_search_for_a_slot_goes_on_at_the_start_of_the_table() -> None:
    table, memory = make_table(4)
    first = table.export(0, 8, COPY)[0]
    table.export(0, 3 * PAGE_SIZE, COPY)
    full = bytes(memory)
    table.revoke(first)
    assert table.export(0, 8, COPY) == [first]
    table.revoke(first)
    assert table.export(0, 8, COPY) == [first]  # the slots behind it are all in use
    assert memory == full


def test_many_pages_make_one_cookie_and_are_revoked_at_once() -> None:
    table, memory = make_table(1024)
    cookies = table.export(0, 700 * PAGE_SIZE, COPY)
    assert cookies == [Cookie(0, 700 * PAGE_SIZE)]
    table.revoke(cookies[0])
    assert not any(memory)


def test_slot_in_use_starts_a_new_cookie() -> None:
    table, _ = make_table(8)
    blocks = [table.export(page * PAGE_SIZE, PAGE_SIZE, COPY)[0] for page in range(8)]
    for index in (1, 3, 4, 7):
        table.revoke(blocks[index])
    cookies = table.export(64 * PAGE_SIZE, 4 * PAGE_SIZE, COPY)
    assert cookies == [
        Cookie(1 * PAGE_SIZE, PAGE_SIZE),
        Cookie(3 * PAGE_SIZE, 2 * PAGE_SIZE),
        Cookie(7 * PAGE_SIZE, PAGE_SIZE),
    ]
    addresses = [run for cookie in cookies for run in table.resolve(*cookie, COPY)]
    assert addresses == [
        (64 * PAGE_SIZE, PAGE_SIZE),
        (65 * PAGE_SIZE, 2 * PAGE_SIZE),
        (67 * PAGE_SIZE, PAGE_SIZE),
    ]


@pytest.mark.parametrize("code", PageSizeCode)
def test_pages_of_every_size_are_exported(code: PageSizeCode) -> None:
    table, memory = make_table(4)
    page = 8192 * 8**code
    table.revoke(table.export(0, 8, COPY)[0])  # so that the search for a slot starts at 1
    assert table.export(2 * page + 8, page, COPY, code) == [Cookie(code << 60 | page + 8, page)]
    assert [table.page(index) for index in range(4)] == [
        0,
        2 * page | 0x600 | code,
        3 * page | 0x600 | code,
        0,
    ]
    assert table.resolve(code << 60 | page + 8, page, COPY) == [(2 * page + 8, page)]
    table.revoke(Cookie(code << 60 | page + 8, page))
    assert not any(memory)


def test_wrap_starts_a_new_cookie_of_the_same_page_size() -> None:
    table, _ = make_table(2)
    table.revoke(table.export(0, 8, COPY)[0])
    large = 64 * 1024
    assert table.export(large + 16, large, COPY, 1) == [
        Cookie(1 << 60 | large + 16, large - 16),
        Cookie(1 << 60, 16),
    ]


@pytest.mark.parametrize("code", [-1, 8, 15])
def test_page_size_that_does_not_exist_is_not_exported(code: int) -> None:
    table, memory = make_table()
    with pytest.raises(LocalProtocolError, match=f"hypervisor: there is no page size code {code}"):
        table.export(0, 8, COPY, code)
    assert not any(memory)


@pytest.mark.parametrize("code", [1, 2])
def test_large_export_is_not_revoked_as_one_of_another_page_size(code: int) -> None:
    table, _ = make_table()
    (cookie,) = table.export(0, 8, COPY, code)
    for other in {0, 1, 2, 8} - {code}:
        with pytest.raises(LocalProtocolError, match="is not exported"):
            table.revoke(Cookie(other << 60, 8))
    table.revoke(cookie)


def test_last_large_page_has_an_address_too() -> None:
    table, memory = make_table()
    page = 1 << 34
    with pytest.raises(LocalProtocolError, match="is no page"):
        table.export((1 << 56) - page, page + 8, COPY, 7)
    assert not any(memory)
    assert table.export((1 << 56) - page, page, COPY, 7) == [Cookie(7 << 60, page)]


@pytest.mark.parametrize(
    ("ra", "length", "permissions"),
    [
        (4, 8, COPY),  # not multiples of 8
        (8, 12, COPY),
        (4, 4, COPY),
        (0, 0, COPY),  # nothing
        (0, -8, COPY),
        (PAGE_SIZE, -8, COPY),
        (0, 8, 0),  # an entry without permission is no entry
        (0, 8, 0x800),  # no permission bit
        (0, 8, COPY | 0x800),  # nor when it comes with others
        (0, 8, COPY | 1),
        (1 << 56, 8, COPY),  # beyond what an entry can say
        ((1 << 56) - PAGE_SIZE, PAGE_SIZE + 8, COPY),
        (0, 16 * PAGE_SIZE + 8, COPY),  # more pages than the table has
    ],
)
def test_export_that_cannot_be_changes_nothing(ra: int, length: int, permissions: int) -> None:
    table, memory = make_table()
    with pytest.raises(LocalProtocolError):
        table.export(ra, length, permissions)
    assert not any(memory)
    assert table.export(0, 16 * PAGE_SIZE, COPY) == [Cookie(0, 16 * PAGE_SIZE)]


@pytest.mark.parametrize("npages", [1, 2, 3, 4])
def test_export_may_end_where_addresses_do(npages: int) -> None:
    table, _ = make_table()
    begin = (1 << 56) - npages * PAGE_SIZE
    with pytest.raises(LocalProtocolError, match="is no page"):
        table.export(begin, npages * PAGE_SIZE + 8, COPY)
    (cookie,) = table.export(begin, npages * PAGE_SIZE, COPY)
    assert table.resolve(*cookie, COPY) == [(begin, npages * PAGE_SIZE)]


def test_export_takes_every_permission_at_once() -> None:
    table, memory = make_table()
    table.export(0, 8, 0x7F0)
    assert memory[:8] == (0x7F0).to_bytes(8, "big")


def test_full_table_is_refused_until_something_is_revoked() -> None:
    table, _ = make_table(2)
    first, _second = table.export(0, 8, COPY) + table.export(0, 8, COPY)
    with pytest.raises(LocalProtocolError, match="0 map table entries free, 1 needed"):
        table.export(0, 8, COPY)
    table.revoke(first)
    assert table.export(0, 8, COPY) == [first]


# --------------------------------------------------------------------------------------------------- revoke


def test_revoked_cookie_no_longer_resolves() -> None:
    table, memory = make_table()
    (cookie,) = table.export(8, 3 * PAGE_SIZE, COPY)
    table.revoke(cookie)
    assert not any(memory)
    assert refused(table, *cookie) is HvStatus.ENOMAP


@pytest.mark.parametrize(
    "cookie",
    [
        Cookie(4 * PAGE_SIZE, 8),  # never exported
        Cookie(0, 5 * PAGE_SIZE),  # longer than what was
        Cookie(0, 4 * PAGE_SIZE + 1),
        Cookie(0, 0),
        Cookie(0, -8),
        Cookie(16 * PAGE_SIZE, 8),  # outside the table
        Cookie(0, 17 * PAGE_SIZE),
        Cookie(1 << 60, 8),  # other page size
    ],
)
def test_only_what_is_exported_can_be_revoked(cookie: Cookie) -> None:
    table, memory = make_table()
    table.export(0, 4 * PAGE_SIZE, COPY)
    before = bytes(memory)
    with pytest.raises(LocalProtocolError, match="is not exported"):
        table.revoke(cookie)
    assert memory == before


def test_exports_do_not_depend_on_what_the_peer_writes_into_the_table() -> None:
    table, memory = make_table(4)
    table.export(0, 2 * PAGE_SIZE, COPY)
    memory[:] = b"\xff" * len(memory)
    assert table.export(0, 8, COPY) == [Cookie(2 * PAGE_SIZE, 8)]
    memory[:] = bytes(len(memory))
    assert table.export(0, 8, COPY) == [Cookie(3 * PAGE_SIZE, 8)]
    with pytest.raises(LocalProtocolError):
        table.export(0, 8, COPY)
