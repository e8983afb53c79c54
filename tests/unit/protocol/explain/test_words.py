"""Numbers in words: sizes, times, medians; and what is bounded."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from protocol.capture import NoteKind
from protocol.explain import Trace, data, requests
from protocol.explain.lines import duration, raw, size
from protocol.explain.request import Ask
from protocol.explain.tally import Latency
from protocol.vio.messages import Envelope
from tests.support.links import INFO
from tests.support.talk import Talk, entry, inband, ring_data
from tests.support.vioscript import SID, octets


@pytest.mark.parametrize(
    ("nbytes", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (3147264, "3 MiB"),
        (1 << 40, "1 TiB"),
        ((1 << 64) - 1, "15.9 EiB"),
        (1 << 90, "1073741824 EiB"),
    ],
)
def test_sizes(nbytes: int, words: str) -> None:
    assert size(nbytes) == words


@pytest.mark.parametrize(
    ("time_ns", "words"),
    [
        (0, "0.0 µs"),
        (1234, "1.2 µs"),
        (9_999_000, "9999.0 µs"),
        (10_000_000, "10 ms"),
        (12_340_000, "12.3 ms"),
        (10_500_000_000, "10.5 s"),
        (-3000, "-3.0 µs"),
    ],
)
def test_times(time_ns: int, words: str) -> None:
    assert duration(time_ns) == words


def test_raw_numbers_are_as_wide_as_their_field() -> None:
    assert [raw(5, 1), raw(5, 4), raw(-1, 4)] == ["0x05", "0x00000005", "-1"]


def test_the_median_is_the_lower_middle_to_three_digits() -> None:
    latency = Latency()
    assert str(latency) == "none"
    for time_ns in (5_000_000, 1_234_567, 1_000, 2_000_000):
        latency.add(time_ns)
    assert str(latency) == "min 1.0 µs, median 1230.0 µs, max 5000.0 µs"


def test_the_median_is_never_below_the_least() -> None:
    latency = Latency()
    latency.add(479_900)
    assert str(latency) == "min 479.9 µs, median 479.9 µs, max 479.9 µs"


def test_open_requests_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_OUTSTANDING", 2)
    ledger = requests.Ledger()
    asks = [Ask(number, 1, 255, 0, 0, 512, 0, ()) for number in range(3)]
    for ask in asks:
        assert not ledger.submit("disk", ask, (1, 1))
    assert not ledger.submit("disk", asks[0], (1, 2)), "forgotten"
    assert ledger.submit("disk", asks[2], (1, 2))
    assert not ledger.submit("other", asks[2], (1, 2))
    ledger.answer("disk", asks[2])
    assert not ledger.submit("disk", asks[2], (1, 3))


def test_messages_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_PENDING", 2)
    watch = data.DataWatch(is_known=True)
    for seq_num in (1, 2, 3):
        message = octets(ring_data(INFO, seq_num, 0, 0))
        assert not list(watch.question(message, Envelope.DRING_DATA, 0, None))
    assert watch.find(1) is None
    assert watch.find(3) is not None


def test_so_are_requests_in_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_OUTSTANDING", 2)
    talk = Talk()
    talk.begin_inband()
    for seq_num in (1, 2, 3):
        talk.client(inband(INFO, seq_num), 80)
    trace = Trace()
    list(trace.receive_data(talk.file.bytes()))
    (summary,) = trace.summaries()
    assert "  unanswered  2 at the end, 0 lost by resets" in [f"  {line.text}" for line in summary.lines]


def test_a_ring_that_cannot_be_is_no_larger_than_the_largest_that_can() -> None:
    talk = Talk()
    talk.link()
    talk.agree()
    ring = f"{0xFFFFFFFF:08x} {64:08x} 0003 0000 00000001 {0x2000:016x} {0x2000:016x}"
    talk.client(f"01 01 00 03 {SID} {0:016x} {ring}", 48)
    talk.server(f"01 02 00 03 {SID} {1:016x} {ring}", 48)
    talk.note(NoteKind.SUBMITTED, 65536, entry(2), 1)
    *_, last = Trace().receive_data(talk.file.bytes())
    (warning,) = [line.text for line in last.lines if line.rule is not None]
    assert warning.startswith("warning: entry 65536 of a ring of 65536 [")


def test_numbers_of_messages_are_forgotten_with_their_entries() -> None:
    """A capture in which every note names another message does not fill the memory."""

    def grown(first: int) -> int:
        before = kept()
        for seq_num in range(first, first + 500):
            talk.note(NoteKind.TAKEN, 0, entry(3), seq_num)
            if seq_num % 2:
                talk.note(NoteKind.FINISHED, 0, entry(4, status=0), seq_num)
            for _ in trace.receive_data(b"".join(talk.file.parts)):
                pass
            talk.file.parts.clear()
        return kept() - before

    def kept() -> int:
        gc.collect()
        ours = tracemalloc.Filter(True, "*/protocol/*")
        traces = tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename")
        return sum(each.size for each in traces)

    talk = Talk("server")
    talk.begin()
    trace = Trace()
    tracemalloc.start()
    try:
        grown(1)  # what is made once
        assert grown(501) < 8_000
    finally:
        tracemalloc.stop()
