"""The arena never hands out the same byte twice, and gets everything back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdc.buffers import Arena, Buffer

PAGE = 8192


@pytest.mark.parametrize(
    ("nbytes", "order"), [(1, 0), (8192, 0), (8193, 1), (16384, 1), (16385, 2), (1 << 20, 7)]
)
def test_order_is_the_smallest_power_of_two_of_pages(nbytes: int, order: int) -> None:
    assert Arena.order_of(nbytes) == order


def test_an_empty_arena_says_so_instead_of_failing() -> None:
    arena = Arena(2 * PAGE)
    assert sorted([arena.take(0), arena.take(0)]) == [0, PAGE]
    assert arena.take(0) == -1
    assert arena.take(5) == -1


def test_neighbours_given_back_make_room_for_a_larger_chunk() -> None:
    arena = Arena(4 * PAGE)
    pages = [arena.take(0) for _ in range(4)]
    for page in pages:
        arena.give(page, 0)
    assert arena.take(2) == 0


def test_an_arena_that_is_no_power_of_two_is_used_whole() -> None:
    arena = Arena(7 * PAGE)
    assert sorted(arena.take(0) for _ in range(7)) == [n * PAGE for n in range(7)]


@given(
    st.lists(
        st.one_of(st.integers(0, 4).map(lambda order: ("take", order)), st.just(("give", 0))), max_size=200
    )
)
def test_chunks_never_overlap(steps: list[tuple[str, int]]) -> None:
    arena = Arena(64 * PAGE)
    taken: list[tuple[int, int]] = []
    for what, order in steps:
        if what == "give" and taken:
            arena.give(*taken.pop(0))
        elif what == "take":
            offset = arena.take(order)
            if offset >= 0:
                span = range(offset, offset + (PAGE << order), PAGE)
                assert span.stop <= arena.size
                used = {page for at, o in taken for page in range(at, at + (PAGE << o), PAGE)}
                assert used.isdisjoint(span)
                taken.append((offset, order))
    for chunk in taken:
        arena.give(*chunk)
    assert arena.take(6) == 0


def test_a_buffer_in_flight_is_given_back_when_its_request_ends() -> None:
    given: list[str] = []
    buffer = Buffer(None, memoryview(bytearray(16)), 0, lambda: given.append("back"))
    buffer.hold()
    with buffer:
        assert len(buffer) == 16
    buffer.release()
    assert given == []
    buffer.drop()
    assert given == ["back"]
