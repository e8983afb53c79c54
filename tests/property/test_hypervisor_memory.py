"""Cookies to bytes: the mapped memory and COPY agree with a model that looks at each byte by itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hypervisor.channel import Channel
from hypervisor.copied import CopiedMemory
from hypervisor.memory import LocalMemory, MappedMemory
from hypervisor.records import CopyDone
from protocol.errors import CookieError
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission

ENTRIES = 16
PAGES = 10
SIZE = PAGES * PAGE_SIZE
CR, CW = Permission.CR, Permission.CW

#: Map table entries: good ones, ones that lack a permission, other page sizes, outside, anything.
entries = st.one_of(
    st.builds(
        lambda page, bits: page * PAGE_SIZE | bits,
        st.integers(0, PAGES - 1),
        st.sampled_from([0x600, 0x630, 0x200, 0x400, 0x30]),
    ),
    st.sampled_from([0, 0x601, SIZE | 0x600, 0x00FFFFFFFFFFE000 | 0x600, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
tables = st.lists(entries, min_size=ENTRIES, max_size=ENTRIES)
places = st.one_of(
    st.integers(0, ENTRIES * PAGE_SIZE // 8).map(lambda word: word * 8),
    st.sampled_from([0, PAGE_SIZE, PAGE_SIZE - 8, ENTRIES * PAGE_SIZE - 8, 1 << 60, (1 << 64) - 8]),
    st.integers(0, (1 << 64) - 1),
)
sizes = st.one_of(st.integers(1, 4 * PAGE_SIZE // 8).map(lambda words: words * 8), st.integers(-8, 1 << 64))
cookies = st.lists(st.builds(Cookie, places, sizes), max_size=4).map(tuple)
lengths = st.one_of(st.integers(1, 3 * PAGE_SIZE), st.integers(-8, 1 << 64))


def place(table: list[int], addr: int, need: int) -> tuple[int, int] | None:
    """Return (real address, bytes left in the page) of a cookie address, or None if it may not be used."""
    code = addr >> 60
    page_size = PAGE_SIZE << 3 * code
    slot, offset = divmod(addr % (1 << 60), page_size)
    if code > 7 or slot >= ENTRIES:
        return None
    mte = table[slot]
    if mte & need != need or mte & 0xF != code:
        return None
    return mte % (1 << 56) // page_size * page_size + offset, page_size - offset


def expected(table: list[int], wanted: tuple[Cookie, ...], nbytes: int, need: int) -> list[slice] | None:
    """Return the parts of the memory that are wanted, or None if the request must be refused."""
    rest = -(-nbytes // 8) * 8
    found: list[slice] = []
    for addr, size in wanted:
        if rest <= 0:
            break
        if size <= 0 or size % 8 or addr % 8:
            return None
        end = addr + min(size, rest)
        while addr < end:
            where = place(table, addr, need)
            if where is None:
                return None
            real, length = where[0], min(where[1], end - addr)
            if real + length > SIZE:
                return None
            found.append(slice(real, real + length))
            addr, rest = addr + length, rest - length
    return found if nbytes > 0 and rest == 0 else None


class Pair(NamedTuple):
    """Memory of a client, as it has it and as the server maps it."""

    local: LocalMemory
    mapped: MappedMemory

    def write_table(self, table: list[int]) -> None:
        for index, mte in enumerate(table):
            self.local.view[16 * index : 16 * index + 8] = mte.to_bytes(8, "big")


WORDS = b"".join(at.to_bytes(8, "big") for at in range(PAGE_SIZE, SIZE, 8))
"""What is behind the map table's page: each word is its own address."""


def make_pair() -> Pair:
    local = LocalMemory(SIZE, ENTRIES, shared=True)
    assert local.fd is not None
    mapped = MappedMemory(os.dup(local.fd), SIZE)
    mapped.set_map_table(0, ENTRIES)
    local.view[PAGE_SIZE:] = WORDS
    return Pair(local, mapped)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Return memory in which each word behind the map table says where it is."""
    made = make_pair()
    yield made
    made.mapped.close()
    made.local.close()


def look(mapped: MappedMemory, wanted: tuple[Cookie, ...], nbytes: int, need: Permission) -> bytes | None:
    """Return the bytes behind cookies, or None when they are refused."""
    try:
        return b"".join(mapped.views(wanted, nbytes, need))
    except CookieError:
        return None


@given(table=tables, wanted=cookies, nbytes=lengths, need=st.sampled_from([CR, CW]))
def test_views_are_exactly_what_the_table_allows(
    pair: Pair, table: list[int], wanted: tuple[Cookie, ...], nbytes: int, need: Permission
) -> None:
    pair.write_table(table)
    model = expected(table, wanted, nbytes, need)
    for _ in range(2):  # afresh, and remembered
        found = look(pair.mapped, wanted, nbytes, need)
        assert (found is None) == (model is None)
        if found is not None and model is not None:
            assert len(found) == nbytes
            assert found == b"".join(pair.local.view[part] for part in model)[:nbytes]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(table=tables, wanted=cookies, nbytes=st.integers(1, 3 * PAGE_SIZE))
def test_copying_reads_what_mapping_shows(
    pair: Pair, table: list[int], wanted: tuple[Cookie, ...], nbytes: int
) -> None:
    pair.write_table(table)
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    exporter, importer = Channel(ends[0], exported=pair.local), Channel(ends[1])
    memory = CopiedMemory(importer)
    results: list[object] = []
    memory.copy_in(wanted, nbytes, results.append)
    while not results:
        exporter.receive()
        exporter.flush()
        for item in importer.receive():
            assert isinstance(item, CopyDone)
            memory.received(item)
    shown = look(pair.mapped, wanted, nbytes, CR)
    assert len(results) == 1
    if shown is None:
        assert isinstance(results[0], CookieError)
    else:
        assert results == [shown]
    memory.close()
    exporter.close()
    importer.close()


class Revoking(RuleBasedStateMachine):
    """The exporter changes entries between uses: each use sees the table as it is, never as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = make_pair()
        self.table = [0] * ENTRIES
        self.wanted: list[tuple[tuple[Cookie, ...], int]] = []

    @rule(index=st.integers(0, ENTRIES - 1), mte=entries)
    def change(self, index: int, mte: int) -> None:
        self.table[index] = mte
        self.pair.write_table(self.table)

    @rule(wanted=cookies, nbytes=lengths)
    def ask(self, wanted: tuple[Cookie, ...], nbytes: int) -> None:
        self.wanted = [*self.wanted[-5:], (wanted, nbytes)]

    @rule(slot=st.integers(0, ENTRIES - 1), pages=st.integers(1, 4))
    def ask_for_whole_pages(self, slot: int, pages: int) -> None:
        self.ask((Cookie(slot * PAGE_SIZE, pages * PAGE_SIZE),), pages * PAGE_SIZE)

    @invariant()
    def answers_are_those_of_the_table(self) -> None:
        for wanted, nbytes in self.wanted:
            for need in (CR, CW):
                model = expected(self.table, wanted, nbytes, need)
                found = look(self.pair.mapped, wanted, nbytes, need)
                assert (found is None) == (model is None)
                if found is not None and model is not None:
                    data = b"".join(self.pair.local.view[part] for part in model)
                    assert found == data[:nbytes]

    def teardown(self) -> None:
        self.pair.mapped.close()
        self.pair.local.close()


Revoking.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestRevoking = Revoking.TestCase


@given(st.lists(st.tuples(st.integers(1, PAGES - 1), st.integers(1, 3 * PAGE_SIZE // 8)), max_size=12))
def test_what_is_exported_resolves_until_it_is_revoked(requests: list[tuple[int, int]]) -> None:
    pair = make_pair()
    held: list[tuple[list[Cookie], int, int]] = []
    for page, words in requests:
        ra, length = page * PAGE_SIZE, min(8 * words, (PAGES - page) * PAGE_SIZE)
        if pair.local.table.nentries - sum(-(-n // PAGE_SIZE) for _, _, n in held) < -(-length // PAGE_SIZE):
            taken, _, _ = held.pop(0)
            for cookie in taken:
                pair.local.table.revoke(cookie)
            continue
        held.append((pair.local.export(ra, length, CR), ra, length))
        for taken, start, size in held:
            assert look(pair.mapped, tuple(taken), size, CR) == bytes(pair.local.view[start : start + size])
    pair.mapped.close()
    pair.local.close()
