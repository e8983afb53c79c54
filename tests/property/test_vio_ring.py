"""The ring under any order of takes and completions: no request is lost, repeated or mixed up."""

from __future__ import annotations

import itertools
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from protocol.vdisk.descriptor import Request, build_entry, parse_entry
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vio.answers import AnswerQueue
from protocol.vio.dring import Dstate, RingGeometry
from protocol.vio.messages import Subtype, echo
from protocol.vio.sequence import AnswerSequence, RequestSequence


@given(
    geometry=st.builds(RingGeometry, st.integers(1, 9), st.sampled_from([64, 72, 336])),
    data=st.data(),
)
def test_every_request_is_taken_once_and_answered_once(geometry: RingGeometry, data: st.DataObject) -> None:
    memory = memoryview(bytearray(geometry.nbytes))
    client, server = ClientRing(memory, geometry), ServerRing(memory, geometry)
    posted: dict[int, int] = {}
    taken: dict[int, int] = {}
    answered: list[int] = []
    next_id = 0
    for step in data.draw(st.lists(st.sampled_from(["post", "take", "finish", "reap"]), max_size=60)):
        index = data.draw(st.integers(0, geometry.num_descriptors - 1))
        if step == "post" and index not in posted:
            client.post(index, build_entry(Request(next_id, 1, 0xFF, 0, 0, ()), geometry.descriptor_size))
            posted[index] = next_id
            next_id += 1
        elif step == "take" and server.is_ready(index):
            taken[index] = parse_entry(server.take(index)).req_id
        elif step == "finish" and server.dstate(index) == Dstate.ACCEPTED:
            server.finish(index, 0, taken.pop(index))
        elif step == "reap" and client.is_done(index):
            assert client.reap(index) == (0, posted[index])
            answered.append(posted.pop(index))
    assert len(set(answered)) == len(answered)
    assert sorted([*answered, *posted.values()]) == list(range(next_id))


@given(
    geometry=st.builds(RingGeometry, st.integers(1, 65536), st.just(64)),
    start=st.integers(),
    end=st.integers(),
)
def test_a_range_visits_each_entry_at_most_once(geometry: RingGeometry, start: int, end: int) -> None:
    start, end = start % geometry.num_descriptors, end % geometry.num_descriptors
    indices = geometry.indices(start, end)
    assert len(indices) == geometry.span(start, end)
    assert (indices[0], indices[-1]) == (start, end)
    assert len(set(indices)) == len(indices)
    assert all((b - a) % geometry.num_descriptors in (0, 1) for a, b in itertools.pairwise(indices))


@given(first=st.integers(0, 2**64 - 1), counts=st.lists(st.integers(1, 4), max_size=12), data=st.data())
def test_answers_come_once_each_and_in_order(first: int, counts: list[int], data: st.DataObject) -> None:
    queue, demanded, checked = AnswerQueue(), RequestSequence(), AnswerSequence()
    waiting: list[tuple[int, int]] = []
    expected: deque[bytes] = deque()
    for number, count in enumerate(counts):
        demanded.check((first + number) % 2**64)
        message = bytes([2, 1, 0, 0x7F, 0, 0, 0, checked.next()])
        batch = queue.open(message, range(count), 48)
        waiting += [(batch, index) for index in range(count)]
        expected.append(echo(message, Subtype.ACK))
    for batch, index in data.draw(st.permutations(waiting)):
        queue.complete(batch, index)
        for answer in queue.ready():
            assert answer == expected.popleft()
            checked.check(answer[7])
    assert not expected
    assert len(queue) == 0
