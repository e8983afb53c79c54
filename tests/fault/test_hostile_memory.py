"""Memory that is not what a request says: cookies, permissions and pages that lead nowhere are a NACK and a
full reset; and never more than the offender's session.
"""

from __future__ import annotations

import pytest

from hypervisor.records import MapTableRecord
from protocol.ldc.cookie import PAGE_SIZE, Permission
from protocol.vdisk.operations import Operation
from tests.fault.conftest import Victim
from tests.support.hostile import ALL, DATA_AT, DATA_SIZE, ROOM, Peer, answered

READ, WRITE = Operation.BREAD, Operation.BWRITE


def cookies_of(peer: Peer, case: str) -> list[tuple[int, int]]:
    """Cookies for 1024 bytes that are wrong."""
    good = peer.data_cookie.addr
    table: dict[str, list[tuple[int, int]]] = {
        "outside the table": [(1024 * PAGE_SIZE, 1024)],
        "far outside the table": [((1 << 56) - PAGE_SIZE, 1024)],
        "no such page": [(1000 * PAGE_SIZE, 1024)],
        "into a page that is not there": [(good + DATA_SIZE - 512, 1024)],
        "of another page size": [(good | 1 << 60, 1024)],
        "of the largest page size": [(good | 15 << 60, 1024)],
        "at an odd address": [(good + 4, 1024)],
        "of an odd size": [(good, 1020)],
        "of size 0": [(good, 0), (good, 1024)],
        "of size 2^64-8": [(good, (1 << 64) - 8)],
        "too short": [(good, 1016)],
        "too short in parts": [(good, 8)] * ROOM,
        "half good": [(good, 512), (1000 * PAGE_SIZE, 512)],
        "none": [],
    }
    return table[case]


NO_FAULT = ("of size 2^64-8",)
"""Covers more than it must, and that is allowed."""


@pytest.mark.parametrize("operation", [READ, WRITE])
@pytest.mark.parametrize(
    "case",
    [
        *("outside the table", "far outside the table", "no such page", "into a page that is not there"),
        *("of another page size", "of the largest page size", "at an odd address", "of an odd size"),
        *("of size 0", "of size 2^64-8", "too short", "too short in parts", "half good", "none"),
    ],
)
def test_a_cookie_that_does_not_lead_to_memory_is_a_fault(
    running: Peer, victim: Victim, operation: int, case: str
) -> None:
    before = victim.image.read_bytes()
    running.fill(b"\xee" * 4096)
    running.post(2, operation, 1 << 14, 1024, cookies_of(running, case))
    message = running.announce(2)
    if case in NO_FAULT:
        assert running.hear() == answered(message, 2)
        return
    running.expect_fault(message, 2)
    assert victim.image.read_bytes() == before


@pytest.mark.parametrize("ncookies", [ROOM + 1, 255, 1 << 16, (1 << 32) - 1])
def test_more_cookies_than_the_entry_has_room_for_are_a_fault(running: Peer, ncookies: int) -> None:
    running.post(2, READ, 0, 512, ncookies=ncookies)
    running.expect_fault(running.announce(2), 2)


PERMISSIONS: dict[str, tuple[int, int]] = {
    "read into a page to be read only": (READ, Permission.CR | Permission.R | Permission.IR),
    "write from a page to be written only": (WRITE, Permission.CW | Permission.W | Permission.IW),
    "read into a page to be mapped only": (READ, Permission.R | Permission.W | Permission.X),
}


@pytest.mark.parametrize("case", list(PERMISSIONS))
def test_a_page_without_the_permission_is_a_fault(running: Peer, case: str) -> None:
    operation, permissions = PERMISSIONS[case]
    running.write_slot(700, DATA_AT | permissions)
    running.post(2, operation, 0, 512, [(700 * PAGE_SIZE, 512)])
    running.expect_fault(running.announce(2), 2)


@pytest.mark.parametrize("ra", [1 << 40, 0x00FF_FFFF_FFFF_E000])
def test_a_page_outside_the_memory_is_a_fault(running: Peer, ra: int) -> None:
    running.write_slot(700, ra | ALL)
    running.post(2, WRITE, 1 << 14, 512, [(700 * PAGE_SIZE, 512)])
    running.expect_fault(running.announce(2), 2)


@pytest.mark.parametrize("operation", [READ, WRITE])
def test_a_page_revoked_between_two_requests_is_a_fault(running: Peer, operation: int) -> None:
    """The first makes the server remember where it is; the second must not rest on that."""
    cookie = [(running.data_cookie.addr, 512)]
    for index in range(3):
        running.post(index, operation, 1 << 14, 512, cookie)
        running.expect_status(running.announce(index), index, 0, 512)
    slot = running.data_cookie.addr // PAGE_SIZE
    running.write_slot(slot, 0)
    running.post(3, operation, 1 << 14, 512, cookie)
    running.expect_fault(running.announce(3), 3)


def test_a_page_that_moves_between_two_requests_is_found_where_it_is(running: Peer) -> None:
    slot = running.data_cookie.addr // PAGE_SIZE
    cookie = [(running.data_cookie.addr, 512)]
    running.fill(b"old".ljust(512, b"."), 0)
    running.fill(b"new".ljust(512, b"."), PAGE_SIZE)
    running.post(0, WRITE, 1 << 14, 512, cookie)
    running.expect_status(running.announce(0), 0, 0, 512)
    running.write_slot(slot, DATA_AT + PAGE_SIZE | ALL)
    running.post(1, WRITE, 1 << 14, 512, cookie)
    running.expect_status(running.announce(1), 1, 0, 512)
    running.post(2, READ, 1 << 14, 512, [(running.data_cookie.addr + 2 * PAGE_SIZE, 512)])
    running.expect_status(running.announce(2), 2, 0, 512)
    assert running.data_bytes(3, 2 * PAGE_SIZE) == b"new"


def test_without_a_map_table_every_cookie_is_a_fault(victim: Victim) -> None:
    with Peer(victim.path, "shm") as peer:
        peer.reach("running")
        peer.expect_served(0, READ, 0, 512)
        peer.record(MapTableRecord(0, 0))
        peer.post(1, READ, 0, 512)
        peer.expect_fault(peer.announce(1), 1)
    victim.check()


def test_a_read_into_the_ring_costs_the_reader_its_session_at_most(running: Peer) -> None:
    """The zeros of the disk take the place of the entry that asked for them."""
    running.post(0, READ, 1 << 14, 512, [(running.ring_cookie.addr, 512)])
    message = running.announce(0)
    if running.shared:
        running.expect_fault(message, 0)
    else:  # the server has an image of the ring of its own
        assert running.hear() == answered(message, 2)


def test_a_read_into_the_map_table_leaves_a_client_without_memory(running: Peer) -> None:
    running.write_slot(700, ALL)
    running.post(0, READ, 1 << 14, PAGE_SIZE, [(700 * PAGE_SIZE, PAGE_SIZE)])
    running.post(1, READ, 1 << 14, 512)
    message = running.announce(0)
    if running.shared:
        assert running.hear() == answered(message, 2)
        running.expect_fault(running.announce(1), 1)
    else:  # not even the answer can be written into the ring
        running.expect_fault(message, 0)
