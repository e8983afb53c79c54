"""Every rule, broken: the warning comes, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from protocol.capture import Direction, NoteKind
from protocol.explain import Line, Paragraph, Rule, Trace, explain_packet
from protocol.ldc.packet import Mode
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    NACK,
    START,
    STOP,
    data,
    packet,
    piece,
    rdx,
    rts,
    version,
)
from tests.support.talk import Talk, entry, inband, ring_data
from tests.support.vioscript import SID, octets

READY, ACCEPTED, DONE = 2, 3, 4

ACTIVE, STOPPED = 1, 2  # processing states


def explained(file: bytes) -> list[Paragraph]:
    """Return all paragraphs of a capture."""
    trace = Trace()
    return [*trace.receive_data(file), *trace.summaries()]


def broken(lines: Iterator[Line]) -> list[tuple[Rule, str]]:
    """Return the rules that lines say are broken, and what was said before the rule."""
    return [
        (line.rule, line.text.removeprefix("warning: ").split(" [")[0])
        for line in lines
        if line.rule is not None
    ]


# -- one packet by itself ------------------------------------------------------------------------------------

COOKIE = f"{0x2000:016x} {0x2000:016x}"
WISH = f"00 00 00 00000200 {0:016x} {0:016x}"
PACKETS: list[tuple[Rule, str, bytes]] = [
    (Rule.TYPE, "type 0x10", packet(0x10, INFO, 1)),
    (Rule.TYPE, "type 0x3", packet(3, NACK)),
    (Rule.STYPE, "stype 0x3", packet(CTRL, 3, 2, 0)),
    (Rule.STYPE, "stype 0x0", packet(CTRL, 0, 2)),
    (Rule.CTRL, "ctrl 0x0", packet(CTRL, INFO, 0)),
    (Rule.CTRL, "ctrl 0x14", packet(CTRL, INFO, 0x14)),
    (Rule.CTRL_IN_DATA, "ctrl 0x4", packet(DATA, INFO, 4, START | 5)),
    (Rule.ENV_LENGTH, "0 bytes", packet(DATA, INFO, 0, START | STOP)),
    (Rule.ENV_LENGTH, "57 bytes", packet(DATA, INFO, 0, START | STOP | 57)),
    (Rule.ENV_ZERO, "env 0x3", packet(CTRL, INFO, 4, 3)),
    (Rule.ENV_ZERO, "env 0x1", packet(CTRL, INFO, 1, 1, 0, bytes.fromhex("00010000"))),
    (Rule.ENV_ZERO, "env 0x1", packet(CTRL, NACK, 2, 1)),
    (Rule.MODE, "mode 3, not 1", rts(mode=3)),
    (Rule.LINK_VERSION, "version 1.1 agreed", version(ACK, 1, 1)),
    (Rule.RELIABLE_ACK, "an ACK of data in unreliable mode", packet(DATA, ACK)),
    (Rule.LENGTH, "7 bytes, a tag has 8", data(2, bytes(7))),
    (Rule.LENGTH, "vio_rdx_msg: 16 bytes, must be 56", data(2, octets(f"01 01 00 05 {SID}", 16))),
    (
        Rule.LENGTH,
        "vio_dring_reg_msg: 48 bytes, must be 64",
        data(2, octets(f"01 01 00 03 {SID} {0:016x} {8:08x} {64:08x} 0003 0000 00000002 {COOKIE}", 48)),
    ),
    (Rule.TAG, "RDX in type 2, not CTRL", data(2, octets(f"02 01 00 05 {SID}"))),
    (Rule.NO_DISK, "envelope 0x6", data(2, octets(f"01 01 00 06 {SID}"))),
    (Rule.CLIENT_CLASS, "device class 4", data(2, octets(f"01 01 00 01 {SID} 0001 0001 04"))),
    (Rule.SERVER_CLASS, "device class 3", data(2, octets(f"01 02 00 01 {SID} 0001 0001 03"))),
    (
        Rule.WISH,
        "the client's largest transfer is 0",
        data(2, octets(f"01 01 00 02 {SID} 03 {WISH} {0:016x}")),
    ),
    (Rule.WISH, "transfer mode 1 at (1, 2)", data(2, octets(f"01 01 00 02 {SID} 01 {WISH} {1:016x}"))),
    (
        Rule.RING_OFFER,
        "descriptors of 63 bytes, must be a multiple of 8 from 64 to 16384",
        data(2, octets(f"01 01 00 03 {SID} {0:016x} {8:08x} {63:08x} 0003 0000 00000001 {COOKIE}", 48)),
    ),
    (Rule.RANGE, "the range ends at -2", data(2, octets(ring_data(INFO, 1, 0, -2)))),
    (Rule.RANGE, "the range ends at -1", data(2, octets(ring_data(ACK, 1, 0, -1)))),
    (
        Rule.COOKIE,
        "cookie 0 is 8192 bytes at 0x8000000000002000",
        data(
            2,
            octets(
                f"01 02 00 03 {SID} {1:016x} {8:08x} {64:08x} 0003 0000 00000001 80{COOKIE[2:]}",
                48,
            ),
        ),
    ),
    (
        Rule.NUMBER,
        "subtype 0x3 is unknown, known are INFO 0x1, ACK 0x2, NACK 0x4",
        data(2, octets(f"01 03 00 05 {SID}")),
    ),
]


@pytest.mark.parametrize(("rule", "what", "octets_"), PACKETS, ids=lambda value: getattr(value, "name", ""))
def test_one_packet_shows_it(rule: Rule, what: str, octets_: bytes) -> None:
    assert broken(iter(explain_packet(octets_))) == [(rule, what)]


def test_reliable_mode_has_room_for_less() -> None:
    lines = explain_packet(piece(2, bytes(48))[:3] + b"\xf1" + bytes(60), Mode.RELIABLE)
    assert broken(iter(lines)) == [(Rule.ENV_LENGTH, "49 bytes")]


# -- packets one after the other -----------------------------------------------------------------------------


def gap(talk: Talk) -> None:
    """A packet is missing."""
    talk.link()
    talk.packet("client", data(4, octets(f"01 01 00 01 {SID} 0001 0001 03")))


def repeated(talk: Talk) -> None:
    """A packet comes twice."""
    talk.link()
    for _ in range(2):
        talk.packet("client", data(2, bytes.fromhex(f"01 01 00 05 {SID}"), START))


def data_early(talk: Talk) -> None:
    """Data before RDX."""
    talk.configured("client")
    talk.configured("server")
    talk.packet("client", version(INFO))
    talk.packet("server", version(ACK))
    talk.packet("client", data(1))


def step_early(talk: Talk) -> None:
    """RTS before a version is agreed."""
    talk.packet("client", version(INFO))
    talk.packet("client", rts())


def second_rdx(talk: Talk) -> None:
    """RDX twice from the same end."""
    talk.link()
    talk.packet("client", rdx(2))


def refused_step(talk: Talk) -> None:
    """RTS is refused, because of the mode."""
    talk.configured("client")
    talk.configured("server")
    talk.packet("client", version(INFO))
    talk.packet("server", version(ACK))
    talk.packet("client", rts())
    talk.packet("server", packet(CTRL, NACK, 2))


def data_nack(talk: Talk) -> None:
    """The server has lost something."""
    talk.link()
    talk.packet("server", packet(DATA, NACK, 0, 0, 1))


def no_start(talk: Talk) -> None:
    """A message without a beginning."""
    talk.link()
    talk.packet("client", data(2, b"middle", 0))


def start_again(talk: Talk) -> None:
    """A message without an end."""
    talk.link()
    talk.packet("client", data(2, bytes(56), START))
    talk.packet("client", data(3, bytes(56), START))


def too_long(talk: Talk) -> None:
    """A message of more packets than a queue has."""
    talk.link()
    for number in range(512):
        talk.packet("client", data(2 + number, bytes(56), START if number == 0 else 0))


# -- messages one after the other ----------------------------------------------------------------------------


def out_of_turn(talk: Talk) -> None:
    """RDX before the ring."""
    talk.link()
    talk.agree()
    talk.client(f"01 01 00 05 {SID}")


def server_asks(talk: Talk) -> None:
    """The server asks."""
    talk.begin()
    talk.server(f"01 01 00 05 {SID}")


def client_answers(talk: Talk) -> None:
    """The client answers."""
    talk.begin()
    talk.client(f"01 02 00 05 {SID}")


def unasked(talk: Talk) -> None:
    """An answer to nothing."""
    talk.begin()
    talk.server(f"01 02 00 02 {SID} 03 02 01 00 00000200 {0x10E:016x} {6147:016x} {2048:016x}")


def other_sid(talk: Talk) -> None:
    """The client changes its session id."""
    talk.link()
    talk.agree()
    talk.client("01 01 00 05 00 00 00 2b")


def other_sid_answered(talk: Talk) -> None:
    """The server changes the session id."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.server(ring_data(ACK, 1, 0, 0).replace(SID, "00 00 00 2b"))


def higher_version(talk: Talk) -> None:
    """A version above the one offered."""
    talk.link()
    talk.client(f"01 01 00 01 {SID} 0001 0001 03")
    talk.server(f"01 02 00 01 {SID} 0001 0002 04")


def no_size(talk: Talk) -> None:
    """A disk without blocks."""
    talk.link()
    talk.client(f"01 01 00 01 {SID} 0001 0001 03")
    talk.server(f"01 02 00 01 {SID} 0001 0001 04")
    talk.client(f"01 01 00 02 {SID} 03 00 00 00 00000200 {0:016x} {0:016x} {256:016x}")
    talk.server(f"01 02 00 02 {SID} 03 02 01 00 00000200 {0x10E:016x} {0:016x} {2048:016x}")


def refused(talk: Talk) -> None:
    """The server refuses a data message."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.server(ring_data(NACK, 1, 0, 0))


def message_gap(talk: Talk) -> None:
    """A data message is missing."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.client(ring_data(INFO, 3, 1, 1))


def answered_in_disorder(talk: Talk) -> None:
    """The second answer first."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.client(ring_data(INFO, 2, 1, 1))
    talk.server(ring_data(ACK, 2, 1, 1))


def answered_twice(talk: Talk) -> None:
    """One answer too many."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.server(ring_data(ACK, 1, 0, 0))
    talk.server(ring_data(ACK, 1, 0, 0))


def answer_from_nowhere(talk: Talk) -> None:
    """The number of an answer was never sent."""
    talk.begin()
    talk.client(ring_data(INFO, 5, 0, 0))
    talk.server(ring_data(ACK, 9, 0, 0))


def inband_answered_twice(talk: Talk) -> None:
    """In-band, one answer too many."""
    talk.begin_inband()
    talk.server(inband(ACK, 1, status=0), 80)


def other_ring(talk: Talk) -> None:
    """Another ring."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0, ident=2))


def beyond_the_ring(talk: Talk) -> None:
    """An entry that the ring does not have."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 7, 8))


def doorbell_answered_early(talk: Talk) -> None:
    """A doorbell is answered that was never sent."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 1, -1, state=2))
    talk.server(ring_data(ACK, 2, 1, -1, state=2, completions=1))


def doorbell_counts_back(talk: Talk) -> None:
    """Fewer completions than before."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 1, -1, state=2, completions=5))
    talk.client(ring_data(INFO, 2, 2, -1, state=2, completions=4))


def _open_range(talk: Talk, *pieces: tuple[int, int, int]) -> None:
    """An open range from entry 2 on is told in pieces: first and last entry, processing state."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 2, -1))
    for start, end, state in pieces:
        talk.server(ring_data(ACK, 1, start, end, state=state))


def pieces_with_a_gap(talk: Talk) -> None:
    """An entry is not told."""
    _open_range(talk, (2, 6, ACTIVE), (0, 0, ACTIVE))


def pieces_that_overlap(talk: Talk) -> None:
    """An entry is told twice."""
    _open_range(talk, (2, 6, ACTIVE), (6, 7, STOPPED))


def piece_from_elsewhere(talk: Talk) -> None:
    """The first piece does not begin where the range does."""
    _open_range(talk, (3, 3, ACTIVE))


def piece_without_an_end(talk: Talk) -> None:
    """A piece always has an end."""
    _open_range(talk, (2, 3, ACTIVE), (4, -1, STOPPED))


def neither_active_nor_stopped(talk: Talk) -> None:
    """An answer that does not say whether others follow."""
    _open_range(talk, (2, 3, 0))


def answered_after_stopped(talk: Talk) -> None:
    """A range that has stopped goes on."""
    _open_range(talk, (2, 3, ACTIVE), (3, 3, STOPPED), (4, 4, ACTIVE))


def message_beside_an_open_range(talk: Talk) -> None:
    """A client has one range open and nothing to announce."""
    _open_range(talk, (2, 3, ACTIVE))
    talk.client(ring_data(INFO, 2, 4, 4))


# -- requests ------------------------------------------------------------------------------------------------


def not_ready(talk: Talk) -> None:
    """Submitted in another state than READY."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(DONE), 1)


def submitted_twice(talk: Talk) -> None:
    """Submitted again before it was answered."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY), 1)
    talk.note(NoteKind.SUBMITTED, 0, entry(READY), 1)


def never_taken(talk: Talk) -> None:
    """Finished and never taken."""
    talk.begin()
    talk.note(NoteKind.FINISHED, 0, entry(DONE, status=0), 1)


def not_announced(talk: Talk) -> None:
    """Taken because of a message that is about another entry."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 1))
    talk.note(NoteKind.TAKEN, 2, entry(ACCEPTED), 1)


def not_submitted(talk: Talk) -> None:
    """Announced and never submitted."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY), 1)
    talk.client(ring_data(INFO, 1, 0, 1))


def answered_early(talk: Talk) -> None:
    """Answered while an entry is in progress."""
    talk.begin()
    talk.client(ring_data(INFO, 1, 0, 0))
    talk.note(NoteKind.TAKEN, 0, entry(ACCEPTED), 1)
    talk.server(ring_data(ACK, 1, 0, 0))


def _taken(talk: Talk, *indices: int) -> None:
    """A server takes entries of an open range from entry 2 on."""
    _open_range(talk)
    for index in indices:
        talk.note(NoteKind.TAKEN, index, entry(3), 1)


def taken_out_of_turn(talk: Talk) -> None:
    """An open range is taken from its first entry on."""
    _taken(talk, 3)


def taken_with_a_gap(talk: Talk) -> None:
    """An open range is taken in the order of the ring."""
    _taken(talk, 2, 4)


def told_early(talk: Talk) -> None:
    """Entries are told and not finished; the one behind them need not be."""
    _taken(talk, 2, 3, 4, 5)
    talk.note(NoteKind.FINISHED, 2, entry(4, status=0), 1)
    talk.server(ring_data(ACK, 1, 2, 4, state=ACTIVE))


def stopped_early(talk: Talk) -> None:
    """A range that has stopped has nothing in progress."""
    _taken(talk, 2, 3, 4, 5)
    talk.note(NoteKind.FINISHED, 2, entry(4, status=0), 1)
    talk.server(ring_data(ACK, 1, 2, 2, state=STOPPED))


def not_offered(talk: Talk) -> None:
    """An operation that the disk does not offer."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY, operation=6), 1)


def not_offered_inband(talk: Talk) -> None:
    """The same in a message."""
    talk.begin_inband()
    talk.client(inband(INFO, 1, operation=6), 80)


def too_much(talk: Talk) -> None:
    """More done than was asked for."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY), 1)
    talk.note(
        NoteKind.ANSWERED, 0, entry(DONE, status=0, nbytes=1024, cookie=f"{0x4000:016x} {1024:016x}"), 1
    )


def no_room(talk: Talk) -> None:
    """More cookies than the entry holds."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY, ncookies=2), 1)


def short_buffer(talk: Talk) -> None:
    """A buffer that is too short."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY, nbytes=520), 1)


def entry_beyond_the_ring(talk: Talk) -> None:
    """A note about an entry that the ring does not have."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 8, entry(READY), 1)


def wrong_direction(talk: Talk) -> None:
    """The client submits what it receives."""
    talk.begin()
    talk.note(NoteKind.SUBMITTED, 0, entry(READY), 1, wrong=True)


def no_note(talk: Talk) -> None:
    """A frame that is neither packet nor note."""
    talk.file.frame(Direction.INBOUND, bytes(24))


CASES: list[tuple[Rule, str, Callable[[Talk], None]]] = [
    (Rule.SEQID, "packet 4 after 1, 2 missing", gap),
    (Rule.SEQID, "packet 2 after 2, numbered twice", repeated),
    (Rule.NOT_UP, "data while the link is VREADY, dropped", data_early),
    (Rule.STEP, "ignored while the link is READY", step_early),
    (Rule.SECOND_RDX, "a second RDX; the receiver resets", second_rdx),
    (Rule.REFUSED_STEP, "its sender refuses, and wants a reset", refused_step),
    (Rule.LOST, "its sender has lost packets and wants a reset", data_nack),
    (Rule.PIECES, "no message has begun", no_start),
    (Rule.PIECES, "a message begins, the one of packet 2 has not ended", start_again),
    (Rule.TOO_LONG, "the message is forgotten", too_long),
    (Rule.TURN, "message 0x1/0x1/0x5 in state attributes, ring", out_of_turn),
    (Rule.TURN, "the server asks, where it only answers", server_asks),
    (Rule.TURN, "the client answers, where it only asks", client_answers),
    (Rule.ANSWER, "ATTR_INFO ACK, which nobody has asked for", unasked),
    (Rule.SID, "session id 0x2b, not 0x2a", other_sid),
    (Rule.SID, "session id 0x2b, not 0x2a", other_sid_answered),
    (Rule.AGREED_VERSION, "version 1.2, offered 1.1", higher_version),
    (Rule.ATTRIBUTES, "the server's disk: size 0", no_size),
    (Rule.NACKED, "DRING_DATA NACK", refused),
    (Rule.REQUEST_NUMBER, "request 3 follows 1", message_gap),
    (Rule.ANSWER_NUMBER, "answer 2 before that of message 1", answered_in_disorder),
    (Rule.ANSWER_NUMBER, "answer 1, all messages are answered", answered_twice),
    (Rule.ANSWER_NUMBER, "answer 9, message 5 waits for one", answer_from_nowhere),
    (Rule.ANSWER_NUMBER, "answer 1, all messages are answered", inband_answered_twice),
    (Rule.IDENT, "ring 2, registered is 1", other_ring),
    (Rule.RANGE, "descriptors 7 to 8 of a ring of 8", beyond_the_ring),
    (Rule.DOORBELL, "doorbell 2 is answered, 1 sent", doorbell_answered_early),
    (Rule.DOORBELL, "4 completions, 5 before", doorbell_counts_back),
    (Rule.OPEN_RANGE, "descriptors 0 to 0, next comes 7", pieces_with_a_gap),
    (Rule.OPEN_RANGE, "descriptors 6 to 7, next comes 7", pieces_that_overlap),
    (Rule.OPEN_RANGE, "descriptors 3 to 3, next comes 2", piece_from_elsewhere),
    (Rule.OPEN_RANGE, "descriptors 4 to -1 of a ring of 8", piece_without_an_end),
    (Rule.OPEN_RANGE, "the processing state is 0", neither_active_nor_stopped),
    (Rule.OPEN_RANGE, "the range of message 1 has not stopped", message_beside_an_open_range),
    (Rule.ANSWER_NUMBER, "answer 1, all messages are answered", answered_after_stopped),
    (Rule.DSTATE, "SUBMITTED in state 4, not READY", not_ready),
    (Rule.ENTRY_OWNER, "entry 0 is still in progress", submitted_twice),
    (Rule.ENTRY_OWNER, "entry 0 was not handed over", never_taken),
    (Rule.ANNOUNCED, "entry 2 is not one of message 1", not_announced),
    (Rule.ANNOUNCED, "entry 1 was not submitted", not_submitted),
    (Rule.ANNOUNCED, "entry 3 is not one of message 1", taken_out_of_turn),
    (Rule.ANNOUNCED, "entry 4 is not one of message 1", taken_with_a_gap),
    (Rule.TOO_EARLY, "1 entries are not finished", answered_early),
    (Rule.TOO_EARLY, "2 entries are not finished", told_early),
    (Rule.TOO_EARLY, "3 entries are not finished", stopped_early),
    (Rule.REQUEST, "operation not offered, or unknown, to be refused with ENOTSUP", not_offered),
    (Rule.REQUEST, "operation not offered, or unknown, to be refused with ENOTSUP", not_offered_inband),
    (Rule.NBYTES, "1024 bytes done, 512 asked for", too_much),
    (Rule.ROOM, "2 cookies, there is room for 1", no_room),
    (Rule.BUFFER, "512 bytes of buffer for 520", short_buffer),
    (Rule.RANGE, "entry 8 of a ring of 8", entry_beyond_the_ring),
    (Rule.NOTE, "SUBMITTED is noted as inbound", wrong_direction),
    (Rule.NOTE, "capture_note: 0 is not a valid NoteKind", no_note),
]
AT_THE_SERVER = {
    never_taken,
    not_announced,
    answered_early,
    taken_out_of_turn,
    taken_with_a_gap,
    told_early,
    stopped_early,
}


@pytest.mark.parametrize(("rule", "what", "case"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_conversation_shows_it(rule: Rule, what: str, case: Callable[[Talk], None]) -> None:
    talk = Talk("server" if case in AT_THE_SERVER else "client")
    case(talk)
    *paragraphs, summary = explained(talk.file.bytes())
    found = broken(line for paragraph in paragraphs for line in paragraph.lines)
    assert [(each, said[: len(what)]) for each, said in found] == [(rule, what)]
    assert paragraphs[-1].warnings == 1, "it is the last frame that breaks it"
    assert summary.lines[-1].text == "warnings    1"


def test_every_rule_is_broken_here() -> None:
    assert {rule for rule, _, _ in PACKETS} | {rule for rule, _, _ in CASES} == set(Rule)


def test_every_rule_names_its_source() -> None:
    for rule in Rule:
        assert rule.source.startswith(("Solaris ", "FWARC ", "docs/", "the drivers' headers"))
