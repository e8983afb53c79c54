"""What every foreign peer does once its session stands, and what must come back, typed as octets.

The disk is an image of 6147 blocks of 512 octets without a label. Sources: Solaris ``sys/vdsk_common.h``
(operations, ``vd_geom_t``, ``vd_capacity``), ``sys/vdsk_mailbox.h``, ``vds.c`` (``vd_process_task``,
``vd_do_process_rw``, ``vd_build_default_label``), ``sys/errno.h`` (status values are Solaris' errno
numbers).
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.vectors.memory import CR, CW, PAGE, Cookie, Memory
from tests.vectors.octets import Mismatch, compare, raw

BLOCK = 512
BLOCKS = 6147
IMAGE_SIZE = BLOCKS * BLOCK  # 3147264

BREAD, BWRITE, FLUSH = 0x01, 0x02, 0x03
GET_VTOC, GET_DISKGEOM, SCSICMD, GET_DEVID, GET_EFI, GET_CAPACITY = 0x06, 0x08, 0x0A, 0x0B, 0x0C, 0x11
ABSOLUTE = 0xFF  # slice: none, addresses count from the start of the disk

EIO = 5
EINVAL = 22
ENOTSUP = 48

UNTOUCHED = 0xEE  # what a buffer holds before the request
CAPACITY = raw("00 00 02 00  00 00 00 00  00 00 00 00 00 00 18 03")  # 512, reserved, 6147 blocks
# 3147264 octets are 2 MB or more and less than 8 GB: 1 head, 600 sectors; 10 cylinders, 2 of them alternate.
GEOMETRY = raw(
    "00 08  00 02  00 00  00 01  02 58  00 00"  # ncyl acyl bcyl nhead nsect intrlv
    "00 00  1c 20  00 0a  00 00  00 00"  # apc rpm pcyl write_reinstruct read_reinstruct
    "00 00"  # the buffer is 24 octets
)


class Request(NamedTuple):
    """What is asked for, and how it has to be answered; ``part`` is the slice."""

    what: str
    operation: int
    part: int
    addr: int
    nbytes: int
    cookies: Sequence[Cookie]
    status: int
    answered: int
    stale_ncookies: int | None = None  # what an earlier request left in the descriptor


class Client(ABC):
    """One foreign driver: how it exports a buffer and how it asks."""

    def __init__(self, memory: Memory, buffer_ra: int) -> None:
        """``buffer_ra``: where its data buffer lies, aligned to a page; room for 64 KiB and two pages."""
        self.memory = memory
        self.buffer_ra = buffer_ra

    @abstractmethod
    def export(self, ra: int, nbytes: int, permissions: int) -> list[Cookie]:
        """Let the server at ``nbytes`` octets from ``ra``: CR, CW or both, and what the driver adds."""

    def revoke(self, cookies: Sequence[Cookie]) -> None:
        """Take back what :meth:`export` gave: a slot for each cookie."""
        for addr, _ in cookies:
            self.memory.unmap(addr // PAGE)

    @abstractmethod
    def request(self, request: Request) -> None:
        """One request from descriptor to answer, every octet of the answer compared."""


class Image:
    """The backend file, read beside the server's back, and what it must hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = bytearray(path.read_bytes())
        if len(self.model) != IMAGE_SIZE:
            raise ValueError(f"{path} has {len(self.model)} octets, not {IMAGE_SIZE}")

    def blocks(self, first: int, count: int) -> bytes:
        """What the disk holds in ``count`` blocks from ``first``."""
        return bytes(self.model[first * BLOCK : (first + count) * BLOCK])

    def check(self, what: str) -> None:
        """The file must hold the model, no octet more, less or different."""
        compare(f"{what}: backend file", self.path.read_bytes(), bytes(self.model))


def pattern(seed: int, nbytes: int) -> bytes:
    """Octets that tell one write from another."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(nbytes)


def read(client: Client, what: str, operation: int, addr: int, room: int, **answer: int) -> bytes:
    """Ask for something into a buffer of ``room`` octets; the buffer afterwards.

    ``answer`` has the expected ``status`` and ``answered`` octets; ``nbytes`` and ``part`` if they differ
    from ``room`` and the absolute disk. ``permissions`` is CW for BREAD and both ways for every other
    operation.
    """
    nbytes = answer.pop("nbytes", room)
    part = answer.pop("part", ABSOLUTE)
    client.memory.write(client.buffer_ra, bytes([UNTOUCHED]) * room)
    cookies = client.export(client.buffer_ra, room, CW if operation == BREAD else CW | CR)
    status, answered = answer.pop("status", 0), answer.pop("answered", nbytes)
    client.request(Request(what, operation, part, addr, nbytes, cookies, status, answered))
    client.revoke(cookies)
    if answer:
        raise TypeError(f"unknown expectation {answer}")
    return client.memory.read(client.buffer_ra, room)


def write(client: Client, what: str, addr: int, data: bytes, *, offset: int = 0, answered: int) -> None:
    """BWRITE ``data`` from a buffer that starts ``offset`` octets into its page."""
    ra = client.buffer_ra + offset
    client.memory.write(ra, data)
    cookies = client.export(ra, len(data), CR)
    client.request(Request(what, BWRITE, ABSOLUTE, addr, len(data), cookies, 0, answered))
    client.revoke(cookies)
    compare(f"{what}: own buffer", client.memory.read(ra, len(data)), data)


def refused(client: Client, what: str, operation: int, room: int, status: int, **other: int) -> None:
    """A request that is answered with ``status`` and leaves the buffer alone."""
    got = read(client, what, operation, other.pop("addr", 0), room, status=status, **other)
    compare(f"{what}: buffer", got, bytes([UNTOUCHED]) * room)


def reads_and_writes(client: Client, image: Image) -> None:
    """Blocks come as they are in the file and go where they belong; an acknowledged write is in the file."""
    for addr, count in ((0, 1), (16, 8), (1000, 128), (BLOCKS - 1, 1)):
        what = f"BREAD of {count} at {addr}"
        compare(what, read(client, what, BREAD, addr, count * BLOCK), image.blocks(addr, count))
    for number, (addr, count, offset) in enumerate(
        ((5, 1, 0), (100, 33, 512), (2000, 128, 0), (BLOCKS - 1, 1, 8))
    ):
        data = pattern(number, count * BLOCK)
        image.model[addr * BLOCK : addr * BLOCK + len(data)] = data
        what = f"BWRITE of {count} at {addr}"
        write(client, what, addr, data, offset=offset, answered=len(data))
        image.check(what)
        compare(what, read(client, "reading it back", BREAD, addr, count * BLOCK), data)
    got = read(client, "BREAD of 100 octets", BREAD, 3, 104, nbytes=100)
    compare("BREAD of 100 octets", got[:100], image.blocks(3, 1)[:100])


def flush(client: Client) -> None:
    """FLUSH has no payload; Solaris leaves the ncookies of an earlier request in its descriptor."""
    what = "FLUSH with stale ncookies"
    client.request(Request(what, FLUSH, ABSOLUTE, 0, 0, [], status=0, answered=0, stale_ncookies=7))
    client.request(Request("FLUSH", FLUSH, 0, 0, 0, [], status=0, answered=0))


def ends(client: Client, image: Image) -> None:
    """Across the end: short and status 0. At or beyond it: nothing and status 0. The file never grows.

    What a read could not fill is zeros: the server's shadow of the buffer began so and is copied out whole.
    """
    got = read(client, "BREAD across the end", BREAD, BLOCKS - 2, 4 * BLOCK, answered=2 * BLOCK)
    compare("BREAD across the end", got, image.blocks(BLOCKS - 2, 2) + bytes(2 * BLOCK))
    for addr in (BLOCKS, BLOCKS + 1, 1 << 60, (1 << 64) - 1):
        what = f"BREAD at {addr}"
        compare(what, read(client, what, BREAD, addr, BLOCK, answered=0), bytes(BLOCK))
    data = pattern(99, 3 * BLOCK)
    image.model[(BLOCKS - 1) * BLOCK :] = data[:BLOCK]
    write(client, "BWRITE across the end", BLOCKS - 1, data, answered=BLOCK)
    write(client, "BWRITE at the end", BLOCKS, data, answered=0)
    image.check("BWRITE at the end")


def refusals(client: Client) -> None:
    """What is not offered, or offered otherwise, is a status in an ACK; the session goes on."""
    refused(client, "GET_VTOC", GET_VTOC, 336, ENOTSUP, part=0)
    refused(client, "GET_DEVID", GET_DEVID, 144, ENOTSUP, part=0)
    refused(client, "SCSICMD", SCSICMD, 56, ENOTSUP, part=0)
    refused(client, "operation 0x00", 0x00, 8, ENOTSUP)
    refused(client, "operation 0x55", 0x55, 8, ENOTSUP)
    refused(client, "operation 0xff", 0xFF, 8, ENOTSUP)
    refused(client, "BREAD of nothing", BREAD, BLOCK, EINVAL, nbytes=0)
    refused(client, "BREAD of slice 0 without a label", BREAD, BLOCK, EIO, part=0, answered=0)
    refused(client, "BREAD of slice 7 without a label", BREAD, BLOCK, EIO, part=7, answered=0)
    refused(client, "BREAD of slice 8", BREAD, BLOCK, EINVAL, part=8, answered=0)
    refused(client, "BREAD of slice 0xfe", BREAD, BLOCK, EINVAL, part=0xFE, answered=0)
    refused(client, "GET_DISKGEOM of 16", GET_DISKGEOM, 16, EINVAL, part=0)


def facts(client: Client, *, capacity: bool) -> None:
    """Geometry always; the capacity from version 1.1, before that it is no operation."""
    compare("GET_DISKGEOM", read(client, "GET_DISKGEOM", GET_DISKGEOM, 0, 24, part=0), GEOMETRY)
    if capacity:
        compare("GET_CAPACITY", read(client, "GET_CAPACITY", GET_CAPACITY, 0, 16, part=0), CAPACITY)
        refused(client, "GET_CAPACITY of 24", GET_CAPACITY, 24, EINVAL, part=0)
    else:
        refused(client, "GET_CAPACITY at version 1.0", GET_CAPACITY, 16, ENOTSUP, part=0)


def whole_disk(client: Client, image: Image) -> None:
    """Read the disk from end to end and compare it with the file."""
    step = 64 * 1024 // BLOCK
    for addr in range(0, BLOCKS, step):
        count = min(step, BLOCKS - addr)
        what = f"BREAD of {count} at {addr}"
        compare(what, read(client, what, BREAD, addr, count * BLOCK), image.blocks(addr, count))
    image.check("at the end")


def everything(client: Client, image: Image, *, capacity: bool) -> None:
    """All of the above, twice, so that rings and map tables go round."""
    if client.buffer_ra % PAGE:
        raise Mismatch("the buffer must start a page")
    for _ in range(2):
        facts(client, capacity=capacity)
        reads_and_writes(client, image)
        flush(client)
        ends(client, image)
        refusals(client)
    whole_disk(client, image)
