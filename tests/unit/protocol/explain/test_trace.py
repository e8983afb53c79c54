"""Captures of whole conversations: healthy ones break no rule, and what became of every request is told."""

from __future__ import annotations

import pytest

from protocol.capture import Direction, NoteKind, build_interface, build_section
from protocol.errors import PacketError
from protocol.explain import Paragraph, Trace, render, trace
from protocol.stack import LinkState
from protocol.vdisk.operations import Operation
from protocol.vdisk.status import WireErrno
from tests.support.links import ACK, INFO, NACK, data, packet, rts, version
from tests.support.stackdisk import Mode, Packet, Wire
from tests.support.talk import End, Talk, entry, inband, ring_data
from tests.support.traced import CaptureFile, TracedDisk
from tests.support.vioscript import SID

SIZE = 1 << 19
MODES: list[Mode] = ["plain", "polled", "inband", "open"]
ENDS: list[End] = ["client", "server"]
READY, ACCEPTED, DONE = 2, 3, 4
ACTIVE, STOPPED = 1, 2  # processing states

by_mode = pytest.mark.parametrize("mode", MODES)
by_end = pytest.mark.parametrize("end", ENDS)


def explained(file: bytes) -> list[Paragraph]:
    """Return all paragraphs of a capture."""
    watch = Trace()
    found = [*watch.receive_data(file), *watch.summaries()]
    assert not watch.is_cut_short
    return found


def said(paragraphs: list[Paragraph], start: str) -> list[str]:
    """Return the lines that begin so, the beginning left out."""
    return [
        line.text.removeprefix(start)
        for paragraph in paragraphs
        for line in paragraph.lines
        if line.text.startswith(start)
    ]


def titles(paragraphs: list[Paragraph]) -> list[str]:
    """Return what the frames are, without time and channel."""
    return [paragraph.lines[0].text.split("  ", 2)[2] for paragraph in paragraphs if not paragraph.is_summary]


def summary(paragraphs: list[Paragraph]) -> dict[str, str]:
    """Return the last summary."""
    assert paragraphs[-1].is_summary
    return {line.text[:12].strip(): line.text[12:] for line in paragraphs[-1].lines[1:]}


# -- healthy -------------------------------------------------------------------------------------------------


@by_mode
@by_end
def test_a_healthy_session_breaks_no_rule(mode: Mode, end: End) -> None:
    disk = TracedDisk(bytearray(SIZE), end=end, mode=mode, order=lambda indices: indices[::-1])
    for round_ in range(5):  # the ring goes round
        disk.pread(0, 4 * 32768)
        disk.pwrite(512 * round_, b"x" * 1024)
        disk.flush()
        disk.capacity()
    paragraphs = explained(disk.file.bytes())
    assert not said(paragraphs, "warning: ")
    allowed = ("crosses doorbell", "an open range")
    assert not [text for text in said(paragraphs, "remark: ") if not text.startswith(allowed)]
    facts = summary(paragraphs)
    assert facts["link"] == "came up once, up at the end"
    assert facts["version"] == "1.2"
    assert facts["requests"] == "BREAD 20, BWRITE 5, FLUSH 5, GET_CAPACITY 5"
    assert (facts["errors"], facts["resubmitted"], facts["warnings"]) == ("none", "0", "0")
    assert facts["unanswered"] == "0 at the end, 0 lost by resets"
    assert facts["latency"].startswith("min ")


@by_mode
@by_end
@pytest.mark.parametrize("minor", [0, 1])
def test_so_does_one_of_an_older_version(mode: Mode, end: End, minor: int) -> None:
    disk = TracedDisk(bytearray(SIZE), end=end, mode=mode, versions=[(2, 0), (1, minor)])
    disk.pread(0, 512)
    paragraphs = explained(disk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "remark: ")[:1] == ["the server proposes 1.2"]
    assert summary(paragraphs)["version"] == f"1.{minor}"


@by_end
def test_errors_and_short_transfers_break_no_rule(end: End) -> None:
    disk = TracedDisk(bytearray(SIZE), end=end)
    disk.on_request = lambda request: WireErrno.EIO if request.operation == Operation.FLUSH else 0
    for operation, addr, nbytes in ((Operation.FLUSH, 0, 0), (Operation.BREAD, SIZE // 512 - 1, 1024)):
        with pytest.raises(OSError, match="failed"):
            disk.request(operation, addr=addr, nbytes=nbytes)
    paragraphs = explained(disk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "ended with ") == ["status 5: EIO"]
    assert said(paragraphs, "remark: ") == [
        "short: 512 of 1024 bytes, the rest is beyond the end of the disk"
    ]
    assert summary(paragraphs)["errors"] == "EIO 1"


def test_the_story_of_one_read() -> None:
    """What a reader sees of a read on a plain ring, at the client, frame by frame."""
    talk = Talk()
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY), 1)
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.server(ring_data(ACK, 1, 0, 0))
    talk.note(NoteKind.ANSWERED, 0, entry(DONE, status=0), 1)
    paragraphs = explained(talk.file.bytes())
    assert titles(paragraphs) == [
        "sent      our receive queue is configured",
        "received  the peer's receive queue is configured",
        "sent      CTRL INFO VER",
        "received  CTRL ACK VER",
        "sent      CTRL INFO RTS",
        "received  CTRL INFO RTR",
        "sent      CTRL INFO RDX",
        "sent      VER_INFO INFO 1.1",
        "received  VER_INFO ACK 1.1",
        "sent      ATTR_INFO INFO of a client",
        "received  ATTR_INFO ACK of 6147 blocks of 512 bytes",
        "sent      DRING_REG INFO of 8 entries of 64 bytes",
        "received  DRING_REG ACK of 8 entries of 64 bytes",
        "sent      RDX INFO",
        "received  RDX ACK",
        "sent      the client submits entry 0: BREAD of 512 bytes at block 16",
        "sent      DRING_DATA INFO number 1, entries 0 to 0",
        "received  DRING_DATA ACK number 1, entries 0 to 0",
        "received  the client takes the answer of entry 0: BREAD of 512 bytes at block 16, OK",
    ]
    assert list(render(paragraphs[-2].lines)) == [
        "0.000018000  disk#1  received  the client takes the answer of entry 0: "
        "BREAD of 512 bytes at block 16, OK",
        "  note  ANSWERED, entry 0, message 1",
        "  vDisk BREAD of 512 bytes at block 16",
        "    dstate            0x04                DONE",
        "    flags             0x80                answer wanted",
        "    req_id            0x0000000000000007",
        "    operation         0x01                BREAD",
        "    slice             0xff                the whole disk",
        "    status            0x00000000          OK",
        "    addr              0x0000000000000010  block 16",
        "    nbytes            0x0000000000000200  512 bytes",
        "    ncookies          0x00000001          1",
        "    cookie[0].addr    0x0000000000004000  page 2 of the map table, offset 0x0, pages of 8 KiB",
        "    cookie[0].size    0x0000000000000200  512 bytes",
        "    in progress for 3.0 µs",
    ]
    assert [line.text for line in paragraphs[6].lines[-1:]] == ["the link is up"]
    assert said(paragraphs, "announces ") == ["entry 0: BREAD of 512 bytes at block 16"]
    assert said(paragraphs, "answers ") == ["message 1 after 1.0 µs"]
    assert list(render(paragraphs[-1].lines)) == [
        "summary of disk#1",
        "  link        came up once, up at the end",
        "  version     1.1",
        "  packets     8 sent, 7 received",
        "  requests    BREAD 1",
        "  errors      none",
        "  unanswered  0 at the end, 0 lost by resets",
        "  resubmitted 0",
        "  latency     min 3.0 µs, median 3.0 µs, max 3.0 µs",
        "  warnings    0",
    ]


# -- open ranges ---------------------------------------------------------------------------------------------


def told(talk: Talk, *pieces: tuple[int, int, int]) -> None:
    """The server answers the open range 1 with pieces: first and last entry, processing state."""
    for start, end, state in pieces:
        talk.server(ring_data(ACK, 1, start, end, state=state))


def test_an_open_range_is_told_piece_by_piece() -> None:
    """The client fills the ring on while the server looks, and only then needs a message again."""
    talk = Talk()
    talk.begin()
    for index in (6, 7, 0):
        talk.note(NoteKind.SUBMITTED, index, entry(READY), 1)
    talk.client(ring_data(INFO, 1, 6, -1))
    told(talk, (6, 7, ACTIVE))
    talk.note(NoteKind.SUBMITTED, 1, entry(READY), 1)
    for index in (6, 7):
        talk.note(NoteKind.ANSWERED, index, entry(DONE, status=0), 1)
    told(talk, (0, 1, ACTIVE), (1, 1, ACTIVE), (1, 1, STOPPED))
    for index in (0, 1):
        talk.note(NoteKind.ANSWERED, index, entry(DONE, status=0), 1)
    talk.note(NoteKind.SUBMITTED, 2, entry(READY), 2)
    talk.client(ring_data(INFO, 2, 2, 2))
    talk.server(ring_data(ACK, 2, 2, 2))
    talk.note(NoteKind.ANSWERED, 2, entry(DONE, status=0), 2)
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert [each.split(":")[0] for each in said(paragraphs, "announces ")] == [
        f"entry {index}" for index in (6, 7, 0, 2)
    ]
    assert said(paragraphs, "tells ") == ["entries 6 to 7", "entries 0 to 1", "no entry", "no entry"]
    assert said(paragraphs, "the server ") == ["goes on looking"] * 3 + ["looks no more"]
    assert [each.split()[1] for each in said(paragraphs, "answers message ")] == ["after"] * 5
    assert summary(paragraphs)["unanswered"] == "0 at the end, 0 lost by resets"


def test_an_open_range_may_be_longer_than_the_ring() -> None:
    """Of its entries those are finished that a piece tells, whatever is in progress behind them."""
    talk = Talk("server")
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, -1))
    for index in (0, 1, 2, 3, 4, 5, 6, 7):
        talk.note(NoteKind.TAKEN, index, entry(ACCEPTED), 1)
    for index in (2, 1, 0):
        talk.note(NoteKind.FINISHED, index, entry(DONE, status=0), 1)
    told(talk, (0, 1, ACTIVE))
    talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED), 1)
    told(talk, (2, 2, ACTIVE))
    for index in (3, 4, 5, 6, 7):
        talk.note(NoteKind.FINISHED, index, entry(DONE, status=0), 1)
    told(talk, (3, 7, ACTIVE), (7, 7, ACTIVE))
    talk.note(NoteKind.FINISHED, 0, entry(DONE, status=0), 1)
    told(talk, (0, 0, STOPPED))
    talk.client(ring_data(INFO, 2, 1, -1))
    talk.note(NoteKind.TAKEN, 1, entry(ACCEPTED), 2)
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert len(said(paragraphs, "announced by message ")) == 10


def test_an_open_range_of_a_ring_that_nobody_has_seen() -> None:
    """A capture that begins in the middle: how the pieces join cannot be told."""
    talk = Talk("server")
    talk.client(ring_data(INFO, 1, 6, -1))
    talk.note(NoteKind.TAKEN, 6, entry(ACCEPTED), 1)
    told(talk, (9, 9, ACTIVE), (6, 6, ACTIVE))
    talk.note(NoteKind.FINISHED, 6, entry(DONE, status=0), 1)
    told(talk, (4, 6, STOPPED), (7, 7, ACTIVE))
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert not said(paragraphs, "tells ")
    assert said(paragraphs, "the server ") == ["goes on looking"] * 2 + ["looks no more"]


def test_without_notes_open_ranges_are_not_timed() -> None:
    talk = Talk()
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, -1))
    told(talk, (0, 3, ACTIVE), (4, 4, STOPPED))
    assert summary(explained(talk.file.bytes()))["latency"] == "none"


def test_a_ring_without_entries_has_no_pieces() -> None:
    talk = Talk()
    talk.link()
    talk.agree()
    ring = f"{0:08x} {64:08x} 0003 0000 00000001 {0x2000:016x} {0x2000:016x}"
    talk.client(f"01 01 00 03 {SID} {0:016x} {ring}", 48)
    talk.server(f"01 02 00 03 {SID} {1:016x} {ring}", 48)
    talk.client(ring_data(INFO, 1, 0, -1))
    told(talk, (0, 0, ACTIVE))
    assert "descriptors 0 to 0 of a ring of 0 [an open" in "".join(
        said(explained(talk.file.bytes()), "warning: ")
    )


# -- other drivers at the other end --------------------------------------------------------------------------


def test_both_ends_begin_as_solaris_and_linux_do() -> None:
    talk = Talk()
    talk.cross()
    talk.agree(minor=2)
    talk.register()
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert not said(paragraphs, "remark: ")


def test_linux_numbers_from_anywhere_and_has_a_flag_of_its_own() -> None:
    talk = Talk("server")
    talk.begin()
    for seq_num in (0xFFFFFFFF, 0x100000000):
        talk.client(ring_data(INFO, seq_num, 0, 0))
        talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED, flags=1), seq_num)
        talk.note(NoteKind.FINISHED, 0, entry(DONE, flags=1, status=0), seq_num)
        talk.server(ring_data(ACK, seq_num, 0, 0))
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    flag = "flags are 0x01, where Solaris and OpenBSD have 0x80 (Linux does so)"
    assert said(paragraphs, "remark: ") == [flag] * 4
    assert said(paragraphs, "announced by ") == [
        "message 4294967295, 1.0 µs ago",
        "message 4294967296, 1.0 µs ago",
    ]


def test_openbsd_counts_its_answers_and_acknowledges_in_short() -> None:
    talk = Talk()
    talk.link()
    talk.agree()
    ring = f"{8:08x} {64:08x} 0003 0000 00000001 {0x2000:016x} {0x2000:016x}"
    talk.client(f"01 01 00 03 {SID} {0:016x} {ring}", 48)
    talk.server(f"01 02 00 03 {SID} {6:016x}", 32)
    talk.client(f"01 01 00 05 {SID}")
    talk.server(f"01 02 00 05 {SID}", 8)
    for number in (1, 2):
        talk.client(ring_data(INFO, 40 + number, 0, 0, ident=6))
        talk.server(ring_data(ACK, number, 0, 0, ident=6))
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "remark: ") == [
        "nothing but the ident is filled in (OpenBSD does so)",
        "RDX is acknowledged with a tag alone (OpenBSD does so)",
        "answer 1 is that of message 41 (OpenBSD counts answers)",
        "answer 2 is that of message 42 (OpenBSD counts answers)",
    ]


def test_doorbells_may_cross() -> None:
    """POLLED_RING: the server's message has the number of the last doorbell that it has seen."""
    talk = Talk()
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY))
    talk.client(ring_data(INFO, 1, 1, -1, state=2))
    talk.client(ring_data(INFO, 2, 2, -1, state=2))
    talk.server(ring_data(ACK, 1, 1, -1, state=2, completions=1))
    talk.server(ring_data(NACK, 2, 1, 1))
    paragraphs = explained(talk.file.bytes())
    assert said(paragraphs, "remark: ") == ["crosses doorbell 2 of the client, and says nothing any more"]
    assert [text.split(" [")[0] for text in said(paragraphs, "warning: ")] == ["DRING_DATA NACK"]


def test_a_flush_of_solaris_has_an_old_cookie() -> None:
    talk = Talk("server")
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    stale = entry(ACCEPTED, operation=3, nbytes=0, ncookies=7, cookie=f"{0x4003:016x} {1:016x}")
    talk.note(NoteKind.TAKEN, 0, stale, 1)
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "remark: ") == [
        "a request of no bytes has no cookies (Solaris leaves an old one there)"
    ]


# -- resets --------------------------------------------------------------------------------------------------


@by_mode
@by_end
def test_a_reset_without_a_fault_breaks_no_rule(mode: Mode, end: End) -> None:
    """Both ends are told that the other has configured its queue; the handshakes run again."""
    disk = TracedDisk(bytearray(SIZE), end=end, mode=mode)
    disk.pread(0, 512)
    for stack in (disk.client, disk.server.stack):
        stack.link_state(LinkState.RESET)
        stack.link_state(LinkState.UP)
    disk.pump()
    disk.pread(0, 512)
    paragraphs = explained(disk.file.bytes())
    assert disk.sessions == 2
    assert not said(paragraphs, "warning: ")
    assert "the link is reset" in said(paragraphs, "")
    assert summary(paragraphs)["link"] == "came up 2 times, up at the end"


@pytest.mark.parametrize("mode", ["plain", "inband"])  # a lost doorbell is noticed with the next one
def test_what_was_lost_is_submitted_again(mode: Mode) -> None:
    disk = TracedDisk(bytearray(SIZE), end="client", mode=mode)
    dropped: list[Packet] = []

    def drop_one(wire: Wire, output: Packet) -> Packet | None:
        if not dropped and wire is disk.to_server:
            dropped.append(output)
            return None
        return output

    disk.pread(0, 512)
    disk.on_packet = drop_one
    disk.pread(0, 65536)
    paragraphs = explained(disk.file.bytes())
    facts = summary(paragraphs)
    assert facts["unanswered"] == "0 at the end, 2 lost by resets"
    assert facts["resubmitted"] == "2"
    assert said(paragraphs, "remark: ") == ["submitted again: the session before has not answered it"] * 2


def test_a_server_finishes_what_a_reset_has_left() -> None:
    talk = Talk("server")
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED), 1)
    talk.configured("client")
    talk.note(NoteKind.FINISHED, 0, entry(DONE, status=0), 1)
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "remark: ") == ["of the session before the reset"]
    assert summary(paragraphs)["unanswered"] == "0 at the end, 1 lost by resets"


def test_packets_from_before_a_reset_are_stale_and_not_judged() -> None:
    talk = Talk()
    talk.begin()
    talk.configured("client")
    talk.packet("server", data(77))
    talk.packet("server", rts(5))
    talk.packet("client", version(INFO))
    talk.packet("server", version(ACK))
    talk.packet("client", rts())
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "remark: ") == ["from before the reset, ignored"] * 2


def test_a_version_sent_before_the_peers_reset_serves_as_well() -> None:
    talk = Talk()
    talk.configured("client")
    talk.configured("server")
    talk.packet("client", version(INFO))
    talk.configured("server")
    talk.packet("server", version(ACK))
    talk.packet("client", rts())
    assert not said(explained(talk.file.bytes()), "warning: ")


def test_a_link_begun_again_without_a_note() -> None:
    """A version packet in the data phase; and a version that is refused."""
    talk = Talk()
    talk.begin()
    talk.packet("server", version(INFO))
    talk.packet("client", version(4, 0, 0))
    paragraphs = explained(talk.file.bytes())
    assert said(paragraphs, "remark: ") == [
        "the link is begun again",
        "link version 0.0: drivers speak 1.0 only",
        "the link version is refused",
    ]


def test_a_handshake_begun_again() -> None:
    """Linux does so in mid-session; the server has nothing that the client could offer."""
    talk = Talk()
    talk.begin()
    talk.client(f"01 01 00 01 {SID} 0001 0001 03")
    talk.server(f"01 04 00 01 {SID} 0000 0000 04")
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert said(paragraphs, "remark: ") == ["the handshake is begun again", "no common version"]


# -- what is incomplete --------------------------------------------------------------------------------------


@by_end
def test_a_capture_that_begins_in_the_middle_is_judged_by_what_is_there(end: End) -> None:
    talk = Talk(end)
    talk.seqids = {"client": 100, "server": 200}
    talk.server(ring_data(ACK, 6, 5, 5))
    talk.client(ring_data(INFO, 9, 0, 0))
    talk.server(ring_data(ACK, 8, 7, 7))
    talk.server(ring_data(ACK, 9, 0, 0))
    talk.client(ring_data(INFO, 10, 0, -1, state=2, completions=80))
    talk.server(ring_data(ACK, 77, 0, -1, state=2, completions=9))
    talk.server(f"01 02 00 02 {SID} 03 02 01 00 00000200 {0x10E:016x} {6147:016x} {2048:016x}")
    talk.server(f"01 02 00 03 {SID} {1:016x}", 32)
    talk.server(f"01 02 00 05 {SID}")
    talk.note(
        NoteKind.TAKEN if end == "server" else NoteKind.SUBMITTED, 3, entry(3 if end == "server" else 2), 9
    )
    talk.note(NoteKind.FINISHED if end == "server" else NoteKind.ANSWERED, 4, entry(DONE, status=0), 9)
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert summary(paragraphs)["version"] == "none agreed at the end"
    talk.client(f"01 01 00 01 {SID} 0001 0001 03")
    talk.server(f"01 02 00 01 {SID} 0001 0001 04")
    assert summary(explained(talk.file.bytes()))["version"] == "1.1"


def test_without_notes_messages_are_timed() -> None:
    talk = Talk()
    talk.begin()
    for number in (1, 2):
        talk.client(ring_data(INFO, number, 0, 0))
        talk.file.now_ns += 12_345_678 * number
        talk.server(ring_data(ACK, number, 0, 0))
    facts = summary(explained(talk.file.bytes()))
    assert facts["requests"] == "none"
    assert facts["latency"] == "min 12.3 ms, median 12.3 ms, max 24.6 ms"


def test_a_message_of_many_entries_lists_some() -> None:
    talk = Talk()
    talk.link()
    talk.agree()
    ring = f"{20:08x} {64:08x} 0003 0000 00000001 {0x2000:016x} {0x2000:016x}"
    talk.client(f"01 01 00 03 {SID} {0:016x} {ring}", 48)
    talk.server(f"01 02 00 03 {SID} {1:016x} {ring}", 48)
    talk.ready()
    for index in range(20):
        talk.note(NoteKind.SUBMITTED, index, entry(READY), 1)
    talk.client(ring_data(INFO, 1, 10, 9))
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    announced = said(paragraphs, "announces ")
    assert [each.split(":")[0] for each in announced] == [
        *(f"entry {index % 20}" for index in range(10, 26)),
        "4 more",
    ]


@pytest.mark.parametrize("kind", [NoteKind.SUBMITTED, NoteKind.TAKEN])
def test_a_range_outside_the_ring_announces_nothing(kind: NoteKind) -> None:
    talk = Talk("client" if kind is NoteKind.SUBMITTED else "server")
    talk.begin()
    if kind is NoteKind.SUBMITTED:
        talk.note(kind, 0, entry(READY), 1)
    talk.client(ring_data(INFO, 1, 0, 9))
    if kind is NoteKind.TAKEN:
        talk.note(kind, 0, entry(ACCEPTED), 1)
    assert len(said(explained(talk.file.bytes()), "warning: ")) == 1


def test_an_entry_handed_over_again_belongs_to_its_last_message_alone() -> None:
    talk = Talk("server")
    talk.begin()
    for seq_num in (1, 2):
        talk.client(ring_data(INFO, seq_num, 0, 0))
        talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED), seq_num)
    talk.server(ring_data(ACK, 1, 0, 0))
    talk.note(NoteKind.FINISHED, 0, entry(DONE, status=0), 2)
    talk.server(ring_data(ACK, 2, 0, 0))
    (warning,) = said(explained(talk.file.bytes()), "warning: ")
    assert warning.startswith("entry 0 is still in progress [")


def test_an_entry_finished_after_its_answer_is_not_counted_again() -> None:
    talk = Talk("server")
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED), 1)
    talk.server(ring_data(ACK, 1, 0, 0))
    talk.note(NoteKind.FINISHED, 0, entry(DONE, status=0), 1)
    (warning,) = said(explained(talk.file.bytes()), "warning: ")
    assert warning.startswith("1 entries are not finished [")


def test_a_note_may_name_a_message_that_nobody_sees() -> None:
    """Its message is gone, or it was found by looking at the ring."""
    talk = Talk("server")
    talk.begin()
    talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED), 9)
    talk.client(ring_data(INFO, 0, 1, 1))
    talk.note(NoteKind.TAKEN, 1, entry(ACCEPTED))
    paragraphs = explained(talk.file.bytes())
    assert not said(paragraphs, "warning: ")
    assert not said(paragraphs, "announced by ")


def test_what_no_table_knows_changes_nothing() -> None:
    """A packet of type ERR; a ring that a server forgets, which none does."""
    talk = Talk()
    talk.begin()
    talk.client(f"01 01 00 04 {SID} {1:016x}")
    talk.server(f"01 02 00 04 {SID} {1:016x}")
    talk.packet("server", packet(0x10, 1, 0, 0, 6))
    paragraphs = explained(talk.file.bytes())
    assert [text.split(" [")[0] for text in said(paragraphs, "warning: ")] == [
        "type 0x10",
        "ctrl 0x0",
    ]
    assert summary(paragraphs)["version"] == "1.1"


def test_short_messages_of_the_handshake_settle_nothing() -> None:
    """Each of them too short: the length is what is wrong, and the rest follows from it."""
    talk = Talk()
    talk.link()
    for text, size in (
        (f"01 01 00 01 {SID}", 20),
        (f"01 02 00 01 {SID}", 20),
        (f"01 01 00 02 {SID}", 20),
        (f"01 02 00 02 {SID}", 20),
        (f"01 01 00 03 {SID}", 20),
        (f"01 02 00 03 {SID}", 20),
        (f"02 01 00 42 {SID}", 20),
        (f"02 02 00 42 {SID}", 20),
        (f"02 01 00 41 {SID}", 20),
        (f"02 02 00 41 {SID}", 20),
        (f"02 01 00 40 {SID}", 20),
        (f"02 02 00 40 {SID}", 20),
        (f"01 03 00 01 {SID}", 20),
        (f"01 04 00 01 {SID}", 20),
        ("00", 3),
    ):
        talk.say("client" if text[4:5] == "1" else "server", text, size)
    paragraphs = explained(talk.file.bytes())
    assert summary(paragraphs)["version"] == "none agreed at the end"
    assert len(said(paragraphs, "warning: ")) > 14


# -- many channels -------------------------------------------------------------------------------------------


def test_the_other_end_of_a_merged_capture_is_no_later_connection() -> None:
    file = CaptureFile("disk#1")
    file.parts = file.parts[:1] + [
        build_interface("disk#1", described)
        for described in ("client process 1, user 0, shm", "server process 2, user 0, shm")
    ]
    for interface in (0, 1):
        talk = Talk()
        talk.begin_inband()
        talk.client(inband(INFO, 1), 80)
        file.parts += _moved(talk, interface)
    paragraphs = explained(file.bytes())
    assert [said([each], "resubmitted ") for each in paragraphs if each.is_summary] == [["0"], ["0"]]


def test_a_request_is_known_again_on_a_later_connection_of_the_disk() -> None:
    file = CaptureFile("disk#1", "disk#2", "other#1")
    for interface in (0, 1, 2):
        talk = Talk()
        talk.begin_inband()
        talk.client(inband(INFO, 1), 80)
        if interface:
            talk.server(inband(ACK, 1, status=0), 80)
        file.parts += _moved(talk, interface)
    paragraphs = explained(file.bytes())
    resubmitted = [said([each], "resubmitted ") for each in paragraphs if each.is_summary]
    assert resubmitted == [["0"], ["1"], ["0"]]
    assert said(paragraphs, "unanswered  ") == [
        "1 at the end, 0 lost by resets",
        "0 at the end, 0 lost by resets",
        "0 at the end, 0 lost by resets",
    ]


def _moved(talk: Talk, interface: int) -> list[bytes]:
    """Return the frames of a conversation as those of another interface: its number is at offset 8."""
    whole = b"".join(talk.file.parts[2:])
    blocks = []
    while whole:
        length = int.from_bytes(whole[4:8], "little")
        blocks.append(whole[:8] + interface.to_bytes(4, "little") + whole[12:length])
        whole = whole[length:]
    return blocks


def test_a_channel_without_frames_is_not_summed_up() -> None:
    file = CaptureFile("one", "two")
    file.frame(Direction.OUTBOUND, version(INFO), 1)
    assert [each.lines[0].text for each in explained(file.bytes())] == [
        "0.000000000  two  sent      CTRL INFO VER",
        "summary of two",
    ]


def test_sections_are_captures_of_their_own() -> None:
    file = CaptureFile("first")
    file.frame(Direction.OUTBOUND, version(INFO))
    again = CaptureFile("second")
    again.now_ns = file.now_ns - 2_500_000_000
    again.frame(Direction.INBOUND, version(INFO))
    assert [each.lines[0].text for each in explained(file.bytes() + again.bytes())] == [
        "0.000000000  first  sent      CTRL INFO VER",
        "summary of first",
        "-2.499999000  second  received  CTRL INFO VER",
        "summary of second",
    ]


def test_a_channel_too_many_ends_the_one_that_was_quiet_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MAX_CHANNELS", 2)
    file = CaptureFile("a", "b", "c")
    for interface in (0, 1, 0, 2):
        file.frame(Direction.OUTBOUND, version(INFO), interface)
    assert [each.lines[0].text.split("  ")[-1] for each in explained(file.bytes())] == [
        "CTRL INFO VER",
        "CTRL INFO VER",
        "CTRL INFO VER",
        "summary of b",
        "CTRL INFO VER",
        "summary of a",
        "summary of c",
    ]


def test_names_cannot_write_to_the_terminal() -> None:
    file = CaptureFile("\x1b[31m" + "x" * 80, "")
    file.parts[1] = build_interface("\x1b[31m" + "x" * 80, "process\n7")
    file.frame(Direction.OUTBOUND, version(INFO))
    file.frame(Direction.OUTBOUND, version(INFO), 1)
    name = "?[31m" + "x" * 59
    first, second, third, fourth = (each.lines[0].text for each in explained(file.bytes()))
    assert first == f"0.000000000  {name}  sent      CTRL INFO VER"
    assert second == "0.000001000  channel 1  sent      CTRL INFO VER"
    assert third == f"summary of {name} (process?7)"
    assert fourth == "summary of channel 1"


def test_without_a_direction_a_packet_is_judged_alone() -> None:
    file = CaptureFile()
    file.frame(Direction.UNKNOWN, data(9, b"12345678"))
    file.frame(Direction.UNKNOWN, packet(2, 4))
    paragraphs = explained(file.bytes())
    assert (
        said(paragraphs, "remark: ")
        == ["the capture does not tell the direction: judged by itself alone"] * 2
    )
    assert summary(paragraphs)["packets"] == "0 sent, 0 received"


def test_what_is_no_capture() -> None:
    with pytest.raises(PacketError, match="not a pcapng file"):
        list(Trace().receive_data(b"something else"))
    assert Trace().is_cut_short


def test_a_capture_in_pieces_is_the_same() -> None:
    disk = TracedDisk(bytearray(SIZE), end="client")
    disk.pread(0, 512)
    whole = disk.file.bytes()
    watch = Trace()
    found = [each for at in range(0, len(whole), 7) for each in watch.receive_data(whole[at : at + 7])]
    assert [*found, *watch.summaries()] == explained(whole)
    cut = Trace()
    assert len(list(cut.receive_data(whole[:-1]))) == len(found) - 1
    assert cut.is_cut_short


def test_the_text_of_a_section_is_skipped() -> None:
    assert explained(build_section("vds", "words") + build_interface("disk", "")) == []


def test_a_piece_of_a_message_says_so() -> None:
    talk = Talk()
    talk.begin_inband()
    talk.client(inband(INFO, 1), 80)
    paragraphs = explained(talk.file.bytes())
    assert said(paragraphs, "a piece of the message of ") == ["packet 5"]
    assert said(paragraphs, "ends a message of ") == ["80 bytes that began with packet 5"]
