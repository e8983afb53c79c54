"""illumos at the other end: only where it differs from Solaris 11, which has the rest.

Sources: illumos-gate usr/src/uts/sun4v/io/vds.c (vd_process_msg, vd_setup_backend_image), vdc.c.
"""

from __future__ import annotations

import pytest

from protocol.stack import ChannelUp, SessionLost
from protocol.vdisk.attributes import attributes_from
from protocol.vdisk.operations import MediaType
from tests.support.vioscript import SID, ClientScript, octets

ANSWERS = {
    1: octets(f"01 02 00 01 {SID} 0001 0001 04"),
    2: octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 0000000000023bfe 0000000000001803 0000000000000800"),
}


@pytest.mark.parametrize("nacked", [1, 2])
@pytest.mark.parametrize("reset_comes", ["before we clean up", "after we cleaned up"])
def test_a_nack_with_a_full_reset_behind_it_ends_in_one_new_session(nacked: int, reset_comes: str) -> None:
    """vd_process_msg: an unexpected message is a NACK and ldc_down, where Solaris 11 keeps the link."""
    script = ClientScript()
    assert script.events() == [ChannelUp()]
    script.stack.start(0x2A)
    for step in range(1, nacked):
        script.send(ANSWERS[step])
    refused = ANSWERS[nacked]
    nack = octets(f"01 04 00 01 {SID} 0000 0000 03") if nacked == 1 else b"\x01\x04" + refused[2:]
    script.send(nack)
    if reset_comes == "before we clean up":
        script.link.down()
    assert [type(event) for event in script.events()] == [SessionLost]  # the reset is no second loss
    script.stack.reset_done()
    if reset_comes == "after we cleaned up":
        assert script.events() == [ChannelUp()]
        script.link.down()
        script.link.up()
        assert [type(event) for event in script.events()] == [SessionLost]  # of what had not begun
        script.stack.reset_done()
    script.link.up()
    assert script.events() == [ChannelUp()]
    script.answers()
    script.stack.start(0x2B)
    assert script.answers() == [octets("01 01 00 01 0000002b 0001 0002 03")]


def test_a_cd_is_as_large_as_its_512_byte_blocks_say() -> None:
    """vd_setup_backend_image: bytes / 512 and blocks of 512, where Solaris 11 says bytes / 2048."""
    answer = octets(
        f"01 02 00 02 {SID} 03 02 02 00 00000200 0000000000021952 0000000000138800 0000000000000800"
    )
    disk = attributes_from(answer, (1, 1), xfer_mode=3, max_xfer_bytes=1 << 20)
    assert (disk.media_type, disk.block_size, disk.size) == (MediaType.CD, 512, 0x138800 * 512)
