"""``docs/transport.md`` says of every structure what its layout says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hypervisor
from protocol import structures, wire

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "transport.md").read_text(encoding="utf-8")
TABLES: dict[str, str] = dict(re.findall(r"<!-- layout: (\w+) -->\n((?:\|.*\n)+)", PAGE))


def test_imports_have_declared_every_structure() -> None:
    assert hypervisor.__name__ == "hypervisor"
    assert set(TABLES) <= set(wire.STRUCTURES)


@pytest.mark.parametrize("name", TABLES)
def test_table_is_that_of_the_layout(name: str) -> None:
    assert TABLES[name] == structures.table(wire.STRUCTURES[name]) + "\n"


def test_every_record_has_its_table() -> None:
    ours = {name for name in wire.STRUCTURES if name.startswith("hv_")}
    assert ours <= set(TABLES)


NEEDED = (
    *("ldc_packet_unreliable", "ldc_map_table_slot", "ldc_mem_cookie"),
    *(
        "vio_msg_tag",
        "vio_ver_msg",
        "vio_dring_reg_msg",
        "vio_rdx_msg",
        "vio_dring_msg",
        "vio_dring_entry_hdr",
    ),
    *("vd_attr_msg", "vd_dring_payload", "vd_capacity"),
)


@pytest.mark.parametrize("name", NEEDED)
def test_everything_a_minimal_session_needs_has_its_table(name: str) -> None:
    assert name in TABLES
