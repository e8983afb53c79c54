"""Linux at the other end: sunvdc, a client; there is no disk server of Linux' own.

Sources: Linux arch/sparc/kernel/ldc.c (ldc_abort, process_rts, process_rtr, process_rdx, send_data_nack,
perm_to_mte, read_nonraw), viohs.c (vio_send_attr, process_ver_nack), drivers/block/sunvdc.c
(vdc_handle_attr, vdc_ack, __vdc_tx_trigger, generic_request), asm/vio.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from protocol.errors import CookieError, HvStatus
from protocol.ldc.cookie import Permission
from protocol.ldc.events import LinkState
from protocol.stack import DescriptorsReady, Server, SessionReset
from tests.support.farend import FarEnd, map_table
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    MARK,
    NACK,
    RDX,
    data,
    numbered,
    outputs,
    packet,
    rtr,
    rts,
    version,
)
from tests.support.vioscript import ATTRIBUTES, SID, ServerScript, octets

RING = bytes.fromhex(
    f"01 01 00 03 {SID} {0:016x} {512:08x} {336:08x} 0001 0000 00000001 {0x2000:016x} {0x2A000:016x}"
)


def sunvdc() -> FarEnd[Server]:
    """A server of ours, its link up with Linux', both having started."""
    far = FarEnd(Server(ATTRIBUTES))
    assert far.give(LinkState.UP) == [version(INFO)]
    far.cross()
    return far


def session(far: FarEnd[Server]) -> None:
    """Do sunvdc's handshake at 1.2."""
    (answer,) = far.say(octets(f"01 01 00 01 {SID} 0001 0002 03"))
    assert answer == octets(f"01 02 00 01 {SID} 0001 0002 04")
    (answer,) = far.say(octets(f"01 01 00 02 {SID} 03 00 00 00 00000200 {'00' * 16} {256:016x}"))
    assert answer[1] == 2
    assert far.say(RING) == []
    far.stack.accept_ring()
    assert len(outputs(far.stack)) == 1
    assert [answer[1] for answer in far.say(octets(f"01 01 00 05 {SID}"))] == [2]
    far.events()


def request(seq_num: int, index: int) -> bytes:
    """DRING_DATA of one entry."""
    return octets(f"02 01 00 42 {SID} {seq_num:016x} {1:016x} {index:08x} {index:08x}")


# -- link ----------------------------------------------------------------------------------------------------


def test_both_start_in_linux_order() -> None:
    """start_handshake, process_ver_info, process_ver_ack, …: every packet of Linux, each answer of ours."""
    far = FarEnd(Server(ATTRIBUTES))
    assert far.give(LinkState.UP) == [version(INFO)]
    assert far.give(version(INFO), version(ACK)) == [version(ACK), rts()]
    assert far.give(rts(), rtr()) == [rtr(), numbered(CTRL, INFO, RDX, 1, 0)]
    assert far.give(numbered(CTRL, INFO, RDX, 1, 0)) == []
    far.seqid = 1
    session(far)


@pytest.mark.parametrize("begun", [False, True], ids=["in the handshake", "in a session"])
def test_an_abort_of_linux_is_a_reset_and_linux_then_only_answers(begun: bool) -> None:
    """ldc_abort configures both queues and starts nothing: an unexpected RTS, RTR or RDX, another mode."""
    far = FarEnd(Server(ATTRIBUTES))
    far.give(LinkState.UP)
    if begun:
        far.cross()
        session(far)
    else:
        assert far.give(version(INFO), version(ACK)) == [version(ACK), rts()]
    sent = far.reset()
    if begun:
        assert sent == []
        (reset,) = far.events()
        assert isinstance(reset, SessionReset)
        assert not reset.full
        far.stack.reset_done()
        sent = outputs(far.stack)
    assert sent == [version(INFO)]
    far.answer()
    session(far)


def test_our_data_nack_makes_linux_abort_and_the_link_comes_back() -> None:
    """process_data_nack in read_nonraw: ldc_abort. What was lost is sent again on the next session."""
    far = sunvdc()
    session(far)
    assert far.give(data(far.seqid + 2)) == [numbered(DATA, NACK, 0, 6, far.seqid)]
    far.reset()
    far.events()
    far.stack.reset_done()
    assert outputs(far.stack) == [version(INFO)]
    far.answer()
    session(far)


def test_a_data_nack_of_linux_is_a_reset_of_ours() -> None:
    """send_data_nack: its seqid is the next, its ackid what Linux received last. Linux aborts as well."""
    far = sunvdc()
    session(far)
    assert far.give(numbered(DATA, NACK, 0, far.seqid + 1, 5)) == [MARK]
    (reset,) = far.events()
    assert isinstance(reset, SessionReset)
    far.stack.reset_done()
    assert outputs(far.stack) == [version(INFO)]
    assert far.reset() == [version(INFO)]
    far.answer()
    session(far)


@pytest.mark.parametrize("minor", [0, 3])
def test_another_version_of_the_link_is_negotiated(minor: int) -> None:
    """process_ver_info: the lower minor; ours is 1.0, as Linux'."""
    far = FarEnd(Server(ATTRIBUTES))
    far.give(LinkState.UP)
    assert far.give(version(INFO, 1, minor)) == [version(ACK, 1, 0)]


def test_a_message_in_pieces_may_arrive_piece_by_piece() -> None:
    """write_nonraw: one tail update for all; in-band messages are the only ones of two packets or more."""
    far = sunvdc()
    message = octets(f"01 01 00 01 {SID} 0001 0002 03") + bytes(8)
    assert far.give(packet(DATA, INFO, 0, 0x40 | 56, 2, message[:56])) == []
    (answer, rest) = far.give(packet(DATA, INFO, 0, 0x80 | 8, 3, message[56:]))  # 64 bytes: refused as long
    assert isinstance(answer, bytes)
    assert isinstance(rest, bytes)
    assert answer[3] == 0x40 | 56
    assert rest[3] == 0x80 | 8
    assert answer[8:10] == b"\x01\x04"


# -- memory --------------------------------------------------------------------------------------------------

CR, CW, IR, IW, R, W = 0x200, 0x400, 0x80, 0x100, 0x10, 0x20


@pytest.mark.parametrize(
    ("word", "can", "cannot"),
    [
        (CW | W | IW, Permission.CW, Permission.CR),  # BREAD, GET_DISKGEOM, GET_CAPACITY
        (CR | R | IR, Permission.CR, Permission.CW),  # BWRITE
    ],
)
def test_a_buffer_is_exported_in_the_one_direction_of_its_operation(
    word: int, can: Permission, cannot: Permission
) -> None:
    """perm_to_mte: copy, map and IO. GET_WCE and SET_WCE copy both ways in vds, and fail there with Linux."""
    table = map_table(8192, {3: 0x40000 | word, 6: 0x44000 | word})
    assert table.resolve((3 << 13) + 24, 8192 - 24, can) == [(0x40018, 8168)]
    assert table.resolve(6 << 13, 512, can) == [(0x44000, 512)]
    with pytest.raises(CookieError) as caught:
        table.resolve(3 << 13, 512, cannot)
    assert caught.value.hv_status is HvStatus.ENOACCESS


def test_a_cookie_has_four_bits_of_page_size() -> None:
    """ldc.c, LDC_COOKIE_PGSZ: bits 63:60 where Solaris masks 62:60; both send 0, and 8 is no page size."""
    table = map_table(8192, {0: 0x40000 | CR})
    assert table.resolve(0, 512, Permission.CR) == [(0x40000, 512)]
    with pytest.raises(CookieError) as caught:
        table.resolve(8 << 60, 512, Permission.CR)
    assert caught.value.hv_status is HvStatus.EBADPGSZ


# -- session -------------------------------------------------------------------------------------------------


def test_the_ring_of_linux_is_taken_and_its_options_echoed() -> None:
    """sunvdc: 512 entries of 48 + 18 * 16, options TX alone; it reads the ident and wants it in every ACK."""
    script = ServerScript()
    script.agree()
    assert script.send(RING) == []
    script.stack.accept_ring()
    assert script.answers() == [b"\x01\x02" + RING[2:8] + (1).to_bytes(8, "big") + RING[16:]]
    script.say(f"01 01 00 05 {SID}")
    script.send(script.ring(0, 511, 511))
    (batch,) = [event for event in script.events() if isinstance(event, DescriptorsReady)]
    script.stack.complete(batch.batch, 511)
    (answer,) = script.answers()
    assert answer[16:24] == (1).to_bytes(8, "big")


def test_numbers_begin_at_0_and_go_on_over_a_reset() -> None:
    """sunvdc: the counter is set when the port is made, and never again."""
    far = sunvdc()
    session(far)
    assert far.say(request(0, 0), request(1, 1)) == []
    assert sum(isinstance(event, DescriptorsReady) for event in far.events()) == 2
    far.reset()
    far.events()
    far.stack.reset_done()
    outputs(far.stack)
    far.answer()
    session(far)
    assert far.say(request(2, 0)) == []
    assert [type(event) for event in far.events()] == [DescriptorsReady]


def test_what_linux_is_told_passes_its_checks() -> None:
    """vdc_handle_attr: type DISK, blocks of 512 at most, a physical block size that is not 0 at 1.2."""
    (answer,) = _attributes(ATTRIBUTES.size_blocks)
    assert answer[9] == 2
    assert answer[12:16] == (512).to_bytes(4, "big")
    assert answer[40:44] == (512).to_bytes(4, "big")


@pytest.mark.parametrize("size", [2**32 - 2, 2**32 - 1, 2**32, 2**40])
def test_a_disk_larger_than_linux_can_count_is_told_whole(size: int) -> None:
    """vdc_handle_attr takes 32 bits of it: 2^32 - 1 blocks are refused there, more are cut. Ours to say."""
    (answer,) = _attributes(size)
    assert answer[24:32] == size.to_bytes(8, "big")


def _attributes(size: int) -> list[bytes]:
    script = ServerScript(replace(ATTRIBUTES, size_blocks=size))
    script.say(f"01 01 00 01 {SID} 0001 0002 03")
    return script.send(octets(f"01 01 00 02 {SID} 03 00 00 00 00000200 {'00' * 16} {256:016x}"))


def _bad_index(script: ServerScript) -> list[bytes]:
    return script.send(script.ring(1, 99, 99))


def _bad_entry(script: ServerScript) -> list[bytes]:
    script.send(script.ring(1, 0, 0))
    (batch,) = [event for event in script.events() if isinstance(event, DescriptorsReady)]
    script.stack.fault(batch.batch, 0, "descriptor 0 is in state 1, not READY")
    return script.answers()


@pytest.mark.parametrize("act", [_bad_index, _bad_entry])
def test_a_nack_that_linux_ignores_is_followed_by_a_reset_that_it_sees(
    act: Callable[[ServerScript], list[bytes]],
) -> None:
    """vdc_nack does nothing: without the reset of the link the request would hang for ever."""
    script = ServerScript()
    script.data()
    assert [answer[1] for answer in act(script)] == [4]
    assert script.resets == 0
    script.events()
    script.stack.reset_done()
    script.carry()
    assert script.resets == 1
    script.data()


@pytest.mark.parametrize("lower", ["0001 0001", "0001 0000"])
def test_linux_takes_the_lower_versions_too(lower: str) -> None:
    """sunvdc, vdc_versions: 1.2, 1.1, 1.0."""
    script = ServerScript()
    assert script.send(octets(f"01 01 00 01 {SID} {lower} 03")) == [octets(f"01 02 00 01 {SID} {lower} 04")]


def test_a_new_handshake_without_a_reset_is_taken() -> None:
    """viohs.c, vio_link_state_change: LDC UP starts with a new VER_INFO, whatever the server believes."""
    script = ServerScript()
    script.data()
    script.send(octets("01 01 00 01 0000002b 0001 0002 03"))
    assert [type(event) for event in script.events()] == [SessionReset]
    script.stack.reset_done()
    assert script.answers() == [octets("01 02 00 01 0000002b 0001 0002 04")]
