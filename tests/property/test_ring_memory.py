"""A ring in memory that the client changes whenever it likes: the server works on one private copy of an
entry, and nothing that the memory says afterwards changes what it does.
"""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RemoteProtocolError, RingError
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import COOKIE, ENTRY, NBYTES_AT, STATUS_AT, parse_entry
from protocol.vdisk.operations import BLOCK_IO, Operation
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vdisk.validate import clip, validate
from protocol.vio.dring import Dstate, RingGeometry

GEOMETRY: Final = RingGeometry(num_descriptors=4, descriptor_size=128)
DISK: Final = DiskAttributes(size_blocks=100, max_xfer_blocks=16)

near = st.one_of(
    st.sampled_from([0, 1, 99, 100, 101, 1 << 31, 1 << 32, (1 << 55), (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
words = near.map(lambda value: value & 0xFFFFFFFF)
octets = st.integers(0, 255)
plausible = st.builds(
    lambda dstate, operation, slice_, status, addr, nbytes, ncookies, tail: (
        ENTRY.pack(dstate, 0x80, 7, operation, slice_, status, addr, nbytes, ncookies) + tail
    ),
    octets,
    st.one_of(st.sampled_from(list(Operation)), octets),
    st.one_of(st.just(0xFF), octets),
    words,
    near,
    near,
    st.one_of(st.integers(0, 6), words),
    st.binary(min_size=80, max_size=80),
)
entries = st.one_of(plausible, st.binary(min_size=128, max_size=128))
changes = st.lists(st.tuples(st.integers(0, GEOMETRY.nbytes - 1), octets), max_size=200)


def ring() -> tuple[memoryview, ServerRing]:
    """Memory of a ring, and the server's end."""
    memory = memoryview(bytearray(GEOMETRY.nbytes))
    return memory, ServerRing(memory, GEOMETRY)


@given(index=st.integers(0, 3), entry=entries, later=changes)
def test_what_was_taken_is_what_was_there_whatever_is_stored_later(
    index: int, entry: bytes, later: list[tuple[int, int]]
) -> None:
    memory, server = ring()
    at = GEOMETRY.offset(index)
    memory[at : at + 128] = entry
    memory[at] = Dstate.READY
    taken = server.take(index)
    copied = server.copy(index)
    for place, value in later:
        memory[place] = value
    assert taken == copied == bytes([Dstate.ACCEPTED]) + entry[1:]


@given(entry=entries)
def test_any_octets_are_a_request_or_a_fault_of_the_peer(entry: bytes) -> None:
    """And a request has what fits the entry, and a status or a range that is the disk's."""
    try:
        request = parse_entry(entry)
    except RemoteProtocolError:
        return
    assert ENTRY.size + COOKIE.size * len(request.cookies) <= len(entry)
    status = validate(request.operation, request.slice, request.addr, request.nbytes, DISK)
    if status == 0 and request.operation in BLOCK_IO:
        length = clip(request.addr, request.nbytes, DISK)
        assert 0 <= length <= request.nbytes
        assert not length or request.addr * DISK.block_size + length <= DISK.size


@given(states=st.lists(octets, min_size=4, max_size=4), index=st.integers(0, 3))
def test_only_what_is_ready_is_taken_and_only_what_is_accepted_is_answered(
    states: list[int], index: int
) -> None:
    memory, server = ring()
    for number, state in enumerate(states):
        memory[GEOMETRY.offset(number)] = state
    before = bytes(memory)
    try:
        server.finish(index, 5, 512)
        assert states[index] == Dstate.ACCEPTED
        memory[:] = before
    except RingError:
        assert states[index] != Dstate.ACCEPTED
        assert bytes(memory) == before
    try:
        server.take(index)
        assert states[index] == Dstate.READY
    except RingError:
        assert states[index] != Dstate.READY
        assert bytes(memory) == before


@given(entry=entries, status=words, nbytes=near, index=st.integers(0, 3), noise=st.binary(max_size=512))
def test_an_answer_touches_state_status_and_length_of_its_entry_and_nothing_else(
    entry: bytes, status: int, nbytes: int, index: int, noise: bytes
) -> None:
    """Whatever the client has put there meanwhile; and nothing of it comes back by the answer."""
    memory, server = ring()
    memory[: len(noise)] = noise[: GEOMETRY.nbytes]
    at = GEOMETRY.offset(index)
    memory[at : at + 128] = entry
    memory[at] = Dstate.READY
    server.take(index)
    expected = bytearray(memory)
    server.finish(index, status, nbytes)
    expected[at] = Dstate.DONE
    expected[at + STATUS_AT : at + STATUS_AT + 4] = status.to_bytes(4, "big")
    expected[at + NBYTES_AT : at + NBYTES_AT + 8] = nbytes.to_bytes(8, "big")
    assert memory == expected
    client = ClientRing(memory, GEOMETRY)
    assert client.is_done(index)
    assert client.reap(index) == (status, nbytes)
    assert not client.is_done(index)
