"""The handshake, server's side: what is accepted where, and what is answered.

Sources: Solaris 11 vds.c (vd_do_process_msg, vd_process_ver_msg, vd_process_attr_msg,
vd_process_dring_reg_msg); FWARC 2010/054.
"""

from __future__ import annotations

import pytest

from protocol.vio.state import SERVER_EXPECTS, ServerState
from tests.support.vioscript import SID, ServerScript, octets
from tests.support.viosession import ATTR, RDX, refused, reset_of, server_in


def _register(
    *,
    num: int = 8,
    size: int = 64,
    ncookies: int = 1,
    options: int = 3,
    length: int = 0x2000,
    ident: int = 0,
    resv: str = "0000",
) -> bytes:
    cookies = f"{0x2000:016x} {length:016x}" * ncookies
    return bytes.fromhex(
        f"01 01 00 03 {SID} {ident:016x} {num:08x} {size:08x} {options:04x} {resv} {ncookies:08x} {cookies}"
    )


# -- the steps -----------------------------------------------------------------------------------------------


def test_a_ring_handshake_has_four_steps_and_the_server_only_answers() -> None:
    """vds.c: VER, ATTR, DRING, DATA; an RDX of the server's own is never sent."""
    script = ServerScript()
    assert script.answers() == []
    script.data()
    assert script.answers() == []
    assert script.stack.is_ready


def test_an_in_band_handshake_skips_the_ring() -> None:
    """vds.c: in mode 2 the state after ATTR awaits RDX."""
    script = ServerScript()
    script.inband()
    assert script.stack.is_ready


@pytest.mark.parametrize("step", range(4))
def test_reserved_bytes_are_not_looked_at(step: int) -> None:
    """vdc.c sends uninitialised stack bytes in VER_INFO, ATTR_INFO and RDX."""
    script = ServerScript()
    messages = [
        octets(f"01 01 00 01 {SID} 0001 0001 03")[:13] + b"\xa5" * 43,
        octets(ATTR)[:11] + b"\xa5" + octets(ATTR)[12:40] + b"\xa5" * 16,
        _register(resv="a5a5"),
        octets(RDX)[:8] + b"\xa5" * 48,
    ]
    for message in messages[: step + 1]:
        answers = script.send(message)
        if message[3] == 3:
            script.stack.accept_ring()
            answers = script.answers()
        assert [answer[1] for answer in answers] == [2]


# -- what is accepted where ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 40, 55, 57, 112])
def test_init_ver_info_has_56_bytes(size: int) -> None:
    """vds.c, vd_process_ver_msg: length = 56."""
    script = ServerScript()
    message = (octets(f"01 01 00 01 {SID} 0001 0001 03") + bytes(56))[:size]
    assert refused(script, message) is None
    script.data()


@pytest.mark.parametrize("dev_class", [0, 1, 2, 4, 5])
def test_init_dev_class_is_disk(dev_class: int) -> None:
    """vds.c, vd_process_ver_msg: dev_class = 3, else NACK with version and class unchanged."""
    script = ServerScript()
    message = octets(f"01 01 00 01 {SID} 0001 0001 {dev_class:02x}")
    assert script.send(message) == [message[:1] + b"\x04" + message[2:]]
    script.data()


@pytest.mark.parametrize("size", [8, 48, 55, 57])
def test_ver_attr_info_has_56_bytes(size: int) -> None:
    """vds.c, vd_process_attr_msg: length = 56."""
    script = ServerScript()
    script.say(f"01 01 00 01 {SID} 0001 0001 03")
    reset = refused(script, (octets(ATTR) + bytes(8))[:size])
    assert reset is not None
    assert not reset.full


def test_ver_max_xfer_sz_is_not_0() -> None:
    """vds.c, vd_process_attr_msg: max_xfer_sz 0 is refused."""
    script = ServerScript()
    script.say(f"01 01 00 01 {SID} 0001 0001 03")
    reset = refused(script, octets(ATTR)[:32] + bytes(24))
    assert reset is not None
    assert not reset.full


@pytest.mark.parametrize("minor", [0, 1, 2])
@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4, 5, 7, 255])
def test_ver_xfer_mode_is_in_band_or_ring(minor: int, mode: int) -> None:
    """vds.c: 2 or 3. FWARC 2010/054: from 1.2 on a mask with the ring at 4; Linux sends 3 all the same."""
    script = ServerScript()
    script.say(f"01 01 00 01 {SID} 0001 {minor:04x} 03")
    message = octets(ATTR)[:8] + bytes([mode]) + octets(ATTR)[9:]
    if mode in (2, 3) or (mode == 4 and minor == 2):
        (answer,) = script.send(message)
        assert (answer[1], answer[8]) == (2, mode)
    else:
        reset = refused(script, message)
        assert reset is not None
        assert not reset.full


def test_attr_dring_reg_is_acknowledged_with_ident_1_and_all_else_echoed() -> None:
    """vds.c, vd_process_dring_reg_msg: the answer is the message with ident 1, 48 bytes."""
    script = ServerScript()
    script.agree()
    script.send(_register(options=0xFFFF))
    script.stack.accept_ring()
    expected = bytearray(_register(options=0xFFFF, ident=1))
    expected[1] = 2
    assert script.answers() == [expected]


@pytest.mark.parametrize(
    "message",
    [
        _register()[:-1],
        _register() + bytes(16),
        _register(ncookies=0),
        _register(ncookies=2),
        _register()[:28] + bytes.fromhex("ffffffff") + _register()[32:],
        _register(num=0),
        _register(num=65537),
        _register(num=0x80000000),
        _register(size=0),
        _register(size=63),
        _register(size=72 - 4),
        _register(size=0xFFFFFFF8),
    ],
    ids=[
        "short",
        "long",
        "no cookie",
        "two cookies",
        "2^32 - 1 cookies",
        "no descriptors",
        "too many descriptors",
        "2^31 descriptors",
        "no size",
        "smaller than an entry",
        "not a multiple of 8",
        "huge",
    ],
)
def test_attr_dring_reg_is_checked(message: bytes) -> None:
    """vds.c, vd_process_dring_reg_msg, EBADMSG: length = 32 + 16 * ncookies, one cookie.

    vds should, but does not, look at descriptor_size and at num_descriptors = 0.
    """
    script = ServerScript()
    script.agree()
    script.events()
    reset = refused(script, message)
    assert reset is not None
    assert not reset.full
    script.data()


def test_attr_a_ring_larger_than_its_cookie_is_a_full_reset() -> None:
    """ldc_shm.c, ldc_mem_dring_map: cookie.size >= len * dsize, else EINVAL, which is not one of the soft."""
    script = ServerScript()
    script.agree()
    script.events()
    reset = refused(script, _register(num=129, size=64))
    assert reset is not None
    assert reset.full
    assert script.resets == 1
    script.data()


def test_attr_a_ring_that_cannot_be_mapped_is_a_full_reset() -> None:
    """vds.c, vd_process_dring_reg_msg: the error of ldc_mem_dring_map is not one of the soft ones."""
    script = ServerScript()
    script.agree()
    script.send(_register())
    script.events()
    script.stack.refuse_ring("no such page")
    assert [answer[1] for answer in script.answers()] == [4]
    reset = reset_of(script)
    assert reset is not None
    assert reset.full
    assert script.resets == 1


def test_attr_in_band_awaits_rdx() -> None:
    """vds.c: in mode 2 a DRING_REG is unexpected."""
    script = ServerScript()
    script.agree(xfer_mode=2)
    script.events()
    assert refused(script, _register()) is not None


@pytest.mark.parametrize("size", [8, 55, 57])
def test_dring_rdx_has_56_bytes(size: int) -> None:
    """vds.c, process_rdx_msg: length = 56."""
    script = ServerScript()
    script.agree()
    script.register()
    reset = refused(script, (octets(RDX) + bytes(8))[:size])
    assert reset is not None
    assert not reset.full


@pytest.mark.parametrize("size", [8, 55, 57])
def test_attr_in_band_rdx_has_56_bytes(size: int) -> None:
    """vds.c, process_rdx_msg: length = 56, ring or not."""
    script = ServerScript()
    script.agree(xfer_mode=2)
    script.events()
    reset = refused(script, (octets(RDX) + bytes(8))[:size])
    assert reset is not None
    assert not reset.full


@pytest.mark.parametrize("message", [_register(), octets(f"01 01 00 04 {SID} 0000000000000001")])
def test_dring_a_second_ring_and_unregistering_are_refused(message: bytes) -> None:
    """vds.c: one ring only; vd_process_dring_unreg_msg is ENOTSUP."""
    script = ServerScript()
    script.agree()
    script.register()
    reset = refused(script, message)
    assert reset is not None
    assert not reset.full
    script.data()


def test_data_unregistering_is_refused() -> None:
    """vds.c: DRING_UNREG in the data phase is a NACK."""
    script = ServerScript()
    script.data()
    reset = refused(script, octets(f"01 01 00 04 {SID} 0000000000000001"))
    assert reset is not None
    assert not reset.full


def test_a_version_in_mid_session_restarts_at_once() -> None:
    """FWARC 2010/054: VER_INFO restarts the handshake. vds refuses it; every client lives with either."""
    for prepare in ("agree", "data", "inband"):
        script = ServerScript()
        getattr(script, prepare)()
        script.events()
        message = octets("01 01 00 01 00 00 00 77 0001 0001 03")
        script.send(message)
        reset = reset_of(script)
        assert reset is not None
        assert not reset.full
        assert script.answers() == [octets("01 02 00 01 00 00 00 77 0001 0001 04")]


_UNREG = octets(f"01 01 00 04 {SID} 0000000000000001")


_INFOS = {
    0x01: octets(f"01 01 00 01 {SID} 0001 0001 03"),
    0x02: octets(ATTR),
    0x03: _register(),
    0x04: _UNREG,
    0x05: octets(RDX),
    0x06: octets(f"01 01 00 06 {SID}"),
    0x07: octets(f"01 01 00 07 {SID}"),
    0x40: octets(f"02 01 00 40 {SID} 0000000000000001"),
    0x41: octets(f"02 01 00 41 {SID} 0000000000000001", 80),
    0x42: octets(f"02 01 00 42 {SID} 0000000000000001 0000000000000001"),
}


@pytest.mark.parametrize(
    ("state", "envelope"),
    [
        (state, envelope)
        for state in ServerState
        for envelope in _INFOS
        if envelope not in SERVER_EXPECTS[state] and envelope != 0x01
    ],
)
def test_what_a_state_does_not_accept_is_refused(state: ServerState, envelope: int) -> None:
    """Solaris 11 vds.c, vd_do_process_msg, ENOMSG: NACK, soft reset, and the next VER_INFO is welcome."""
    script = server_in(state)
    reset = refused(script, _INFOS[envelope])
    assert (reset is None) == (state is ServerState.INIT)  # where there is no session there is none to reset
    assert reset is None or not reset.full
    assert script.resets == 0
    script.data()


@pytest.mark.parametrize("state", ServerState)
@pytest.mark.parametrize("tag", ["01 02", "01 04", "02 01", "04 01"])
def test_a_message_of_another_type_or_subtype_is_refused(state: ServerState, tag: str) -> None:
    """vds.c, vd_do_process_msg: type, subtype and envelope together say what a message is."""
    script = server_in(state)
    envelope = min(set(SERVER_EXPECTS[state]) - {0x03, 0x04}, default=0x03)
    kind = bytes.fromhex(tag)
    if envelope >= 0x40:
        kind = bytes([3 - kind[0] if kind[0] < 4 else 4, kind[1]])
    (answer,) = script.send(kind + _INFOS[envelope][2:])
    assert answer[:4] == kind[:1] + b"\x04" + _INFOS[envelope][2:4]
    reset = reset_of(script)
    assert (reset is None) == (state is ServerState.INIT)
    assert reset is None or not reset.full
