"""The disk's ring: the server's answer into an entry, the client's look at it."""

from __future__ import annotations

import struct

import pytest

from protocol.errors import Reaction, RingError
from protocol.ldc.cookie import Cookie
from protocol.vdisk.descriptor import Request, build_entry, parse_entry
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vio.dring import Dstate, RingGeometry

RING = RingGeometry(4, 80)
REQUEST = Request(9, 1, 0xFF, 3, 1024, (Cookie(0x2000, 1024),))


def _pair() -> tuple[bytearray, ClientRing, ServerRing]:
    memory = bytearray(RING.nbytes)
    view = memoryview(memory)
    return memory, ClientRing(view, RING), ServerRing(view, RING)


def test_a_request_goes_there_and_back() -> None:
    memory, client, server = _pair()
    client.post(3, build_entry(REQUEST, RING.descriptor_size))
    posted = bytes(memory)
    assert parse_entry(server.take(3)) == REQUEST
    server.finish(3, 5, 512)
    assert client.is_done(3)
    expected = bytearray(posted)
    expected[240] = Dstate.DONE
    expected[260:264] = (5).to_bytes(4, "big")
    expected[272:280] = (512).to_bytes(8, "big")
    assert memory == expected
    assert client.reap(3) == (5, 512)
    assert client.dstate(3) == Dstate.FREE


def test_the_data_path_writes_and_reads_the_same_entry() -> None:
    memory, client, server = _pair()
    client.post(2, build_entry(REQUEST, RING.descriptor_size))
    expected = bytes(memory)
    memory[160:240] = bytes(80)
    client.submit(2, 9, 1, 0xFF, 3, 1024, 0x2000, 1024)
    assert memory == expected
    assert parse_entry(server.take(2)) == REQUEST
    memory[160:240] = b"\xff" * 80
    assert len(server.copy(2)) == RING.descriptor_size


def test_a_request_of_no_bytes_has_no_cookie() -> None:
    _, client, server = _pair()
    client.submit(0, 1, 3, 0xFF, 0, 0, 0x2000, 0)
    assert parse_entry(server.take(0)) == Request(1, 3, 0xFF, 0, 0, ())


@pytest.mark.parametrize("state", [Dstate.FREE, Dstate.READY, Dstate.DONE, 0, 255])
def test_an_entry_that_is_no_longer_accepted_is_left_alone(state: int) -> None:
    memory, client, server = _pair()
    client.post(1, build_entry(REQUEST, RING.descriptor_size))
    server.take(1)
    memory[80] = state
    before = bytes(memory)
    with pytest.raises(RingError, match="not ACCEPTED") as caught:
        server.finish(1, 0, 1024)
    assert caught.value.reaction is Reaction.RESET
    assert memory == before


def test_the_entry_is_handed_back_last() -> None:
    memory, client, server = _pair()
    client.post(0, build_entry(REQUEST, RING.descriptor_size))
    server.take(0)
    with pytest.raises(struct.error):
        server.finish(0, 1 << 32, 1024)  # a status that does not fit: nothing comes after it
    assert memory[0] == Dstate.ACCEPTED
