"""Solaris 11 at the other end, as a client (vdc) and as a server (vds); illumos where not said otherwise.

Sources: Solaris 11 usr/src/uts/sun4v/io/ldc.c (i_ldc_process_RTS, i_ldc_rx_process_hvq, i_ldc_reset,
i_ldc_send_pkt, ldc_write), ldc_shm.c (i_ldc_mem_bind_handle), vds.c (vd_process_msg, vd_process_attr_msg,
vd_set_exported_operations), vdc.c (vdc_handle_ver_msg, vdc_process_data_msg, vdc_backup_local_dring);
sys/ldc_impl.h, sys/vio_mailbox.h, sys/vdsk_common.h.
"""

from __future__ import annotations

import pytest

from protocol.errors import CookieError, HvStatus, LocalProtocolError
from protocol.ldc.cookie import Cookie, Permission
from protocol.ldc.events import LinkReset, LinkState, LinkUp
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    DescriptorsDone,
    DescriptorsReady,
    RingOffered,
    Server,
    SessionLost,
    SessionReady,
    SessionReset,
)
from protocol.vdisk.attributes import attributes_from
from protocol.vdisk.operations import MediaType
from protocol.vio.dring import RingGeometry
from tests.support.farend import FarEnd, map_table
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    MARK,
    NACK,
    RDX,
    RTS,
    data,
    events,
    feed,
    initiator,
    numbered,
    outputs,
    packet,
    ready,
    rtr,
    rts,
    version,
)
from tests.support.vioscript import ATTRIBUTES, SID, ClientScript, ServerScript, octets

STACK = b"\xa5"  # what stood on Solaris' stack
VER_INFO = octets(f"01 01 00 01 {SID} 0001 0001 03")[:13] + STACK * 43
ATTR_INFO = octets(f"01 01 00 02 {SID} 03 00 00 a5 00000200 {'00' * 16} 0000000000000800")[:40] + STACK * 16
RDX_INFO = octets(f"01 01 00 05 {SID}")[:8] + STACK * 48


def ring_info(entries: int, stride: int) -> bytes:
    """DRING_REG of a ring at cookie 0x2000."""
    size = -(-entries * stride // 8192) * 8192
    shape = f"{entries:08x} {stride:08x} 0003 0000 00000001"
    return bytes.fromhex(f"01 01 00 03 {SID} {0:016x} {shape} {0x2000:016x} {size:016x}")


def vdc() -> FarEnd[Server]:
    """A server of ours, its link up with vdc's, both having started."""
    far = FarEnd(Server(ATTRIBUTES))
    assert far.give(LinkState.UP) == [version(INFO)]
    far.cross()
    return far


def session(far: FarEnd[Server]) -> None:
    """Do vdc's handshake."""
    assert [answer[1] for answer in far.say(VER_INFO, ATTR_INFO)] == [2, 2]
    assert far.say(ring_info(512, 576)) == []
    far.stack.accept_ring()
    assert len(outputs(far.stack)) == 1
    assert [answer[1] for answer in far.say(RDX_INFO)] == [2]
    far.events()


def request(seq_num: int, index: int) -> bytes:
    """DRING_DATA of one entry; vdc leaves the processing state as it is."""
    return octets(f"02 01 00 42 {SID} {seq_num:016x} {1:016x} {index:08x} {index:08x}")


# -- link ----------------------------------------------------------------------------------------------------


def test_stale_bytes_of_vdc_change_no_octet_of_our_answers() -> None:
    """i_ldc_write_packet leaves what was there behind the data, vdc its stack in what is reserved."""
    far = vdc()
    assert far.give(packet(DATA, INFO, 0, 0xC0 | 56, 2, VER_INFO)) == [
        bytes.fromhex("02 01 00 f8 00000002") + octets(f"01 02 00 01 {SID} 0001 0001 04")
    ]
    assert far.give(packet(DATA, INFO, 0, 0xC0 | 56, 3, ATTR_INFO)) == [
        bytes.fromhex("02 01 00 f8 00000003")
        + octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 000000000002010e {0x1803:016x} {0x800:016x}")
    ]
    assert far.give(packet(DATA, INFO, 0, 0xC0 | 48, 4, ring_info(512, 576) + STACK * 8)) == []
    offer = far.events()[-1]
    assert isinstance(offer, RingOffered)
    assert offer.geometry == RingGeometry(512, 576)


def test_a_refused_mode_is_a_reset_and_the_link_comes_back() -> None:
    """i_ldc_process_RTS: CTRL/NACK/RTS, and Solaris stays as it is; we begin again."""
    link = ready()
    link.up()
    outputs(link)
    assert feed(link, version(ACK)) == [rts()]
    assert feed(link, packet(CTRL, NACK, RTS)) == [MARK]
    assert events(link) == [LinkReset("peer refused RTS")]
    link.up()
    assert outputs(link) == [version(INFO)]
    assert feed(link, version(ACK), rtr()) == [rts(), numbered(CTRL, INFO, RDX, 1, 0)]
    assert events(link) == [LinkUp()]


@pytest.mark.parametrize("ctrl", [2, 3])
def test_an_rts_or_rtr_that_comes_late_is_ignored_as_solaris_does(ctrl: int) -> None:
    """i_ldc_process_RTS, i_ldc_process_RTR in UP: consumed, and nothing else."""
    link = initiator()
    assert feed(link, packet(CTRL, INFO, ctrl, 1), data(1, b"next")) == []
    assert link.is_up


def test_a_data_nack_of_solaris_is_a_reset_and_so_is_its_echo() -> None:
    """i_ldc_rx_process_hvq: a forced reset; Solaris, which was UP, then configures its own queue too."""
    far = vdc()
    session(far)
    assert far.give(packet(DATA, NACK, 0, 0, far.seqid + 1)) == [MARK]
    (reset,) = far.events()
    assert isinstance(reset, SessionReset)
    far.stack.reset_done()
    assert outputs(far.stack) == [version(INFO)]
    assert far.reset() == [version(INFO)]  # the echo: what we had sent is gone
    assert far.events() == []
    far.cross()
    session(far)


def test_our_nack_makes_solaris_reset_and_both_come_back() -> None:
    """i_ldc_check_seqid on our side; a DATA NACK is a forced reset on theirs."""
    far = vdc()
    session(far)
    sent = far.seqid
    assert far.give(data(sent + 2, b"after a gap")) == [numbered(DATA, NACK, 0, 6, sent)]
    assert far.reset() == []
    (reset,) = far.events()
    assert isinstance(reset, SessionReset)
    assert not reset.full
    far.stack.reset_done()
    assert outputs(far.stack) == [version(INFO)]
    far.cross()
    session(far)


def test_every_message_of_a_ring_session_fits_one_packet() -> None:
    """vdc and vds read into 56 bytes: what is longer kills the channel."""
    far = vdc()
    session(far)  # say() demands START and STOP in every answer
    assert [len(answer) for answer in far.say(request(1, 600))] == [56]


# -- memory --------------------------------------------------------------------------------------------------

CR, CW, IR, IW, R, W = 0x200, 0x400, 0x80, 0x100, 0x10, 0x20


@pytest.mark.parametrize("nentries", [8192, 512])
@pytest.mark.parametrize(
    ("word", "can", "cannot"),
    [(CW | IW, Permission.CW, Permission.CR), (CR | IR, Permission.CR, Permission.CW)],
)
def test_a_buffer_is_exported_for_copies_in_one_direction(
    nentries: int, word: int, can: Permission, cannot: Permission
) -> None:
    """vdc.c binds with IO and SHADOW, W for a read, R for a write; 8192 entries, or 512."""
    last = nentries - 1
    table = map_table(nentries, {last: 0x40000 | word, 0: 0x42000 | word})
    assert table.resolve(last << 13, 8192, can) == [(0x40000, 8192)]
    assert table.resolve(0, 512, can) == [(0x42000, 512)]
    with pytest.raises(CookieError) as caught:
        table.resolve(0, 512, cannot)
    assert caught.value.hv_status is HvStatus.ENOACCESS


def test_a_ring_is_exported_for_copies_and_mapping_both_ways() -> None:
    """vdc_init_descriptor_ring: SHADOW and DIRECT, R and W."""
    table = map_table(
        8192, {slot: (0x40000 + (slot - 1) * 0x2000) | CR | CW | R | W for slot in range(1, 37)}
    )
    need = Permission.R | Permission.W
    assert table.resolve(0x2000, 512 * 576, need) == [(0x40000, 512 * 576)]


# -- vds at the other end ------------------------------------------------------------------------------------

SOLARIS = [
    octets(f"01 02 00 01 {SID} 0001 0001 04")[:13] + STACK * 43,
    octets(f"01 02 00 02 {SID} 03 02 01 a5 00000200 0000000000023bfe 0000000000001803 0000000000000800")[:40]
    + STACK * 16,
    bytes.fromhex(f"01 02 00 03 {SID} 0000000000000001 00000100 00000040 0003 0000 00000001")
    + bytes.fromhex("0000000000002000 0000000000004000"),
    octets(f"01 02 00 05 {SID}")[:8] + STACK * 48,
]


def to_vds(steps: int = 4) -> ClientScript:
    """A client of ours after that many of vds' answers."""
    script = ClientScript()
    assert script.events() == [ChannelUp()]
    script.stack.start(0x2A)
    for answer in SOLARIS[:steps]:
        script.send(answer)
        if answer[3] == 2:
            script.events()
            script.stack.register_ring(Cookie(0x2000, 0x4000), RingGeometry(256, 64))
    return script


def test_the_answers_of_vds_are_ours_with_its_fields_in_them() -> None:
    """vds.c, vd_process_msg: each message comes back; 1.2 is lowered to 1.1, ident is 1, RDX has 56 bytes."""
    script = to_vds(0)
    asked = script.answers()
    for number, answer in enumerate(SOLARIS):
        asked += script.send(answer)
        if number == 1:
            (known,) = script.events()
            assert isinstance(known, AttributesReceived)
            assert (known.version, known.attributes.operations) == ((1, 1), 0x23BFE)
            assert known.attributes.phys_block_size == 512  # at 1.1 there is none; what stands there is stale
            script.stack.register_ring(Cookie(0x2000, 0x4000), RingGeometry(256, 64))
            asked += script.answers()
    assert [message.hex(" ")[:11] for message in asked] == [
        "01 01 00 01",
        "01 01 00 02",
        "01 01 00 03",
        "01 01 00 05",
    ]
    (ready_,) = script.events()
    assert isinstance(ready_, SessionReady)
    script.stack.announce(3, 3)
    (sent,) = script.answers()
    script.send(sent[:1] + b"\x02" + sent[2:])
    assert script.events() == [DescriptorsDone(3, 3)]
    assert {message[4:8] for message in (*asked, sent)} == {bytes.fromhex(SID)}  # vds checks each


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_nack_of_vds_is_a_loss_and_a_new_attempt(step: int) -> None:
    """vds.c: NACK and soft reset, the link stays; vdc resets the link itself, and so do we."""
    script = to_vds(step)
    script.answers()
    script.send(SOLARIS[step][:1] + b"\x04" + SOLARIS[step][2:])
    assert [type(event) for event in script.events()][-1:] == [SessionLost]
    script.stack.reset_done()
    assert script.events() == [ChannelUp()]
    assert script.resets == 1
    script.stack.start(0x2B)
    assert script.answers() == [octets("01 01 00 01 0000002b 0001 0002 03")]


@pytest.mark.parametrize("mask", [0x3BFE, 0x23BFE, 0x21952, 0x3FFFE, 0x3DD52])
def test_every_mask_of_vds_is_kept_as_it_is(mask: int) -> None:
    """vds.c, vd_set_exported_operations: what we never use is known all the same."""
    answer = SOLARIS[1][:16] + mask.to_bytes(8, "big") + SOLARIS[1][24:]
    disk = attributes_from(answer, (1, 1), xfer_mode=3, max_xfer_bytes=1 << 20)
    assert disk.operations == mask
    assert disk.read_only == (not mask & 4)


def test_a_cd_of_2048_byte_blocks_is_as_large_as_vds_says() -> None:
    """vds.c, Solaris 11: bytes / 2048 in vdisk_size, with the block size to go with it."""
    head = octets(
        f"01 02 00 02 {SID} 03 02 02 00 00000800 0000000000021952 000000000004e200 0000000000000200"
    )
    disk = attributes_from(head, (1, 1), xfer_mode=3, max_xfer_bytes=1 << 20)
    assert (disk.media_type, disk.block_size, disk.size, disk.read_only) == (
        MediaType.CD,
        2048,
        0x4E200 * 2048,
        True,
    )


# -- vdc at the other end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cookies", [33, 128])
def test_the_ring_of_vdc_is_taken(cookies: int) -> None:
    """vdc.c: 512 entries of 64 + 16 (n - 1), n from the largest transfer; the ACK is 48 bytes, ident 1."""
    script = ServerScript()
    script.agree(minor=1)
    stride = 64 + 16 * (cookies - 1)
    assert script.send(ring_info(512, stride)) == []
    script.stack.accept_ring()
    registered = ring_info(512, stride)
    assert script.answers() == [b"\x01\x02" + registered[2:8] + (1).to_bytes(8, "big") + registered[16:]]


@pytest.mark.parametrize("early", [True, False])
def test_vdc_resets_the_link_after_our_nack(early: bool) -> None:
    """vdc.c, vdc_process_data_msg: reset and resubmit; it may come before or after we have cleaned up."""
    script = ServerScript()
    script.data(minor=1)
    assert [answer[1] for answer in script.send(RDX_INFO)] == [4]
    if early:
        script.reset()
    resets = [event for event in script.events() if isinstance(event, SessionReset)]
    assert [reset.full for reset in resets] == [False]
    script.stack.reset_done()
    script.carry()
    if not early:
        script.reset()
    while script.events():  # a reset of an INIT session is none
        script.stack.reset_done()
        script.carry()
    script.data(minor=1)


def test_requests_come_again_after_a_reset_and_the_old_ones_are_nobodys() -> None:
    """vdc.c, vdc_backup_local_dring: sent again with new indexes and numbers on the next session."""
    script = ServerScript()
    script.data(minor=1)
    script.send(script.ring(1, 3, 3), script.ring(2, 4, 4))
    old = [event for event in script.events() if isinstance(event, DescriptorsReady)]
    script.reset()
    script.events()
    script.stack.reset_done()
    script.carry()
    script.data(minor=1)
    script.send(script.ring(1, 0, 0))
    (new,) = [event for event in script.events() if isinstance(event, DescriptorsReady)]
    assert (len(old), new.start_idx) == (2, 0)
    with pytest.raises(LocalProtocolError):
        script.stack.complete(old[0].batch, 3)
    script.stack.complete(new.batch, 0)
    assert [answer[1] for answer in script.answers()] == [2]
