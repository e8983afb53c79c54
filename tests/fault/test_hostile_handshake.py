"""Clients that break the rules between the welcome and the first request: how they are taken, and that only
they suffer.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hypervisor.records import CopyDone, MapTableRecord, Push, QueueRecord, Record
from protocol.ldc.cookie import Cookie
from protocol.vio.dring import RingGeometry
from tests.fault.conftest import Victim
from tests.support.hostile import (
    RING,
    SID,
    STAGES,
    Heard,
    Peer,
    answered,
    data,
    nack,
    octets,
    rdx,
    registration,
    version,
    wish,
)

pytestmark = pytest.mark.slow
SEED = 6
AFTER_WELCOME = STAGES[1:]
OTHER_SID = "0b ad 1d eb"


@pytest.mark.parametrize("stage", AFTER_WELCOME)
@pytest.mark.parametrize("length", [1, 7, 8, 16, 63, 65, 4096])
def test_a_datagram_that_is_neither_packet_nor_record_closes_the_channel(
    peer: Peer, stage: str, length: int
) -> None:
    peer.reach(stage)
    peer.raw(random.Random(SEED).randbytes(length))
    peer.expect_closed()


UNASKED: dict[str, Record] = {
    "COPY_DONE of nothing": CopyDone(7, 0, 8, bytes(8)),
    "PUSH, not agreed": Push([(0, bytes(8))]),
    "table beside the memory": MapTableRecord(1 << 40, 1024),
    "table not aligned": MapTableRecord(8, 512),
}


@pytest.mark.parametrize("stage", ["welcomed", "linked", "running"])
@pytest.mark.parametrize("record", list(UNASKED))
def test_a_record_that_no_client_sends_closes_the_channel(
    peer: Peer, transport: str, stage: str, record: str
) -> None:
    peer.reach(stage)
    peer.record(UNASKED[record])
    means_nothing = "table" if transport == "socket" else "COPY_DONE"  # whoever copies needs no table
    if means_nothing in record:
        assert stage == "welcomed" or peer.ask(version()) == answered(version(device=4), 2)
    else:
        peer.expect_closed()


@pytest.mark.parametrize("stage", ["linked", "version", "attributes", "ring", "running"])
def test_packets_of_noise_reset_the_link_at_most(peer: Peer, stage: str) -> None:
    """A thousand of them: the link's rules answer each, more than ten resets a second end the channel."""
    peer.reach(stage)
    dice = random.Random(SEED)
    for _ in range(1000):
        if peer.raw(dice.randbytes(64)) is not None:
            break
    peer.hang_up()


@pytest.mark.parametrize("stage", ["linked", "version", "running"])
def test_a_packet_out_of_sequence_is_refused_and_the_channel_survives(peer: Peer, stage: str) -> None:
    peer.reach(stage)
    peer.raw(octets("02 01 00 f8 7f ff ff f0", 64))
    packet = peer.receive()
    while packet[0] == 1:  # the end of the link's own handshake
        packet = peer.receive()
    assert packet[:4] == bytes.fromhex("02 04 00 00")  # DATA NACK


def test_a_message_without_a_whole_tag_is_a_full_reset(peer: Peer) -> None:
    peer.reach("version")
    peer.say(b"\1\1\0")
    peer.expect_full_reset()


BAD_MESSAGES: dict[str, tuple[str, bytes]] = {
    "attributes before version": ("linked", wish()),
    "ring before version": ("linked", registration(Cookie(0x4000, 8192))),
    "rdx before version": ("linked", rdx()),
    "data before version": ("linked", data(1, 0)),
    "ring before attributes": ("version", registration(Cookie(0x4000, 8192))),
    "rdx before attributes": ("version", rdx()),
    "data before attributes": ("version", data(1, 0)),
    "attributes twice": ("attributes", wish()),
    "rdx before ring": ("attributes", rdx()),
    "data before ring": ("attributes", data(1, 0)),
    "data before rdx": ("ring", data(1, 0)),
    "attributes after ring": ("ring", wish()),
    "attributes while running": ("running", wish()),
    "rdx twice": ("running", rdx()),
    "unknown envelope": ("version", octets(f"01 01 00 77 {SID}")),
    "unknown type": ("version", octets(f"09 01 00 01 {SID}")),
    "unknown subtype": ("version", octets(f"01 09 00 02 {SID}")),
    "another session id": ("version", wish(sid=OTHER_SID)),
    "transfer mode 0": ("version", wish(mode=0)),
    "transfers of nothing": ("version", wish(blocks=0)),
    "attributes cut short": ("version", wish()[:40]),
    "a network client": ("linked", version(device=1)),
    "version 0.9": ("linked", version(9, major=0)),
    "a ring in two cookies": ("attributes", registration(Cookie(0x4000, 8192), ncookies=2)),
    "a ring of no entries": ("attributes", registration(Cookie(0x4000, 8192), RingGeometry(0, 128))),
    "a ring of 2^32-1 entries": (
        "attributes",
        registration(Cookie(0x4000, 8192), RingGeometry(2**32 - 1, 128)),
    ),
    "entries of 8 bytes": ("attributes", registration(Cookie(0x4000, 8192), RingGeometry(64, 8))),
    "entries of 2^32-8 bytes": (
        "attributes",
        registration(Cookie(0x4000, 8192), RingGeometry(64, 2**32 - 8)),
    ),
    "ring 2": ("running", data(1, 0, ident=2)),
    "ring data of another session": ("running", data(1, 0, sid=OTHER_SID)),
}


@pytest.mark.parametrize("case", list(BAD_MESSAGES))
def test_a_message_out_of_order_or_malformed_is_refused_and_the_session_forgotten(
    peer: Peer, case: str
) -> None:
    stage, message = BAD_MESSAGES[case]
    peer.reach(stage)
    heard = peer.ask(message)
    assert isinstance(heard, bytes), heard
    assert heard[:2] == nack(message)[:2]
    assert heard[2:8] == message[2:8]
    peer.expect_soft_reset()


BAD_RINGS: dict[str, Callable[[Peer], Cookie]] = {
    "outside the table": lambda peer: Cookie(1024 * 8192, 8192),
    "no such page": lambda peer: Cookie(1000 * 8192, 8192),
    "of another page size": lambda peer: Cookie((1 << 60) | peer.ring_cookie.addr, 8192),
    "across the end of the table": lambda peer: Cookie(1023 * 8192, 16384),
}


@pytest.mark.parametrize("case", list(BAD_RINGS))
def test_a_ring_in_memory_that_is_not_ours_is_a_full_reset(peer: Peer, case: str) -> None:
    """Where memory is copied it shows with the first entry only."""
    peer.reach("attributes")
    message = registration(BAD_RINGS[case](peer))
    heard = peer.ask(message)
    if peer.shared:
        assert heard == nack(message)
        peer.expect_full_reset()
    else:
        assert isinstance(heard, bytes)
        assert heard[1] == 2
        peer.reach_one("running")
        peer.expect_fault(peer.announce(0), 0)


def test_a_ring_larger_than_its_cookie_is_a_full_reset(peer: Peer) -> None:
    peer.reach("attributes")
    message = registration(Cookie(peer.ring_cookie.addr, 4096))
    assert peer.ask(message) == nack(message)
    peer.expect_full_reset()


def test_ten_restarts_of_the_handshake_in_a_second_are_borne(peer: Peer) -> None:
    peer.reach("linked")
    for _ in range(11):
        peer.say(version())
    for _ in range(11):
        assert peer.hear() == answered(version(device=4), 2)


def test_more_than_ten_resets_in_a_second_close_the_channel(peer: Peer, victim: Victim) -> None:
    peer.reach("linked")
    for _ in range(200):
        peer.say(version())
    answers = 0
    while (heard := peer.hear()) is not Heard.CLOSED:
        assert heard == answered(version(device=4), 2)
        answers += 1
    assert answers == 11
    assert victim.vds.wait_for("more than 10 resets in a second")


@pytest.mark.parametrize("stage", AFTER_WELCOME)
def test_a_queue_configured_again_and_again_is_a_reset_each_time(peer: Peer, stage: str) -> None:
    peer.reach(stage)
    for _ in range(500):
        peer.record(QueueRecord(512))
    peer.hang_up()


@pytest.mark.parametrize("stage", AFTER_WELCOME)
def test_a_client_that_takes_its_queue_away_and_stays_costs_nothing(peer: Peer, stage: str) -> None:
    peer.reach(stage)
    peer.record(QueueRecord(0))


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_may_vanish_at_every_step(peer: Peer, stage: str) -> None:
    peer.reach(stage)
    peer.hang_up()


def test_a_ring_may_be_used_again_after_a_reset(peer: Peer) -> None:
    peer.reach("running")
    message = data(1, 64)
    assert peer.ask(message) == nack(message)
    peer.expect_full_reset()
    for step in ("attributes", "ring", "running"):
        peer.reach_one(step)
    peer.expect_served(0, 1, 4096, RING.num_descriptors * 8)
