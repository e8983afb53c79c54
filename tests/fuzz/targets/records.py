"""Everything that is parsed outside a channel's packets: hypervisor records and the rendezvous.

Input: one byte says which reader, the rest is the datagram. Another reader is one more line of the table.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from hypervisor.greeting import (
    KNOWN_EXTENSIONS,
    SENTENCE_LIMIT,
    Refused,
    Welcome,
    build_answer,
    build_hello,
    close_all,
    parse_answer,
    parse_hello,
    receive_greeting,
)
from hypervisor.records import RECORD_LIMIT, build_record, parse_record
from protocol.errors import ChannelLost
from protocol.ldc.packet import PACKET_SIZE
from tests.fuzz.tape import Tape, attempt

__all__ = ["READERS", "fuzz_one"]

GREETING_LIMIT: Final = 256


def _record(data: bytes) -> None:
    """A record that parses builds back to one that says the same; only reserved bytes may differ."""
    record = attempt(parse_record, data)
    if record is not None and len(data) <= RECORD_LIMIT:
        built = b"".join(build_record(record))
        assert len(built) != PACKET_SIZE
        assert parse_record(built) == record


def _hello(data: bytes) -> None:
    hello = attempt(parse_hello, data)
    if hello is not None:
        assert parse_hello(build_hello(hello)) == hello


def _answer(data: bytes) -> None:
    """A refusal is one sentence without control characters; a go-ahead agrees to nothing unknown."""
    refusal: Refused | None = None
    welcome: Welcome | None = None
    try:
        welcome = attempt(parse_answer, data, KNOWN_EXTENSIONS)
    except Refused as error:
        refusal = error
    assert refusal is None or (refusal.errno and str(refusal.strerror).isprintable())
    if welcome is not None:
        assert parse_answer(build_answer(welcome), KNOWN_EXTENSIONS) == welcome
        sentence = build_answer(welcome, 1, "x" * (SENTENCE_LIMIT + 1))
        assert attempt(parse_hello, sentence) is None


def _greeting(data: bytes) -> None:
    """A datagram is received whole or refused; an empty one is a peer that has hung up."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(data)
        ours.setblocking(False)
        try:
            received = attempt(receive_greeting, ours, GREETING_LIMIT)
        except ChannelLost:
            assert not data
            return
    if received is not None:
        close_all(received[1])
        assert received == (data, [])
    assert (received is not None) == (len(data) <= GREETING_LIMIT)


READERS: Final[tuple[Callable[[bytes], None], ...]] = (
    _record,
    _hello,
    _answer,
    _greeting,
)
"""What the first byte chooses from, modulo 16 so that a new line at the end leaves the others where they are;
numbers without a line read a record."""


def fuzz_one(data: bytes) -> None:
    """Give a datagram to one reader."""
    tape = Tape(data)
    number = tape.byte() % 16
    READERS[number if number < len(READERS) else 0](tape.rest())
