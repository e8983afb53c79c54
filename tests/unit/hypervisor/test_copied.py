"""Copying by records: order and number, short counts, refusals exactly once, and what came pushed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from hypervisor.copied import OUTSTANDING, RING_LIMIT, CopiedMemory
from hypervisor.records import (
    COPY_PIECE,
    RECORD_LIMIT,
    Copy,
    CopyDirection,
    CopyDone,
    Push,
    Record,
    parse_record,
)
from protocol.errors import CookieError, HvStatus, LocalProtocolError, PacketError, Reaction
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission

from .conftest import DATA_SIZE, Ends

PACKET = bytes(64)


class Driver:
    """Drives an importer against an exporter, and notes every result."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.memory = CopiedMemory(ends.importer)
        self.results: list[object] = []

    def turn(self) -> int:
        """Serve both ends once; returns how many answers the importer got."""
        self.ends.importer.flush()
        self.ends.exporter.receive()
        self.ends.exporter.flush()
        items = self.ends.importer.receive()
        for item in items:
            if isinstance(item, CopyDone | Push):
                self.memory.received(item)
        return len(items)

    def settle(self) -> list[object]:
        """Serve both ends until nothing moves, and return the results since the last time."""
        while self.turn() or self.ends.importer.wants_write:
            pass
        results, self.results = self.results, []
        return results


@pytest.fixture
def driver(ends: Ends) -> Iterator[Driver]:
    """Return an importer without INLINE."""
    made = Driver(ends)
    yield made
    made.memory.close()


@pytest.fixture
def pushed(inline: Ends) -> Iterator[Driver]:
    """Return an importer with INLINE."""
    made = Driver(inline)
    yield made
    made.memory.close()


def status_of(result: object) -> HvStatus:
    assert isinstance(result, CookieError)
    return result.hv_status


class Scripted:
    """An exporter played by hand: the test sees each COPY and writes each answer."""

    def __init__(self, ends: Ends) -> None:
        self.socket = ends.sockets[0]
        self.memory = CopiedMemory(ends.importer)
        self.results: list[object] = []

    def copies(self) -> list[Record]:
        """Return every COPY sent since the last time."""
        seen: list[Record] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                seen.append(parse_record(self.socket.recv(RECORD_LIMIT)))
        return seen


class TestCopyIn:
    @pytest.mark.parametrize("nbytes", [1, 8, 100, 4096, PAGE_SIZE, COPY_PIECE, COPY_PIECE + 1, DATA_SIZE])
    def test_bytes_arrive(self, driver: Driver, nbytes: int) -> None:
        data = os.urandom(DATA_SIZE)
        driver.ends.data[:] = data
        driver.memory.copy_in([driver.ends.cookie], nbytes, driver.results.append)
        assert driver.results == []
        assert driver.settle() == [data[:nbytes]]

    def test_cookies_are_read_in_their_order(self, driver: Driver) -> None:
        driver.ends.data[:24] = b"1st.....2nd.....3rd....."
        cookies = [driver.ends.part(16, 8), driver.ends.part(0, 8), driver.ends.part(8, 8)]
        driver.memory.copy_in(cookies, 24, driver.results.append)
        assert driver.settle() == [b"3rd.....1st.....2nd....."]

    def test_skip_passes_over_whole_cookies(self, driver: Driver) -> None:
        driver.ends.data[:24] = b"1st.....2nd.....3rd....."
        cookies = [driver.ends.part(0, 8), driver.ends.part(8, 16)]
        driver.memory.copy_in(cookies, 8, driver.results.append, skip=16)
        assert driver.settle() == [b"3rd....."]

    def test_many_are_under_way_at_once_and_no_more(self, driver: Driver) -> None:
        script = Scripted(driver.ends)
        for number in range(OUTSTANDING + 10):
            script.memory.copy_in([driver.ends.part(8 * number, 8)], 8, script.results.append)
        assert len(script.copies()) == OUTSTANDING
        assert OUTSTANDING >= 32

    def test_answers_may_come_in_any_order(self, driver: Driver) -> None:
        memory, results = driver.memory, driver.results
        for number in range(3):
            memory.copy_in([driver.ends.part(8 * number, 8)], 8, results.append)
        for ident, text in ((3, b"third..."), (1, b"first..."), (2, b"second..")):
            memory.received(CopyDone(ident, 0, 8, text))
        assert results == [b"third...", b"first...", b"second.."]

    def test_short_counts_are_continued(self, driver: Driver) -> None:
        script = Scripted(driver.ends)
        at = driver.ends.cookie.addr
        script.memory.copy_in([Cookie(at, 32)], 30, script.results.append)
        assert script.copies() == [Copy(1, CopyDirection.IN, at, 32, b"")]
        script.memory.received(CopyDone(1, 0, 8, b"12345678"))
        assert script.copies() == [Copy(2, CopyDirection.IN, at + 8, 24, b"")]
        script.memory.received(CopyDone(2, 0, 16, b"abcdefghABCDEFGH"))
        assert script.copies() == [Copy(3, CopyDirection.IN, at + 24, 8, b"")]
        assert script.results == []
        script.memory.received(CopyDone(3, 0, 8, b"!!!!!!--"))
        assert script.results == [b"12345678abcdefghABCDEFGH!!!!!!"]

    def test_page_by_page_exporter_works(self, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        """As the hypervisor itself does: each COPY ends with its page."""
        monkeypatch.setattr("hypervisor.memory.COPY_LIMIT", PAGE_SIZE)
        data = os.urandom(DATA_SIZE)
        driver.memory.copy_out([driver.ends.cookie], data, driver.results.append)
        assert driver.settle() == [None]
        driver.memory.copy_in([driver.ends.cookie], DATA_SIZE, driver.results.append)
        assert driver.settle() == [data]


class TestCopyOut:
    @pytest.mark.parametrize("nbytes", [1, 8, 100, 4096, COPY_PIECE, COPY_PIECE + 1, DATA_SIZE])
    def test_bytes_arrive_rounded_up_with_zeros(self, driver: Driver, nbytes: int) -> None:
        driver.ends.data[:] = b"\xff" * DATA_SIZE
        data = os.urandom(nbytes)
        driver.memory.copy_out([driver.ends.cookie], data, driver.results.append)
        assert driver.settle() == [None]
        written = bytes(driver.ends.data)
        rounded = -(-nbytes // 8) * 8
        assert written[:rounded] == data + bytes(rounded - nbytes)
        assert written[rounded:] == b"\xff" * (DATA_SIZE - rounded)

    def test_skip(self, driver: Driver) -> None:
        driver.memory.copy_out([driver.ends.cookie], memoryview(b"skipped!"), driver.results.append, skip=64)
        assert driver.settle() == [None]
        assert bytes(driver.ends.data[:80]) == bytes(64) + b"skipped!" + bytes(8)

    def test_short_counts_are_continued(self, driver: Driver) -> None:
        script = Scripted(driver.ends)
        at = driver.ends.cookie.addr
        script.memory.copy_out([Cookie(at, 16)], b"12345678abcdefgh", script.results.append)
        assert script.copies() == [Copy(1, CopyDirection.OUT, at, 16, b"12345678abcdefgh")]
        script.memory.received(CopyDone(1, 0, 8))
        assert script.copies() == [Copy(2, CopyDirection.OUT, at + 8, 8, b"abcdefgh")]
        script.memory.received(CopyDone(2, 0, 8))
        assert script.results == [None]


class TestRefusals:
    @pytest.mark.parametrize(
        ("cookies", "nbytes", "skip", "status"),
        [
            ([], 8, 0, HvStatus.EINVAL),
            ([(0, 8)], 0, 0, HvStatus.EINVAL),
            ([(0, 8)], 16, 0, HvStatus.EINVAL),
            ([(0, 16)], 16, 8, HvStatus.EINVAL),
            ([(0, 16)], 8, 4, HvStatus.EBADALIGN),
            ([(0, 16)], 8, -8, HvStatus.EBADALIGN),
            ([(4, 8)], 8, 0, HvStatus.EBADALIGN),
            ([(0, 12)], 8, 0, HvStatus.EBADALIGN),
        ],
    )
    def test_impossible_requests_are_answered_at_once(
        self, driver: Driver, cookies: list[tuple[int, int]], nbytes: int, skip: int, status: HvStatus
    ) -> None:
        driver.memory.copy_in(cookies, nbytes, driver.results.append, skip)
        driver.memory.copy_out(cookies, bytes(nbytes), driver.results.append, skip)
        assert [status_of(result) for result in driver.results] == [status, status]

    def test_exporters_refusal_is_reported_once(self, driver: Driver) -> None:
        """A request of several pieces, the second of which is refused: one error, and no result after it."""
        cookies = [
            driver.ends.part(0, 8),
            Cookie(driver.ends.cookie.addr + DATA_SIZE, 8),
            driver.ends.part(8, 8),
        ]
        driver.memory.copy_in(cookies, 24, driver.results.append)
        driver.memory.copy_out(cookies, bytes(24), driver.results.append)
        assert [status_of(result) for result in driver.settle()] == [HvStatus.ENOMAP, HvStatus.ENOMAP]

    def test_every_piece_refused_is_still_one_error(self, driver: Driver) -> None:
        driver.ends.memory.table.revoke(driver.ends.cookie)
        driver.memory.copy_in([driver.ends.cookie], DATA_SIZE, driver.results.append)
        assert [status_of(result) for result in driver.settle()] == [HvStatus.ENOMAP]

    def test_pieces_not_yet_sent_are_not_sent_after_a_refusal(self, driver: Driver) -> None:
        script = Scripted(driver.ends)
        for number in range(OUTSTANDING - 1):
            script.memory.copy_in([driver.ends.part(8 * number, 8)], 8, script.results.append)
        script.memory.copy_in([driver.ends.part(0, 2 * COPY_PIECE)], 2 * COPY_PIECE, script.results.append)
        script.memory.copy_in([driver.ends.part(64, 8)], 8, script.results.append)
        assert len(script.copies()) == OUTSTANDING
        script.memory.received(CopyDone(OUTSTANDING, HvStatus.ENOACCESS, 0))
        assert [status_of(result) for result in script.results] == [HvStatus.ENOACCESS]
        last = Copy(OUTSTANDING + 1, CopyDirection.IN, driver.ends.cookie.addr + 64, 8)
        assert script.copies() == [last]

    def test_missing_permission(self, driver: Driver) -> None:
        (cookie,) = driver.ends.memory.export(PAGE_SIZE, 64, Permission.CR)
        driver.memory.copy_out([cookie], bytes(8), driver.results.append)
        driver.memory.copy_in([cookie], 8, driver.results.append)
        refused, read = driver.settle()
        assert status_of(refused) is HvStatus.ENOACCESS
        assert read == bytes(8)

    def test_unknown_status_is_an_io_error(self, driver: Driver) -> None:
        driver.memory.copy_in([(0, 8)], 8, driver.results.append)
        driver.memory.received(CopyDone(1, 0xFFFF, 0))
        assert status_of(driver.results[0]) is HvStatus.EIO


class TestHostileExporter:
    @pytest.mark.parametrize(
        "answer",
        [
            CopyDone(2, 0, 8, bytes(8)),
            CopyDone(0xFFFFFFFF, 0, 8, bytes(8)),
            CopyDone(1, 0, 0),
            CopyDone(1, 0, 8),
            CopyDone(1, 0, 4, bytes(4)),
            CopyDone(1, 0, 24, bytes(24)),
            CopyDone(1, 0, 0xFFFFFFF8),
        ],
    )
    def test_answer_to_something_else_closes(self, driver: Driver, answer: CopyDone) -> None:
        driver.memory.copy_in([(0, 16)], 16, driver.results.append)
        with pytest.raises(PacketError, match="COPY") as caught:
            driver.memory.received(answer)
        assert caught.value.reaction is Reaction.CLOSE
        assert driver.results == []

    def test_data_in_answer_to_a_write_closes(self, driver: Driver) -> None:
        driver.memory.copy_out([(0, 8)], bytes(8), driver.results.append)
        with pytest.raises(PacketError, match="COPY_DONE"):
            driver.memory.received(CopyDone(1, 0, 8, bytes(8)))

    def test_second_answer_closes(self, driver: Driver) -> None:
        driver.memory.copy_in([(0, 8)], 8, driver.results.append)
        driver.memory.received(CopyDone(1, 0, 8, bytes(8)))
        with pytest.raises(PacketError, match="no COPY has"):
            driver.memory.received(CopyDone(1, 0, 8, bytes(8)))
        assert driver.results == [bytes(8)]


class TestClose:
    def test_everything_under_way_fails_once(self, driver: Driver) -> None:
        for _ in range(OUTSTANDING + 5):
            driver.memory.copy_in([driver.ends.cookie], 2 * COPY_PIECE, driver.results.append)
        driver.memory.close()
        driver.memory.close()
        assert [status_of(result) for result in driver.results] == [HvStatus.ECHANNEL] * (OUTSTANDING + 5)

    def test_finished_ones_do_not_fail_afterwards(self, driver: Driver) -> None:
        driver.memory.copy_in([driver.ends.cookie], 8, driver.results.append)
        assert len(driver.settle()) == 1
        driver.memory.close()
        assert driver.results == []


class TestPushed:
    def take(self, pushed: Driver, cookies: list[Cookie], nbytes: int) -> object:
        """Return what copy_in answers at once, or None when it has to ask."""
        before = len(pushed.results)
        pushed.memory.copy_in(cookies, nbytes, pushed.results.append)
        return pushed.results[-1] if len(pushed.results) > before else None

    def push(self, pushed: Driver, pieces: list[tuple[int, bytes]]) -> None:
        pushed.ends.exporter.push(pieces, [PACKET])
        while not pushed.turn():
            pushed.ends.exporter.flush()

    def test_pushed_contents_need_no_copy(self, pushed: Driver) -> None:
        self.push(pushed, [(pushed.ends.cookie.addr, b"written!" * 512)])
        assert self.take(pushed, [pushed.ends.part(0, 4096)], 4096) == b"written!" * 512
        assert self.take(pushed, [pushed.ends.part(0, 16)], 13) == b"written!writt"

    def test_pieces_in_a_row_are_joined(self, pushed: Driver) -> None:
        data = os.urandom(DATA_SIZE)
        self.push(pushed, [(pushed.ends.cookie.addr, data)])
        assert self.take(pushed, [pushed.ends.cookie], DATA_SIZE) == data
        cookies = [pushed.ends.part(0, 8), pushed.ends.part(0, 16)]
        assert self.take(pushed, cookies, 20) == data[:8] + data[:12]

    def test_pushed_contents_are_there_in_parts(self, pushed: Driver) -> None:
        data = os.urandom(DATA_SIZE)
        self.push(pushed, [(pushed.ends.cookie.addr, data)])
        assert b"".join(pushed.memory.pushed([pushed.ends.part(0, 24)], 16) or ()) == data[:16]
        for nbytes in (16, DATA_SIZE):
            assert b"".join(pushed.memory.pushed_at(pushed.ends.cookie.addr, nbytes) or ()) == data[:nbytes]
        parts = pushed.memory.pushed([pushed.ends.cookie], DATA_SIZE) or []
        assert len(parts) > 1
        assert b"".join(parts) == data
        cookies = [pushed.ends.part(0, 8), pushed.ends.part(0, 16)]
        assert b"".join(pushed.memory.pushed(cookies, 24) or ()) == data[:8] + data[:16]
        assert pushed.memory.pushed([Cookie(0x4000_0000, 8)], 8) is None
        with pytest.raises(CookieError):
            pushed.memory.pushed([pushed.ends.part(0, 8)], 16)
        pushed.ends.importer.receive()
        assert pushed.memory.pushed([pushed.ends.part(0, 8)], 8) is None
        assert pushed.memory.pushed_at(pushed.ends.cookie.addr, 8) is None

    def test_what_was_not_pushed_is_asked_for(self, pushed: Driver) -> None:
        pushed.ends.data[:24] = b"one.....two.....three..."
        self.push(pushed, [(pushed.ends.cookie.addr + 8, b"TWO.....")])
        assert self.take(pushed, [pushed.ends.part(0, 24)], 24) is None
        assert self.take(pushed, [pushed.ends.part(8, 16)], 16) is None
        assert pushed.settle() == [b"one.....two.....three...", b"two.....three..."]

    def test_contents_are_good_until_the_channel_is_read_again(self, pushed: Driver) -> None:
        pushed.ends.data[:8] = b"newer..."
        self.push(pushed, [(pushed.ends.cookie.addr, b"older...")])
        pushed.ends.importer.receive()
        assert self.take(pushed, [pushed.ends.part(0, 8)], 8) is None
        assert pushed.settle() == [b"newer..."]

    def test_next_push_replaces_the_last(self, pushed: Driver) -> None:
        pushed.memory.received(Push([(0x4000, b"older...")]))
        pushed.memory.received(Push([(0x4008, b"newer...")]))
        assert self.take(pushed, [Cookie(0x4000, 8)], 8) is None
        assert self.take(pushed, [Cookie(0x4008, 8)], 8) == b"newer..."


class TestRing:
    def test_ring_begins_as_zeros_and_is_acquired(self, driver: Driver) -> None:
        driver.ends.data[:128] = b"r" * 128
        ring = driver.memory.map_ring(driver.ends.cookie, 128)
        assert bytes(ring) == bytes(128)
        driver.memory.acquire(64, 32, driver.results.append)
        assert driver.settle() == [None]
        assert bytes(ring) == bytes(64) + b"r" * 32 + bytes(32)

    def test_changes_are_released_as_they_were(self, driver: Driver) -> None:
        ring = driver.memory.map_ring(driver.ends.cookie, 128)
        ring[:] = b"s" * 128
        driver.memory.release(16, 24, driver.results.append)
        ring[:] = b"later..." * 16
        assert driver.settle() == [None]
        assert bytes(driver.ends.data[:48]) == bytes(16) + b"s" * 24 + bytes(8)

    def test_refused_acquire_leaves_the_shadow(self, driver: Driver) -> None:
        ring = driver.memory.map_ring(driver.ends.cookie, 64)
        driver.ends.memory.table.revoke(driver.ends.cookie)
        driver.memory.acquire(0, 64, driver.results.append)
        driver.memory.release(0, 64, driver.results.append)
        assert [status_of(result) for result in driver.settle()] == [HvStatus.ENOMAP] * 2
        assert bytes(ring) == bytes(64)

    def test_pushed_entries_go_into_the_shadow(self, pushed: Driver) -> None:
        ring = pushed.memory.map_ring(pushed.ends.part(0, 128), 128)
        pieces = [(pushed.ends.cookie.addr + 64, b"entry..."), (pushed.ends.cookie.addr + 128, b"data....")]
        pushed.ends.exporter.push(pieces, [PACKET])
        assert pushed.turn() == 2
        assert bytes(ring[64:72]) == b"entry..."
        pushed.memory.copy_in([pushed.ends.part(128, 8)], 8, pushed.results.append)
        assert pushed.results == [b"data...."]

    def test_piece_across_the_end_of_the_ring_is_data(self, pushed: Driver) -> None:
        ring = pushed.memory.map_ring(pushed.ends.part(0, 64), 64)
        pushed.ends.exporter.push([(pushed.ends.cookie.addr + 56, b"x" * 16)])
        pushed.turn()
        assert bytes(ring) == bytes(64)

    def test_ring_piece_is_pushed_back(self, pushed: Driver) -> None:
        ring = pushed.memory.map_ring(pushed.ends.cookie, 128)
        ring[64:72] = b"finished"
        piece = pushed.memory.ring_piece(64, 8)
        ring[64:72] = b"reused.."
        pushed.ends.importer.push([piece], [PACKET])
        assert pushed.ends.exporter.receive() == [PACKET]
        assert bytes(pushed.ends.data[64:72]) == b"finished"

    @pytest.mark.parametrize(("offset", "nbytes"), [(-8, 8), (0, 0), (0, -8), (120, 16), (128, 8)])
    def test_ring_piece_outside_the_ring(self, pushed: Driver, offset: int, nbytes: int) -> None:
        pushed.memory.map_ring(pushed.ends.part(0, 128), 128)
        with pytest.raises(LocalProtocolError, match="not in the ring"):
            pushed.memory.ring_piece(offset, nbytes)

    @pytest.mark.parametrize(
        ("cookie", "nbytes", "status"),
        [
            (Cookie(0, 64), 72, HvStatus.EINVAL),
            (Cookie(0, 64), 0, HvStatus.EINVAL),
            (Cookie(4, 64), 64, HvStatus.EBADALIGN),
            (Cookie(0, RING_LIMIT + 8), RING_LIMIT + 8, HvStatus.ETOOMANY),
            (Cookie(0, 1 << 62), 1 << 62, HvStatus.ETOOMANY),
        ],
    )
    def test_unusable_ring(self, driver: Driver, cookie: Cookie, nbytes: int, status: HvStatus) -> None:
        with pytest.raises(CookieError) as caught:
            driver.memory.map_ring(cookie, nbytes)
        assert caught.value.hv_status is status
