"""What tests of map tables share: one in memory, and how it refuses a cookie."""

from __future__ import annotations

import pytest

from protocol.errors import CookieError, HvStatus, Layer, Reaction
from protocol.ldc.cookie import MapTable, Permission

RW = Permission.R | Permission.W
COPY = Permission.CR | Permission.CW


def make_table(nentries: int = 16) -> tuple[MapTable, bytearray]:
    memory = bytearray(nentries * 16)
    return MapTable(memoryview(memory), nentries), memory


def refused(table: MapTable, addr: int, length: int, need: int = COPY) -> HvStatus:
    with pytest.raises(CookieError) as caught:
        table.resolve(addr, length, need)
    assert caught.value.reaction is Reaction.RESET
    assert caught.value.layer is Layer.HYPERVISOR
    return caught.value.hv_status
