"""Requests that break the rules: a status where the disk is asked for what it has not, a NACK and a full
reset where ring or memory are not what they should be; and never more than the offender's session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hypervisor.records import CopyDone, MapTableRecord, Push
from protocol.ldc.cookie import Permission
from protocol.vdisk.operations import Operation
from protocol.vio.dring import Dstate
from protocol.vio.extensions import Extension
from tests.fault.conftest import Victim
from tests.support.hostile import (
    ALL,
    DATA_AT,
    DATA_SIZE,
    RING_AT,
    Heard,
    Peer,
    answered,
    data,
    nack,
)
from tests.support.waiting import wait_until

READ, WRITE = Operation.BREAD, Operation.BWRITE
DISK_BLOCKS: Final = 16 * 2048
EIO, EINVAL, ENOTSUP = 5, 22, 48  # Solaris sys/errno.h
PAGE: Final = 8192
ROOM: Final = 5
"""Cookies that an entry of ours has room for."""


@pytest.fixture
def running(peer: Peer) -> Peer:
    """A peer with a ring and a session."""
    return peer.reach("running")


STATUSES: dict[str, tuple[int, dict[str, int], int, int]] = {
    "operation 0": (0, {"nbytes": 8}, ENOTSUP, 8),
    "operation 0x55": (0x55, {"nbytes": 8}, ENOTSUP, 8),
    "operation 0xff": (0xFF, {"nbytes": 8}, ENOTSUP, 8),
    "a SCSI command": (Operation.SCSICMD, {"nbytes": 64}, ENOTSUP, 64),
    "GET_CAPACITY of 24": (Operation.GET_CAPACITY, {"nbytes": 24}, EINVAL, 24),
    "FLUSH of 8": (Operation.FLUSH, {"nbytes": 8}, EINVAL, 8),
    "read of nothing": (READ, {"nbytes": 0}, EINVAL, 0),
    "write of nothing": (WRITE, {"nbytes": 0}, EINVAL, 0),
    "read of 2^63": (READ, {"nbytes": 1 << 63}, EINVAL, 0),
    "write of 2^64-1": (WRITE, {"nbytes": (1 << 64) - 1}, EINVAL, 0),
    "read of 64 MiB and 8": (READ, {"nbytes": (64 << 20) + 8}, EINVAL, 0),
    "read of 100": (READ, {"nbytes": 100}, 0, 100),
    "read at 2^64-1": (READ, {"nbytes": 512, "addr": (1 << 64) - 1}, 0, 0),
    "write at 2^64-1": (WRITE, {"nbytes": 512, "addr": (1 << 64) - 1}, 0, 0),
    "write at 2^55, 0 in bytes of 64 bits": (WRITE, {"nbytes": 512, "addr": 1 << 55}, 0, 0),
    "write at the end": (WRITE, {"nbytes": 512, "addr": DISK_BLOCKS}, 0, 0),
    "read across the end": (READ, {"nbytes": 1024, "addr": DISK_BLOCKS - 1}, 0, 512),
    "slice 0": (READ, {"nbytes": 512, "slice_number": 0}, EIO, 0),
    "slice 8": (READ, {"nbytes": 512, "slice_number": 8}, EINVAL, 0),
}


@pytest.mark.parametrize("case", list(STATUSES))
def test_a_request_for_what_is_not_there_has_a_status_and_the_session_goes_on(
    running: Peer, victim: Victim, case: str
) -> None:
    operation, asked, status, nbytes = STATUSES[case]
    options: dict[str, Any] = dict(asked)
    before = victim.image.read_bytes()
    running.fill(b"\xee" * 2048)
    running.post(3, operation, options.pop("addr", 0), options.pop("nbytes"), **options)
    running.expect_status(running.announce(3), 3, status, nbytes)
    running.expect_served(4, READ, 1 << 14, 512)
    assert victim.image.read_bytes() == before


def test_a_write_to_a_read_only_disk_has_a_status(victim: Victim, transport: str) -> None:
    with Peer(victim.path, transport, volume="ro") as peer:
        peer.reach("running")
        peer.post(0, WRITE, 0, 512)
        peer.expect_status(peer.announce(0), 0, ENOTSUP, 0)
        peer.post(1, Operation.FLUSH, 0, 0)
        peer.expect_status(peer.announce(1), 1, ENOTSUP, 0)
        peer.expect_served(2, READ, 0, 512)
    victim.check()


@pytest.mark.parametrize(
    ("start", "end"), [(64, 64), (0, 64), (64, 0), (-1, -1), (0, -1), (-1, 0), (5, -2), (1 << 31, 0)]
)
def test_a_ring_index_out_of_range_is_a_full_reset(running: Peer, start: int, end: int) -> None:
    message = data(1, start, end)
    assert running.ask(message) == nack(message)
    running.expect_full_reset()


@pytest.mark.parametrize("second", [0, 1, 3, 7, (1 << 64) - 1])
def test_a_sequence_number_that_is_not_the_next_is_a_soft_reset(running: Peer, second: int) -> None:
    running.post(0, READ, 0, 512)
    assert running.ask(data(1, 0)) == answered(data(1, 0), 2)
    running.post(1, READ, 0, 512)
    message = data(second, 1)
    assert running.ask(message) == nack(message)
    running.expect_soft_reset()
    assert running.result(1)[0] == Dstate.READY


@pytest.mark.parametrize(
    "state", [0, Dstate.FREE, Dstate.ACCEPTED, Dstate.DONE, Dstate.INITIALIZING, 0x82, 255]
)
def test_an_entry_that_is_not_ready_is_a_fault(running: Peer, state: int) -> None:
    running.post(9, READ, 0, 512, dstate=state)
    running.expect_fault(running.announce(9), 9)


def test_a_range_is_served_up_to_the_entry_that_is_not_ready(running: Peer) -> None:
    for index in (62, 63):
        running.post(index, READ, 0, 512, [(running.data_cookie.addr, 512)])
    message = running.announce(62, 2)
    running.expect_fault(message, 0)


def cookies_of(peer: Peer, case: str) -> list[tuple[int, int]]:
    """Cookies for 1024 bytes that are wrong."""
    good = peer.data_cookie.addr
    table: dict[str, list[tuple[int, int]]] = {
        "outside the table": [(1024 * PAGE, 1024)],
        "far outside the table": [((1 << 56) - PAGE, 1024)],
        "no such page": [(1000 * PAGE, 1024)],
        "into a page that is not there": [(good + DATA_SIZE - 512, 1024)],
        "of another page size": [(good | 1 << 60, 1024)],
        "of the largest page size": [(good | 15 << 60, 1024)],
        "at an odd address": [(good + 4, 1024)],
        "of an odd size": [(good, 1020)],
        "of size 0": [(good, 0), (good, 1024)],
        "of size 2^64-8": [(good, (1 << 64) - 8)],
        "too short": [(good, 1016)],
        "too short in parts": [(good, 8)] * ROOM,
        "half good": [(good, 512), (1000 * PAGE, 512)],
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
    running.post(2, operation, 0, 512, [(700 * PAGE, 512)])
    running.expect_fault(running.announce(2), 2)


@pytest.mark.parametrize("ra", [1 << 40, 0x00FF_FFFF_FFFF_E000])
def test_a_page_outside_the_memory_is_a_fault(running: Peer, ra: int) -> None:
    running.write_slot(700, ra | ALL)
    running.post(2, WRITE, 1 << 14, 512, [(700 * PAGE, 512)])
    running.expect_fault(running.announce(2), 2)


@pytest.mark.parametrize("operation", [READ, WRITE])
def test_a_page_revoked_between_two_requests_is_a_fault(running: Peer, operation: int) -> None:
    """The first makes the server remember where it is; the second must not rest on that."""
    cookie = [(running.data_cookie.addr, 512)]
    for index in range(3):
        running.post(index, operation, 1 << 14, 512, cookie)
        running.expect_status(running.announce(index), index, 0, 512)
    slot = running.data_cookie.addr // PAGE
    running.write_slot(slot, 0)
    running.post(3, operation, 1 << 14, 512, cookie)
    running.expect_fault(running.announce(3), 3)


def test_a_page_that_moves_between_two_requests_is_found_where_it_is(running: Peer) -> None:
    slot = running.data_cookie.addr // PAGE
    cookie = [(running.data_cookie.addr, 512)]
    running.fill(b"old".ljust(512, b"."), 0)
    running.fill(b"new".ljust(512, b"."), PAGE)
    running.post(0, WRITE, 1 << 14, 512, cookie)
    running.expect_status(running.announce(0), 0, 0, 512)
    running.write_slot(slot, DATA_AT + PAGE | ALL)
    running.post(1, WRITE, 1 << 14, 512, cookie)
    running.expect_status(running.announce(1), 1, 0, 512)
    running.post(2, READ, 1 << 14, 512, [(running.data_cookie.addr + 2 * PAGE, 512)])
    running.expect_status(running.announce(2), 2, 0, 512)
    assert running.data_bytes(3, 2 * PAGE) == b"new"


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
    running.post(0, READ, 1 << 14, PAGE, [(700 * PAGE, PAGE)])
    running.post(1, READ, 1 << 14, 512)
    message = running.announce(0)
    if running.shared:
        assert running.hear() == answered(message, 2)
        running.expect_fault(running.announce(1), 1)
    else:  # not even the answer can be written into the ring
        running.expect_fault(message, 0)


@pytest.fixture
def paused(victim: Victim, transport: str) -> Iterator[Peer]:
    """A running peer on the volume whose requests wait."""
    victim.pause.touch()
    with Peer(victim.path, transport, volume="slow") as peer:
        yield peer.reach("running")
    victim.pause.unlink(missing_ok=True)
    victim.check()


def taken(peer: Peer, index: int, copies: int = 1) -> None:
    """Wait until the server has taken entry ``index``; where it copies, it has asked for so many."""
    if peer.shared:
        wait_until(lambda: peer.result(index)[0] == Dstate.ACCEPTED, "the entry to be taken")
    else:
        peer.hear_copies(copies)


@pytest.mark.parametrize("state", [Dstate.FREE, Dstate.READY, Dstate.DONE, 0, 255])
def test_a_state_changed_while_the_server_has_the_entry_is_a_fault(
    paused: Peer, victim: Victim, state: int
) -> None:
    paused.post(5, READ, 0, 512)
    message = paused.announce(5)
    taken(paused, 5)
    paused.memory.view[paused.entry_at(5)] = state
    victim.pause.unlink()
    if paused.shared:
        paused.expect_fault(message, 5)
    else:  # nobody looks: the server's own image counts
        paused.expect_status(message, 5, 0, 512)


def test_everything_else_of_an_entry_may_change_and_changes_nothing(paused: Peer, victim: Victim) -> None:
    """The server has a copy, and looks at nothing else."""
    paused.fill(b"first".ljust(512, b"."))
    paused.post(5, WRITE, 1 << 13, 512)
    message = paused.announce(5)
    taken(paused, 5, copies=2)
    at = paused.entry_at(5)
    paused.memory.view[at + 1 : at + 128] = b"\xff" * 127
    victim.pause.unlink()
    paused.expect_status(message, 5, 0, 512)
    paused.expect_served(6, READ, 1 << 13, 512)
    assert paused.data_bytes(5) == b"first"
    paused.expect_served(7, READ, 0, 512)


def test_an_entry_announced_again_while_it_is_served_costs_the_session_at_most(
    paused: Peer, victim: Victim
) -> None:
    """In shared memory its state shows that it is taken; a ring that is copied is read again, and served
    twice, but only one of the two can be answered.
    """
    paused.post(5, READ, 0, 512)
    first = paused.announce(5)
    taken(paused, 5)
    second = paused.announce(5)
    if paused.shared:
        paused.expect_fault(second, 5)
    else:
        taken(paused, 5, copies=2)
        victim.pause.unlink()
        heard = [paused.hear(), paused.hear()]
        assert heard[0] in (answered(first, 2), nack(first))
        assert heard[1] in (answered(second, 2), nack(second))


class Forger:
    """A socket peer that answers COPYs itself."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        peer.serves = False
        peer.post(0, READ, 0, 512)
        self.message = peer.announce(0)
        peer.hear_copies(1)
        self.copy = peer.copies[0]

    def done(self, **changes: Any) -> CopyDone:  # noqa: ANN401 - the fields of a record
        """The right answer, changed."""
        return self.peer.memory.copy(self.copy)._replace(**changes)


FORGED: dict[str, Callable[[Forger], list[CopyDone]]] = {
    "for another COPY": lambda forger: [forger.done(id=forger.copy.id + 1)],
    "for COPY 2^32-1": lambda forger: [forger.done(id=(1 << 32) - 1)],
    "twice": lambda forger: [forger.done(), forger.done()],
    "longer than asked": lambda forger: [forger.done(length=136, data=bytes(136))],
    "without data": lambda forger: [forger.done(data=b"")],
    "of no bytes": lambda forger: [forger.done(length=0, data=b"")],
    "of 4 bytes": lambda forger: [forger.done(length=4, data=bytes(4))],
}


@pytest.fixture
def copied(victim: Victim) -> Iterator[Peer]:
    """A running peer on the socket transport."""
    with Peer(victim.path, "socket") as peer:
        yield peer.reach("running")
    victim.check()


@pytest.mark.parametrize("case", list(FORGED))
def test_an_answer_to_a_copy_that_cannot_be_closes_the_channel(copied: Peer, case: str) -> None:
    forger = Forger(copied)
    for record in FORGED[case](forger):
        copied.record(record)
    copied.expect_closed()


@pytest.mark.parametrize("status", [10, 14, 99, (1 << 32) - 1])
def test_a_copy_that_the_client_refuses_is_a_fault(copied: Peer, status: int) -> None:
    forger = Forger(copied)
    copied.record(forger.done(status=status, length=0, data=b""))
    copied.expect_fault(forger.message, 0)


def test_a_copy_in_many_short_pieces_is_as_good_as_one(copied: Peer) -> None:
    forger = Forger(copied)
    whole = bytes(forger.done().data)
    for at in range(0, len(whole), 8):
        copied.record(CopyDone(copied.copies[-1].id, 0, 8, whole[at : at + 8]))
        if at + 8 < len(whole):
            copied.hear_copies(at // 8 + 2)
    copied.serves = True
    copied.expect_status(forger.message, 0, 0, 512)


@pytest.mark.parametrize("goes", ["hangs up", "comes back"])
def test_a_copy_that_is_never_answered_keeps_nobody_waiting_but_the_client(
    copied: Peer, victim: Victim, goes: str
) -> None:
    forger = Forger(copied)
    victim.check_service()
    if goes == "comes back":
        with Peer(victim.path, "socket", identity=copied.identity) as again:
            again.reach("running")
            again.expect_served(0, READ, 0, 512)
            copied.expect_closed()
    else:
        copied.hang_up()
    assert forger.message


@pytest.fixture
def pushing(victim: Victim) -> Iterator[Peer]:
    """A running peer that may push."""
    with Peer(victim.path, "socket", extensions=Extension.INLINE) as peer:
        yield peer.reach("running")
    victim.check()


PUSHES: dict[str, list[Push]] = {
    "more than a group holds": [Push([(0, bytes(32768))], [], more=True)] * 600,
}


@pytest.mark.parametrize("case", list(PUSHES))
def test_a_push_that_cannot_be_closes_the_channel(pushing: Peer, case: str) -> None:
    for push in PUSHES[case]:
        pushing.record(push)
    pushing.expect_closed()


@pytest.mark.parametrize(
    "body",
    [
        struct.pack(">IIQII", 1, 0, 0, 16, 0),  # a piece whose bytes are missing
        struct.pack(">II", 1 << 28, 0),
        struct.pack(">II", 0, 1 << 26),
        struct.pack(">IIQII", 1, 0, 4, 8, 0) + bytes(8),  # at an odd address
        struct.pack(">IIQII", 1, 0, 0, 0, 0),  # of nothing
    ],
)
def test_a_push_that_is_not_what_it_says_closes_the_channel(pushing: Peer, body: bytes) -> None:
    pushing.raw(struct.pack(">HHI", 7, 0, 8 + len(body)) + body)
    pushing.expect_closed()


def test_what_is_pushed_beside_the_ring_goes_nowhere(pushing: Peer) -> None:
    beyond = pushing.ring_cookie.addr + PAGE
    for addr, nbytes in ((beyond, 8), (beyond - 8, 16), (1 << 40, 8), ((1 << 64) - 8, 8)):
        pushing.record(Push([(addr, bytes(nbytes))]))
    pushing.expect_served(0, READ, 0, 512)


def test_an_entry_pushed_anew_while_it_is_served_is_a_fault(victim: Victim) -> None:
    victim.pause.touch()
    with Peer(victim.path, "socket", volume="slow", extensions=Extension.INLINE) as peer:
        peer.reach("running")
        peer.post(0, READ, 0, 512)
        message = peer.announce(0)
        peer.hear_copies(1)
        entry = bytes(peer.memory.view[RING_AT : RING_AT + 128])
        peer.record(Push([(peer.ring_cookie.addr, entry)]))
        assert peer.ask(wish_that_is_refused := data(7, 1)) == nack(wish_that_is_refused)
        victim.pause.unlink()
        assert message
    victim.check()


@pytest.fixture
def polled(victim: Victim) -> Iterator[Peer]:
    """A running peer with a polled ring."""
    with Peer(victim.path, "shm", extensions=Extension.POLLED_RING) as peer:
        yield peer.reach("running")
    victim.check()


def ring_doorbell(peer: Peer, next_index: int, *, end: int = -1, consumed: int = 0) -> bytes:
    """Say that entries before ``next_index`` are ready and that we sleep."""
    peer.seq_num += 1
    message = data(peer.seq_num, next_index, end, state=2)
    message = message[:36] + consumed.to_bytes(4, "big") + message[40:]
    peer.say(message)
    return message


POLLED: dict[str, dict[str, Any]] = {
    "cookie outside the table": {"cookies": [(1024 * PAGE, 512)]},
    "no cookie": {"cookies": []},
    "too many cookies": {"ncookies": ROOM + 1},
    "cookie too short": {"cookies": [(2 * PAGE + RING_AT, 8)]},
}


@pytest.mark.parametrize("case", list(POLLED))
def test_a_fault_in_a_polled_ring_is_told_and_resets(polled: Peer, case: str) -> None:
    polled.post(0, READ, 0, 512)
    polled.post(1, READ, 0, 512, **POLLED[case])
    polled.post(2, READ, 0, 512)
    ring_doorbell(polled, 3)
    heard = polled.hear()
    while isinstance(heard, bytes) and heard[1] == 2:  # that entry 0 is done may be told before
        heard = polled.hear()
    assert isinstance(heard, bytes)
    assert heard[:4] == bytes.fromhex("02 04 00 42")
    assert int.from_bytes(heard[28:32], "big") == 1
    polled.expect_full_reset()
    assert polled.result(0) == (Dstate.DONE, 0, 512)
    assert polled.result(2)[0] == Dstate.READY


def test_a_doorbell_with_an_end_is_a_full_reset(polled: Peer) -> None:
    message = ring_doorbell(polled, 1, end=0)
    assert polled.hear() == nack(message)
    polled.expect_full_reset()


@pytest.mark.parametrize("start", [64, 1 << 31, (1 << 32) - 1])
def test_where_a_doorbell_says_the_ring_goes_on_is_not_believed(polled: Peer, start: int) -> None:
    polled.post(0, READ, 0, 512)
    ring_doorbell(polled, start)
    heard = polled.hear()
    assert heard is Heard.RESET or isinstance(heard, bytes)


def test_entries_that_skip_one_wait_for_it(polled: Peer) -> None:
    """The server takes them in ring order, from an index of its own."""
    polled.post(1, READ, 0, 512)
    ring_doorbell(polled, 2)
    polled.post(0, READ, 0, 512)
    ring_doorbell(polled, 2)
    wait_until(lambda: polled.result(1) == (Dstate.DONE, 0, 512), "both to be served")
    assert polled.result(0) == (Dstate.DONE, 0, 512)


def resident_kib(pid: int) -> int:
    """What a process holds in memory. Source: Linux proc(5), /proc/pid/status."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def test_what_is_pushed_during_a_reset_is_not_kept(pushing: Peer, victim: Victim) -> None:
    """A client that answers no COPY makes its own reset last, and could fill memory meanwhile."""
    pushing.serves = False
    pushing.announce(0)
    pushing.hear_copies(1)
    before = resident_kib(victim.vds.pid)
    pushing.say(data(7, 1))  # out of sequence
    for _ in range(24):
        for piece in range(256):
            pushing.record(Push([(0, bytes(32768))], [], more=piece < 255))
    assert resident_kib(victim.vds.pid) - before < 64 * 1024
