"""The dissector in ``tools/`` is what its generator makes, and the generator takes what the layouts say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from protocol import wire
from tools import make_dissector
from tools.make_dissector import DISSECTED, MARK, SCRIPT, TEMPLATE, main, make

PAPER: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "layouts.json").read_text())


def declared(name: str) -> str:
    """Return the Lua that declares a structure."""
    found = re.search(rf'^structure\("{name}",.*?^}}\)$', make(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_the_script_is_what_the_generator_makes() -> None:
    assert SCRIPT.read_text(encoding="utf-8") == make(), "run python -m tools.make_dissector"


def test_all_of_the_template_is_in_it_and_the_mark_is_not() -> None:
    before, after = TEMPLATE.read_text(encoding="utf-8").split(MARK)
    made = make()
    assert made.startswith(before)
    assert made.endswith(after)
    assert MARK not in made


@pytest.mark.parametrize("layout", DISSECTED, ids=[layout.name for layout in DISSECTED])
def test_every_field_is_declared(layout: wire.Layout[Any]) -> None:
    found = re.findall(
        r'^    \{name = "(\w+)", at = (\d+), size = (\d+), ', declared(layout.name), re.MULTILINE
    )
    assert found == [(row.name, str(row.offset), str(row.size)) for row in layout.fields]


def test_what_a_field_is_declared_as() -> None:
    """Typed from the headers: signed where they say so, bits and numbers by their names."""
    ring = declared("vio_dring_msg")
    assert (
        '{name = "start_idx", at = 24, size = 4, kind = "uint32", doc = "first entry of the range"}' in ring
    )
    assert 'name = "end_idx", at = 28, size = 4, kind = "int32"' in ring
    assert 'numbers = "ProcState", zero = true' in ring
    cookies = declared("vio_dring_reg_msg")
    assert 'kind = "array"' in cookies
    assert 'element = "ldc_mem_cookie", counted_by = "ncookies"}' in cookies
    assert '{name = "bread", mask = 2}' in declared("vd_attr_msg")
    assert "numbers.ProcState = {ACTIVE = 1, STOPPED = 2, names = {" in make()
    assert '[3] = "TX|RX"' in make()
    assert 'words = {["18446744073709551615"] = "unknown"}' in declared("vd_attr_msg")


def test_bits_are_those_of_the_headers() -> None:
    bits = {entry["name"]: entry["fields"] for entry in PAPER["bitfields"]}
    for field in bits["ldc_env_data"]:
        mask = sum(1 << bit for bit in range(field["lo"], field["hi"] + 1))
        for packet in ("ldc_packet_unreliable", "ldc_packet_reliable"):
            assert f'{{name = "{field["name"]}", mask = {mask}' in declared(packet)
    for field in bits["ldc_cookie_addr"]:
        assert f'"ldc_mem_cookie.addr.{field["name"]}"' in make()


def test_the_command_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "ldoms.lua"
    monkeypatch.setattr(make_dissector, "SCRIPT", script)
    assert main(["--check"]) == 1, "there is none"
    assert main([]) == 0
    assert script.read_text(encoding="utf-8") == make()
    assert main(["--check"]) == 0
    script.write_text("-- another", encoding="utf-8")
    assert main(["--check"]) == 1
    assert script.read_text(encoding="utf-8") == "-- another"


def test_the_command_knows_no_other_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 2
    assert "python -m tools.make_dissector [--check]" in capsys.readouterr().err
