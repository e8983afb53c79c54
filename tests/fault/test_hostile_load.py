"""Clients that break no rule of the protocol, or all of them at full speed: nobody else waits for them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

import pytest

from protocol.vdisk.operations import Operation
from protocol.vio.dring import Dstate
from protocol.vio.extensions import Extension
from tests.fault.conftest import Victim
from tests.support.hostile import DATA_SIZE, Peer, data, version
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
READ, WRITE = Operation.BREAD, Operation.BWRITE
MiB: Final = 1024 * 1024
SEED: Final = 26
ROUNDS: Final = 50
"""Hundreds of requests that good clients do meanwhile."""


def resident(pid: int) -> int:
    """Bytes of memory that a process occupies."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


@contextmanager
def at_the_same_time(work: Callable[[Event], int]) -> Iterator[list[int]]:
    """Run ``work`` in a thread until the block has ended; the list has its result afterwards."""
    stop = Event()
    result: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work(stop))
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=run)
    thread.start()
    try:
        yield result
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("extensions", [Extension(0), Extension.POLLED_RING])
def test_entries_changed_at_full_speed_after_they_were_handed_over(
    victim: Victim, extensions: Extension
) -> None:
    """Whatever the server reads first counts, or the session is lost; nobody else notices, nothing else is
    written.
    """
    beyond = victim.image.read_bytes()[8 * MiB :]

    def attack(stop: Event) -> int:
        dice = random.Random(SEED)
        peer = Peer(victim.path, "shm", extensions=extensions).reach("running")
        sessions = 1
        flips = 0
        while not stop.is_set():
            view = peer.memory.view
            for index in range(peer.ring.num_descriptors):
                peer.post(index, WRITE, 4 * 2048 + dice.randrange(2048), 512)
            peer.seq_num += 1
            last = peer.ring.num_descriptors - 1
            peer.say(data(peer.seq_num, 0, -1 if extensions else last, state=2 if extensions else 0))
            for _ in range(400):
                at = peer.entry_at(dice.randrange(peer.ring.num_descriptors))
                view[at + dice.choice((0, 0, 16, 17, 31, 39, 43, 50, 55, 63))] = dice.randrange(6)
                flips += 1
            peer.sock.setblocking(False)
            try:
                while peer.sock.recv(65536):
                    pass
                lost = True
            except BlockingIOError:
                lost = False
            except OSError:
                lost = True
            peer.sock.settimeout(10)
            if lost or sessions % 8 == 0:
                peer.close()
                peer = Peer(victim.path, "shm", extensions=extensions)
                peer.reach("running")
            sessions += 1
        peer.close()
        return flips

    with at_the_same_time(attack) as result:
        for _ in range(ROUNDS):
            victim.check_service()
    assert result[0] > 1000, "hardly anything was changed"
    assert victim.image.read_bytes()[8 * MiB :] == beyond
    victim.check()


def test_a_storm_of_doorbells_over_an_empty_ring(victim: Victim) -> None:
    """A hundred thousand, none of which means anything: they are taken, and others are served between."""
    count = 100_000

    def attack(stop: Event) -> int:
        with Peer(victim.path, "shm", extensions=Extension.POLLED_RING) as peer:
            peer.reach("running")
            for number in range(count):
                peer.say(data(number + 1, 0, -1, state=2))
            peer.seq_num = count
            peer.post(0, READ, 0, 512)
            peer.say(data(count + 1, 1, -1, state=2))
            wait_until(lambda: peer.result(0) == (Dstate.DONE, 0, 512), "the storm to end in a request")
        return count

    with at_the_same_time(attack) as result:
        for _ in range(ROUNDS):
            victim.check_service()
    assert result == [count]
    victim.check()


def test_a_client_that_asks_and_never_reads_is_left(victim: Victim) -> None:
    """Each of its doorbells says that it has seen nothing and sleeps: each has to be answered."""
    before = resident(victim.vds.pid)
    with Peer(victim.path, "shm", extensions=Extension.POLLED_RING) as peer:
        peer.reach("running")
        peer.post(0, READ, 0, 512)
        number = 0
        while not peer.is_gone:
            for _ in range(1000):
                number += 1
                peer.say(data(number, 1, -1, state=2))
            if number % 50_000 == 0:
                victim.check_service()
        peer.expect_closed_after_anything()
    victim.vds.wait_for("the peer does not read")
    assert resident(victim.vds.pid) - before < 400 * MiB
    victim.check()


@pytest.mark.parametrize("extensions", [Extension(0), Extension.INLINE])
def test_data_that_nobody_takes_is_not_piled_up(victim: Victim, extensions: Extension) -> None:
    """64 reads of 1 MiB by a client that reads nothing: the server stops taking on work, and forgets it all
    when the client goes.
    """
    victim.check()
    before = resident(victim.vds.pid)
    with Peer(victim.path, "socket", extensions=extensions) as peer:
        peer.reach("running")
        for index in range(64):
            peer.post(index, READ, 0, MiB)
        peer.announce(0, 63)
        if not extensions:
            peer.hear_copies(64)
        for _ in range(5):
            victim.check_service()
        assert resident(victim.vds.pid) - before < 160 * MiB
        peer.hang_up()
    victim.check()


@pytest.mark.parametrize("operation", [READ, WRITE])
def test_a_client_that_dies_with_requests_of_1_mib_under_way(
    victim: Victim, transport: str, operation: int
) -> None:
    """They wait in the volume; what waits goes with its client, what has begun ends, nothing stays."""
    victim.pause.touch()
    try:
        with Peer(victim.path, transport, volume="slow") as peer:
            peer.reach("running")
            for index in range(4):
                peer.post(index, operation, 2048 * index, MiB)
                peer.announce(index)
            if transport == "socket":
                peer.hear_copies(4 if operation == READ else 4 + 4 * 19)
            else:
                wait_until(
                    lambda: all(peer.result(index)[0] == Dstate.ACCEPTED for index in range(4)),
                    "the server to have all four",
                )
            peer.hang_up()
        victim.check()
    finally:
        victim.pause.unlink(missing_ok=True)
    victim.check()


@pytest.mark.parametrize("extensions", [Extension(0), Extension.INLINE])
def test_clients_that_die_while_answers_are_on_their_way(victim: Victim, extensions: Extension) -> None:
    """At any moment of it: between two COPYs, before the entry, before the message."""
    dice = random.Random(SEED)
    for _ in range(80):
        with Peer(victim.path, "socket", volume="late", extensions=extensions) as peer:
            peer.reach("running")
            for index in range(64):
                nbytes = dice.choice([512, 4096, 65536, MiB])
                peer.post(index, dice.choice([READ, WRITE]), 0, nbytes)
            peer.announce(0, 63)
            if not extensions:
                peer.hear_copies(64 + dice.randrange(140))
            peer.hang_up()
    victim.check()


def test_a_client_that_dies_with_more_announced_than_is_taken_at_once(victim: Victim) -> None:
    """Private buffers for two of its requests are all that it may have; the rest never begins."""
    victim.pause.touch()
    try:
        for _ in range(5):
            with Peer(victim.path, "socket", volume="slow") as peer:
                peer.reach("running")
                for index in range(32):
                    peer.post(index, READ, 0, 32 * MiB, [(peer.data_cookie.addr, 32 * MiB)])
                for index in range(32):
                    peer.announce(index)
                peer.hear_copies(2)
                peer.hang_up()
            victim.check()
    finally:
        victim.pause.unlink(missing_ok=True)


def test_a_client_that_announces_its_ring_again_and_again_and_dies(victim: Victim) -> None:
    for _ in range(10):
        with Peer(victim.path, "socket") as peer:
            peer.reach("running")
            for index in range(64):
                peer.post(index, READ, 0, 512)
            for _ in range(60):
                peer.announce(0, 63)
            peer.hang_up()
    victim.check()


def test_a_ring_of_malformed_requests_three_times_over_leaks_nothing(victim: Victim, transport: str) -> None:
    """Then a good one is served as ever, on the same session."""
    with Peer(victim.path, transport) as peer:
        peer.reach("running")
        for number in range(3 * peer.ring.num_descriptors):
            index = number % peer.ring.num_descriptors
            peer.post(index, 0x55, 0, 8)
            peer.expect_status(peer.announce(index), index, 48, 8)
        peer.expect_served(0, READ, 0, DATA_SIZE - DATA_SIZE % 512)
    victim.check()


def test_hundreds_of_pieces_of_one_block_each_are_one_request(victim: Victim, transport: str) -> None:
    """As many cookies as an entry can have room for, each of 8 bytes or so."""
    with Peer(victim.path, transport) as peer:
        peer.reach("running")
        cookies = [(peer.data_cookie.addr + 64 * number, 104) for number in range(5)]
        for number in range(50):
            peer.post(number, READ, 0, 512, cookies)
            peer.expect_status(peer.announce(number), number, 0, 512)
    victim.check()


def test_packets_that_pour_in_during_a_reset_end_the_channel(victim: Victim) -> None:
    """The reset waits for a thread in the backend; a client that does not wait for it is not waited for."""
    with Peer(victim.path, "shm") as peer:
        peer.reach("running")
        for _ in range(5000):
            peer.say(version())
        peer.expect_closed_after_anything()
    victim.check()
