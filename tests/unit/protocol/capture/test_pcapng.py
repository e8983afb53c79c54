"""What is written is pcapng, byte by byte as the specification has it."""

from __future__ import annotations

import pytest

from protocol.capture import Direction, build_frame, build_interface, build_section


def test_section() -> None:
    assert build_section("vds 1", "hello").hex(" ", 4) == (
        "0a0d0d0a 38000000"  # section header block, 56 bytes
        " 4d3c2b1a 01000000 ffffffff ffffffff"  # little-endian, 1.0, length not told
        " 01000500 68656c6c 6f000000"  # comment
        " 04000500 76647320 31000000"  # shb_userappl
        " 00000000 38000000"
    )


def test_interface() -> None:
    assert build_interface("disk0#3", "shm").hex(" ", 4) == (
        "01000000 34000000"  # interface description block, 52 bytes
        " 93000000 00000000"  # link type 147, snaplen 0
        " 02000700 6469736b 30233300"  # if_name
        " 03000300 73686d00"  # if_description
        " 09000100 09000000"  # if_tsresol: 10**-9
        " 00000000 34000000"
    )


@pytest.mark.parametrize(("direction", "flags"), [(Direction.INBOUND, 1), (Direction.OUTBOUND, 2)])
def test_frame(direction: Direction, flags: int) -> None:
    frame = build_frame(7, 0x0000000A_0B0C0D0E, direction, b"\x11\x22\x33\x44\x55")
    assert b"".join(frame).hex(" ", 4) == (
        "06000000 34000000"  # enhanced packet block, 52 bytes
        " 07000000 0a000000 0e0d0c0b 05000000 05000000"
        " 11223344 55000000"
        f" 02000400 0{flags}000000"  # epb_flags
        " 00000000 34000000"
    )


def test_frame_that_needs_no_padding() -> None:
    frame = b"".join(build_frame(0, 0, Direction.INBOUND, bytes(range(64))))
    assert len(frame) == 8 + 20 + 64 + 8 + 4 + 4
    assert frame[28:92] == bytes(range(64))


def test_a_long_text_is_cut() -> None:
    block = build_interface("x" * 70000, "ü" * 4096)
    assert len(block) == 20 + 2 * (4 + 4096) + 8 + 4
