"""The Wireshark dissector in ``tools/``: each field of each structure by its name, no fault in what is right.

The captures are made without daemons: a disk in one process, and messages put together by hand.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from protocol import wire
from protocol.capture import Direction, How, Note, NoteKind, NoteLayout, build_note, parse_note
from protocol.errors import CookieError, DiskError, HvStatus
from protocol.ldc.fragment import split_message
from protocol.ldc.packet import RawPacketLayout, ReliablePacketLayout
from protocol.vdisk.attributes import AttributeLayout, AttributeLayoutV12
from protocol.vdisk.descriptor import InbandMessageLayout, Request
from protocol.vdisk.operations import Operation
from protocol.vio.messages import (
    DoorbellLayout,
    DringDataLayout,
    DringRegisterExtensionLayout,
    DringRegisterLayout,
    DringUnregisterLayout,
    RawDataLayout,
    RdxLayout,
    Subtype,
    VersionLayout,
)
from tests.support import links
from tests.support.dissected import expected, plain, read_back
from tests.support.handmade import SID, Talk, last
from tests.support.recorded import CLIENT, SERVER, Recording, recorded_disk
from tests.support.stackdisk import Mode
from tests.support.tshark import LUA, complaints, dissect, layers, show
from tests.support.vioscript import octets
from tools.make_dissector import DISSECTED

pytestmark = pytest.mark.slow

SESSIONS: list[tuple[Mode, int]] = [
    ("plain", 0),
    ("plain", 1),
    ("plain", 2),
    ("polled", 2),
    ("inband", 2),
    ("open", 2),
]


def session(mode: Mode, minor: int) -> Recording:
    """Return a recording of a disk and all that happens to one: work, a refusal, a fault, a new session."""
    recording = Recording()
    disk = recorded_disk(recording, mode, minor)
    disk.pwrite(0, b"x" * 5 * disk.max_xfer)
    disk.pread(512, 1536)
    disk.flush()
    disk.geometry()
    with pytest.raises(DiskError):
        disk.request(Operation.GET_DEVID, nbytes=512)
    faults = [CookieError(HvStatus.ENOMAP, "gone")]

    def once(request: Request) -> int:
        if faults:
            raise faults.pop()
        return 0

    disk.on_request = once
    disk.pread(4096, 4096)
    assert disk.sessions == 2
    return recording


Recorded = tuple[Recording, Path, Mode, int]


@pytest.fixture(scope="module", params=SESSIONS, ids=lambda chosen: f"{chosen[0]}-1.{chosen[1]}")
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Return a session of each kind: what was recorded, the file, the mode and the minor version."""
    mode, minor = request.param
    recording = session(mode, minor)
    return recording, recording.write(tmp_path_factory.mktemp("capture") / "disk.pcapng"), mode, minor


def test_every_field_of_a_session_is_shown_by_its_name(recorded: Recorded) -> None:
    recording, path, mode, minor = recorded
    wanted = list(expected(recording.frames, minor, polled=mode == "polled"))
    shown = [read_back(frame) for frame in layers(path)]
    assert len(shown) == len(recording.frames) > 60
    for number, (one, other) in enumerate(zip(shown, wanted, strict=True), start=1):
        assert one == other, f"frame {number}"


def test_nothing_in_a_session_is_malformed(recorded: Recorded) -> None:
    _, path, _, _ = recorded
    assert complaints(path) == []
    text = show(path)
    assert "alformed" not in text
    assert "Unknown" not in text


def test_answers_and_requests_know_each_other(recorded: Recorded) -> None:
    recording, path, mode, _ = recorded
    names = (
        "frame.number",
        "ldoms.request_in",
        "ldoms.response_in",
        "ldoms.response_time",
        "ldoms.message_in",
    )
    rows = {int(number[0]): rest for number, *rest in dissect(path, *names)}
    asked = {number: int(row[1][0]) for number, row in rows.items() if row[1]}
    answered = {number: int(row[0][0]) for number, row in rows.items() if row[0]}
    if mode == "open":  # a range has several answers, of which the last one ends it
        assert asked == dict(sorted((request, answer) for answer, request in answered.items()))
        assert len(answered) > len(asked)
    else:
        assert asked == {request: answer for answer, request in answered.items()}
    assert len(asked) > (10 if mode == "polled" else 20)
    for answer, request in answered.items():
        assert float(rows[answer][2][0]) == pytest.approx((answer - request) * 1e-6, abs=1e-9)
        assert recording.frames[answer - 1][0] == recording.frames[request - 1][0], "of the same end"
        assert recording.frames[answer - 1][1] != recording.frames[request - 1][1], "the other way"
    told = {number: int(row[3][0]) for number, row in rows.items() if row[3]}
    assert bool(told) == (mode in ("plain", "open"))
    for number, message_in in told.items():
        here, _, frame = recording.frames[number - 1]
        there, _, packet = recording.frames[message_in - 1]
        note, message = parse_note(frame), DringDataLayout.parse(packet[8:])
        is_request = note.kind in (NoteKind.SUBMITTED, NoteKind.TAKEN)
        assert here == there
        assert message.seq_num == note.seq_num
        assert (message.subtype == Subtype.INFO) == is_request
        if not is_request:
            assert note.index in range(message.start_idx, message.end_idx + 1), "of those that it tells"


def test_a_message_of_several_packets_is_shown_with_the_last(recorded: Recorded) -> None:
    _, path, mode, _ = recorded
    pieces = dissect(
        path, "frame.number", "ldoms.piece_in", "ldoms.message_size", "vd_dring_inband_msg.cookie"
    )
    whole = [row for row in pieces if row[1]]
    assert bool(whole) == (mode == "inband")
    for number, piece_in, size, _ in whole:
        assert len(piece_in) == 2
        assert piece_in[-1] == number[0]
        assert int(size[0]) in (64, 80)


# -- messages put together by hand ---------------------------------------------------------------------------


FIXED: list[tuple[wire.Layout[Any], str]] = [
    (VersionLayout, "01 01 0001"),
    (AttributeLayoutV12, "01 02 0002"),
    (DringUnregisterLayout, "01 01 0004"),
    (RdxLayout, "01 01 0005"),
    (RawDataLayout, "02 01 0040"),
    (DringDataLayout, "02 04 0042"),
    (DoorbellLayout, "02 02 0042"),
]


@pytest.mark.parametrize(("layout", "tag"), FIXED, ids=[layout.name for layout, _ in FIXED])
def test_any_value_is_shown_as_it_is(tmp_path: Path, layout: wire.Layout[Any], tag: str) -> None:
    """Each field has its full range: 64 bits, signs, all ones."""
    dice = random.Random(layout.name)
    talk = Talk()
    bodies = [b"\xff" * layout.size, bytes(layout.size), *(dice.randbytes(layout.size) for _ in range(20))]
    messages = [bytes.fromhex(tag) + body[4:] for body in bodies]
    for message in messages:
        talk.agree(2)
        if layout is DoorbellLayout:
            talk.say(octets(f"02 01 0042 {SID} {1:016x} {1:016x} 00000000 ffffffff 01"))
        talk.say(message)
    shown = [read_back(frame) for frame in layers(talk.recording.write(tmp_path / "c.pcapng"))]
    each = len(shown) // len(messages)
    assert [frame[-1] for frame in shown[each - 1 :: each]] == [
        plain(layout, message) for message in messages
    ]


COUNTED: list[tuple[wire.Layout[Any], str, int]] = [
    (DringRegisterLayout, "01 01 0003", 28),
    (InbandMessageLayout, "02 01 0041", 56),
]


@pytest.mark.parametrize(("layout", "tag", "count_at"), COUNTED, ids=[row[0].name for row in COUNTED])
def test_every_cookie_is_shown(tmp_path: Path, layout: wire.Layout[Any], tag: str, count_at: int) -> None:
    dice = random.Random(layout.name)
    talk = Talk()
    messages = []
    for ncookies in (0, 1, 2, 3, 33):
        body = dice.randbytes(layout.size + 16 * ncookies)
        head = bytes.fromhex(tag) + body[4:24] + bytes(2) + body[26:count_at]  # options: none
        messages.append(head + ncookies.to_bytes(4, "big") + body[count_at + 4 :])
        talk.say(messages[-1])
    path = talk.recording.write(tmp_path / "c.pcapng")
    shown = [
        structure for frame in layers(path) for structure in read_back(frame) if structure[0] == layout.name
    ]
    assert shown == [plain(layout, message) for message in messages]


def test_the_address_of_a_cookie_is_taken_apart(tmp_path: Path) -> None:
    """Page size 64 KiB is code 1: 16 bits of offset. Source: FWARC 2008/424."""
    talk = Talk()
    talk.say(
        octets(
            f"01 01 0003 {SID} {0:016x} 00000008 00000040 0003 0000 00000001 1000000000051230 {64:016x}", 48
        )
    )
    path = talk.recording.write(tmp_path / "c.pcapng")
    parts = [f"ldc_mem_cookie.addr.{part}" for part in ("page_size_code", "table_index", "page_offset")]
    assert dissect(path, *parts) == [(["1"], ["5"], ["0x0000000000001230"])]
    assert complaints(path) == []


def test_the_attributes_are_those_of_the_version_agreed(tmp_path: Path) -> None:
    talk = Talk()
    message = octets(f"01 02 0002 {SID} 03 02 01 00 00000200 {0x2010E:016x} {2048:016x} {64:016x} 00001000")
    for minor in (0, 1, 2, 6):
        talk.agree(minor)
        talk.answer(message)
    path = talk.recording.write(tmp_path / "c.pcapng")
    shown = [frame[-1] for frame in map(read_back, layers(path)) if "attr" in frame[-1][0]]
    layouts = (AttributeLayout, AttributeLayout, AttributeLayoutV12, AttributeLayoutV12)
    assert shown == [plain(layout, message) for layout in layouts]
    bits = dissect(path, "vd_attr_msg.operations.bread", "vd_attr_msg.operations.set_vtoc")[2]
    assert [value in ("1", "True") for (value,) in bits] == [True, False]


def test_data_cookies_of_a_network_ring_follow_its_own(tmp_path: Path) -> None:
    talk = Talk()
    ring = octets(
        f"01 01 0003 {SID} {0:016x} 00000008 00000040 0004 0000 00000001 {0x2000:016x} {512:016x}", 48
    )
    extension = octets(f"00000002 00002000 {0x4000:016x} {4096:016x} {0x6000:016x} {4096:016x}", 40)
    talk.say(ring + extension)
    path = talk.recording.write(tmp_path / "c.pcapng")
    assert read_back(last(path))[1:] == [
        plain(DringRegisterLayout, ring),
        plain(DringRegisterExtensionLayout, extension),
    ]
    assert complaints(path) == []


def test_an_answer_of_the_tag_alone_is_whole(tmp_path: Path) -> None:
    """OpenBSD answers RDX in 8 bytes. Source: vdsp.c."""
    talk = Talk()
    talk.say(octets(f"01 01 0005 {SID}"))
    talk.answer(octets(f"01 02 0005 {SID}", 8))
    path = talk.recording.write(tmp_path / "c.pcapng")
    assert complaints(path) == []
    assert dissect(path, "ldoms.request_in", "vio_rdx_msg.subtype") == [([], ["1"]), (["1"], ["2"])]


def test_a_finished_entry_belongs_to_the_piece_that_tells_it(tmp_path: Path) -> None:
    """A server's open range over the wrap, entry 0 twice; what is finished first may be told last."""
    talk = Talk()

    def ring_data(subtype: int, start: int, end: str, state: int) -> bytes:
        return octets(f"02 {subtype:02x} 0042 {SID} {1:016x} {1:016x} {start:08x} {end} {state:02x}")

    def finish(*indices: int) -> None:
        for index in indices:
            note = Note(NoteKind.FINISHED, How.MESSAGE, index, 1, bytes([4]) + bytes(47))
            talk.recording.add(CLIENT, Direction.OUTBOUND, build_note(note))

    talk.answer(ring_data(1, 6, "ffffffff", 0))
    finish(1, 6, 7, 0)
    talk.say(ring_data(2, 6, "00000000", 1))
    talk.say(ring_data(2, 1, "00000005", 1))
    finish(0, 6)
    talk.say(ring_data(2, 6, "00000000", 2))
    finish(0)
    path = talk.recording.write(tmp_path / "c.pcapng")
    rows = dissect(path, "ldoms.request_in", "ldoms.response_in", "ldoms.message_in")
    assert [[int(each[0]) if each else 0 for each in row] for row in rows] == [
        [0, 10, 0],
        [0, 0, 7],
        [0, 0, 6],
        [0, 0, 6],
        [0, 0, 6],
        [1, 0, 0],
        [1, 0, 0],
        [0, 0, 10],
        [0, 0, 10],
        [1, 0, 0],
        [0, 0, 0],
    ]
    assert "1: entries from 6 on" in show(path)


def test_a_reliable_link_is_known_by_its_handshake(tmp_path: Path) -> None:
    recording = Recording()
    pieces = [links.piece(2, b"stream"), links.ack(1, 2)]
    recording.add(CLIENT, Direction.OUTBOUND, links.rts(0, links.RELIABLE))
    recording.add(CLIENT, Direction.INBOUND, links.rtr(0, links.RELIABLE))
    for packet in pieces:
        recording.add(CLIENT, Direction.OUTBOUND, packet)
    path = recording.write(tmp_path / "c.pcapng")
    shown = [read_back(frame) for frame in layers(path)]
    assert shown[2:] == [[plain(ReliablePacketLayout, packet)] for packet in pieces]
    assert dissect(path, "ldc_packet_unreliable.env.mode")[:2] == [(["3"],), (["3"],)]
    assert complaints(path) == []


def test_raw_packets_are_shown_where_the_user_says_so(tmp_path: Path) -> None:
    recording = Recording()
    packet = bytes(range(64))
    recording.add(CLIENT, Direction.OUTBOUND, packet)
    path = recording.write(tmp_path / "c.pcapng")
    assert read_back(layers(path, "-o", "ldoms.mode:Raw")[0]) == [plain(RawPacketLayout, packet)]


def test_the_steps_of_the_link_handshake_know_each_other(tmp_path: Path) -> None:
    recording = Recording()
    conversation = [
        (Direction.OUTBOUND, links.version(links.INFO, 2)),
        (Direction.INBOUND, links.version(links.NACK, 1)),
        (Direction.OUTBOUND, links.version(links.INFO)),
        (Direction.INBOUND, links.version(links.ACK)),
        (Direction.OUTBOUND, links.rts(0, links.RELIABLE)),
        (Direction.INBOUND, links.packet(links.CTRL, links.NACK, links.RTS)),
        (Direction.OUTBOUND, links.rts()),
        (Direction.INBOUND, links.rtr()),
        (Direction.OUTBOUND, links.rdx()),
    ]
    for direction, packet in conversation:
        recording.add(CLIENT, direction, packet)
    path = recording.write(tmp_path / "c.pcapng")
    found = [int(asked[0]) if asked else 0 for (asked,) in dissect(path, "ldoms.request_in")]
    assert found == [0, 1, 0, 3, 0, 5, 0, 7, 8]
    assert complaints(path) == []


def test_ends_are_told_apart(tmp_path: Path) -> None:
    """Two ends in one file: each has its version, its messages and its answers to itself."""
    recording = Recording()
    for interface, minor in ((CLIENT, 1), (SERVER, 2)):
        message = octets(f"01 02 0001 {SID} 0001 {minor:04x} 04")
        recording.add(interface, Direction.INBOUND, split_message(message, 1)[0])
    for interface in (CLIENT, SERVER):
        message = octets(f"01 01 0002 {SID} 03 00 00 00 00000200")
        recording.add(interface, Direction.OUTBOUND, split_message(message, 1)[0])
    path = recording.write(tmp_path / "c.pcapng")
    assert [frame[-1][0] for frame in map(read_back, layers(path))][2:] == ["vd_attr_msg", "vd_attr_msg_v1_2"]


# -- how it is installed -------------------------------------------------------------------------------------


def test_it_works_from_the_personal_folder(tmp_path: Path) -> None:
    """As ``docs/how-to/use-wireshark.md`` says: copied there, it needs no option."""
    recording = Recording()
    recording.add(CLIENT, Direction.OUTBOUND, links.rts())
    path = recording.write(tmp_path / "c.pcapng")
    folder = tmp_path / ".local" / "lib" / "wireshark" / "plugins"
    folder.mkdir(parents=True)
    shutil.copy(LUA, folder)
    printed = subprocess.run(
        ["tshark", "-r", path, "-T", "fields", "-e", "_ws.col.Info", "-e", "ldc_packet_unreliable.env.mode"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert printed == "RTS INFO UNRELIABLE\t1\n"


def test_the_filters_of_the_page_are_filters(tmp_path: Path) -> None:
    """tshark refuses one with a field that it does not know."""
    page = LUA.parents[1] / "docs" / "how-to" / "use-wireshark.md"
    filters = re.findall(r"^\| `([^`]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(filters) > 10
    path = session("plain", 1).write(tmp_path / "c.pcapng")
    found = [len(dissect(path, "frame.number", display_filter=text.replace("\\|", "|"))) for text in filters]
    assert sum(count > 0 for count in found) >= 6


def test_every_structure_of_a_capture_has_been_shown() -> None:
    """Whoever adds a structure to the dissector adds it to these tests."""
    tested = {
        *(layout.name for layout, _ in FIXED),
        *(layout.name for layout, *_ in COUNTED),
        *(
            "ldc_packet_unreliable",
            "ldc_packet_ver",
            "ldc_packet_raw",
            "ldc_packet_reliable",
            "ldc_mem_cookie",
        ),
        *("vd_attr_msg", "vio_dring_reg_ext_msg", "vio_msg_tag", "vd_dring_entry", NoteLayout.name),
    }
    assert tested == {layout.name for layout in DISSECTED}
