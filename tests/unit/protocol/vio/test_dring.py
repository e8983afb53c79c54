"""Ring arithmetic, and the states of an entry at either end."""

from __future__ import annotations

import pytest

from protocol.errors import LocalProtocolError, Reaction, RingError
from protocol.vio.dring import (
    DSTATE_MASK,
    MAX_DESCRIPTOR_SIZE,
    MAX_DESCRIPTORS,
    Dstate,
    ExportedRing,
    ImportedRing,
    RingGeometry,
)

RING = RingGeometry(4, 64)


def _pair() -> tuple[bytearray, ExportedRing, ImportedRing]:
    memory = bytearray(RING.nbytes)
    view = memoryview(memory)
    return memory, ExportedRing(view, RING), ImportedRing(view, RING)


def test_offsets_and_size() -> None:
    assert RING.nbytes == 256
    assert [RING.offset(index) for index in range(4)] == [0, 64, 128, 192]
    assert RingGeometry(1 << 30, 1 << 30).nbytes == 1 << 60


@pytest.mark.parametrize(
    ("start", "end", "indices"),
    [
        (0, 0, [0]),
        (3, 3, [3]),
        (0, 3, [0, 1, 2, 3]),
        (1, 2, [1, 2]),
        (3, 0, [3, 0]),
        (2, 1, [2, 3, 0, 1]),
        (1, 0, [1, 2, 3, 0]),
    ],
)
def test_ranges_include_both_ends_and_wrap(start: int, end: int, indices: list[int]) -> None:
    RING.check_range(start, end)
    assert list(RING.indices(start, end)) == indices
    assert RING.span(start, end) == len(indices)


@pytest.mark.parametrize(
    ("start", "end"), [(4, 0), (0, 4), (5, 0), (0, 5), (0, -1), (-1, 0), (0xFFFFFFFF, 0)]
)
def test_an_index_outside_the_ring_is_a_full_reset(start: int, end: int) -> None:
    with pytest.raises(RingError) as caught:
        RING.check_range(start, end)
    assert caught.value.reaction is Reaction.RESET


@pytest.mark.parametrize(
    "geometry",
    [
        RingGeometry(1, 64),
        RingGeometry(MAX_DESCRIPTORS, 64),
        RingGeometry(512, 336),
        RingGeometry(512, 576),
        RingGeometry(32, 176),
        RingGeometry(1, MAX_DESCRIPTOR_SIZE),
    ],
)
def test_usable_geometries(geometry: RingGeometry) -> None:
    geometry.validate()


@pytest.mark.parametrize(
    "geometry",
    [
        RingGeometry(0, 64),
        RingGeometry(MAX_DESCRIPTORS + 1, 64),
        RingGeometry(0xFFFFFFFF, 64),
        RingGeometry(4, 0),
        RingGeometry(4, 56),
        RingGeometry(4, 65),
        RingGeometry(4, 68),
        RingGeometry(4, MAX_DESCRIPTOR_SIZE + 8),
    ],
)
def test_unusable_geometries_are_a_nack(geometry: RingGeometry) -> None:
    with pytest.raises(RingError) as caught:
        geometry.validate()
    assert caught.value.reaction is Reaction.NACK


def test_an_entry_goes_round() -> None:
    memory, client, server = _pair()
    entry = bytes([Dstate.FREE]) + bytes(range(1, 64))
    client.post(2, entry)
    assert client.dstate(2) == Dstate.READY
    assert server.is_ready(2)
    assert not server.is_ready(1)
    assert not client.is_done(2)
    assert server.take(2) == bytes([Dstate.ACCEPTED]) + entry[1:]
    assert server.dstate(2) == Dstate.ACCEPTED
    assert not server.is_ready(2)
    memory[128] = Dstate.DONE
    assert client.is_done(2)


def test_what_is_taken_is_a_copy() -> None:
    memory, client, server = _pair()
    client.post(0, bytes([Dstate.FREE]) + b"a" * 63)
    taken = server.take(0)
    memory[1:64] = b"b" * 63
    assert taken[1:] == b"a" * 63


def test_a_short_entry_leaves_the_rest_alone() -> None:
    memory, client, _ = _pair()
    memory[:] = b"\xee" * len(memory)
    client.post(1, bytes([Dstate.FREE]) + b"x" * 47)
    assert memory[64:128] == bytes([Dstate.READY]) + b"x" * 47 + b"\xee" * 16
    assert set(memory[:64]) == set(memory[128:]) == {0xEE}


@pytest.mark.parametrize("state", [0, Dstate.FREE, Dstate.ACCEPTED, Dstate.DONE, 5, 0x12, 255])
def test_only_a_ready_entry_can_be_taken(state: int) -> None:
    memory, _, server = _pair()
    memory[64] = state
    with pytest.raises(RingError, match=f"descriptor 1 is in state {int(state)}, not READY") as caught:
        server.take(1)
    assert caught.value.reaction is Reaction.RESET
    assert memory[64] == state


def test_only_done_is_done() -> None:
    memory, client, _ = _pair()
    for state in range(256):
        memory[64] = state
        assert client.is_done(1) == (state == 4)


def test_a_ring_has_65536_entries_at_most() -> None:
    RingGeometry(65536, 64).validate()
    with pytest.raises(RingError, match="65537 descriptors, must be 1 to 65536"):
        RingGeometry(65537, 64).validate()


def test_an_entry_has_64_to_16384_bytes() -> None:
    for size in (64, 16384):
        RingGeometry(1, size).validate()
    for size in (56, 16392):
        with pytest.raises(RingError, match=f"descriptors of {size} bytes, .* of 8 from 64 to 16384"):
            RingGeometry(1, size).validate()


@pytest.mark.parametrize("kind", ["I", "b", "?"])
def test_a_ring_needs_plain_bytes(kind: str) -> None:
    view = memoryview(bytearray(8 * RING.nbytes))
    ImportedRing(view, RING)  # more than it needs is no fault
    with pytest.raises(LocalProtocolError):
        ImportedRing(view.cast(kind), RING)  # type: ignore[call-overload]  # any code that a test names


def test_a_ring_needs_writable_bytes_enough() -> None:
    for view in (
        memoryview(bytes(RING.nbytes)),
        memoryview(bytearray(RING.nbytes - 1)),
        memoryview(bytearray(RING.nbytes)).cast("I"),
    ):
        with pytest.raises(LocalProtocolError):
            ImportedRing(view, RING)


def test_the_state_is_in_the_low_four_bits() -> None:
    assert DSTATE_MASK == 0x0F
    assert all(int(state) == int(state) & DSTATE_MASK for state in Dstate)
