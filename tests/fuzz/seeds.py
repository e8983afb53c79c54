"""Inputs to start from, made from the declarations and the targets' own tables: a fuzzer finds no handshake.

Each is a short program that goes well; the fuzzer takes them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hypervisor.greeting import KNOWN_EXTENSIONS, Hello, Transport, Welcome, build_answer, build_hello
from hypervisor.records import (
    Copy,
    CopyDirection,
    CopyDone,
    MapTableRecord,
    Push,
    QueueRecord,
    Record,
    build_record,
)
from protocol import wire
from protocol.capture import How, Note, NoteKind, build_interface, build_note, build_section
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission, build_mte
from protocol.ldc.events import LinkState
from protocol.ldc.packet import Mode
from protocol.vdisk.attributes import DiskAttributes, build_wish, layout_of
from protocol.vdisk.attributes import build_answer as build_attributes
from protocol.vdisk.descriptor import Request, build_entry, build_payload
from protocol.vdisk.labels import (
    Gpt,
    GptEntry,
    GptEntryLayout,
    build_devid_block,
    build_gpt,
    build_label,
    default_label,
    fabricated,
    geometry_of,
    vtoc_of,
)
from protocol.vdisk.labels.gpt import RESERVED_GUID, USR_GUID
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vdisk.payloads import (
    DeviceId,
    GeometryLayout,
    VtocLayout,
    build_device_id,
    build_efi,
)
from protocol.vdisk.scsi import build_scsi
from protocol.vio.messages import TransferMode
from tests.fuzz import messages
from tests.fuzz.targets import both_stacks, captures, client_stack, decoders, link, server_stack

__all__ = ["SEEDS"]

VERSIONS: Final = ((1, 0), (1, 1), (1, 2))
REQUEST: Final = Request(7, Operation.BREAD, SLICE_NONE, 1, 512, (Cookie(0x2000, 256), Cookie(0x4000, 256)))


def _valid(layout: wire.Layout[Any]) -> bytes:
    """Return the bytes of a structure: a known number where only those will do, one element in a tail."""
    data = bytearray(layout.size)
    offsets = {field.name: field for field in layout.fields}
    for field in layout.fields:
        if field.enum is not None:
            number: int = next(iter(field.enum)).value
            data[field.offset : field.offset + field.size] = number.to_bytes(field.size, "big")
        for name in field.counted_by[:1]:
            count = offsets[name]
            data[count.offset : count.offset + count.size] = (1).to_bytes(count.size, "big")
            data += bytes(range(max(field.size, field.rounded)))
    return bytes(data)


def _decoders() -> Iterator[bytes]:
    """One valid input for each check that has a shape, and any numbers for the others."""
    bodies: dict[str, list[bytes]] = {name: [bytes(range(64))] for name in decoders.CHECKS}
    for name, layout in wire.STRUCTURES.items():
        if name in bodies:
            bodies[name] = [_valid(layout)]
    entry = build_entry(REQUEST, 128)
    bodies["parse_entry"] = [entry]
    bodies["parse_cookies"] = [(2).to_bytes(4, "big") + entry]
    bodies["parse_inband"] = [bytes(24) + build_payload(REQUEST)]
    disk = DiskAttributes(size_blocks=99, max_xfer_blocks=8)
    bodies["parse_wish"], bodies["attributes_from"] = [], []
    for number, version in enumerate(VERSIONS):
        wish = build_wish(version, 1, xfer_mode=TransferMode.RING, block_size=512, max_xfer_blocks=8)
        answer = build_attributes(layout_of(version).parse(wish), version, disk)
        bodies["parse_wish"].append(bytes([number]) + wish)
        bodies["attributes_from"].append(
            bytes([number, TransferMode.RING]) + (4096).to_bytes(4, "big") + answer
        )
    every = Permission.R | Permission.W | Permission.CR | Permission.CW
    table = [build_mte(index * PAGE_SIZE, every) for index in range(decoders.TABLE_ENTRIES)]
    bodies["resolve"] = [
        b"".join(mte.to_bytes(8, "big") for mte in table)
        + addr.to_bytes(8, "big")
        + length.to_bytes(4, "big")
        + Permission.CR.to_bytes(2, "big")
        for addr, length in (
            (8, 512),
            (8, 3 * PAGE_SIZE),
            (decoders.TABLE_ENTRIES * PAGE_SIZE - 8, 16),  # beyond the table
        )
    ]
    bodies["parse_note"] = [build_note(Note(NoteKind.TAKEN, How.MESSAGE, 3, 7, entry[8 : 8 + 48 + 16]))]
    bodies.update(_disk_bodies())
    for name, found in bodies.items():
        for body in found:
            yield decoders.key_of(name).to_bytes(2, "big") + body


def _disk_bodies() -> dict[str, list[bytes]]:
    """Labels, device ids, EFI and SCSI: repaired where a first byte says so."""
    label = default_label(100 << 20)
    geometry = GeometryLayout.build(geometry_of(label))
    slices = (
        GptEntry(type_guid=USR_GUID, starting_lba=34, ending_lba=99),
        GptEntry(type_guid=RESERVED_GUID, starting_lba=100, ending_lba=200),
    )
    gpt = Gpt(alternate_lba=299, first_usable_lba=34, last_usable_lba=266, num_partition_entries=len(slices))
    entries = b"".join(GptEntryLayout.build(each) for each in slices)
    devid = fabricated(1, 2, 3)
    answer = DeviceId(type=devid.type, length=devid.id_len, id=devid.id)
    command = build_scsi(bytes(6), sense_len=20, datain_len=36)
    both_ways = bytes([1, 6, 20, 36, 4]) + bytes(16 + 8 + 24 + 40 + 8)
    return {
        "read_label": [b"\1" + build_label(label)[:509], b"\1", bytes(64)],
        "label_from": [b"\1" + geometry + VtocLayout.build(vtoc_of(label)), bytes(1) + geometry],
        "vtoc_of": [build_label(label)[:510]],
        "backup_blocks": [geometry],
        "devid_block": [geometry],
        "read_gpt": [bytes([1, block, 0]) + build_gpt(gpt)[:92] for block in range(2)],
        "read_entries": [bytes([odd, len(slices) - 1, odd]) + entries for odd in range(2)],
        "read_devid_block": [b"\1" + build_devid_block(devid)[:29]],
        "parse_device_id": [build_device_id(answer, nbytes) for nbytes in (144, 16)],
        "parse_efi": [build_efi(1, build_gpt(gpt)[:92])],
        "scsi_areas": [b"\0" + command, both_ways],
        "parse_scsi": [b"\0" + command, both_ways],
    }


def _records() -> Iterator[bytes]:
    """Each kind of record, and both greetings."""
    records: list[Record] = [
        QueueRecord(512),
        MapTableRecord(0, 64),
        Copy(1, CopyDirection.IN, 0x2000, 512),
        Copy(2, CopyDirection.OUT, 0x2000, 32, bytes(32)),
        CopyDone(1, 0, 8, bytes(8)),
        Push([(0x2000, bytes(16)), (0x4000, bytes(8))], [bytes(64)]),
        Push([(0x2000, bytes(16))], more=True),
    ]
    hello = Hello(
        volume="disk",
        transport=Transport.SHM,
        client_id=bytes(16),
        secret=bytes(16),
        memory_size=1 << 20,
        extensions=KNOWN_EXTENSIONS,
    )
    welcome = Welcome(extensions=KNOWN_EXTENSIONS, instance=bytes(16), poll_us=50)
    for record in records:
        yield b"\0" + b"".join(build_record(record))
    yield b"\1" + build_hello(hello)
    yield b"\2" + build_answer(welcome)
    yield b"\2" + build_answer(welcome, 2, "no such volume")
    yield b"\3" + build_hello(hello)


def _link() -> Iterator[bytes]:
    """Both ways through the handshake, then messages, in each mode."""
    report_up = _instruction(link.INSTRUCTIONS, link.LinkDriver.report), list(LinkState).index(LinkState.UP)
    up = _instruction(link.INSTRUCTIONS, link.LinkDriver.up)
    send = _instruction(link.INSTRUCTIONS, link.LinkDriver.send)
    lazy = _instruction(link.INSTRUCTIONS, link.LinkDriver.turn_lazy)
    version, version_ack, rts, rtr, rdx, whole, start, middle, stop, nack = (0x80 + n for n in range(10))
    for mode in Mode:
        began = bytes([mode, *report_up])
        yield began + bytes([up, version_ack, rtr, whole, send, 0, 100, whole])
        yield began + bytes([version, up, rts, rdx, start, middle, stop, nack])
        yield began + bytes([version, rts, rdx, whole, up, send, 2, 0, whole])
        yield began + bytes([up, version_ack, rtr, lazy, send, 0x3F, 0, send, 0x3F, 0, send, 0x3F, 0])
        yield began + bytes([version, rts, rdx, up, start, whole, 0xC5, whole])


def _instruction(table: tuple[Callable[..., object], ...], wanted: Callable[..., object]) -> int:
    """Return the number of an instruction."""
    return table.index(wanted)


def _server_stack() -> Iterator[bytes]:
    """A session of each kind, with some requests."""
    table, driver = server_stack.INSTRUCTIONS, server_stack.ServerDriver
    shake = _instruction(table, driver.shake_hands)
    look = _instruction(table, driver.look)
    choose = _instruction(table, driver.choose)
    last = _instruction(table, driver.complete_last)
    version, wish, registration, rdx, ring_data, inband_data = (0x80 + n for n in range(6))
    for number in range(len(VERSIONS)):
        yield bytes([0, shake, number, 0, ring_data, 0, 0, 0, ring_data, 1, 3, 0])
        yield bytes(
            [0, shake, number, 0, choose, 0, ring_data, 6, 1, 0, ring_data, 2, 2, 0, last, last, last]
        )
        yield bytes([0, shake, number, 1, inband_data, 1, 0, 0, 1, choose, 0, inband_data, 2, 1, 0, 2, last])
    for kind in (server_stack.POLLED, server_stack.POLLED | server_stack.POLLS):
        yield bytes([kind, shake, 2, 0, ring_data, 1, 1, 0, 1, look, 2, ring_data, 2, 0, 1, 1])
    walk, tell, stop, first = (
        _instruction(table, call) for call in (driver.walk, driver.tell, driver.stop, driver.complete_first)
    )
    opened = [server_stack.OPEN, shake, 2, 0, ring_data, 0, 0, 0, 3]  # and three entries taken
    lazy = server_stack.LOOKS_ON
    yield bytes([*opened, ring_data, 3, 0x85, 0, ring_data, 6, 0, 0, 9])  # the ring and one more
    yield bytes([server_stack.OPEN, shake, 2, 0, choose, lazy, ring_data, 6, 0, 0, walk, 4])
    several = [choose, lazy, ring_data, 6, 0, 0, walk, 3, last, tell, first, tell, walk, 1]
    yield bytes([server_stack.OPEN, shake, 2, 0, *several, first, first, tell, stop, ring_data, 2, 0, 0])
    yield bytes([server_stack.OPEN, shake, 2, 0, *several, ring_data, 0, 0x80, 0, first, stop, last])
    say_anything = _instruction(table, driver.say_anything)
    clean_up = _instruction(table, driver.clean_up)
    unregistration = 0x80 + messages.MESSAGES.index(messages.build_unregistration)
    yield bytes([0, shake, 2, 0, say_anything, 5, 1, 1, 0, 1, 0])  # shorter than a tag
    three = [ring_data, 0, 0, 0, ring_data, 1, 1, 0, ring_data, 2, 2, 0]
    yield bytes(  # answers that wait for another when the session ends
        [0, shake, 2, 0, choose, server_stack.TARDY, *three, last, last, unregistration, clean_up]
    )
    yield bytes([0, version, 2, wish, 4, registration, 16, rdx, ring_data, 15, 2, 0])
    yield bytes([0, version, 2, wish, 2, rdx, inband_data, 3, 0, 0, 1])


def _client_stack() -> Iterator[bytes]:
    """A session of each kind, with some requests and their answers."""
    table, driver = client_stack.INSTRUCTIONS, client_stack.ClientDriver
    answer_all = _instruction(table, driver.answer_all)
    request = _instruction(table, driver.request)
    wake = _instruction(table, driver.wake)
    answer, damaged = 0x80, 0xC0
    for offer in range(len(client_stack.OFFERS)):
        for kind in (0, client_stack.INBAND):
            first = kind | offer << 3
            yield bytes([first, answer_all, request, 0, 0, request, 1, 3, answer, answer])
            yield bytes([first, answer, answer, answer, answer, request, 2, 2, damaged, 0, 8, 7])
            yield bytes([first, answer_all, request, 0, 0, damaged, 0, 15, 2])  # to what was never sent
    opened = [client_stack.OPEN, answer_all]
    yield bytes([*opened, request, 6, 0, answer, 0x83, answer, 0x80, request, 1, 0, answer, 2, request, 3, 0])
    yield bytes([*opened, request, 0, 0x81, request, 2, 0, answer, answer, 8, damaged, 0, 31, 3])
    for kind in (client_stack.POLLED, client_stack.POLLED | client_stack.POLLS):
        yield bytes(
            [kind, answer_all, request, 2, answer, 1, wake, 1, 2, 1, 2, 2, request, 1, wake, 2, 3, 2, 3, 1]
        )


def _both_stacks() -> Iterator[bytes]:
    """Writes and reads in each mode: undisturbed, and with one disturbance of each kind."""
    table, disk = both_stacks.INSTRUCTIONS, both_stacks.DisturbedDisk
    quiet, write, read, work = (
        _instruction(table, call) for call in (disk.quiet, disk.write, disk.read, disk.work)
    )
    disturbances = (disk.drop, disk.double, disk.damage, disk.report_reset, disk.fault)
    look = _instruction(table, disk.look)
    fill = [quiet, write, 0, write, 1, quiet, look]
    yield bytes([both_stacks.OPEN, *fill, write, 2, work, 1, look, work, 0, quiet, read, 0, look, quiet])
    stopping = [quiet, write, 0, quiet, look, work, 0, look]
    yield bytes(
        [both_stacks.OPEN, *stopping, write, 1, write, 2, quiet, look]
    )  # filled while STOPPED travels
    for mode in (0, both_stacks.POLLED, both_stacks.INBAND, both_stacks.OPEN):
        yield bytes(
            [mode, quiet, write, 0, write, 1, quiet, work, 1, work, 0, quiet, read, 0, quiet, work, 0]
        )
        kind = mode | both_stacks.DAMAGE | both_stacks.LOSS
        for disturbance in disturbances:
            number = _instruction(table, disturbance)
            yield bytes(
                [kind, quiet, write, 0, number, 0, 9, 1, quiet, work, 0, number, 1, 20, 2, quiet, read, 0]
            )


def _captures() -> Iterator[bytes]:
    """Each conversation as it is, with a byte changed, with frames behind it; and a short file by itself."""
    yield bytes([0]) + build_section("x", "") + build_interface("d#1", "")
    frame = bytes([0x40, 2, 1, 0, 0xF8, 0, 0, 0, 9]) + bytes(56)
    for number in range(1, len(captures.CONVERSATIONS) + 1):
        yield bytes([number])
        yield bytes([number, 3, 0, 0xFF, 0, 0]) + frame + bytes([0x98]) + bytes(24)


SEEDS: Final[Mapping[str, Callable[[], Iterator[bytes]]]] = {
    "decoders": _decoders,
    "link": _link,
    "server_stack": _server_stack,
    "client_stack": _client_stack,
    "both_stacks": _both_stacks,
    "records": _records,
    "captures": _captures,
}
"""Target → what makes its seeds."""
