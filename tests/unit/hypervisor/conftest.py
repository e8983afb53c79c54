"""Socket pairs, endpoints and a check that no descriptor is left behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypervisor.channel import Channel
from hypervisor.memory import LocalMemory
from protocol.errors import CookieError, HvStatus
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission
from protocol.vio.extensions import Extension

Sockets = tuple[socket.socket, socket.socket]

TABLE_ENTRIES = 64
DATA_AT = 2 * PAGE_SIZE
"""Behind the map table's page and one page that nothing exports."""
DATA_SIZE = 32 * PAGE_SIZE
SIZE = 64 * PAGE_SIZE
"""Of the memory that is tested."""
SLOT = 16
"""Bytes of a map table entry with its cookie."""
ALL = Permission.R | Permission.W | Permission.CR | Permission.CW


def open_descriptors() -> set[str]:
    """Return the descriptors of this process, the one that lists them left out."""
    return {name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Fail a test that leaves a descriptor open or closes one that is not its own."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def sockets(no_leak: None) -> Iterator[Sockets]:
    """Return two connected non-blocking sockets of the kind channels use."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


class Ends:
    """An exporter and an importer on one connection, with 256 KiB exported as one cookie."""

    def __init__(self, sockets: Sockets, extensions: Extension) -> None:
        self.sockets = sockets
        self.memory = LocalMemory(DATA_AT + DATA_SIZE, TABLE_ENTRIES, shared=False)
        (self.cookie,) = self.memory.export(DATA_AT, DATA_SIZE, ALL)
        self.data = self.memory.view[DATA_AT : DATA_AT + DATA_SIZE]
        self.exporter = Channel(sockets[0], exported=self.memory, extensions=extensions)
        self.importer = Channel(sockets[1], extensions=extensions)

    def part(self, offset: int, size: int) -> Cookie:
        """Return a cookie for ``size`` bytes at ``offset`` of the exported data."""
        return Cookie(self.cookie.addr + offset, size)

    def close(self) -> None:
        """Close both ends and the memory."""
        self.data.release()
        self.exporter.close()
        self.importer.close()
        self.memory.close()


@pytest.fixture
def ends(sockets: Sockets) -> Iterator[Ends]:
    """Return an exporter and an importer that agreed on nothing."""
    pair = Ends(sockets, Extension(0))
    yield pair
    pair.close()


@pytest.fixture
def inline(sockets: Sockets) -> Iterator[Ends]:
    """Return an exporter and an importer that agreed on INLINE."""
    pair = Ends(sockets, Extension.INLINE)
    yield pair
    pair.close()


def refusal(act: Callable[[], object]) -> HvStatus:
    """Return why ``act`` is refused.

    Unlike ``pytest.raises`` it keeps no frame alive, nor the views of memory in it.
    """
    try:
        act()
    except CookieError as error:
        return error.hv_status
    return HvStatus.EOK


def maps() -> str:
    """Return what this process has mapped."""
    return Path("/proc/self/maps").read_text()
