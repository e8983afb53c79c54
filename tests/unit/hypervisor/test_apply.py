"""Memory contents that were pushed: where pages lie is remembered, and looked up again every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hypervisor import memory as module
from hypervisor.memory import LocalMemory
from protocol.errors import CookieError, HvStatus
from protocol.ldc.cookie import PAGE_SHIFT, PAGE_SIZE, Permission, build_mte

from .conftest import ALL

CW = Permission.CW


@pytest.fixture
def local() -> Iterator[LocalMemory]:
    """Return private memory of 8 pages, the map table in the first."""
    memory = LocalMemory(8 * PAGE_SIZE, 64, shared=False)
    yield memory
    memory.close()


def refusal(call: Callable[[], object]) -> HvStatus:
    """Return the status that ``call`` is refused with."""
    with pytest.raises(CookieError) as caught:
        call()
    return caught.value.hv_status


@pytest.mark.parametrize("length", [8, PAGE_SIZE, PAGE_SIZE + 8, 2 * PAGE_SIZE])
def test_it_sees_at_once_that_a_page_was_revoked(local: LocalMemory, length: int) -> None:
    (cookie,) = local.export(PAGE_SIZE, 2 * PAGE_SIZE, ALL)
    piece = (cookie.addr, b"x" * length)
    for _ in range(3):
        local.apply([piece])
    local.table.revoke(cookie)
    assert refusal(lambda: local.apply([piece])) is HvStatus.ENOMAP


@pytest.mark.parametrize("page", [0, 1])
def test_it_sees_at_once_that_a_permission_was_taken(local: LocalMemory, page: int) -> None:
    (cookie,) = local.export(PAGE_SIZE, 2 * PAGE_SIZE, ALL)
    piece = (cookie.addr + PAGE_SIZE - 8, bytes(16))
    local.apply([piece, piece])
    slot = ((cookie.addr >> PAGE_SHIFT) + page) * 16
    local.view[slot : slot + 8] = build_mte((1 + page) * PAGE_SIZE, ALL & ~CW).to_bytes(8, "big")
    assert refusal(lambda: local.apply([piece])) is HvStatus.ENOACCESS


def test_it_follows_a_page_that_moved(local: LocalMemory) -> None:
    (cookie,) = local.export(PAGE_SIZE, PAGE_SIZE, ALL)
    piece = (cookie.addr + 8, b"contents")
    local.apply([piece, piece])
    slot = (cookie.addr >> PAGE_SHIFT) * 16
    local.view[slot : slot + 8] = build_mte(2 * PAGE_SIZE, ALL).to_bytes(8, "big")
    local.view[PAGE_SIZE : 2 * PAGE_SIZE] = bytes(PAGE_SIZE)
    local.apply([piece, piece])
    assert bytes(local.view[PAGE_SIZE : 2 * PAGE_SIZE]) == bytes(PAGE_SIZE)
    assert bytes(local.view[2 * PAGE_SIZE : 2 * PAGE_SIZE + 24]) == bytes(8) + b"contents" + bytes(8)


def test_it_writes_across_pages_that_are_not_in_a_row(local: LocalMemory) -> None:
    (first,) = local.export(3 * PAGE_SIZE, PAGE_SIZE, ALL)
    (second,) = local.export(PAGE_SIZE, PAGE_SIZE, ALL)
    assert second.addr == first.addr + PAGE_SIZE
    for contents in (b"abcdefghijklmnop", b"ABCDEFGHIJKLMNOP"):
        local.apply([(second.addr - 8, contents)])
        assert bytes(local.view[4 * PAGE_SIZE - 8 : 4 * PAGE_SIZE]) == contents[:8]
        assert bytes(local.view[PAGE_SIZE : PAGE_SIZE + 8]) == contents[8:]


def test_it_forgets_when_it_has_seen_too_much(local: LocalMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_LIMIT", 2)
    (cookie,) = local.export(PAGE_SIZE, 3 * PAGE_SIZE, ALL)
    for number in range(6):
        at = number % 3 * PAGE_SIZE
        local.apply([(cookie.addr + at, bytes([number]) * 8)])
        assert bytes(local.view[PAGE_SIZE + at : PAGE_SIZE + at + 8]) == bytes([number]) * 8
        assert len(local._known) <= 2
