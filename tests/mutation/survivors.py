"""Who may live: ``survivors.toml`` names each with its reason, ``docs/mutants.md`` shows it to people."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
PAGE = ROOT / "docs" / "mutants.md"

KINDS = {
    "equivalent": "does the same for every input",
    "unreachable": "differs only for what cannot be handed to it",
}
"""Why a mutant may live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A line and what it may become without a test noticing."""

    module: str
    was: str
    now: tuple[str, ...]
    kind: str
    why: str


def read_survivors() -> list[Survivor]:
    """Read the list. Raises: ValueError (an entry that lacks something, or names an unknown kind)."""
    entries = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivor", [])
    survivors = [Survivor(**{**entry, "now": tuple(entry["now"])}) for entry in entries]
    for survivor in survivors:
        if survivor.kind not in KINDS or not survivor.why or not survivor.now:
            raise ValueError(f"{SURVIVORS.name}: {survivor.module}: {survivor.was!r}: kind, now or why")
    return survivors


def expected(survivors: Iterable[Survivor]) -> set[tuple[str, str, str]]:
    """Return (module, line, line instead) of all that may live."""
    return {(survivor.module, survivor.was, now) for survivor in survivors for now in survivor.now}


def page(counts: Mapping[str, tuple[int, int]], survivors: Iterable[Survivor]) -> str:
    """Return the page: ``counts`` is (mutants, alive) by module."""
    rows = [
        f"| `{module}` | {total} | {alive} | {alive / total:.1%} |"
        for module, (total, alive) in counts.items()
        if total
    ]
    total, alive = (sum(pair[i] for pair in counts.values()) for i in range(2))
    parts = [PREFACE, "| Module | Mutants | Alive | |\n|---|---:|---:|---:|", *rows]
    parts.append(
        f"| all | {total} | {alive} | {alive / total:.1%} |\n\n## The survivors, and why they may live\n"
    )
    parts += [f"- *{kind}*: {meaning}." for kind, meaning in KINDS.items()]
    last = ""
    for survivor in survivors:
        if survivor.module != last:
            parts.append(f"\n### {survivor.module}")
            last = survivor.module
        instead = "\n".join(f"+ {line}" for now in survivor.now for line in now.splitlines())
        gone = "\n".join(f"- {line}" for line in survivor.was.splitlines())
        parts.append(f"\n*{survivor.kind}*: {survivor.why}\n\n```diff\n{gone}\n{instead}\n```")
    return "\n".join(parts) + "\n"


PREFACE = """# Mutants

What `python -m tests.mutation` found last ([how to run it](how-to/run-the-tests.md#mutants)). It writes this
page; the reasons stand in `tests/mutation/survivors.toml`. A mutant is the module with one operator,
comparison, constant, condition, decorator or statement changed; it is alive if no test fails. At most 5 % may
be, and each of them has a reason here.
"""
