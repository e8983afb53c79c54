"""Map table: what is exported resolves to itself, all else is refused, whatever the peer asks or writes."""

from __future__ import annotations

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from protocol.errors import CookieError, LocalProtocolError
from protocol.ldc.cookie import (
    PAGE_SIZE,
    Cookie,
    MapTable,
    PageSizeCode,
    Permission,
    build_mte,
    split_cookie,
)

ENTRIES = 16
ALL = sum(Permission)
aligned = st.integers(0, 6 * PAGE_SIZE // 8).map(lambda count: count * 8)


Memory = tuple[int, int, PageSizeCode]  # real address, bytes, size of its pages


def some_memory(code: PageSizeCode) -> st.SearchStrategy[Memory]:
    """Draw an address and a length, up to six pages of the size that ``code`` says."""
    units = st.integers(0, 6 * (PAGE_SIZE << 3 * code) // 8).map(lambda count: count * 8)
    return st.tuples(units, units, st.just(code))


def joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ``runs`` with those in a row made one."""
    found: list[tuple[int, int]] = []
    for ra, length in runs:
        if found and sum(found[-1]) == ra:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((ra, length))
    return found


class Exports(RuleBasedStateMachine):
    """An exporter that exports and revokes at random, and an importer on the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = bytearray(ENTRIES * 16)
        self.table = MapTable(memoryview(self.memory), ENTRIES)
        self.importer = MapTable(memoryview(self.memory), ENTRIES)
        self.used: dict[int, int] = {}  # table index → real address of the page

    exports = Bundle("exports")

    @rule(target=exports, memory=st.sampled_from(PageSizeCode).flatmap(some_memory))
    def export(self, memory: Memory) -> tuple[int, int, tuple[Cookie, ...]]:
        """Export some memory; refused exactly if there is nothing to export or no room."""
        ra, length, code = memory
        page_size = PAGE_SIZE << 3 * code
        npages = (ra % page_size + length + page_size - 1) // page_size
        try:
            cookies = self.table.export(ra, length, Permission.CR, code)
        except LocalProtocolError:
            assert length == 0 or npages > ENTRIES - len(self.used)
            return ra, 0, ()
        assert sum(cookie.size for cookie in cookies) == length
        for cookie in cookies:
            found, index, offset = split_cookie(cookie.addr)
            assert found == code
            pages = (offset + cookie.size + page_size - 1) // page_size
            fresh = set(range(index, index + pages))
            assert not fresh & set(self.used)
            self.used.update(dict.fromkeys(fresh, 0))
        return ra, length, tuple(cookies)

    @rule(export=exports)
    def resolve(self, export: tuple[int, int, tuple[Cookie, ...]]) -> None:
        """All of an export resolves to the memory exported, in order."""
        ra, length, cookies = export
        if any(split_cookie(cookie.addr)[1] not in self.used for cookie in cookies):
            return  # revoked meanwhile
        runs = [
            run
            for cookie in cookies
            for run in self.importer.resolve(cookie.addr, cookie.size, Permission.CR)
        ]
        assert joined(runs) == ([(ra, length)] if length else [])

    @rule(export=consumes(exports))
    def revoke(self, export: tuple[int, int, tuple[Cookie, ...]]) -> None:
        """Revoke an export; it does not resolve any more, and cannot be revoked again."""
        for cookie in export[2]:
            self.table.revoke(cookie)
            code, index, offset = split_cookie(cookie.addr)
            page_size = PAGE_SIZE << 3 * code
            for slot in range(index, index + (offset + cookie.size + page_size - 1) // page_size):
                del self.used[slot]
            with pytest.raises(CookieError):
                self.importer.resolve(cookie.addr, cookie.size, 0)
            with pytest.raises(LocalProtocolError):
                self.table.revoke(cookie)

    @invariant()
    def entries_are_those_in_use(self) -> None:
        """An entry is zero if and only if it is free."""
        assert {index for index in range(ENTRIES) if self.table.page(index)} == set(self.used)


TestExports = Exports.TestCase

numbers = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 20 * PAGE_SIZE), aligned)
entries = st.one_of(
    st.just(0),
    st.integers(0, (1 << 64) - 1),
    st.builds(
        lambda page, bits: build_mte(page * PAGE_SIZE, bits),
        st.integers(0, 40),
        st.integers(0, 0x7F).map(lambda n: n << 4),
    ),
)


@given(
    table=st.lists(entries, min_size=4, max_size=4),
    addr=numbers,
    length=numbers,
    need=st.sampled_from([0, *Permission, Permission.CR | Permission.CW, ALL]),
)
def test_any_cookie_on_any_table_resolves_soundly_or_is_refused(
    table: list[int], addr: int, length: int, need: int
) -> None:
    memory = b"".join(mte.to_bytes(8, "big") + bytes(8) for mte in table)
    importer = MapTable(memoryview(bytearray(memory)), 4)
    try:
        runs = importer.resolve(addr, length, need)
    except CookieError as error:
        note(str(error))
        return
    code, index, offset = split_cookie(addr)
    page_size = PAGE_SIZE << 3 * code
    assert sum(size for _, size in runs) == length > 0
    assert all(size > 0 and ra % 8 == size % 8 == 0 and ra + size <= 1 << 56 for ra, size in runs)
    assert all(runs[i][0] + runs[i][1] != runs[i + 1][0] for i in range(len(runs) - 1))  # merged
    last = index + (offset + length - 1) // page_size
    assert last < 4
    assert all(mte & need == need and mte & 0xF == code for mte in table[index : last + 1])


@given(st.integers(0, (1 << 64) - 1))
def test_split_cookie_loses_nothing(addr: int) -> None:
    code, index, offset = split_cookie(addr)
    shift = 13 + 3 * code
    assert 0 <= offset < 1 << shift
    assert code << 60 | index << shift | offset == addr
