"""The list of mutants that may live is about the code as it is, and the page shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import survivors
from tests.mutation.survivors import PAGE, ROOT, Survivor, expected, page, read_survivors

SURVIVOR = Survivor(
    module="protocol/a.py", was="x + 1", now=("x - 1", "x ^ 1"), kind="equivalent", why="x is 0"
)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("survivor", read_survivors(), ids=lambda entry: f"{entry.module}: {entry.was}")
def test_every_line_named_is_in_its_module(survivor: Survivor) -> None:
    lines = _lines((ROOT / survivor.module).read_text(encoding="utf-8"))
    assert set(_lines(survivor.was)) <= set(lines)


def test_no_survivor_is_named_twice() -> None:
    entries = read_survivors()
    assert len(expected(entries)) == sum(len(entry.now) for entry in entries)


def test_the_page_shows_every_reason() -> None:
    text = PAGE.read_text(encoding="utf-8")
    _, _, shown = page({"protocol/a.py": (1, 0)}, read_survivors()).partition("## The survivors")
    assert shown in text


def test_the_page_counts_by_module_and_in_all() -> None:
    text = page({"protocol/a.py": (80, 2), "protocol/b.py": (20, 0), "protocol/c.py": (0, 0)}, [SURVIVOR])
    assert (
        "| `protocol/a.py` | 80 | 2 | 2.5% |\n| `protocol/b.py` | 20 | 0 | 0.0% |\n| all | 100 | 2 | 2.0% |"
        in text
    )
    assert "*equivalent*: x is 0\n\n```diff\n- x + 1\n+ x - 1\n+ x ^ 1\n```" in text
    assert "protocol/c.py" not in text


@pytest.mark.parametrize("gone", ["kind", "why", "now"])
def test_a_survivor_without_a_reason_is_refused(
    gone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = {"module": '"a"', "was": '"x"', "now": '["y"]', "kind": '"equivalent"', "why": '"slow"'}
    entry[gone] = "[]" if gone == "now" else '""'
    path = tmp_path / "survivors.toml"
    path.write_text("[[survivor]]\n" + "\n".join(f"{key} = {value}" for key, value in entry.items()))
    monkeypatch.setattr(survivors, "SURVIVORS", path)
    with pytest.raises(ValueError, match="'x'"):
        read_survivors()
