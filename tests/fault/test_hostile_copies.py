"""Answers to COPYs, and PUSHes, that cannot be: no right client sends them; its channel alone is closed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hypervisor.records import CopyDone, Push
from protocol.ldc.cookie import PAGE_SIZE
from protocol.vdisk.operations import Operation
from protocol.vio.extensions import Extension
from tests.fault.conftest import Victim
from tests.support.hostile import RING_AT, Peer, data, nack

READ = Operation.BREAD


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
    beyond = pushing.ring_cookie.addr + PAGE_SIZE
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
