"""The NBD handshake, without sockets: options in, replies out."""

from __future__ import annotations

import struct

import pytest

from tests.support.nbdclient import (
    ABORT,
    ACK,
    ERR_INVALID,
    ERR_TOO_BIG,
    ERR_UNKNOWN,
    ERR_UNSUP,
    EXPORT_NAME,
    GO,
    INFO,
    LIST,
    LIST_META,
    OPTION_REPLY_MAGIC,
    REP_INFO,
    SERVER,
    SET_META,
    STARTTLS,
    STRUCTURED_REPLY,
    OptionReply,
    option,
    string,
)
from vdc.frontends.nbd.handshake import MAX_OPTION, Handshake, Phase
from vdc.frontends.nbd.wire import Export

SIZE = 64 << 20
FLAGS = 0x1 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100  # has flags, flush, FUA, write zeroes, DF, multi-conn
FLAGS_READ_ONLY = 0x1 | 0x2 | 0x4 | 0x8 | 0x80 | 0x100
NO_ZEROES = struct.pack(">I", 3)
EXPORT = Export(name="disk0", description="a disk", size=SIZE, block_size=512, read_only=False)


def feed(handshake: Handshake, data: bytes) -> bytes:
    """Feed ``data`` as one piece, all of which must be taken; what the server says."""
    assert handshake.receive_data(memoryview(data)) == len(data)
    return handshake.data_to_send()


def begun(flags: bytes = NO_ZEROES, export: Export = EXPORT) -> Handshake:
    """A handshake that has exchanged the greeting and the flags."""
    handshake = Handshake(export)
    assert handshake.data_to_send() == b"NBDMAGICIHAVEOPT\0\3"
    assert feed(handshake, flags) == b""
    return handshake


def replies(data: bytes) -> list[OptionReply]:
    """Take the server's replies apart."""
    found = []
    while data:
        assert data[:8] == OPTION_REPLY_MAGIC
        number, kind, length = struct.unpack_from(">III", data, 8)
        found.append(OptionReply(number, kind, data[20 : 20 + length]))
        data = data[20 + length :]
    return found


def ask(handshake: Handshake, number: int, data: bytes = b"") -> list[OptionReply]:
    """Send one option; the replies."""
    return replies(feed(handshake, option(number, data)))


def export_info(flags: int = FLAGS, size: int = SIZE) -> bytes:
    return struct.pack(">HQH", 0, size, flags)


def test_go_without_requests_tells_size_and_flags() -> None:
    handshake = begun()
    assert ask(handshake, GO, string("disk0") + b"\0\0") == [(GO, REP_INFO, export_info()), (GO, ACK, b"")]
    assert handshake.phase is Phase.AGREED
    assert not handshake.structured


def test_go_answers_each_information_request_once() -> None:
    handshake = begun()
    wanted = struct.pack(">H5H", 5, 3, 1, 2, 3, 77)
    assert ask(handshake, GO, string("") + wanted) == [
        (GO, REP_INFO, export_info()),
        (GO, REP_INFO, b"\0\1disk0"),
        (GO, REP_INFO, b"\0\2a disk"),
        (GO, REP_INFO, struct.pack(">HIII", 3, 512, 4096, 33554432)),
        (GO, ACK, b""),
    ]


def test_preferred_block_is_never_below_the_smallest() -> None:
    export = Export(name="d", description="", size=SIZE, block_size=8192, read_only=False)
    found = ask(begun(export=export), INFO, string("") + b"\0\1\0\3")
    assert found[1].data == struct.pack(">HIII", 3, 8192, 8192, 33554432)


def test_info_leaves_the_handshake_open() -> None:
    handshake = begun()
    assert ask(handshake, INFO, string("disk0") + b"\0\0")[-1] == (INFO, ACK, b"")
    assert handshake.phase is Phase.OPTIONS


def test_read_only_export_offers_no_zeroing() -> None:
    export = Export(name="d", description="", size=SIZE, block_size=512, read_only=True)
    assert ask(begun(export=export), GO, string("") + b"\0\0")[0].data == export_info(FLAGS_READ_ONLY)


def test_unknown_export_is_refused_and_another_may_be_tried() -> None:
    handshake = begun()
    (refusal,) = ask(handshake, GO, string("disk1") + b"\0\0")
    assert refusal[:2] == (GO, ERR_UNKNOWN)
    assert ask(handshake, GO, string("disk0") + b"\0\0")[-1] == (GO, ACK, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05disk",
        struct.pack(">I", 4097) + bytes(4097) + b"\0\0",
        string("disk0"),
        string("disk0") + b"\0",
        string("disk0") + b"\0\1",
        string("disk0") + b"\0\0\0",
        string("disk0") + b"\0\1\0\3\0",
    ],
)
@pytest.mark.parametrize("number", [GO, INFO])
def test_malformed_go_is_invalid(number: int, data: bytes) -> None:
    handshake = begun()
    (refusal,) = ask(handshake, number, data)
    assert refusal[:2] == (number, ERR_INVALID)
    assert handshake.phase is Phase.OPTIONS


def test_list_names_the_export() -> None:
    assert ask(begun(), LIST) == [(LIST, SERVER, string("disk0")), (LIST, ACK, b"")]


@pytest.mark.parametrize("number", [LIST, STRUCTURED_REPLY])
def test_options_without_data_refuse_data(number: int) -> None:
    handshake = begun()
    (refusal,) = ask(handshake, number, b"x")
    assert refusal[:2] == (number, ERR_INVALID)
    assert not handshake.structured


def test_abort_is_acknowledged_and_ends_it() -> None:
    handshake = begun()
    assert ask(handshake, ABORT) == [(ABORT, ACK, b"")]
    assert handshake.phase is Phase.OVER
    assert handshake.receive_data(memoryview(option(LIST))) == 0


@pytest.mark.parametrize("number", [STARTTLS, 11, 0, 0xFFFFFFFF])
def test_unknown_options_are_unsupported(number: int) -> None:
    (refusal,) = ask(begun(), number, b"whatever")
    assert refusal[:2] == (number, ERR_UNSUP)


@pytest.mark.parametrize(("flags", "zeroes"), [(1, 124), (3, 0), (0, 124), (2, 0)])
def test_export_name_sends_size_flags_and_zeroes(flags: int, zeroes: int) -> None:
    handshake = begun(struct.pack(">I", flags))
    assert feed(handshake, option(EXPORT_NAME, b"disk0")) == struct.pack(">QH", SIZE, FLAGS) + bytes(zeroes)
    assert handshake.phase is Phase.AGREED


@pytest.mark.parametrize("name", [b"other", bytes(MAX_OPTION)])
def test_export_name_of_another_export_ends_it(name: bytes) -> None:
    handshake = begun()
    assert feed(handshake, option(EXPORT_NAME, name)) == b""
    assert handshake.phase is Phase.OVER


def test_export_name_longer_than_looked_at_ends_it() -> None:
    handshake = begun()
    handshake.receive_data(memoryview(option(EXPORT_NAME, bytes(MAX_OPTION + 1))))
    assert handshake.phase is Phase.OVER


@pytest.mark.parametrize("flags", [4, 7, 0x80000000])
def test_unknown_client_flags_end_it(flags: int) -> None:
    handshake = Handshake(EXPORT)
    handshake.receive_data(memoryview(struct.pack(">I", flags)))
    assert handshake.phase is Phase.OVER


def test_options_need_fixed_newstyle() -> None:
    handshake = begun(struct.pack(">I", 2))
    handshake.receive_data(memoryview(option(LIST)))
    assert handshake.phase is Phase.OVER


def test_wrong_option_magic_ends_it() -> None:
    handshake = begun()
    handshake.receive_data(memoryview(b"IHAVEOPS" + bytes(8)))
    assert handshake.phase is Phase.OVER


def test_structured_replies_are_agreed() -> None:
    handshake = begun()
    assert ask(handshake, STRUCTURED_REPLY) == [(STRUCTURED_REPLY, ACK, b"")]
    assert handshake.structured


@pytest.mark.parametrize("number", [LIST_META, SET_META])
def test_meta_contexts_are_an_empty_list(number: int) -> None:
    handshake = begun()
    feed(handshake, option(STRUCTURED_REPLY))
    query = struct.pack(">I", 2) + string("base:allocation") + string("qemu:")
    assert ask(handshake, number, string("disk0") + query) == [(number, ACK, b"")]


@pytest.mark.parametrize("number", [LIST_META, SET_META])
def test_meta_contexts_need_structured_replies(number: int) -> None:
    (refusal,) = ask(begun(), number, string("disk0") + bytes(4))
    assert refusal[:2] == (number, ERR_INVALID)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (string("disk0"), ERR_INVALID),
        (string("other") + bytes(4), ERR_UNKNOWN),
        (string("disk0") + struct.pack(">I", 2) + string("base:"), ERR_INVALID),
        (string("disk0") + struct.pack(">I", 1) + string("base:") + b"x", ERR_INVALID),
        (string("disk0") + struct.pack(">I", 0xFFFFFFFF), ERR_INVALID),
    ],
)
def test_malformed_meta_context_queries_are_refused(data: bytes, error: int) -> None:
    handshake = begun()
    feed(handshake, option(STRUCTURED_REPLY))
    (refusal,) = ask(handshake, SET_META, data)
    assert refusal[:2] == (SET_META, error)


def test_overlong_option_is_read_past() -> None:
    handshake = begun()
    long = option(LIST, bytes(MAX_OPTION + 1))
    (refusal,) = replies(feed(handshake, long[:100]))
    assert refusal[:2] == (LIST, ERR_TOO_BIG)
    assert replies(feed(handshake, long[100:] + option(LIST))) == [
        (LIST, SERVER, string("disk0")),
        (LIST, ACK, b""),
    ]


def test_longest_option_is_looked_at() -> None:
    assert ask(begun(), 99, bytes(MAX_OPTION))[0].kind == ERR_UNSUP


def test_absurdly_long_option_ends_it() -> None:
    handshake = begun()
    handshake.receive_data(memoryview(b"IHAVEOPT" + struct.pack(">II", LIST, 0xFFFFFFFF)))
    assert handshake.phase is Phase.OVER


def test_endless_options_end_it() -> None:
    handshake = begun()
    count = 0
    while handshake.phase is Phase.OPTIONS:
        handshake.receive_data(memoryview(option(LIST)))
        count += 1
        assert count <= 300
    assert handshake.phase is Phase.OVER


def test_byte_by_byte_gives_the_same_as_at_once() -> None:
    data = NO_ZEROES + option(STRUCTURED_REPLY) + option(LIST, b"x") + option(99) + option(LIST, bytes(9000))
    data += option(GO, string("disk0") + b"\0\1\0\3")
    whole = Handshake(EXPORT)
    whole.receive_data(memoryview(data))
    pieces = Handshake(EXPORT)
    rest = b""
    for index in range(len(data)):
        rest += data[index : index + 1]
        rest = rest[pieces.receive_data(memoryview(rest)) :]
    assert pieces.data_to_send() == whole.data_to_send()
    assert pieces.phase is whole.phase is Phase.AGREED


def test_bytes_after_agreement_are_left_for_transmission() -> None:
    handshake = begun()
    data = option(GO, string("") + b"\0\0")
    assert handshake.receive_data(memoryview(data + b"request")) == len(data)
