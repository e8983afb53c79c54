"""The catalogue of structures and its tables."""

from __future__ import annotations

from typing import Any

import pytest

from protocol import structures, wire
from protocol.errors import LocalProtocolError, PacketError


def test_a_table_has_offset_size_field_and_meaning() -> None:
    assert structures.table(structures.STANDARD["ldc_mem_cookie"]).splitlines() == [
        "| Offset | Size | Field | Meaning |",
        "| -----: | ---: | ----- | --- |",
        "|      0 |    8 | addr  | page size code 63:60, table index, offset in the page |",
        "|      8 |    8 | size  | bytes |",
    ]


def test_numbers_with_a_meaning_are_in_the_table() -> None:
    rows = {row[2]: row for row in structures.rows(structures.STANDARD["vio_ver_msg"])}
    assert rows["subtype"] == ("1", "1", "subtype", "request or answer; INFO 1, ACK 2, NACK 4")
    assert rows["subtype_env"][3].endswith("DDS_INFO 6, PKT_DATA 0x40, DESC_DATA 0x41, DRING_DATA 0x42")
    assert rows["resv3"] == ("16", "40", "resv3", "reserved, zero")


def test_arrays_and_tails_say_what_they_are_made_of() -> None:
    vtoc = {row[2]: row for row in structures.rows(structures.STANDARD["vd_vtoc"])}
    assert vtoc["partition"][1:] == (
        "192",
        "partition",
        "partitions 0 to 7; 8 of 24 bytes; in each id_tag at 0, perm at 2, reserved at 4, start at 8, "
        "nblocks at 16",
    )
    ring = {row[2]: row for row in structures.rows(structures.STANDARD["vio_dring_reg_msg"])}
    assert ring["cookie"][1:] == (
        "16",
        "cookie",
        "where the ring is; one for each of ncookies, at most 33; in each addr at 0, size at 8",
    )
    scsi = {row[2]: row for row in structures.rows(structures.STANDARD["vd_scsi"])}
    assert scsi["data"][1] == "1"
    assert scsi["data"][3].endswith(
        "one for each of cdb_len + sense_len + datain_len + dataout_len, each rounded up to 8, "
        "at most 2097152"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vio_ver_msg", "vio_ver_msg: 56 bytes, big-endian"),
        ("efi_gpt", "efi_gpt: 512 bytes, little-endian"),
        ("vio_dring_reg_msg", "vio_dring_reg_msg: 32 bytes, and 16 for each of ncookies, big-endian"),
    ],
)
def test_a_heading_says_how_long_a_structure_is(name: str, said: str) -> None:
    assert structures.heading(structures.STANDARD[name]) == said


def test_decode_and_encode_octet_by_octet() -> None:
    octets = bytes.fromhex("0102 0003 01020304 0000000000000001 00000200 00000040 0003 0000 00000001")
    octets += bytes.fromhex("0000000000002000 0000000000008000")
    found = {
        "msgtype": 1,
        "subtype": 2,
        "subtype_env": 3,
        "sid": 0x01020304,
        "dring_ident": 1,
        "num_descriptors": 512,
        "descriptor_size": 64,
        "options": 3,
        "ncookies": 1,
        "cookie": [{"addr": 0x2000, "size": 0x8000}],
    }
    assert structures.decode("vio_dring_reg_msg", octets) == found
    assert structures.encode("vio_dring_reg_msg", found) == octets


def test_reserved_bytes_are_ignored_and_written_as_zero() -> None:
    dirty = bytes.fromhex("00000001 deadbeef")
    assert structures.decode("vd_wce", dirty) == {"enabled": 1}
    assert structures.encode("vd_wce", {"enabled": 1}) == bytes.fromhex("00000001 00000000")


WCE = {"enabled": 1}
RAW = {"payload": "00" * 64}


@pytest.mark.parametrize(
    ("name", "found", "reason"),
    [
        ("vd_wce", {}, "no enabled"),
        ("vd_wce", WCE | {"pad": 0, "colour": 1}, "unknown colour, unknown pad"),
        ("vd_wce", [1], r"an object with fields, not \[1\]"),
        ("vd_wce", {"enabled": "1"}, 'enabled is a whole number, not "1"'),
        ("vd_wce", {"enabled": True}, "enabled is a whole number, not true"),
        ("vd_wce", {"enabled": 2}, "enabled is 2, known are OFF 0, ON 1"),
        ("vd_geom", {"ncyl": 65536} | dict.fromkeys(("acyl", "bcyl"), 0), "no nhead, no nsect"),
        ("ldc_packet_raw", {"payload": "00" * 63}, "payload"),
        ("ldc_packet_raw", {"payload": "zz"}, 'payload is a string of hex digits, not "zz"'),
        ("ldc_packet_raw", {"payload": 5}, "payload is a string of hex digits, not 5"),
        ("vd_efi", {"lba": 1, "length": 2, "data": "00"}, "length is 2, data has 1"),
        ("vd_efi", {"lba": 1 << 64, "length": 0, "data": ""}, "vd_efi"),
        ("vd_devid", {"type": 3, "length": 0, "id": []}, "id is a string of hex digits"),
        ("vd_devid", {"type": 3, "length": 5000, "id": "00"}, "length is 5000, at most 4096 allowed"),
        ("vd_efi", {"lba": -1, "length": 0, "data": ""}, "lba is -1, must be 0 to 18446744073709551615"),
        ("vd_wce", {"enabled": 1 << 31}, "enabled is 2147483648, must be -2147483648 to 2147483647"),
        ("vd_wce", {"enabled": "x" * 99}, "enabled is a whole number, not .{41}$"),
        (
            "vd_dring_payload",
            {"req_id": 0, "operation": 1, "slice": 0, "status": 0, "addr": 0, "nbytes": 8, "ncookies": 1}
            | {"cookie": [{"addr": 0}]},
            r"vd_dring_payload: cookie\[0\]: ldc_mem_cookie: no size",
        ),
    ],
)
def test_what_encode_refuses(name: str, found: object, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        structures.encode(name, found)


@pytest.mark.parametrize("partitions", [5, "six", None, [], [5] * 8, [{}] * 8])
def test_arrays_are_lists_of_their_elements(partitions: object) -> None:
    vtoc = {
        "volume_name": "00" * 8,
        "sector_size": 512,
        "num_partitions": 8,
        "ascii_label": "00" * 128,
        "partition": partitions,
    }
    with pytest.raises(
        LocalProtocolError, match=r"vd_vtoc: partition(\[0\]: vd_partition: | is a list| has 0)"
    ):
        structures.encode("vd_vtoc", vtoc)


def test_a_number_without_a_meaning_does_not_decode() -> None:
    octets = b"\x07" + bytes(7)
    with pytest.raises(PacketError, match="vio_msg_tag: msgtype is 7, known are CTRL 1, DATA 2, ERR 4"):
        structures.decode("vio_msg_tag", octets)


def test_names_of_numbers() -> None:
    rows = {row.name: row for row in structures.STANDARD["ldc_packet_unreliable"].fields}
    assert wire.meaning(rows["type"], 3) == "CTRL|DATA"
    assert wire.meaning(rows["type"], 0) == ""
    assert wire.meaning(rows["type"], 4) is None
    assert wire.meaning(rows["ctrl"], 2) == "RTS"
    assert wire.meaning(rows["ctrl"], 0) == ""
    assert wire.meaning(rows["ctrl"], 9) is None
    assert wire.meaning(rows["seqid"], 9) == ""


def test_integer_arrays_have_a_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.wire.layouts.STRUCTURES", {})
    fields = {"words": wire.field(wire.Array(2, wire.Int16ub), doc="two words")}
    layout: wire.Layout[Any] = wire.describe("vd_words", dict, fields, size=4)

    class Words:
        words = (1, 2)

    assert wire.to_object(layout, Words()) == {"words": [1, 2]}
    assert wire.from_object(layout, {"words": [1, 2]}) == {"words": (1, 2)}
    with pytest.raises(LocalProtocolError, match='words is a whole number, not "1"'):
        wire.from_object(layout, {"words": ["1", 2]})
