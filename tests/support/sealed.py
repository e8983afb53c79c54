"""Any bytes as a sector with good checksums: nobody draws one, but whoever writes a disk can compute it."""

from __future__ import annotations

import zlib

__all__ = ["sealed_devid", "sealed_gpt", "sealed_label"]


def sealed_label(sector: bytes) -> bytes:
    """Return 512 bytes as a VTOC label: eight partitions, magic and checksum; all else is as it was."""
    body = sector[:140] + (8).to_bytes(2, "big") + sector[142:508] + bytes.fromhex("dabe")
    return body + _xor(body, 2)


def sealed_devid(sector: bytes) -> bytes:
    """Return 512 bytes as a device id block: revisions, magic, checksum; type, length and id as they were."""
    body = bytes.fromhex("0001") + sector[2:3] + bytes.fromhex("69640001") + sector[7:508]
    return body + _xor(body, 4)


def sealed_gpt(block: bytes) -> bytes:
    """Return a block as a GPT header: signature, a size up to the block's, checksum; all else as it was."""
    size = 92 + (int.from_bytes(block[12:16], "little") - 92) % (len(block) - 91)
    start = b"EFI PART" + block[8:12] + size.to_bytes(4, "little")
    checksum = zlib.crc32((start + bytes(4) + block[20:])[:size])
    return start + checksum.to_bytes(4, "little") + block[20:]


def _xor(octets: bytes, size: int) -> bytes:
    """Return the XOR of all words of ``size`` bytes."""
    found = 0
    for at in range(0, len(octets), size):
        found ^= int.from_bytes(octets[at : at + size], "big")
    return found.to_bytes(size, "big")
