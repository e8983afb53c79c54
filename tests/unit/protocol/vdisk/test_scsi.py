"""SCSICMD: areas that lie where the client's lengths put them, whatever the server writes there."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import LocalProtocolError, PacketError
from protocol.vdisk import scsi

READ_10 = bytes.fromhex("28 00 00000010 00 0008 00")


def test_a_command_octet_by_octet() -> None:
    built = scsi.build_scsi(
        READ_10, sense_len=18, datain_len=4, task_attribute=scsi.ScsiTask.ORDERED, timeout=60
    )
    assert built == bytes.fromhex(
        "00 00 02 00 00 00 003c 0000000000000000"
        "000000000000000a 0000000000000012 0000000000000004 0000000000000000"
        "28000000001000000800 000000000000" + "00" * 24 + "00" * 8
    )
    assert scsi.scsi_areas(built) == (range(48, 58), range(64, 82), range(88, 92), range(96, 96))
    assert scsi.parse_scsi(built).cdb_len == 10


def test_data_out_are_the_last_area() -> None:
    built = scsi.build_scsi(READ_10, dataout=b"abcdefghi")
    areas = scsi.scsi_areas(built)
    assert built[areas.dataout.start : areas.dataout.stop] == b"abcdefghi"
    assert len(built) == 48 + 16 + 16


def test_the_smallest_buffer_has_56_bytes() -> None:
    assert len(scsi.build_scsi(bytes(6))) == 56
    assert len(scsi.build_scsi(b"")) == 56
    assert scsi.scsi_areas(bytes(48)) == (range(48, 48),) * 4


def test_lengths_that_the_server_overwrites_do_not_move_what_was_found() -> None:
    buffer = bytearray(scsi.build_scsi(READ_10, sense_len=32, datain_len=16))
    before = scsi.scsi_areas(buffer)
    buffer[24:40] = (4).to_bytes(8, "big") + (2).to_bytes(8, "big")
    assert before.datain == range(96, 112)
    assert scsi.scsi_areas(buffer).datain == range(72, 74)


@pytest.mark.parametrize(
    ("buffer", "reason"),
    [
        (bytes(47), "47 bytes, must be 48 or more"),
        (bytes(16) + (8).to_bytes(8, "big") + bytes(24), "areas of 8 bytes in a buffer of 48"),
        (bytes(16) + b"\xff" * 32, "areas of"),
        (scsi.build_scsi(READ_10, datain_len=8, dataout=b"x"), "data in and data out at once"),
    ],
)
def test_areas_that_cannot_be(buffer: bytes, reason: str) -> None:
    with pytest.raises(PacketError, match=reason):
        scsi.scsi_areas(buffer)


@pytest.mark.parametrize("lengths", [{"sense_len": -1}, {"datain_len": 1 << 60}])
def test_areas_that_nobody_has_room_for(lengths: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError, match="areas of"):
        scsi.build_scsi(READ_10, **lengths)
