"""Captures: what is written is read back, and any bytes at all are read or refused."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.capture import (
    Direction,
    Event,
    Frame,
    How,
    Interface,
    Note,
    NoteKind,
    Reader,
    build_frame,
    build_interface,
    build_note,
    build_section,
    parse_note,
)
from protocol.errors import PacketError

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
NOTES = st.builds(
    Note,
    st.sampled_from([kind for kind in NoteKind if kind is not NoteKind.QUEUE_CONFIGURED]),
    st.sampled_from(How),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 40).flatmap(lambda count: st.binary(min_size=48 + 16 * count, max_size=48 + 16 * count)),
)
FRAMES = st.tuples(
    st.integers(0, 2),
    st.integers(0, 2**64 - 1),
    st.sampled_from(Direction),
    st.one_of(st.binary(min_size=64, max_size=64), st.binary(max_size=200), NOTES.map(build_note)),
)
CAPTURES = st.tuples(TEXTS, st.lists(st.tuples(TEXTS, TEXTS), min_size=3, max_size=3), st.lists(FRAMES))
Capture = tuple[str, list[tuple[str, str]], list[tuple[int, int, Direction, bytes]]]


def written(capture: Capture) -> list[bytes]:
    """The blocks of a file."""
    application, interfaces, frames = capture
    return [
        build_section(application, "comment"),
        *(build_interface(name, description) for name, description in interfaces),
        *(b"".join(build_frame(*frame)) for frame in frames),
    ]


def events_of(capture: Capture) -> list[Event]:
    """What a reader has to find."""
    interfaces = [
        Interface(number=number, name=name, description=description, linktype=147, resolution=9)
        for number, (name, description) in enumerate(capture[1])
    ]
    frames = [Frame(interfaces[number], time, way, data) for number, time, way, data in capture[2]]
    return [*interfaces, *frames]


def drained(reader: Reader) -> list[Event]:
    """What there is to read."""
    events: list[Event] = []
    while (event := reader.next_event()) is not None:
        events.append(event)
    return events


@given(CAPTURES, st.lists(st.integers(0, 2**16), max_size=8))
def test_what_is_written_is_read_however_it_comes(capture: Capture, cuts: list[int]) -> None:
    data = b"".join(written(capture))
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reader = Reader()
    events: list[Event] = []
    for start, end in pairwise(places):
        reader.receive_data(data[start:end])
        events += drained(reader)
    assert events == events_of(capture)
    assert not reader.is_cut_short


@given(CAPTURES, st.integers(0, 2**32))
def test_what_is_whole_is_read_of_a_file_cut_anywhere(capture: Capture, place: int) -> None:
    blocks = written(capture)
    data = b"".join(blocks)
    cut = place % (len(data) + 1)
    whole = 0
    while whole < len(blocks) and sum(map(len, blocks[: whole + 1])) <= cut:
        whole += 1
    reader = Reader()
    reader.receive_data(data[:cut])
    assert drained(reader) == events_of(capture)[: max(0, whole - 1)]
    assert reader.is_cut_short == (not whole or sum(map(len, blocks[:whole])) < cut)


@given(CAPTURES, st.integers(0, 2**32), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_is_read_or_refused(capture: Capture, place: int, damage: bytes) -> None:
    data = bytearray(b"".join(written(capture)))
    at = place % len(data)
    data[at : at + len(damage)] = damage
    reader = Reader()
    reader.receive_data(data)
    with suppress(PacketError):
        assert sum(len(event.data) for event in drained(reader) if isinstance(event, Frame)) <= len(data)


@given(st.one_of(st.binary(), st.binary().map(lambda tail: build_section("", "") + tail)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    reader = Reader()
    reader.receive_data(data)
    with suppress(PacketError):
        drained(reader)


@given(NOTES)
def test_a_note_that_is_written_is_read(note: Note) -> None:
    assert parse_note(build_note(note)) == note


@given(st.one_of(st.binary(max_size=200), NOTES.map(build_note)), st.integers(0, 23), st.integers(0, 255))
def test_any_frame_is_a_note_or_refused(data: bytes, at: int, value: int) -> None:
    damaged = bytearray(data)
    if at < len(damaged):
        damaged[at] = value
    with suppress(PacketError):
        note = parse_note(damaged)
        assert parse_note(build_note(note)) == note
