"""The command ``python -m protocol``: structures to JSON and back, their tables; the only I/O in here.

Exit codes: 0 done, 1 the input is no such thing (one line on standard error), 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from protocol import structures
from protocol.errors import ProtocolError


class _Refused(Exception):
    """Input that cannot be used; the text says why."""


def _read() -> str:
    return sys.stdin.buffer.read().decode(errors="replace")


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise _Refused(f"the input is not hex: {error}") from error


def _name(text: str) -> str:
    if text not in structures.STANDARD:
        raise argparse.ArgumentTypeError(f"no structure {text!r}: list names all")
    return text


def _decode(arguments: argparse.Namespace) -> str:
    return json.dumps(structures.decode(arguments.structure, _hex(_read())))


def _encode(arguments: argparse.Namespace) -> str:
    try:
        found = json.loads(_read())
    except (ValueError, RecursionError) as error:
        raise _Refused(f"the input is not JSON: {error}") from error
    return structures.encode(arguments.structure, found).hex()


def _list(arguments: argparse.Namespace) -> str:
    return "\n".join(structures.STANDARD)


def _layout(arguments: argparse.Namespace) -> str:
    if arguments.structure is not None:
        return structures.table(structures.STANDARD[arguments.structure])
    found = structures.STANDARD.items()
    return "\n\n".join(f"### {name}\n\n{structures.table(layout)}" for name, layout in found)


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], str]]] = {
    "decode": _decode,
    "encode": _encode,
    "list": _list,
    "layout": _layout,
}


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        self.exit(2, f"protocol: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m protocol", description="The wire of virtual disks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named: dict[str, Any] = {"metavar": "STRUCT", "type": _name}
    decode = commands.add_parser("decode", help="hex on standard input to one JSON object")
    decode.add_argument("structure", help="its name in the drivers' headers; see list", **named)
    encode = commands.add_parser("encode", help="one JSON object on standard input to hex")
    encode.add_argument("structure", help="its name in the drivers' headers; see list", **named)
    commands.add_parser("list", help="the names of all structures")
    layout = commands.add_parser("layout", help="a table of offsets, sizes and meanings")
    layout.add_argument("structure", nargs="?", help="its name; without one, all of them", **named)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        sys.stdout.write(_COMMANDS[arguments.command](arguments) + "\n")
        sys.stdout.flush()
    except (ProtocolError, _Refused) as error:
        reason = error.reason if isinstance(error, ProtocolError) else str(error)
        sys.stderr.write(f"protocol: {' '.join(reason.split())}\n")
        return 1
    except BrokenPipeError:  # whoever reads has seen enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
