"""The client's side of the handshake and of the data phase: how it reacts at each step.

Sources: Solaris 11 vdc.c (vdc_handle_ver_msg, vdc_handle_attr_msg, vdc_handle_dring_reg_msg,
vdc_process_data_msg, vdc_verify_seq_num, vdc_handle_cb); Linux viohs.c, sunvdc.c; OpenBSD vdsp.c.
"""

from __future__ import annotations

import pytest

from protocol.ldc.cookie import Cookie
from protocol.ldc.events import LinkState
from protocol.stack import AttributesReceived, ChannelUp, DescriptorsDone, SessionLost, SessionReady
from protocol.vio.dring import RingGeometry
from tests.support.vioscript import SID, ClientScript, octets

VER_ACK = octets(f"01 02 00 01 {SID} 0001 0002 04")
ATTR_ACK = octets(
    f"01 02 00 02 {SID} 03 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000080 00000200"
)
SHAPE = "00000008 00000040 0003 0000 00000001 0000000000002000 0000000000002000"
RING_ACK = bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001 {SHAPE}")
RDX_ACK = octets(f"01 02 00 05 {SID}")
STEPS = [VER_ACK, ATTR_ACK, RING_ACK, RDX_ACK]


def _at(step: int) -> ClientScript:
    """Return a client that waits for answer number ``step``; 4 is the data phase, one request sent."""
    script = ClientScript()
    assert script.events() == [ChannelUp()]
    script.stack.start(0x2A)
    for answer in STEPS[:step]:
        script.send(answer)
        if answer is ATTR_ACK:
            assert [type(event) for event in script.events()] == [AttributesReceived]
            script.stack.register_ring(Cookie(0x2000, 0x2000), RingGeometry(8, 64))
    script.answers()
    if step == 4:
        assert [type(event) for event in script.events()] == [SessionReady]
        script.stack.announce(3, 3)
        script.answers()
    return script


def _lost(script: ClientScript) -> bool:
    """Say whether the session is lost; then it is cleaned up."""
    lost = [event for event in script.events() if isinstance(event, SessionLost)]
    for _ in lost:
        script.stack.reset_done()
        script.carry()
    return bool(lost)


@pytest.mark.parametrize("step", range(4))
def test_the_ack_of_the_awaited_envelope_leads_on(step: int) -> None:
    """vdc.c: next step."""
    script = _at(step)
    script.send(STEPS[step])
    assert not _lost(script)


@pytest.mark.parametrize(
    ("step", "other"), [(step, other) for step in range(5) for other in range(4) if step != other]
)
def test_another_envelope_is_a_reset(step: int, other: int) -> None:
    """vdc.c: EPROTO."""
    script = _at(step)
    script.send(STEPS[other])
    assert _lost(script)
    assert script.resets == 1


@pytest.mark.parametrize("step", range(4))
def test_an_info_is_a_reset(step: int) -> None:
    """vdc.c: EPROTO; the server never asks anything."""
    script = _at(step)
    script.send(STEPS[step][:1] + b"\x01" + STEPS[step][2:])
    assert _lost(script)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_nack_of_anything_but_the_version_is_a_reset(step: int) -> None:
    """vdc.c: EPROTO."""
    script = _at(step)
    script.send(STEPS[step][:1] + b"\x04" + STEPS[step][2:])
    assert _lost(script)


@pytest.mark.parametrize("step", range(5))
def test_a_message_shorter_than_a_tag_is_a_reset(step: int) -> None:
    """vdc.c: ENOMSG."""
    script = _at(step)
    script.send(bytes(7))
    assert _lost(script)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_another_session_id_is_a_reset(step: int) -> None:
    """vdc.c: ENOMSG."""
    script = _at(step)
    script.send(STEPS[step][:7] + b"\x2b" + STEPS[step][8:])
    assert _lost(script)


def test_the_session_id_of_a_version_answer_is_not_looked_at() -> None:
    """vdc.c: except for messages whose envelope is VER_INFO."""
    script = _at(0)
    script.send(VER_ACK[:7] + b"\x99" + VER_ACK[8:])
    assert not _lost(script)


def test_an_ack_of_dev_class_other_than_disk_server_is_a_reset() -> None:
    """vdc.c, vdc_handle_ver_msg: EINVAL."""
    script = _at(0)
    script.send(VER_ACK[:12] + b"\x03" + VER_ACK[13:])
    assert _lost(script)


def test_a_nack_of_0_0_ends_the_attempt() -> None:
    """Linux viohs.c, process_ver_nack, and Solaris alike."""
    script = _at(0)
    script.send(octets(f"01 04 00 01 {SID} 0000 0000 03"))
    assert _lost(script)


def test_after_a_nack_the_next_lower_version_is_offered_with_a_new_session_id() -> None:
    """Linux viohs.c, process_ver_nack; Solaris vdc goes on as if it were an ACK, a defect."""
    script = ClientScript(versions=((2, 3), (1, 2)))
    script.events()
    script.stack.start(0x2A)
    assert script.answers() == [octets(f"01 01 00 01 {SID} 0002 0003 03")]
    (again,) = script.send(octets(f"01 04 00 01 {SID} 0001 0001 03"))
    assert again == octets("01 01 00 01 0000002b 0001 0002 03")
    (wish,) = script.send(octets("01 02 00 01 0000002b 0001 0001 04"))
    assert wish[:8] == bytes.fromhex("01 01 00 02 0000002b")
    assert script.stack.version == (1, 1)


@pytest.mark.parametrize("version", ["0001 0003", "0002 0000", "0000 0002"])
def test_an_ack_of_a_version_never_offered_is_a_reset(version: str) -> None:
    """vdc.c, vdc_handle_ver_msg: the major must be known; FWARC 2010/054: an ACK may lower the minor only."""
    script = _at(0)
    script.send(octets(f"01 02 00 01 {SID} {version} 04"))
    assert _lost(script)


def test_an_attribute_message_of_another_length_is_a_reset() -> None:
    """vdc.c, vdc_handle_attr_msg."""
    script = _at(1)
    script.send(ATTR_ACK[:48])
    assert _lost(script)


def test_of_a_ring_ack_only_the_ident_counts() -> None:
    """OpenBSD vdsp.c answers zeroes but for the ident."""
    script = _at(2)
    (rdx,) = script.send(bytes.fromhex(f"01 02 00 03 {SID} 0000000000000007") + bytes(32))
    assert rdx == octets(f"01 01 00 05 {SID}")
    script.send(RDX_ACK)
    assert not _lost(script)
    script.stack.announce(0, 0)
    assert script.answers()[0][16:24] == (7).to_bytes(8, "big")


def test_an_rdx_ack_may_be_a_tag_alone() -> None:
    """OpenBSD vdsp.c answers 8 bytes."""
    script = _at(3)
    script.send(RDX_ACK[:8])
    assert not _lost(script)
    assert script.stack.is_ready


def test_every_version_info_has_a_session_id_of_its_own() -> None:
    """vdc.c, Linux viohs.c, OpenBSD vdsk.c: a new sid for each VER_INFO."""
    script = _at(4)
    script.send(bytes(7))
    assert _lost(script)
    script.stack.start(0x1234)
    assert script.answers() == [octets("01 01 00 01 00 00 12 34 0001 0002 03")]


# -- link ----------------------------------------------------------------------------------------------------


def test_up_starts_the_handshake_with_message_1() -> None:
    """vdc.c, vdc_handle_cb, LDC_EVT_UP: seq_num := 1, last reply := 0."""
    script = _at(4)
    script.send(bytes(7))
    assert _lost(script)
    script.stack.start(0x2A)
    for answer in STEPS:
        script.send(answer)
        if answer is ATTR_ACK:
            script.stack.register_ring(Cookie(0x2000, 0x2000), RingGeometry(8, 64))
    script.events()
    assert script.stack.announce(0, 0) == 1


@pytest.mark.parametrize("step", range(5))
def test_reset_is_the_reset_path(step: int) -> None:
    """vdc.c, vdc_handle_cb, LDC_EVT_RESET: the reader gets ECONNRESET; no ldc_down of our own on top."""
    script = _at(step)
    script.reset()
    before = script.resets
    assert _lost(script)
    assert script.resets == before
    script.stack.start(0x2A)
    assert len(script.answers()) == 1


def test_down_is_as_reset() -> None:
    """vdc.c, vdc_handle_cb, LDC_EVT_DOWN."""
    script = _at(4)
    script.stack.link_state(LinkState.DOWN)
    assert isinstance(script.stack.next_event(), SessionLost)


def test_reset_of_our_own_takes_the_link_down() -> None:
    """vdc.c: ldc_down, discard the ring, retry from ldc_up."""
    script = _at(4)
    script.send(RDX_ACK)
    assert _lost(script)
    assert script.resets == 1
    assert not script.stack.is_ready


# -- answers -------------------------------------------------------------------------------------------------


def _answer(subtype: int, seq_num: int, start: int = 3, end: int = 3, ident: int = 1) -> bytes:
    fields = f"{seq_num:016x} {ident:016x} {start:08x} {end & 0xFFFFFFFF:08x}"
    return octets(f"02 {subtype:02x} 00 42 {SID} {fields}")


def test_an_ack_means_look_at_the_descriptor() -> None:
    """vdc.c, vdc_process_data_msg."""
    script = _at(4)
    script.send(_answer(2, 1))
    assert script.events() == [DescriptorsDone(3, 3)]


def test_a_nack_is_a_reset_and_not_an_io_error() -> None:
    """vdc.c: reset the connection and resubmit. (Linux and OpenBSD ignore it, and hang.)"""
    script = _at(4)
    script.send(_answer(4, 1))
    assert _lost(script)
    assert script.resets == 1


def test_an_info_in_the_data_phase_is_a_reset() -> None:
    """vdc.c, vdc_process_data_msg: INFO: reset."""
    script = _at(4)
    script.send(_answer(1, 1))
    assert _lost(script)


@pytest.mark.parametrize("seq_num", [0, 2, 3, 1 << 63])
def test_an_answer_has_a_number_between_the_last_one_and_the_last_sent(seq_num: int) -> None:
    """vdc.c, vdc_verify_seq_num: last_reply < seq_num <= next_to_send, else reset."""
    script = _at(4)
    script.send(_answer(2, seq_num))
    assert _lost(script)


def test_an_answer_given_twice_is_a_reset() -> None:
    """vdc.c, vdc_verify_seq_num."""
    script = _at(4)
    script.send(_answer(2, 1), _answer(2, 1))
    assert _lost(script)


def test_an_answer_names_our_ring() -> None:
    """Linux sunvdc.c: requires an ident match."""
    script = _at(4)
    script.send(_answer(2, 1, ident=2))
    assert _lost(script)


@pytest.mark.parametrize(("start", "end"), [(8, 8), (3, 8), (0xFFFFFFFF, 3), (3, -1)])
def test_an_answer_names_entries_of_the_ring(start: int, end: int) -> None:
    """vdc.c asserts that the indices are in range; an assertion is no way to treat a peer."""
    script = _at(4)
    script.send(_answer(2, 1, start, end))
    assert _lost(script)
