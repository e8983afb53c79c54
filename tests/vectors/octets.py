"""Bytes typed by hand, and a comparison that says where two of them differ.

Everything under ``tests/vectors`` is a foreign peer: it imports the standard library and its neighbours,
and not one name of ``protocol``, ``hypervisor``, ``vds`` or ``vdc``. What it sends and what it expects
stands in it as octets.
"""


class Mismatch(Exception):
    """The peer answered, but not with the octets of the specification; the text shows where they part."""


def raw(text: str, size: int | None = None, fill: int = 0) -> bytes:
    """The octets of ``text`` (hex, spaces ignored), filled up to ``size`` with ``fill``.

    Raises: ValueError (no hex, or more octets than ``size``).
    """
    octets = bytes.fromhex(text)
    if size is None:
        return octets
    if len(octets) > size:
        raise ValueError(f"{len(octets)} octets typed where {size} fit")
    return octets + bytes([fill]) * (size - len(octets))


def compare(what: str, got: bytes, expected: bytes) -> None:
    """Nothing, if ``got`` is ``expected`` to the last bit.

    Raises: Mismatch, with the first different offset and sixteen octets of both around it.
    """
    if got == expected:
        return
    if len(got) != len(expected):
        raise Mismatch(f"{what}: {len(got)} octets, not {len(expected)}: {got[:64].hex(' ')}")
    at = next(offset for offset, pair in enumerate(zip(got, expected, strict=True)) if pair[0] != pair[1])
    start = at & ~15
    raise Mismatch(
        f"{what}: differs at offset {at}\n"
        f"  expected {start:6d}: {expected[start : start + 16].hex(' ')}\n"
        f"  received {start:6d}: {got[start : start + 16].hex(' ')}"
    )
