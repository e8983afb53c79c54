"""Every structure, and every function of ``protocol`` that turns a peer's or a disk's bytes into values.

Every public function of ``protocol`` called ``parse_`` or ``read_`` is a check, and so are those that take a
peer's numbers; the readers of ``hypervisor`` are the target ``records``.

Input: two bytes say which check, the rest is what it decodes. Checks are found by a hash of their name, so
that a new structure takes over some inputs of one other and leaves all others what they were.
"""

from __future__ import annotations

import bisect
import functools
import importlib
import pkgutil
import zlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final

import hypervisor
import protocol
from protocol import wire
from protocol.capture import build_note, parse_note
from protocol.errors import RingError
from protocol.ldc.cookie import PAGE_SHIFT, MapTable
from protocol.vdisk.attributes import (
    BLOCK_SIZE,
    DiskAttributes,
    attributes_from,
    build_answer,
    max_xfer,
    parse_wish,
)
from protocol.vdisk.descriptor import (
    InbandMessageLayout,
    build_entry,
    build_payload,
    parse_cookies,
    parse_entry,
    parse_inband,
)
from protocol.vdisk.payloads import GEOMETRY_NBYTES, build_geometry, parse_geometry
from protocol.vdisk.status import WireErrno, from_wire, to_wire
from protocol.vdisk.validate import clip, validate
from protocol.vio.dring import MAX_DESCRIPTOR_SIZE, MAX_DESCRIPTORS, MIN_DESCRIPTOR_SIZE, RingGeometry
from protocol.vio.handshake import answer_version, lower_version
from protocol.vio.messages import InbandHeaderLayout, Subtype, TagLayout, Version, echo
from tests.fuzz import disk_checks
from tests.fuzz.tape import Check, Tape, attempt

__all__ = ["CHECKS", "choose", "fuzz_one", "key_of"]

DISK: Final = DiskAttributes(size_blocks=0x1803, max_xfer_blocks=2048)
VERSIONS: Final = ((1, 0), (1, 1), (1, 2))
TABLE_ENTRIES: Final = 8


def _import_all(package: ModuleType) -> None:
    """Import every module of a package but its command, so that all structures are registered."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _structure(layout: wire.Layout[Any], tape: Tape) -> None:
    """What parses builds back to bytes that parse to the same; the codec reads back what it packs."""
    data = tape.rest()
    fitted = data[: layout.size].ljust(layout.size, b"\0")
    for text in (data, fitted):
        exact = attempt(layout.parse, text)
        loose = attempt(layout.parse, text, trailing=True)
        if exact is not None:
            assert loose == exact
            assert len(layout.build(exact)) == len(text)
        if loose is not None:
            assert layout.parse(layout.build(loose)) == loose
    values = layout.codec.unpack(fitted)
    assert layout.codec.unpack(layout.codec.pack(*values)) == values


def _entry(tape: Tape) -> None:
    request = attempt(parse_entry, tape.rest())
    if request is not None:
        built = build_entry(request, MAX_DESCRIPTOR_SIZE)
        assert parse_entry(built.ljust(MIN_DESCRIPTOR_SIZE, b"\0")) == request


def _cookies(tape: Tape) -> None:
    ncookies = tape.number(4)
    cookies = attempt(parse_cookies, tape.rest(), ncookies)
    assert cookies is None or len(cookies) == ncookies


def _inband(tape: Tape) -> None:
    message = tape.rest()
    request = attempt(parse_inband, message)
    if request is not None:
        header = message[: InbandHeaderLayout.size]
        assert parse_inband(header + build_payload(request)) == request
        assert InbandMessageLayout.parse(message).desc_handle == InbandHeaderLayout.parse(header).desc_handle


def _wish(tape: Tape) -> None:
    """A client believes whatever a server of ours answers to its wish."""
    version = tape.pick(VERSIONS)
    wish = attempt(parse_wish, tape.take(56), version)
    if wish is not None:
        answer = build_answer(wish, version, DISK)
        found = attributes_from(answer, version, xfer_mode=wish.xfer_mode, max_xfer_bytes=max_xfer(wish))
        assert found.operations == DISK.for_version(version).operations
        assert version < (1, 1) or found.size_blocks == DISK.size_blocks


def _attributes(tape: Tape) -> None:
    """Attributes that a client believes are fit to validate requests with."""
    version = tape.pick(VERSIONS)
    xfer_mode, most = tape.byte(), tape.number(4)
    found = attempt(attributes_from, tape.take(56), version, xfer_mode=xfer_mode, max_xfer_bytes=most)
    if found is not None:
        assert found.block_size % BLOCK_SIZE == 0
        assert found.max_xfer_blocks >= 1
        _check_request(tape, found)


def _request(tape: Tape) -> None:
    size_blocks, operations = tape.number(8), tape.number(8)
    _check_request(tape, DiskAttributes(size_blocks=size_blocks, max_xfer_blocks=1, operations=operations))


def _check_request(tape: Tape, export: DiskAttributes) -> None:
    """The status is one of the wire's, and no more is transferred than was asked for or exists."""
    operation, slice_, addr, nbytes = tape.byte(), tape.byte(), tape.number(8), tape.number(8)
    WireErrno(validate(operation, slice_, addr, nbytes, export))
    length = clip(addr, nbytes, export)
    assert 0 <= length <= nbytes
    assert not length or addr * export.block_size + length <= export.size


def _geometry(tape: Tape) -> None:
    geometry = attempt(parse_geometry, tape.rest())
    if geometry is not None:
        built = build_geometry(geometry)
        assert len(built) == GEOMETRY_NBYTES
        assert parse_geometry(built) == geometry


def _note(tape: Tape) -> None:
    """A note of a capture builds back to the same."""
    note = attempt(parse_note, tape.rest())
    assert note is None or parse_note(build_note(note)) == note


def _status(tape: Tape) -> None:
    status = tape.number(4)
    assert bool(from_wire(status)) == bool(status)
    assert from_wire(to_wire(from_wire(status))) == from_wire(status)


def _versions(tape: Tape) -> None:
    """Any two ends agree on a version that both speak, or give up, after as many offers as there are."""
    client, server = _some_versions(tape), _some_versions(tape)
    offered: Version | None = client[0]
    for _ in client:
        assert offered in client
        agreed, answer = answer_version(offered, server)
        if agreed:
            assert answer <= offered
            assert any(answer.major == own.major and answer.minor <= own.minor for own in server)
            return
        following = lower_version(answer, offered, client)
        if following is None:
            assert not {own.major for own in client} & {own.major for own in server}
            return
        assert following < offered
        offered = following
    raise AssertionError("an offer too many")


def _some_versions(tape: Tape) -> list[Version]:
    """Return the best version of each of a few majors, highest first."""
    minors = {1 + tape.byte() % 7: tape.byte() for _ in range(1 + tape.byte() % 3)}  # 0.0 is no version
    return sorted((Version(major, minor) for major, minor in minors.items()), reverse=True)


def _ring(tape: Tape) -> None:
    """A range that passes the check has as many entries as it says, and all of them in the ring."""
    geometry = RingGeometry(tape.number(4), tape.number(4))
    start, end = tape.number(4), int.from_bytes(tape.take(4), "big", signed=True)
    attempt(geometry.validate)
    try:
        geometry.check_range(start, end)
    except RingError:
        return
    if geometry.num_descriptors <= MAX_DESCRIPTORS:
        indices = geometry.indices(start, end)
        assert len(indices) == geometry.span(start, end) == len(set(indices))
        assert max(indices) < geometry.num_descriptors


def _echo(tape: Tape) -> None:
    """An answer is as long as its message and differs in nothing that is not reserved."""
    message = tape.rest().ljust(TagLayout.size, b"\0")
    answer = echo(message, Subtype.ACK)
    assert len(answer) == len(message)
    assert TagLayout.codec.unpack_from(answer)[2:] == TagLayout.codec.unpack_from(message)[2:]
    assert echo(answer, Subtype.ACK) == answer


def _map_table(tape: Tape) -> None:
    """A cookie resolves to what a look at each page in turn finds."""
    slots = [tape.number(8) for _ in range(TABLE_ENTRIES)]
    view = memoryview(b"".join(slot.to_bytes(8, "big") + bytes(8) for slot in slots))
    addr, length, need = tape.number(8), tape.number(4), tape.number(2) & 0x7F0
    runs = attempt(MapTable(view, TABLE_ENTRIES).resolve, addr, length, need)
    assert runs == _resolve_page_by_page(slots, addr, length, need)


def _resolve_page_by_page(
    slots: Sequence[int], addr: int, length: int, need: int
) -> list[tuple[int, int]] | None:
    """Return the runs behind a cookie, None if it does not resolve. Source: FWARC 2008/424, LDC_COPY."""
    code = addr >> 60
    page = 1 << (PAGE_SHIFT + 3 * code)
    at, end = addr & ((1 << 60) - 1), (addr & ((1 << 60) - 1)) + length
    if addr % 8 or length % 8 or not length or code > 7:
        return None
    runs: list[tuple[int, int]] = []
    while at < end:
        index, offset = divmod(at, page)
        mte = slots[index] if index < len(slots) else 0
        if not mte & 0x7F0 or mte & 0xF != code or mte & need != need:
            return None
        ra = (mte & ((1 << 56) - 1) & ~(page - 1)) + offset
        piece = min(end - at, page - offset)
        if runs and sum(runs[-1]) == ra:
            ra, before = runs.pop()
            runs.append((ra, before + piece))
        else:
            runs.append((ra, piece))
        at += piece
    return runs


_import_all(protocol)
_import_all(hypervisor)

CHECKS: Final[Mapping[str, Check]] = {
    **{
        name: functools.partial(_structure, layout)
        for name, layout in wire.STRUCTURES.items()
        if layout.value_type.__module__.split(".")[0] in ("protocol", "hypervisor")  # tests declare some too
    },
    "parse_entry": _entry,
    "parse_cookies": _cookies,
    "parse_inband": _inband,
    "parse_wish": _wish,
    "attributes_from": _attributes,
    "validate": _request,
    "parse_geometry": _geometry,
    "parse_note": _note,
    "from_wire": _status,
    "answer_version": _versions,
    "check_range": _ring,
    "echo": _echo,
    "resolve": _map_table,
    **disk_checks.CHECKS,
}
"""Name of a structure, or of a function, → what has to hold for any input."""


def key_of(name: str) -> int:
    """Return the number that chooses the check called ``name``."""
    return zlib.crc32(name.encode()) & 0xFFFF


_CIRCLE: Final = sorted((key_of(name), name) for name in CHECKS)


def choose(key: bytes) -> str:
    """Return the name of the check that the first two bytes of an input stand for."""
    place = bisect.bisect_left(_CIRCLE, (int.from_bytes(key, "big"), ""))
    return _CIRCLE[place % len(_CIRCLE)][1]


def fuzz_one(data: bytes) -> None:
    """Run one check."""
    tape = Tape(data)
    CHECKS[choose(tape.take(2))](tape)
