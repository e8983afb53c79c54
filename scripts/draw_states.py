"""Draws the state machines of the product from the tables that drive them, into docs/reference/states.md.

    python -m scripts.draw_states [--check]

What stands on that page between ``<!-- drawn: NAME -->`` and ``<!-- end -->`` is written by this script, all
else by hand. The words beside states and inputs are the comments of the enum members: they stand once, in the
code. A new machine is one line of ``DRAWINGS``, and the two marks on the page.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from protocol.ldc.packet import PacketCtrl, PacketStype
from protocol.ldc.state import RAW_TRANSITIONS, RECEIVED, TRANSITIONS, TransportState
from protocol.vio.dring import ENTRY_STEPS, Dstate
from protocol.vio.messages import Envelope
from protocol.vio.state import (
    CLIENT_EXPECTS,
    CLIENT_STEPS,
    SERVER_EXPECTS,
    SERVER_STEPS,
    ClientState,
    ServerState,
)
from vdc.states import TRANSITIONS as DISK_STEPS
from vdc.states import State as DiskState

__all__ = ["DRAWINGS", "PAGE", "comments", "diagram", "drawn", "expected", "matrix", "redraw"]

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "reference" / "states.md"

State = TypeVar("State", bound=Enum)
Cause = TypeVar("Cause", bound=Enum)
Member = TypeVar("Member", bound=Enum)

_MEMBER: Final = re.compile(r"^\s+(\w+) = [^#]*?(?:  # (.*))?$", re.MULTILINE)
_BLOCK: Final = re.compile(r"(?<=<!-- drawn: )([\w-]+) -->\n.*?(?=<!-- end -->)", re.DOTALL)
_NOTHING: Final = "—"


def comments(enum: type[Enum]) -> dict[str, str]:
    """Return the comment behind each member of ``enum`` that has one."""
    source = inspect.getsource(enum)
    return {
        name: words.replace("``", "`")
        for name, words in _MEMBER.findall(source)
        if name in enum.__members__ and words
    }


def _label(member: Enum) -> str:
    """Return how a member is shown: in its own words if its value is some, else by its name."""
    return member.value if isinstance(member.value, str) else member.name


def _common(steps: Mapping[tuple[State, Cause], State]) -> dict[tuple[Cause, State], list[State]]:
    """Return the (input, target) to which more than 3 of 4 states lead, with the states that do not."""
    sources: dict[tuple[Cause, State], list[State]] = {}
    for (state, cause), target in steps.items():
        sources.setdefault((cause, target), []).append(state)
    states = _states(steps)
    return {
        edge: [state for state in states if state not in froms]
        for edge, froms in sources.items()
        if len(froms) > len(states) * 3 / 4
    }


def diagram(steps: Mapping[tuple[State, Cause], State], first: State) -> str:
    """Return the machine ``steps`` as a Mermaid state diagram that begins in ``first``.

    Inputs that join the same two states share an arrow; one that leads from more than 3 of 4 states to the
    same place is drawn once, from a box that stands for them all.
    """
    common = _common(steps)
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, cause), target in steps.items():
        if (cause, target) not in common:
            arrows.setdefault((state.name, target.name), []).append(_label(cause))
    lines = ["stateDiagram-v2", f"    [*] --> {first.name}"]
    lines += [
        f"    {source} --> {target}: {' / '.join(causes)}" for (source, target), causes in arrows.items()
    ]
    for number, ((cause, target), others) in enumerate(common.items(), 1):
        but = f" but {' and '.join(state.name for state in others)}" if others else ""
        lines.append(f'    state "any state{but}" as any{number}')
        lines.append(f"    any{number} --> {target.name}: {_label(cause)}")
    return "\n".join(lines) + "\n"


def _in_order(used: Iterable[Member]) -> list[Member]:
    """Return the members ``used``, each once, in the order of their enumeration."""
    members = set(used)
    return [member for member in type(next(iter(members))) if member in members]


def _states(steps: Mapping[tuple[State, Cause], State]) -> list[State]:
    """Return the states that a machine is ever in."""
    return _in_order([*(state for state, _ in steps), *steps.values()])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _words(title: str, used: Iterable[Enum], meaning: str) -> str:
    """Return a table of the members ``used`` that say something about themselves, or nothing."""
    members = _in_order(used)
    words = comments(type(members[0]))
    rows = [(_label(member), words[member.name]) for member in members if member.name in words]
    return "\n" + _table((title, meaning), rows) if rows else ""


def drawn(steps: Mapping[tuple[State, Cause], State], first: State) -> str:
    """Return a machine: its diagram, what each of its states waits for, what each of its inputs is."""
    words = comments(type(first))
    waits = _table(
        ("State", "Waits for, or is"), ((state.name, words[state.name]) for state in _states(steps))
    )
    inputs = _words("Input", (cause for _, cause in steps), "Is")
    return f"```mermaid\n{diagram(steps, first)}```\n\n{waits}{inputs}"


def matrix(corner: str, columns: type[State], rows: Mapping[str, Mapping[State, str]]) -> str:
    """Return a table with a column for each state; a cell that is not in ``rows`` is a dash."""
    cells = ((name, *(row.get(state, _NOTHING) for state in columns)) for name, row in rows.items())
    return _table((corner, *(state.name for state in columns)), cells)


def received(table: Mapping[tuple[int, int, TransportState], Enum]) -> str:
    """Return what each control packet does in each state, and what the actions mean."""
    rows: dict[str, dict[TransportState, str]] = {}
    for (ctrl, stype, state), action in table.items():
        name = f"{PacketCtrl(ctrl).name} {PacketStype(stype).name}"
        rows.setdefault(name, {})[state] = _label(action)
    actions = _words("Action", table.values(), "Does")
    return matrix("Received", TransportState, rows) + actions


def expected(expects: Mapping[State, Iterable[int] | int | None], mark: str) -> str:
    """Return which messages each state takes."""
    rows: dict[str, dict[State, str]] = {}
    for envelope in Envelope:
        for state, taken in expects.items():
            if envelope in ((taken,) if isinstance(taken, int) else taken or ()):
                rows.setdefault(envelope.name, {})[state] = mark
    return matrix("Message", type(next(iter(expects))), rows)


DRAWINGS: Final[Mapping[str, Callable[[], str]]] = {
    "ldc-link": lambda: drawn(TRANSITIONS, TransportState.OPEN),
    "ldc-raw": lambda: drawn(RAW_TRANSITIONS, TransportState.OPEN),
    "ldc-received": lambda: received(RECEIVED),
    "vio-server": lambda: drawn(SERVER_STEPS, ServerState.INIT),
    "vio-server-expects": lambda: expected(SERVER_EXPECTS, "INFO"),
    "vio-client": lambda: drawn(CLIENT_STEPS, ClientState.DOWN),
    "vio-client-expects": lambda: expected(CLIENT_EXPECTS, "answer"),
    "ring-entry": lambda: drawn(ENTRY_STEPS, Dstate.FREE),
    "disk": lambda: drawn(DISK_STEPS, DiskState.CONNECTING),
}
"""What is drawn, by the name on the page. Source of each: the table named here."""


def redraw(page: str) -> str:
    """Return ``page`` with every marked block drawn anew.

    Raises: ValueError (the blocks are not those of ``DRAWINGS``, each once).
    """
    if sorted(match[1] for match in _BLOCK.finditer(page)) != sorted(DRAWINGS):
        raise ValueError(f"the page must have one block for each of {', '.join(sorted(DRAWINGS))}")
    return _BLOCK.sub(lambda match: f"{match[1]} -->\n\n{DRAWINGS[match[1]]()}\n", page)


def main() -> int:
    """Rewrite the page, or with ``--check`` say whether that would change it."""
    old = PAGE.read_text(encoding="utf-8")
    new = redraw(old)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{PAGE} is stale: run python -m scripts.draw_states", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
