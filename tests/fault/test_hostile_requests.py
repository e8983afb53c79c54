"""Requests that break the rules: a status where the disk is asked for what it has not, a NACK and a full
reset where the ring is not what it should be; and never more than the offender's session.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from protocol.ldc.cookie import PAGE_SIZE
from protocol.vdisk.operations import Operation
from protocol.vio.dring import Dstate
from protocol.vio.extensions import Extension
from tests.fault.conftest import Victim
from tests.support.hostile import RING_AT, ROOM, Heard, Peer, answered, data, nack
from tests.support.waiting import wait_until

READ, WRITE = Operation.BREAD, Operation.BWRITE
DISK_BLOCKS: Final = 16 * 2048
EIO, EINVAL, ENOTSUP = 5, 22, 48  # Solaris sys/errno.h

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
    "cookie outside the table": {"cookies": [(1024 * PAGE_SIZE, 512)]},
    "no cookie": {"cookies": []},
    "too many cookies": {"ncookies": ROOM + 1},
    "cookie too short": {"cookies": [(2 * PAGE_SIZE + RING_AT, 8)]},
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
