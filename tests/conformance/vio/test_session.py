"""The session, server's side: its id, its ends, its versions, and what the link does to it.

Sources: Solaris 11 vds.c (vd_do_process_msg, vd_process_msg, vd_reset_if_needed, vd_process_ver_msg,
vd_handle_ldc_events); Linux viohs.c (process_ver_nack).
"""

from __future__ import annotations

import pytest

from protocol.ldc.events import LinkState
from protocol.stack import DescriptorsReady, SessionReset
from protocol.vio.state import ServerState
from tests.support.vioscript import SID, ServerScript, octets
from tests.support.viosession import ATTR, RDX, refused, reset_of, server_in

# -- session id ----------------------------------------------------------------------------------------------


def test_before_a_version_the_session_id_is_not_looked_at() -> None:
    """vds.c: any VER_INFO is taken, and the answer carries the client's sid."""
    script = ServerScript()
    for sid in ("00 00 00 00", "ff ff ff ff"):
        (answer,) = script.say(f"01 01 00 01 {sid} 0009 0000 03")
        assert answer.startswith(f"01 04 00 01 {sid}")


@pytest.mark.parametrize("message", [f"01 01 00 05 {SID[:-1]}b", f"02 01 00 42 {SID[:-1]}b"])
def test_later_another_session_id_is_refused_for_data_too(message: str) -> None:
    """vds.c, vd_do_process_msg: EBADMSG, NACK and soft reset; the NACK carries the sid that was sent."""
    script = ServerScript()
    script.data()
    (answer,) = script.say(message)
    assert answer.split()[4:8] == f"{SID[:-1]}b".split()
    reset = reset_of(script)
    assert reset is not None
    assert not reset.full


# -- reply rule ----------------------------------------------------------------------------------------------


def test_an_unexpected_message_is_a_nack_and_a_soft_reset() -> None:
    """Solaris 11 vds.c, ENOMSG: soft (illumos: full)."""
    script = ServerScript()
    script.agree()
    script.events()
    reset = refused(script, octets(RDX))
    assert reset is not None
    assert not reset.full
    assert script.resets == 0


@pytest.mark.parametrize("size", [1, 4, 7])
def test_a_message_shorter_than_a_tag_gets_no_answer_and_a_full_reset(size: int) -> None:
    """vds.c, vd_process_msg: cannot nack a short message."""
    script = ServerScript()
    script.data()
    assert script.send(bytes(size)) == []
    reset = reset_of(script)
    assert reset is not None
    assert reset.full
    assert script.resets == 1


def test_after_a_soft_reset_the_link_stays_up_and_a_new_version_is_welcome() -> None:
    """vds.c, vd_reset_if_needed: state INIT, ldc_up."""
    script = ServerScript()
    script.data()
    refused(script, octets(RDX))
    assert script.resets == 0
    script.data(minor=1)


def test_after_a_full_reset_the_link_comes_up_again() -> None:
    """vds.c, vd_reset_if_needed: ldc_down, then ldc_up; the client sees an LDC RESET."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 99, 99))
    reset = reset_of(script)
    assert reset is not None
    assert reset.full
    assert script.resets == 1
    script.data()


def test_a_running_request_is_answered_before_the_reset() -> None:
    """vds.c, vd_reset_if_needed: waits for the completion queue, then resets."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0), octets(RDX))
    ready, _ = script.events()
    assert isinstance(ready, DescriptorsReady)
    script.stack.complete(ready.batch, 0)
    assert [answer[1] for answer in script.answers()] == [2, 4]


# -- versions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("0001 0000", "02 0001 0000 04"),  # OpenBSD
        ("0001 0001", "02 0001 0001 04"),  # Solaris, OpenBSD
        ("0001 0002", "02 0001 0002 04"),  # Linux
        ("0001 0003", "02 0001 0002 04"),
        ("0001 ffff", "02 0001 0002 04"),
        ("0002 0000", "04 0001 0002 04"),
        ("ffff ffff", "04 0001 0002 04"),
        ("0000 0000", "04 0000 0000 04"),
        ("0000 ffff", "04 0000 0000 04"),
    ],
)
def test_the_answer_to_a_version(offered: str, answer: str) -> None:
    """vds.c, vd_process_ver_msg: minor lowered; own best; next lower; 0.0. dev_class 4, refused or not."""
    script = ServerScript()
    subtype, rest = answer.split(" ", 1)
    assert script.send(octets(f"01 01 00 01 {SID} {offered} 03")) == [
        octets(f"01 {subtype} 00 01 {SID} {rest}")
    ]


def test_linux_goes_down_to_a_version_we_have() -> None:
    """Linux viohs.c: after a NACK, the next lower version with a new sid."""
    script = ServerScript()
    assert script.say("01 01 00 01 00 00 00 29 0002 0000 03")[0].startswith("01 04 00 01 00 00 00 29 00 01")
    script.data()


def test_a_solaris_client_that_cannot_go_down_ends_in_a_reset_and_tries_again() -> None:
    """vdc.c, vdc_handle_ver_msg: after a NACK it goes on with ATTR_INFO as if acknowledged."""
    script = ServerScript()
    script.say(f"01 01 00 01 {SID} 0002 0000 03")
    assert script.say(ATTR)[0].startswith("01 04 00 02")
    assert script.events() == []
    script.reset()
    script.data()


def test_version_info_acks_do_not_depend_on_the_link_being_fresh() -> None:
    """vds.c: LDC UP is a soft reset; a client may also just begin again after its own reset."""
    script = ServerScript()
    script.data()
    script.reset()
    reset_of(script)
    script.data()


# -- link ----------------------------------------------------------------------------------------------------


def test_link_reset_without_a_session_just_comes_up_again() -> None:
    """vds.c, vd_handle_ldc_events, LDC_EVT_RESET in INIT: just ldc_up."""
    script = ServerScript()
    script.reset()
    assert script.events() == []
    script.data()


@pytest.mark.parametrize("state", [state for state in ServerState if state is not ServerState.INIT])
def test_link_reset_is_a_soft_reset(state: ServerState) -> None:
    """vds.c, vd_handle_ldc_events, LDC_EVT_RESET: a soft reset, which ends in ldc_up."""
    script = server_in(state)
    script.reset()
    reset = reset_of(script)
    assert reset is not None
    assert not reset.full
    assert script.resets == 0
    script.data()


@pytest.mark.parametrize("state", [state for state in ServerState if state is not ServerState.INIT])
def test_link_down_is_a_full_reset(state: ServerState) -> None:
    """vds.c, vd_handle_ldc_events, LDC_EVT_DOWN."""
    script = server_in(state)
    script.stack.link_state(LinkState.DOWN)
    (reset,) = script.events()
    assert isinstance(reset, SessionReset)
    assert reset.full
