"""Descriptor ring entry header, its states and who writes them when.

Sources: Solaris sys/vio_common.h (vio_dring_entry_hdr_t, VIO_DESC_*); vds.c (vd_process_element,
vd_mark_elem_done); vdc.c; Linux asm/vio.h; OpenBSD viovar.h.
"""

from __future__ import annotations

import pytest

from protocol.errors import Reaction, RingError
from protocol.ldc.cookie import Cookie
from protocol.vdisk.descriptor import Request, build_entry, parse_entry
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vio.dring import ENTRY_STEPS, Dstate, EntryStep, RingGeometry

RING = RingGeometry(2, 64)
REQUEST = Request(1, 1, 0xFF, 0, 512, (Cookie(0x4000, 512),))


@pytest.fixture
def memory() -> bytearray:
    """Return the memory of a ring."""
    return bytearray(RING.nbytes)


@pytest.fixture
def client(memory: bytearray) -> ClientRing:
    """Return the client's end."""
    return ClientRing(memoryview(memory), RING)


@pytest.fixture
def server(memory: bytearray) -> ServerRing:
    """Return the server's end."""
    return ServerRing(memoryview(memory), RING)


def test_states_have_the_numbers_of_the_header() -> None:
    """Solaris sys/vio_common.h: FREE 1, READY 2, ACCEPTED 3, DONE 4; INITIALIZING 5 is the network's."""
    assert [(state.name, state.value) for state in Dstate] == [
        ("FREE", 1),
        ("READY", 2),
        ("ACCEPTED", 3),
        ("DONE", 4),
        ("INITIALIZING", 5),
    ]


def test_our_ack_flag_is_the_most_significant_bit() -> None:
    """Solaris sys/vio_common.h: a bit-field, allocated from the most significant bit on SPARC."""
    assert build_entry(REQUEST, 64)[1] == 0x80


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x80, 0xFF])
def test_any_ack_flag_is_served(client: ClientRing, server: ServerRing, flags: int) -> None:
    """Linux asm/vio.h writes 0x01, Solaris 0x80; vds.c never reads it and answers every message."""
    entry = build_entry(REQUEST, 64)
    client.post(0, entry[:1] + bytes([flags]) + entry[2:])
    assert parse_entry(server.take(0)) == REQUEST


def test_submit_presets_status_to_all_ones(client: ClientRing, memory: bytearray) -> None:
    """Solaris vdc.c, vdc_populate_descriptor: status is no errno until the server has written one."""
    client.post(0, build_entry(REQUEST, 64))
    assert memory[20:24] == b"\xff\xff\xff\xff"


def test_submit_makes_ready_last(client: ClientRing, memory: bytearray) -> None:
    """vdc.c: payload, then dstate := READY. The entry as built is FREE; READY is a store of its own."""
    entry = build_entry(REQUEST, 64)
    client.post(0, entry)
    assert entry[0] == Dstate.FREE
    assert memory[0] == Dstate.READY
    assert memory[1:64] == entry[1:64]


def test_accept_is_marked_before_the_payload_is_copied(client: ClientRing, server: ServerRing) -> None:
    """vds.c, vd_process_element: check READY; dstate := ACCEPTED; copy. The copy shows the order."""
    client.post(0, build_entry(REQUEST, 64))
    assert server.take(0)[0] == Dstate.ACCEPTED


def test_the_copy_is_used_from_then_on(client: ClientRing, server: ServerRing, memory: bytearray) -> None:
    """vds.c: the shared entry is never read again."""
    client.post(0, build_entry(REQUEST, 64))
    taken = server.take(0)
    memory[8:64] = bytes(56)
    assert parse_entry(taken) == REQUEST


def test_an_entry_that_is_not_ready_is_not_taken(server: ServerRing) -> None:
    """vds.c: EBUSY, a transport error: NACK and full reset."""
    with pytest.raises(RingError) as caught:
        server.take(0)
    assert caught.value.reaction is Reaction.RESET


def test_complete_writes_length_and_status_and_then_done(
    client: ClientRing, server: ServerRing, memory: bytearray
) -> None:
    """vds.c, vd_mark_elem_done: nbytes, status, then dstate := DONE; nothing else of the entry changes."""
    client.post(0, build_entry(REQUEST, 64))
    server.take(0)
    before = bytes(memory)
    server.finish(0, 30, 256)
    changed = [at for at in range(64) if memory[at] != before[at]]
    assert set(changed) <= {0, *range(20, 24), *range(32, 40)}
    assert client.reap(0) == (30, 256)


def test_complete_of_an_entry_no_longer_accepted_writes_nothing(
    client: ClientRing, server: ServerRing, memory: bytearray
) -> None:
    """vds.c, vd_mark_elem_done: the request becomes a transport error."""
    client.post(0, build_entry(REQUEST, 64))
    server.take(0)
    memory[0] = Dstate.FREE
    before = bytes(memory)
    with pytest.raises(RingError) as caught:
        server.finish(0, 0, 512)
    assert caught.value.reaction is Reaction.RESET
    assert memory == before


def test_consuming_frees_the_entry(client: ClientRing, server: ServerRing, memory: bytearray) -> None:
    """vdc.c: on the ACK check DONE, read status and nbytes, dstate := FREE."""
    client.post(1, build_entry(REQUEST, 64))
    server.take(1)
    assert not client.is_done(1)
    server.finish(1, 0, 512)
    assert client.is_done(1)
    client.reap(1)
    assert memory[64] == Dstate.FREE


def _act(step: EntryStep, client: ClientRing, server: ServerRing) -> None:
    """Do ``step`` to entry 0."""
    if step is EntryStep.POST:
        client.post(0, build_entry(REQUEST, 64))
    elif step is EntryStep.TAKE:
        server.take(0)
    elif step is EntryStep.FINISH:
        server.finish(0, 0, 512)
    else:
        assert client.is_done(0)
        client.reap(0)


@pytest.mark.parametrize(("state", "step"), ENTRY_STEPS)
def test_each_side_moves_what_is_its_own(
    client: ClientRing, server: ServerRing, memory: bytearray, state: Dstate, step: EntryStep
) -> None:
    """vdc.c and vds.c: FREE, READY, ACCEPTED, DONE, and FREE again."""
    memory[0] = state
    _act(step, client, server)
    assert memory[0] == ENTRY_STEPS[state, step]


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (state, step)
        for step in (EntryStep.TAKE, EntryStep.FINISH)
        for state in (0, *Dstate, 0x82, 0xFF)
        if (state, step) not in ENTRY_STEPS
    ],
)
def test_the_server_refuses_every_entry_that_is_not_its_own(
    client: ClientRing, server: ServerRing, memory: bytearray, state: int, step: EntryStep
) -> None:
    """vds.c, vd_process_element: READY or nothing; vd_mark_elem_done: ACCEPTED or nothing."""
    memory[0] = state
    with pytest.raises(RingError) as caught:
        _act(step, client, server)
    assert caught.value.reaction is Reaction.RESET
    assert memory[0] == state


@pytest.mark.parametrize("state", [0, *(state for state in Dstate if state is not Dstate.DONE), 0xFF])
def test_an_ack_of_an_entry_that_is_not_done_is_ignored(
    client: ClientRing, memory: bytearray, state: int
) -> None:
    """vdc.c, vdc_process_data_msg: if dstate is not DONE the message is silently ignored."""
    memory[0] = state
    assert not client.is_done(0)


def test_a_server_that_writes_the_entry_back_whole_does_no_harm(
    client: ClientRing, memory: bytearray
) -> None:
    """OpenBSD vdsp.c: the entry is copied in whole and copied back whole, DONE with it."""
    client.post(0, build_entry(REQUEST, 64))
    own = bytearray(memory[:64])
    own[20:24] = bytes(4)
    own[0] = Dstate.DONE
    memory[:64] = own
    assert client.is_done(0)
    assert client.reap(0) == (0, 512)
