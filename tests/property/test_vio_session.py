"""Whatever a peer sends and when: the stack answers or resets, never raises, and a later handshake works."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.ldc.cookie import Cookie
from protocol.ldc.events import LinkState
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    DescriptorsReady,
    RangeOpened,
    RequestReceived,
    RingOffered,
    SessionLost,
    SessionReset,
)
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension
from protocol.vio.messages import OPEN_ENDED
from tests.support.vioscript import SID, ClientScript, ServerScript, octets

RING = RingGeometry(8, 64)
EXTENSIONS = [NO_EXTENSION, Extension.POLLED_RING, Extension.OPEN_RANGES]
SHAPE = "00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"

VALID = [
    octets(f"01 01 00 01 {SID} 0001 0002 03"),
    octets(f"01 01 00 01 {SID} 0001 0000 03"),
    octets(f"01 01 00 02 {SID} 03 00 00 00 00000200" + "00" * 16 + "0000000000000100"),
    octets(f"01 01 00 02 {SID} 02 00 00 00 00000200" + "00" * 16 + "0000000000000100"),
    bytes.fromhex(f"01 01 00 03 {SID} {'00' * 8} {SHAPE}"),
    octets(f"01 01 00 04 {SID} 0000000000000001"),
    octets(f"01 01 00 05 {SID}"),
    *(
        octets(f"02 01 00 42 {SID} {seq:016x} 0000000000000001 {start:08x} {end:08x} {state:02x}")
        for seq in (1, 2)
        for start, end, state in ((0, 0, 0), (6, 1, 0), (3, 0xFFFFFFFF, 1), (9, 9, 0))
    ),
    octets(f"02 01 00 41 {SID} 0000000000000001 00000000000000aa", 64),
    *(
        octets(f"{msgtype} {subtype} 00 {envelope} {SID} 0001 0002 04")
        for msgtype, subtype, envelope in (
            ("01", "02", "01"),
            ("01", "04", "01"),
            ("01", "02", "05"),
            ("01", "04", "05"),
            ("02", "02", "42"),
            ("02", "04", "42"),
        )
    ),
    octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080"),
    octets(f"01 02 00 02 {SID} 02 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080"),
    bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001 {SHAPE}"),
    octets(f"02 02 00 42 {SID} 0000000000000001 0000000000000001"),
    *(
        octets(f"02 02 00 42 {SID} {seq:016x} 0000000000000001 {start:08x} {end:08x} {state:02x}")
        for seq, start, end, state in ((1, 0, 2, 1), (1, 3, 3, 2), (2, 7, 7, 2))
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a valid message, perhaps with some octets changed, or cut, or any bytes at all."""
    message = bytearray(draw(st.sampled_from(VALID)))
    how = draw(st.sampled_from(["as it is"] * 6 + ["changed", "changed", "cut", "longer", "anything"]))
    if how == "changed":
        for _ in range(draw(st.integers(1, 3))):
            message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    elif how == "cut":
        del message[draw(st.integers(1, len(message) - 1)) :]
    elif how == "longer":
        message += draw(st.binary(min_size=1, max_size=70))
    elif how == "anything":
        return draw(st.binary(min_size=1, max_size=120))
    return bytes(message)


def _serve(script: ServerScript, event: object, rings: list[RingGeometry], data: st.DataObject) -> None:
    """Do as a server's driver does, with its luck at the ring and the requests drawn."""
    stack = script.stack
    lucky = data.draw(st.booleans())
    if isinstance(event, RingOffered):
        rings.append(event.geometry)
        if lucky:
            stack.accept_ring()
        else:
            stack.refuse_ring("unlucky")
    elif isinstance(event, DescriptorsReady):
        geometry = rings[-1]
        end = (event.start_idx + event.count - 1) % geometry.num_descriptors
        for index in geometry.indices(event.start_idx, end):
            if not lucky and index % 3 == 0:
                stack.fault(event.batch, index, "unlucky")
                return
            stack.complete(event.batch, index)
    elif isinstance(event, RangeOpened):
        stack.taken(event.batch, event.start_idx)
        if lucky:
            stack.complete(event.batch, event.start_idx)
            stack.progress(event.batch)
            stack.stopped(event.batch)
        else:
            stack.fault(event.batch, event.start_idx, "unlucky")
    elif isinstance(event, RequestReceived):
        if lucky:
            stack.complete_inband(event.batch, 0, 0)
        else:
            stack.fault(event.batch, 0, "unlucky")
    elif isinstance(event, SessionReset):
        stack.reset_done()


@given(
    messages=st.lists(mutated(), max_size=16),
    extensions=st.sampled_from(EXTENSIONS),
    begun=st.sampled_from(["nothing", "agreed", "data", "in-band"]),
    data=st.data(),
)
def test_a_server_survives_any_client(
    messages: list[bytes], extensions: Extension, begun: str, data: st.DataObject
) -> None:
    script = ServerScript(extensions=extensions, polls=True)
    {
        "nothing": lambda: None,
        "agreed": script.agree,
        "data": script.data,
        "in-band": script.inband,
    }[begun]()
    rings = [RING]
    for message in messages:
        script.send(message)
        while events := script.events():
            for event in events:
                _serve(script, event, rings, data)
            script.carry()
    script.reset()
    while events := script.events():
        for event in events:
            _serve(script, event, rings, data)
        script.carry()
    script.data()


def _use(script: ClientScript, inband: bool) -> None:
    """Do as a client's driver does, until nothing is left to do."""
    while events := script.events():
        for event in events:
            if isinstance(event, ChannelUp):
                script.stack.start(0x2A)
            elif isinstance(event, AttributesReceived) and inband:
                script.stack.start_data()
            elif isinstance(event, AttributesReceived):
                script.stack.register_ring(Cookie(0x2000, 0x2000), RING)
            elif isinstance(event, SessionLost):
                script.stack.reset_done()


@given(
    messages=st.lists(mutated(), max_size=16),
    extensions=st.sampled_from(EXTENSIONS),
    inband=st.booleans(),
    begun=st.integers(0, 4),
)
def test_a_client_survives_any_server(
    messages: list[bytes], extensions: Extension, inband: bool, begun: int
) -> None:
    script = ClientScript(extensions=extensions, xfer_mode=2 if inband else 3)
    stack = script.stack
    mode = "02" if inband else "03"
    handshake = [
        octets(f"01 02 00 01 {SID} 0001 0002 04"),
        octets(
            f"01 02 00 02 {SID} {mode} 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080"
        ),
        *([] if inband else [bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001 {SHAPE}")]),
        octets(f"01 02 00 05 {SID}"),
    ]
    for message in [*handshake[:begun], *messages]:
        _use(script, inband)
        if stack.is_ready and not inband:
            if extensions == Extension.POLLED_RING:
                stack.posted(1)
                stack.ring(sleeping=True)
            elif extensions == Extension.OPEN_RANGES:
                if not stack.server_looks:
                    stack.announce(0, OPEN_ENDED)
            else:
                stack.announce(0, 0)
        script.send(message)
    _use(script, inband)
    script.reset()
    for message in handshake:
        _use(script, inband)
        script.send(message)
    _use(script, inband)
    assert stack.is_ready


@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from(LinkState),
            st.binary(min_size=64, max_size=64),
            st.sampled_from(["reset_done"]),
        ),
        max_size=30,
    )
)
def test_any_packets_and_link_states_are_survived(steps: list[LinkState | bytes | str]) -> None:
    for script in (ServerScript(), ClientScript()):
        stack = script.stack
        for step in steps:
            while (event := stack.next_event()) is not None:
                if isinstance(event, SessionReset | SessionLost):
                    stack.reset_done()
                elif isinstance(event, ChannelUp):
                    assert isinstance(script, ClientScript)
                    script.stack.start(1)
            if isinstance(step, LinkState):
                stack.link_state(step)
            elif isinstance(step, bytes):
                stack.receive_packet(step)
            while stack.next_output() is not None:
                pass
