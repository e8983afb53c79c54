"""The table of unanswered requests: what a lost server had goes first, in its order."""

from __future__ import annotations

from protocol.errors import DiskError
from protocol.vdisk.operations import Operation
from vdc.buffers import Buffer
from vdc.requests import Request, RequestTable


def _ignore(request: Request, error: DiskError | None) -> None: ...


def _requests(table: RequestTable, n: int) -> list[Request]:
    requests = [Request(Operation.BREAD, addr, 512, _ignore) for addr in range(n)]
    for request in requests:
        table.number(request)
    return requests


def test_what_the_server_had_waits_before_what_waited_and_oldest_first() -> None:
    table = RequestTable()
    first, second, third, fourth = _requests(table, 4)
    table.begin(4)
    table.slots[0], table.slots[3] = third, first  # a ring that wrapped: slot order is not age
    table.outstanding = 2
    table.waiting.extend([second, fourth])
    table.take_back()
    assert list(table.waiting) == [first, third, second, fourth]
    assert (table.outstanding, table.unanswered, len(table)) == (0, 2, 4)
    assert table.resume() == 2
    assert (table.unanswered, table.resubmitted) == (0, 2)


def test_a_single_request_in_slot_0_is_not_forgotten() -> None:
    table = RequestTable()
    (only,) = _requests(table, 1)
    table.begin(256)
    table.slots[0] = only
    table.outstanding = 1
    table.take_back()
    assert list(table.waiting) == [only]


def test_losing_the_server_twice_before_it_answers_counts_each_request_once() -> None:
    table = RequestTable()
    (only,) = _requests(table, 1)
    table.begin(2)
    table.slots[1] = only
    table.take_back()
    table.take_back()
    assert list(table.waiting) == [only]
    assert table.resume() == 1


def test_draining_takes_everything_out() -> None:
    table = RequestTable()
    requests = _requests(table, 3)
    table.waiting.extend(requests)
    assert list(table.drain()) == requests
    assert not table.waiting


def test_detaching_keeps_the_data_as_it_was() -> None:
    data = bytearray(b"a" * 512)
    write = Request(Operation.BWRITE, 0, 512, _ignore, source=memoryview(data))
    read = Request(Operation.BREAD, 0, 512, _ignore, into=memoryview(data))
    write.detach()
    read.detach()
    data[:] = b"b" * 512
    assert write.source is not None
    assert bytes(write.source) == b"a" * 512
    assert read.into is None


def test_a_request_holds_its_buffer_until_it_ends() -> None:
    given: list[int] = []
    buffer = Buffer(None, memoryview(bytearray(512)), 0, lambda: given.append(1))
    request = Request(Operation.BREAD, 0, 512, _ignore, buffer=buffer)
    buffer.release()
    assert not given
    request.end(None)
    assert given == [1]


def test_an_error_names_its_request() -> None:
    error = Request(Operation.BWRITE, 7, 1024, _ignore).error(28)
    assert (error.errno, error.operation, error.addr, error.nbytes) == (28, Operation.BWRITE, 7, 1024)
