"""The short way of a packet through link and stack is the general one: same outcome, same state.

Each packet is given to two equal ends, to one by ``receive_packet``, to the other by ``take_packet`` or
``take``. What they report and send afterwards has to be the same, and so has everything they remember.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from enum import Enum
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, PacketError
from protocol.ldc.cookie import Cookie
from protocol.ldc.events import LinkState, MessageReceived
from protocol.ldc.link import Link
from protocol.ldc.state import TransportState
from protocol.stack import AttributesReceived, ChannelUp, Client, DoorbellRung, Server, Woken
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension
from tests.property.test_ldc_link import inputs
from tests.support.links import INFO, START, STOP, data, events, feed, in_state, outputs, rdx, rts, version
from tests.support.vioscript import SID, ClientScript, ServerScript, octets

RING = RingGeometry(8, 64)
SCHEMES = [Extension.POLLED_RING, Extension.OPEN_RANGES, NO_EXTENSION]


def remembered(value: object) -> object:
    """Everything that ``value`` is made of, so that two can be compared."""
    if value is None or isinstance(value, int | str | bytes | Enum) or callable(value):
        return value
    if isinstance(value, tuple | list | deque):
        return [remembered(item) for item in value]
    if isinstance(value, dict):
        return {key: remembered(item) for key, item in value.items()}
    if isinstance(value, set | frozenset | bytearray):
        return value
    names = [
        *getattr(value, "__dict__", ()),
        *(n for c in type(value).__mro__ for n in getattr(c, "__slots__", ())),
    ]
    return {name: remembered(getattr(value, name)) for name in names if name != "__weakref__"}


# ------------------------------------------------------------------------------------------------------ link


def waiting() -> Link:
    """A link that was reset and whose peer has done the handshake since: UP, but data wait for up()."""
    link = in_state(TransportState.UP)
    link.link_state(LinkState.RESET)
    events(link)
    feed(link, version(INFO), rts(), rdx())
    assert link.state is TransportState.UP
    assert link.in_reset
    return link


LINKS: list[Callable[[], Link]] = [waiting, *(partial(in_state, state) for state in TransportState)]
FLAGS = [START | STOP, START | STOP, START | STOP, START, STOP, 0]


@pytest.mark.parametrize("make", LINKS)
@given(
    steps=st.lists(
        st.one_of(
            inputs,
            st.tuples(st.just("next"), st.tuples(st.sampled_from(FLAGS), st.sampled_from([56, 56, 55]))),
        ),
        max_size=20,
    )
)
def test_link_takes_a_packet_as_it_receives_it(
    make: Callable[[], Link], steps: list[tuple[str, Any]]
) -> None:
    general = make()
    for verb, argument in steps:
        short = deepcopy(general)
        if verb == "next":  # what comes next in a session that goes well
            flags, size = argument
            verb, argument = "receive_packet", data(general._last_msg_rcd + 1, b"m" * size, flags)
        if verb == "drain":
            events(general)
            outputs(general)
        elif verb == "receive_packet":
            assert isinstance(argument, bytes)
            before = remembered(short)
            message = short.take(argument)
            if message is None:
                assert remembered(short) == before
                short.receive_packet(argument)
            else:
                assert not short._events
                short._events.append(MessageReceived(message))
            general.receive_packet(argument)
            assert remembered(short) == remembered(general)
        else:
            try:
                getattr(general, verb)(*([] if argument is None else [argument]))
            except LocalProtocolError:
                assert verb in ("up", "send")


@pytest.mark.parametrize("make", LINKS)
@given(steps=st.lists(st.one_of(st.binary(max_size=120), st.sampled_from(["drain", "queue"])), max_size=12))
def test_link_frames_a_message_as_it_sends_it(make: Callable[[], Link], steps: list[bytes | str]) -> None:
    general = make()
    for step in steps:
        if step == "drain":
            outputs(general)
        elif step == "queue":
            if general.is_up:
                general.send(b"goes first")
        else:
            assert isinstance(step, bytes)
            short = deepcopy(general)
            before = remembered(short)
            packet = short.frame(step)
            if packet is None:
                assert remembered(short) == before
            else:
                general.send(step)
                assert outputs(general) == [packet]
                assert remembered(short) == remembered(general)


def test_link_forgets_a_message_that_another_begins_in() -> None:
    """START in mid-message: only the general way knows of the first one."""
    link = in_state(TransportState.UP)
    feed(link, data(2, b"m" * 56, START))
    assert link.take(data(3, b"n" * 56)) is None
    feed(link, data(3, b"n" * 56))
    assert events(link) == [MessageReceived(b"n" * 56)]
    assert link.take(data(4, b"o" * 56)) == b"o" * 56


def test_link_takes_what_is_meant_for_the_short_way() -> None:
    """The tests above would hold if it took nothing."""
    one, other = Link(), Link()
    for link in (one, other):
        link.link_state(LinkState.UP)
        events(link)
    one.up()
    for _ in range(3):
        for output in outputs(one):
            assert isinstance(output, bytes)
            other.receive_packet(output)
        events(other)
        other.up()
        for output in outputs(other):
            assert isinstance(output, bytes)
            one.receive_packet(output)
        events(one)
    packet = one.frame(b"m" * 56)
    assert packet is not None
    assert other.take(packet) == b"m" * 56
    assert other.take(packet) is None  # its number was used
    packet = one.frame(b"short")
    assert packet is not None
    assert other.take(packet) is None
    other.receive_packet(packet)
    assert events(other) == [MessageReceived(b"short")]


# ----------------------------------------------------------------------------------------------------- stack


def report(stack: Server | Client) -> tuple[list[object], list[object], object]:
    """Take what ``stack`` says; and what it remembers then."""
    found: list[object] = []
    while (event := stack.next_event()) is not None:
        found.append(event)
    return found, list(outputs(stack)), remembered(stack)


def both_ways(stack: Server | Client, packet: bytes) -> tuple[bool, list[object], list[object]]:
    """Give ``packet`` to ``stack`` by the short way and to a copy by the general one: no difference.

    Returns what the short way said, and the events and outputs.
    """
    general = deepcopy(stack)
    rang = failed = False
    try:
        rang = stack.take_packet(packet)
    except PacketError:
        failed = True
    try:
        general.receive_packet(packet)
    except PacketError:
        assert failed
    else:
        assert not failed
    found, sent, state = report(stack)
    if rang:
        assert not found
        assert not sent
        found.append(DoorbellRung() if isinstance(stack, Server) else Woken())
    assert (found, sent, state) == report(general)
    return rang, found, sent


def server(scheme: Extension, polls: bool = False) -> ServerScript:
    """A server in its data phase, three entries announced and two of them done."""
    script = ServerScript(extensions=scheme, polls=polls)
    script.data()
    script.send(script.ring(1, 2, 2 if scheme is NO_EXTENSION else -1, state=2))
    script.events()
    if scheme is Extension.POLLED_RING:
        script.stack.completed(2)
        assert script.stack.end_of_batch(2, stopping=True)
        script.answers()
    return script


def client(scheme: Extension, polls: bool = False) -> ClientScript:
    """A client in its data phase, three requests announced."""
    script = ClientScript(extensions=scheme, server_polls=polls)
    shape = "00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
    for message in (
        octets(f"01 02 00 01 {SID} 0001 0002 04"),
        octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080"),
        bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001 {shape}"),
        octets(f"01 02 00 05 {SID}"),
    ):
        for event in script.events():
            if isinstance(event, ChannelUp):
                script.stack.start(0x2A)
            elif isinstance(event, AttributesReceived):
                script.stack.register_ring(Cookie(0x2000, 0x2000), RING)
        script.send(message)
    script.events()
    assert script.stack.is_ready
    if scheme is Extension.POLLED_RING:
        script.stack.posted(3)
        assert script.stack.ring(sleeping=True)
    else:
        script.stack.announce(0, -1 if scheme is Extension.OPEN_RANGES else 2)
    script.answers()
    return script


def next_packet(script: ServerScript | ClientScript, message: bytes) -> bytes:
    """The packet in which the script's end would send ``message`` next."""
    link = deepcopy(script.link)
    link.send(message)
    packet = link.next_output()
    assert isinstance(packet, bytes)
    return packet


def doorbell(script: ServerScript | ClientScript) -> bytes:
    """The next doorbell, or other ring data, of a peer that does as it should."""
    if isinstance(script, ServerScript):
        return next_packet(script, script.ring(2, 3, -1, state=2, completions=2))
    return next_packet(
        script, octets(f"02 02 00 42 {SID} {1:016x} {1:016x} {2:08x} ffffffff 02 000000 {2:08x}")
    )


MAKERS: list[Callable[..., ServerScript | ClientScript]] = [server, client]


@pytest.mark.parametrize("make", MAKERS)
def test_two_doorbells_are_told_of_in_their_order(make: Callable[..., ServerScript | ClientScript]) -> None:
    script = make(Extension.POLLED_RING)
    first = doorbell(script)
    script.stack.receive_packet(first)
    script.link.send(first[8:])
    script.link.next_output()  # it is what was received
    message = bytearray(first[8:])
    message[15] += isinstance(script, ServerScript)
    rang, found, _ = both_ways(script.stack, next_packet(script, bytes(message)))
    assert not rang
    assert len(found) == 2


@pytest.mark.parametrize("polls", [False, True])
@pytest.mark.parametrize("make", MAKERS)
def test_a_doorbell_goes_the_short_way(make: Callable[..., ServerScript | ClientScript], polls: bool) -> None:
    script = make(Extension.POLLED_RING, polls)
    rang, _, _ = both_ways(script.stack, doorbell(script))
    assert rang


def changes(packet: bytes) -> Iterator[bytes]:
    """``packet`` with every bit changed in turn, and its octets set to what rules are about."""
    for at in range(len(packet)):
        for value in {packet[at] ^ 1 << bit for bit in range(8)} | {0, 1, 2, 3, 4, 0x7F, 0xFF}:
            yield packet[:at] + bytes([value]) + packet[at + 1 :]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("make", MAKERS)
def test_a_doorbell_with_any_octet_changed_goes_the_same_way(
    make: Callable[..., ServerScript | ClientScript], scheme: Extension
) -> None:
    script = make(scheme)
    short = 0
    for packet in changes(doorbell(script)):
        rang, _, _ = both_ways(deepcopy(script.stack), packet)
        short += rang
    assert bool(short) is (scheme is Extension.POLLED_RING)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
@pytest.mark.parametrize("make", MAKERS)
def test_what_is_no_packet_is_refused(make: Callable[..., ServerScript | ClientScript], size: int) -> None:
    script = make(Extension.POLLED_RING)
    before = remembered(script.stack)
    with pytest.raises(PacketError):
        script.stack.take_packet((doorbell(script) * 3)[:size])
    assert remembered(script.stack) == before


FIELDS = st.fixed_dictionaries(
    {
        "seqid": st.sampled_from([0, 0, 0, 0, 0, 1, -1]),
        "seq_num": st.sampled_from([0, 0, 0, 0, 1, -1]),
        "ident": st.sampled_from([1, 1, 1, 1, 2]),
        "start": st.integers(0, 8),
        "end": st.sampled_from([-1, -1, -1, 3]),
        "state": st.sampled_from([1, 2, 1, 2, 1, 2, 0, 3]),
        "completions": st.integers(-1, 4),
        "sid": st.sampled_from([SID, SID, SID, "00 00 00 2b"]),
    }
)
STEPS = st.one_of(
    FIELDS,
    FIELDS,
    st.binary(min_size=64, max_size=64),
    st.sampled_from(list(LinkState)),
    st.sampled_from(["work", "work", "stop", "reset"]),
)


@given(
    steps=st.lists(STEPS, max_size=12),
    make=st.sampled_from(MAKERS),
    polls=st.booleans(),
    scheme=st.sampled_from(SCHEMES),
)
def test_any_conversation_goes_the_same_way(
    steps: list[Any],
    make: Callable[..., ServerScript | ClientScript],
    polls: bool,
    scheme: Extension,
) -> None:
    script = make(scheme, polls)
    stack = script.stack
    following = int.from_bytes(doorbell(script)[4:8], "big")
    number = 2 if isinstance(stack, Server) else 1
    for step in steps:
        if isinstance(step, LinkState):
            stack.link_state(step)
            report(stack)
        elif step == "reset":
            try:
                stack.reset_done()
            except LocalProtocolError:
                continue
            report(stack)
        elif isinstance(step, str):
            _drive(stack, stopping=step == "stop")
            report(stack)
        else:
            packet = step
            if isinstance(step, dict):
                who = "01" if isinstance(stack, Server) else "02"
                packet = next_packet(
                    script,
                    octets(
                        f"02 {who} 00 42 {step['sid']} {number + step['seq_num']:016x}"
                        f"{step['ident']:016x} {step['start']:08x} {step['end'] & 0xFFFFFFFF:08x}"
                        f"{step['state']:02x} 000000 {step['completions'] & 0xFFFFFFFF:08x}"
                    ),
                )
                packet = packet[:4] + (following + step["seqid"] & 0xFFFFFFFF).to_bytes(4, "big") + packet[8:]
            _, found, _ = both_ways(stack, packet)
            if found:  # it was taken, and the next one follows it
                following += 1
                number += isinstance(stack, Server)


def _drive(stack: Server | Client, *, stopping: bool) -> None:
    """Do as a driver does that finds an entry done."""
    if isinstance(stack, Server):
        stack.completed(1)
        stack.end_of_batch(3, stopping)
    elif stack.is_ready:
        stack.posted(1)
        stack.ring(sleeping=stopping)
