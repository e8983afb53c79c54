"""The Wireshark dissector in ``tools/``: what is wrong, cut or unknown is pointed out, and breaks nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.capture import Direction, parse_note
from protocol.errors import PacketError
from protocol.vdisk.descriptor import EntryLayout
from protocol.vio.messages import DringDataLayout, Envelope, TagLayout
from tests.support import links
from tests.support.dissected import plain, read_back
from tests.support.handmade import SID, Talk, last
from tests.support.recorded import CLIENT, Recording
from tests.support.tshark import complaints, dissect, layers, show
from tests.support.vioscript import octets

pytestmark = pytest.mark.slow


# -- messages put together by hand ---------------------------------------------------------------------------


def test_a_refused_doorbell_is_as_without_polling(tmp_path: Path) -> None:
    talk = Talk()
    talk.say(octets(f"02 01 0042 {SID} {1:016x} {1:016x} 00000003 ffffffff 02 000000 00000001"))
    refusal = octets(f"02 04 0042 {SID} {1:016x} {1:016x} 00000002 00000002")
    talk.answer(refusal)
    path = talk.recording.write(tmp_path / "c.pcapng")
    assert [frame[-1][0] for frame in map(read_back, layers(path))] == [
        "polled_doorbell_msg",
        "vio_dring_msg",
    ]
    assert read_back(last(path))[-1] == plain(DringDataLayout, refusal)
    assert complaints(path) == []


def test_a_message_that_nobody_knows_is_pointed_out(tmp_path: Path) -> None:
    talk = Talk()
    message = octets(f"01 01 0006 {SID} 01")  # DDS_INFO: network only
    talk.say(message)
    path = talk.recording.write(tmp_path / "c.pcapng")
    assert read_back(last(path))[-1] == plain(TagLayout, message)
    assert [text for _, text in complaints(path)] == ["no structure is known for DDS_INFO INFO"]


UNKNOWN = [
    (f"01 01 0001 {SID} 0001 0002 09", "dev_class is 9"),
    (f"03 01 0005 {SID}", "msgtype is 3"),
    (f"01 03 0005 {SID}", "subtype is 3"),
    (f"01 01 0099 {SID}", "subtype_env is 153"),
    (f"01 01 0002 {SID} 05 03 04", "xfer_mode is 5"),
    (f"01 01 0002 {SID} 03 03 00", "vdisk_type is 3"),
    (f"01 01 0002 {SID} 03 00 04", "vdisk_mtype is 4"),
    (f"01 01 0003 {SID} {0:016x} 00000008 00000040 0008", "options is 8"),
    (f"02 01 0041 {SID} {1:016x} {1:016x} {1:016x} 33 ff", "operation is 51"),
    (f"01 01 0005 {SID} ", ""),
]


def test_a_number_without_a_meaning_is_pointed_out(tmp_path: Path) -> None:
    talk = Talk()
    for text, _ in UNKNOWN:
        talk.say(octets(text))
    found = dict(complaints(talk.recording.write(tmp_path / "c.pcapng")))
    for number, (_, said) in enumerate(UNKNOWN, start=1):
        assert (said in found[str(number)]) if said else (str(number) not in found)


@pytest.mark.parametrize("size", [1, 7, 8, 15, 40, 55])
def test_a_message_that_ends_too_early_is_malformed(tmp_path: Path, size: int) -> None:
    talk = Talk()
    talk.say(octets(f"02 01 0040 {SID} {1:016x}")[:size])
    found = complaints(talk.recording.write(tmp_path / "c.pcapng"))
    assert [text for _, text in found] == ["The bytes end before the structure does"]


def test_a_piece_without_a_beginning_is_no_message(tmp_path: Path) -> None:
    """As where a capture begins in the middle of one."""
    recording = Recording()
    recording.add(CLIENT, Direction.OUTBOUND, links.data(5, b"end", links.STOP))
    recording.add(CLIENT, Direction.OUTBOUND, links.data(6, b"begin", links.START))
    path = recording.write(tmp_path / "c.pcapng")
    assert [len(read_back(frame)) for frame in layers(path)] == [1, 1]
    assert complaints(path) == []
    assert dissect(path, "_ws.expert.message")[0] == (["A piece of a message without a beginning"],)


def test_a_piece_longer_than_a_packet_is_malformed(tmp_path: Path) -> None:
    recording = Recording()
    recording.add(CLIENT, Direction.OUTBOUND, links.packet(links.DATA, links.INFO, 0, 0xC0 | 57, 2))
    assert [text for _, text in complaints(recording.write(tmp_path / "c.pcapng"))] == ["a piece of 57 bytes"]


def test_what_solaris_leaves_as_it_found_it_is_no_fault(tmp_path: Path) -> None:
    """Reserved octets, proc_state, the cookies of a request without bytes. Source: Solaris vdc.c."""
    talk = Talk()
    talk.say(octets(f"02 01 0042 {SID} {1:016x} {1:016x} 00000003 00000003 {'a5' * 24}"))
    talk.say(octets(f"01 01 0005 {SID} {'a5' * 48}"))
    flush = f"02 80 {'a5' * 6} {1:016x} 03 ff a5a5 ffffffff {0:016x} {0:016x} 00000001 a5a5a5a5 {'a5' * 16}"
    talk.recording.add(
        CLIENT, Direction.OUTBOUND, bytes.fromhex(f"01 01 00 00 00000003 {1:016x} 00000040 00000000 {flush}")
    )
    assert complaints(talk.recording.write(tmp_path / "c.pcapng")) == []


def test_a_page_size_that_is_none_is_pointed_out(tmp_path: Path) -> None:
    talk = Talk()
    ring = f"{0:016x} 00000008 00000040 0003 0000 00000001"
    talk.say(octets(f"01 01 0003 {SID} {ring} {0xA << 60:016x} {512:016x}", 48))
    found = complaints(talk.recording.write(tmp_path / "c.pcapng"))
    assert [text for _, text in found] == ["page size code 10 has no meaning"]


# -- what is no capture of ours ------------------------------------------------------------------------------


def garbage() -> Iterator[bytes]:
    """Yield frames of every length, of noughts, ones and dice, and packets and notes with bits of sense."""
    dice = random.Random(0)
    for size in (*range(200), 1500, 70_000):
        yield bytes(size)
        yield b"\xff" * size
        yield dice.randbytes(size)
    for _ in range(500):
        env = dice.choice((0, 0x40, 0x80, 0xC0)) | dice.randrange(64)
        message = dice.randbytes(2) + bytes([0, dice.choice(list(Envelope))]) + dice.randbytes(52)
        yield links.packet(dice.choice((1, 2, 3)), dice.choice((1, 2, 4)), dice.randrange(6), env, 1, message)
    for _ in range(500):
        length = dice.choice((0, 47, 48, 64, 65, 80, 112))
        head = bytes([1, dice.randrange(7), dice.randrange(3), 0]) + dice.randbytes(12)
        note = head + length.to_bytes(4, "big") + bytes(4)
        yield note + dice.randbytes(40) + bytes(3) + bytes([dice.randrange(4)]) + dice.randbytes(length)


def test_garbage_is_pointed_out_and_breaks_nothing(tmp_path: Path) -> None:
    recording = Recording()
    for number, frame in enumerate(garbage()):
        recording.add(CLIENT, list(Direction)[number % 3], frame)
    path = recording.write(tmp_path / "garbage.pcapng")
    found = {int(number) for number, _ in complaints(path)}
    for number, (_, _, frame) in enumerate(recording.frames, start=1):
        if len(frame) != 64:
            assert number in found or is_note(frame), f"frame {number}: {frame[:80].hex()}"
    assert show(path).count("LDoms virtual disk") >= len(recording.frames)


def is_note(frame: bytes) -> bool:
    """Say whether ``protocol`` takes a frame for a note with a ring entry in it."""
    try:
        note = parse_note(frame)
        if note.entry:
            EntryLayout.parse(note.entry, trailing=True)
    except PacketError:
        return False
    return True


def test_every_note_that_cannot_be_is_pointed_out(tmp_path: Path) -> None:
    entry = "02 80 000000000000" + f"{1:016x} 01 ff 0000 ffffffff {0:016x} {512:016x} 00000000 00000000"
    bad = [
        f"02 01 00 00 00000000 {1:016x} 00000030 00000000 {entry}",  # version
        f"01 06 00 00 00000000 {1:016x} 00000030 00000000 {entry}",  # kind
        f"01 01 02 00 00000000 {1:016x} 00000030 00000000 {entry}",  # how
        f"01 01 00 00 00000000 {1:016x} 00000031 00000000 {entry}",  # length
        f"01 05 00 00 00000200 {0:016x} 00000030 00000000 {entry}",  # an entry of no ring
        f"01 01 00 00 00000000 {1:016x} 00000000 00000000",  # no entry
        f"01 01 00 00 00000000 {1:016x} 00000000",
    ]
    recording = Recording()
    for text in bad:
        frame = bytes.fromhex(text)
        recording.add(CLIENT, Direction.OUTBOUND, frame)
        with pytest.raises(PacketError):
            parse_note(frame)
    recording.add(CLIENT, Direction.OUTBOUND, bytes.fromhex(bad[0].replace("02 01", "01 01", 1)))
    found = [int(number) for number, _ in complaints(recording.write(tmp_path / "c.pcapng"))]
    assert found == list(range(1, len(bad) + 1))


def test_a_frame_that_was_cut_is_not_taken_apart(tmp_path: Path) -> None:
    recording = Recording()
    recording.add(CLIENT, Direction.OUTBOUND, links.rts()[:40])
    path = recording.write(tmp_path / "c.pcapng")
    captured_and_original = (40).to_bytes(4, "little") * 2
    cut = captured_and_original[:4] + (64).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(captured_and_original, cut))
    assert read_back(layers(path)[0]) == []
    assert [text for _, text in complaints(path)] == ["The capturing program has cut this frame"]
