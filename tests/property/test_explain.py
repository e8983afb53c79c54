"""Whatever the bytes, they are explained or refused with our error, and never in a way of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.capture import Direction, build_frame, build_interface, build_section
from protocol.errors import PacketError
from protocol.explain import Trace, explain_packet, render
from protocol.ldc.packet import PACKET_SIZE, Mode
from protocol.vio.messages import Envelope
from tests.support.links import START, STOP, data, version
from tests.support.stackdisk import Mode as DiskMode
from tests.support.talk import End, Talk
from tests.support.traced import TracedDisk

small = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 64, 255])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Messages that look like ones of ours up to the tag, of any length."""
    envelope = draw(st.sampled_from([int(each) for each in Envelope] + [0, 0x200]))
    tag = bytes(
        [draw(small), draw(st.sampled_from([1, 2, 4, 3])), envelope >> 8, envelope & 0xFF, 0, 0, 0, 0x2A]
    )
    words = draw(
        st.lists(st.one_of(small.map(lambda n: bytes([0, 0, 0, n])), st.binary(min_size=4, max_size=4)))
    )
    return (tag + b"".join(words))[: draw(st.integers(0, 120))]


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Packets: any 64 bytes, or ones that look like a step or a piece."""
    payload = draw(st.one_of(messages(), st.binary(max_size=56)))[:56]
    header = bytes([draw(small), draw(small), draw(small), draw(st.integers(0, 255)), 0, 0, 0, draw(small)])
    whole = data(draw(small), payload, draw(st.sampled_from([START | STOP, START, STOP, 0])))
    return draw(
        st.one_of(
            st.binary(min_size=PACKET_SIZE, max_size=PACKET_SIZE),
            st.just(header + payload.ljust(56, b"\0")),
            st.just(whole),
            st.just(version(1)),
        )
    )


@given(packets(), st.sampled_from(Mode))
def test_any_packet_is_explained(packet: bytes, mode: Mode) -> None:
    for line in render(explain_packet(packet, mode)):
        assert line == line.rstrip()
        assert line.isprintable()


def capture(*parts: bytes) -> bytes:
    """Return a file of these blocks."""
    return b"".join([build_section("test", ""), build_interface("disk#1", ""), *parts])


def watched(file: bytes) -> list[str]:
    """Return all that is said, as far as it goes."""
    trace = Trace()
    found: list[str] = []
    try:
        for paragraph in trace.receive_data(file):
            found += render(paragraph.lines)
    except PacketError as error:
        found.append(error.reason)
    for paragraph in trace.summaries():
        found += render(paragraph.lines)
    return found


@given(st.binary())
def test_any_file_is_explained_or_refused(file: bytes) -> None:
    watched(file)
    watched(capture() + file)


frames = st.one_of(packets(), st.binary(max_size=100), messages())


@given(st.lists(st.tuples(st.sampled_from(Direction), frames)))
def test_any_frames_are_explained(given: list[tuple[Direction, bytes]]) -> None:
    blocks = [
        b"".join(build_frame(0, number, direction, frame)) for number, (direction, frame) in enumerate(given)
    ]
    assert all(line.isprintable() for line in watched(capture(*blocks)))


@given(st.sampled_from(["client", "server"]), st.lists(st.tuples(st.booleans(), messages().filter(bool))))
def test_any_messages_in_a_session_are_explained(end: End, given: list[tuple[bool, bytes]]) -> None:
    talk = Talk(end)
    talk.begin()
    for from_client, message in given:
        talk.say("client" if from_client else "server", message.hex(), len(message))
    assert watched(talk.file.bytes())[-1].startswith("  warnings ")


RECORDED: dict[tuple[str, str], bytes] = {}


def recorded(end: End, mode: DiskMode) -> bytes:
    """Return the capture of a healthy session; made once."""
    if (end, mode) not in RECORDED:
        disk = TracedDisk(bytearray(1 << 19), end=end, mode=mode)
        disk.pread(0, 65536)
        disk.pwrite(0, bytes(1024))
        RECORDED[end, mode] = disk.file.bytes()
    return RECORDED[end, mode]


@pytest.mark.parametrize("mode", ["plain", "polled", "inband", "open"])
@pytest.mark.parametrize("end", ["client", "server"])
@given(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_healthy_capture_with_wrong_bytes(mode: DiskMode, end: End, changes: list[tuple[int, int]]) -> None:
    file = bytearray(recorded(end, mode))
    for at, value in changes:
        file[at % len(file)] = value
    watched(bytes(file))
