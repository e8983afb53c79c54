"""vds.overlap: who waits for whom."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from vds.overlap import BUCKET_SHIFT, UnderWay

BUCKET = 1 << BUCKET_SHIFT


@dataclass(eq=False)
class Range:
    """A request as the table sees it."""

    offset: int
    nbytes: int
    writes: bool
    blockers: int = 0
    waiters: list[Range] = field(default_factory=list)

    def collides(self, other: Range) -> bool:
        """The rule, said plainly."""
        overlap = self.offset < other.offset + other.nbytes and other.offset < self.offset + self.nbytes
        return overlap and (self.writes or other.writes)


def test_nothing_under_way_is_an_empty_dict() -> None:
    table: UnderWay[Range] = UnderWay()
    request = Range(BUCKET - 512, 1024, True)
    assert not table.buckets
    assert not table.enter(request)
    assert len(table.buckets) == 2
    assert table.leave(request) == []
    assert not table.buckets


def test_neighbours_do_not_collide() -> None:
    table: UnderWay[Range] = UnderWay()
    table.enter(Range(512, 512, True))
    assert not table.blocks(0, 512, True)
    assert not table.blocks(1024, 512, True)
    assert table.blocks(0, 513, False)
    assert table.blocks(1023, 1, False)


def test_reads_collide_with_writes_only() -> None:
    table: UnderWay[Range] = UnderWay()
    table.enter(Range(0, 4096, False))
    assert not table.blocks(0, 512, False)
    assert table.blocks(0, 512, True)


def test_collision_over_two_buckets_counts_once() -> None:
    table: UnderWay[Range] = UnderWay()
    first, second = Range(BUCKET - 512, 1024, True), Range(BUCKET - 512, 1024, True)
    table.enter(first)
    assert table.enter(second)
    assert second.blockers == 1
    assert table.leave(first) == [second]


def test_requests_for_one_place_wait_for_their_predecessor_only() -> None:
    table: UnderWay[Range] = UnderWay()
    requests = [Range(0, 512, True) for _ in range(100)]
    assert [table.enter(request) for request in requests] == [False] + [True] * 99
    assert [request.blockers for request in requests] == [0] + [1] * 99


ranges = st.builds(
    Range,
    st.integers(0, 6).map(lambda n: BUCKET - 3 * 512 + n * 512),
    st.integers(1, 6).map(lambda n: n * 512),
    st.booleans(),
)


@given(st.lists(ranges, max_size=30), st.data())
def test_what_collides_runs_in_order_of_arrival(requests: list[Range], data: st.DataObject) -> None:
    """Requests arrive and end in any mixture; some give up while they wait, as the table says they may."""
    table: UnderWay[Range] = UnderWay()
    arrived: list[Range] = []
    running: list[Range] = []
    ended: list[Range] = []
    given_up: set[int] = set()

    def begin(request: Range) -> None:
        for older in arrived[: arrived.index(request)]:
            assert older in ended or not older.collides(request) or id(older) in given_up
        running.append(request)

    def go_on(free: list[Range]) -> None:
        while free:
            request = free.pop(0)
            if id(request) in given_up:
                free.extend(table.leave(request))
            else:
                begin(request)

    waiting = list(requests)
    while waiting or running:
        if waiting and (not running or data.draw(st.booleans())):
            request = waiting.pop(0)
            arrived.append(request)
            blocked = table.blocks(request.offset, request.nbytes, request.writes)
            assert table.enter(request) is blocked
            if not blocked:
                begin(request)
            elif data.draw(st.booleans()):
                given_up.add(id(request))
        else:
            request = running.pop(data.draw(st.integers(0, len(running) - 1)))
            ended.append(request)
            go_on(table.leave(request))
    assert len(ended) == len(requests) - len(given_up)
    assert not table.buckets
