"""One packet by itself: what is printed, exactly, and what is a remark and no more."""

from __future__ import annotations

import pytest

from protocol.errors import PacketError
from protocol.explain import explain_packet, render
from protocol.explain.message import explain_message
from protocol.ldc.packet import Mode
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    NACK,
    START,
    data,
    numbered,
    packet,
    piece,
    rdx,
    rts,
    version,
)
from tests.support.talk import inband, ring_data
from tests.support.vioscript import SID, octets


def text(packet: bytes, mode: Mode = Mode.UNRELIABLE) -> str:
    """Return what is printed."""
    return "\n".join(render(explain_packet(packet, mode)))


def remarks(packet: bytes, mode: Mode = Mode.UNRELIABLE) -> list[str]:
    """Return the remarks; there are no warnings."""
    lines = explain_packet(packet, mode)
    assert not [line.text for line in lines if line.rule is not None]
    return [line.text.removeprefix("remark: ") for line in lines if line.text.startswith("remark: ")]


def test_a_version_packet() -> None:
    """FWARC 2006/571, version negotiation: CTRL INFO VER, 1.0 at offset 8."""
    assert text(bytes.fromhex("01 01 01 00 00000000 0001 0000" + "00" * 52)) == (
        "CTRL INFO VER\n"
        "  LDC   unreliable packet 0: CTRL INFO VER\n"
        "    type              0x01                CTRL\n"
        "    stype             0x01                INFO\n"
        "    ctrl              0x01                VER\n"
        "    env               0x00\n"
        "    seqid             0x00000000          0\n"
        "    major             0x0001              1\n"
        "    minor             0x0000              0"
    )


def test_rts_tells_the_mode_and_rdx_the_last_packet() -> None:
    assert "    env               0x01                UNRELIABLE mode\n" in text(rts())
    assert text(numbered(CTRL, INFO, 4, 1, 7)).endswith(
        "    seqid             0x00000001          1\n"
        "    (ackid)           0x00000007          what was received last; ignored in unreliable mode"
    )


def test_attributes_of_a_disk() -> None:
    """vd_attr_msg_t, bytes 8 to 39; the physical block size as Linux has it at 40."""
    message = octets(
        f"01 02 00 02 {SID} 03 02 01 00 00000200 000000000002010e 0000000000001803 0000000000000800 00000200"
    )
    assert text(data(3, message)) == (
        "ATTR_INFO ACK of 6147 blocks of 512 bytes\n"
        "  LDC   unreliable packet 3: DATA INFO, a whole message\n"
        "    type              0x02                DATA\n"
        "    stype             0x01                INFO\n"
        "    ctrl              0x00\n"
        "    env               0xf8                START STOP, 56 bytes\n"
        "    seqid             0x00000003          3\n"
        "  VIO   ATTR_INFO ACK of 6147 blocks of 512 bytes, 56 bytes\n"
        "    msgtype           0x01                CTRL\n"
        "    subtype           0x02                ACK\n"
        "    subtype_env       0x0002              ATTR_INFO\n"
        "    sid               0x0000002a\n"
        "    xfer_mode         0x03                RING\n"
        "    vdisk_type        0x02                DISK\n"
        "    vdisk_mtype       0x01                FIXED\n"
        "    vdisk_block_size  0x00000200          512 bytes\n"
        "    operations        0x000000000002010e  BREAD BWRITE FLUSH GET_DISKGEOM GET_CAPACITY\n"
        "    vdisk_size        0x0000000000001803  6147 blocks, 3 MiB\n"
        "    max_xfer_sz       0x0000000000000800  2048 blocks, 1 MiB\n"
        "    phys_block_size   0x00000200          512 bytes"
    )


def test_a_ring_and_its_cookie() -> None:
    """vio_dring_reg_msg_t; page size code in bits 63:60 of a cookie, here 1: 64 KiB."""
    message = octets(
        f"01 01 00 03 {SID} {0:016x} 00000008 00000080 0003 0000 00000001 1000000000020008 0000000000000400",
        48,
    )
    assert text(data(3, message)).endswith(
        "  VIO   DRING_REG INFO of 8 entries of 128 bytes, 48 bytes\n"
        "    msgtype           0x01                CTRL\n"
        "    subtype           0x01                INFO\n"
        "    subtype_env       0x0003              DRING_REG\n"
        "    sid               0x0000002a\n"
        "    dring_ident       0x0000000000000000\n"
        "    num_descriptors   0x00000008          8 entries, 1 KiB in all\n"
        "    descriptor_size   0x00000080          128 bytes\n"
        "    options           0x0003              TX|RX\n"
        "    ncookies          0x00000001          1\n"
        "    cookie[0].addr    0x1000000000020008  page 2 of the map table, offset 0x8, pages of 64 KiB\n"
        "    cookie[0].size    0x0000000000000400  1 KiB"
    )


def test_a_doorbell_and_plain_ring_data() -> None:
    """vio_dring_msg_t; end_idx is signed, and without an end and with a state it is that of a polled ring."""
    lines = text(data(3, octets(ring_data(INFO, 1, 3, -1, state=2, completions=5))))
    assert lines.startswith("DRING_DATA INFO number 1, doorbell at entry 3\n")
    assert lines.endswith(
        "    start_idx         0x00000003          3\n"
        "    end_idx           -1                  open: until one is not READY\n"
        "    proc_state        0x02                STOPPED\n"
        "    completions       0x00000005          5"
    )
    assert text(data(3, octets(ring_data(INFO, 1, 3, -1)))).startswith(
        "DRING_DATA INFO number 1, entries from 3 on\n"
    )
    plain = text(data(3, octets(ring_data(ACK, 1, 3, 5))))
    assert plain.startswith("DRING_DATA ACK number 1, entries 3 to 5\n")
    assert plain.endswith("    proc_state        0x00")


@pytest.mark.parametrize(
    ("operation", "status", "words"),
    [
        ("01", "00000000", "OK"),
        ("01", "00000030", "ENOTSUP"),
        ("01", "00000099", "unknown number 153, to be taken as EIO"),
        ("01", "ffffffff", "not answered yet"),
    ],
)
def test_a_descriptor_in_a_message(operation: str, status: str, words: str) -> None:
    payload = f"{7:016x} {operation} 09 0000 {status} {16:016x} {0:016x} 00000000 00000000"
    message = bytes.fromhex(f"02 02 00 41 {SID} {1:016x} {2:016x} {payload}")
    lines = explain_packet(data(3, message[:56], START))
    assert lines[-1].text == f"carries {message[:56].hex()}"
    whole = "\n".join(render(explain_message(message)))
    assert f"    status            0x{status}          {words}\n" in whole
    assert "    slice             0x09                no slice: there are 8\n" in whole
    assert whole.endswith("  vDisk BREAD of 0 bytes at block 16 of slice 9")


def test_a_request_that_is_no_block_io() -> None:
    whole = "\n".join(
        render(explain_message(bytes.fromhex(inband(INFO, 1, operation=3, nbytes=0, cookie="", ncookies=0))))
    )
    assert whole.endswith("  vDisk FLUSH")
    whole = "\n".join(render(explain_message(octets(inband(INFO, 1, operation=0x11, nbytes=16), 80))))
    assert whole.endswith("  vDisk GET_CAPACITY, 16 bytes")


def test_raw_mode_has_no_header() -> None:
    assert text(bytes(range(64)), Mode.RAW) == (
        f"raw packet\n  LDC   raw mode: 64 bytes without a header\n    {bytes(range(64)).hex()}"
    )


def test_reliable_mode_acknowledges() -> None:
    assert text(piece(2, b"bytes", ackid=9), Mode.RELIABLE) == (
        "DATA INFO, a whole message\n"
        "  LDC   reliable packet 2: DATA INFO, a whole message\n"
        "    type              0x02                DATA\n"
        "    stype             0x01                INFO\n"
        "    ctrl              0x00\n"
        "    env               0xc5                START STOP, 5 bytes\n"
        "    seqid             0x00000002          2\n"
        "    ackid             0x00000009          has received 9\n"
        "    carries 6279746573"
    )
    assert remarks(packet(DATA, ACK), Mode.RELIABLE) == []
    assert remarks(rts(mode=3), Mode.RELIABLE) == []


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_packet_has_64_bytes(size: int) -> None:
    with pytest.raises(PacketError, match=f"not {size}"):
        explain_packet(bytes(size))


RDX_OF_OPENBSD = rdx()[:3] + b"\x01" + rdx()[4:]
STACK_BYTES = octets(f"01 01 00 05 {SID} 0badcafe")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (version(INFO, 2, 0), ["link version 2.0: drivers speak 1.0 only"]),
        (version(INFO)[:60] + b"junk", ["bytes follow the version, ignored"]),
        (RDX_OF_OPENBSD, ["RDX carries the mode (OpenBSD does so)"]),
        (rts()[:60] + b"junk", ["bytes follow the header, ignored"]),
        (packet(CTRL, NACK, 2), []),
        (packet(DATA, NACK, 4), []),
        (data(2, octets(f"01 01 00 05 {SID}"))[:60] + bytes(4), []),
        (
            data(2, bytes.fromhex(f"01 02 00 05 {SID}")),
            ["RDX is acknowledged with a tag alone (OpenBSD does so)"],
        ),
        (
            data(2, octets(f"01 02 00 03 {SID} {5:016x}", 32)),
            ["nothing but the ident is filled in (OpenBSD does so)"],
        ),
        (data(2, octets(f"01 01 00 04 {SID} {1:016x}")), ["vds refuses to forget a ring, and resets"]),
        (data(2, octets(f"01 02 00 04 {SID} {1:016x}")), []),
        (
            data(2, octets(ring_data(INFO, 1, 3, -1))),
            ["an open range, which is refused unless OPEN_RANGES was agreed"],
        ),
        (data(2, octets(ring_data(NACK, 1, 3, -1))), []),
        (data(2, octets(f"01 04 00 03 {SID} {1:016x}", 32)), []),
        (data(2, octets(f"01 04 00 01 {SID} 0000 0000 03")), []),
    ],
)
def test_what_is_odd_and_allowed(given: bytes, said: list[str]) -> None:
    assert remarks(given) == said


def test_bytes_that_solaris_leaves() -> None:
    assert remarks(data(2, STACK_BYTES)) == [
        f"resv is reserved and not zero, {STACK_BYTES[8:].hex()} (Solaris sends stack bytes)"
    ]
    short = packet(DATA, INFO, 0, 0xC8, 2, bytes.fromhex(f"01 02 00 05 {SID}") + b"old")
    assert "bytes follow the message (Solaris leaves what the queue held before)" in remarks(short)


def test_sizes_that_are_not_told() -> None:
    """A client's attributes; a disk whose size is not known now."""
    wish = text(data(2, octets(f"01 01 00 02 {SID} 03 00 00 00 00000000 {0:016x} {0:016x} {131072:016x}")))
    assert "    vdisk_block_size  0x00000000          not told: max_xfer_sz is in bytes\n" in wish
    assert "    operations        0x0000000000000000  none\n" in wish
    assert "    max_xfer_sz       0x0000000000020000  128 KiB\n" in wish
    answer = text(
        data(2, octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 8000000000000002 {'ff' * 8} {1:016x}"))
    )
    assert "    operations        0x8000000000000002  BREAD bit 63\n" in answer
    assert "    vdisk_size        0xffffffffffffffff  unknown now\n" in answer


def test_messages_too_strange_for_a_structure() -> None:
    assert text(data(2, bytes.fromhex(f"02 01 00 40 {SID} abcd"))).splitlines()[-2:] == [
        "    carries abcd",
        "    warning: envelope 0x40 [no disk sends or takes it: Solaris vds.c, vd_do_process_msg]",
    ]
    assert "carries nothing" in text(data(2, bytes.fromhex(f"02 01 00 40 {SID}")))
    assert text(data(2, b"ab")).startswith("2 bytes, no message\n")
    assert text(packet(0x40, 0x10, 9)).startswith("0x40 0x10\n")
    assert "unknown 0x9" in text(packet(CTRL, INFO, 9))
    assert text(packet(DATA, INFO, 0, START)).endswith("carries nothing")
