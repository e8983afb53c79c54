"""The command ``python -m protocol``: structures to JSON and back, their tables, what a trace means.

The only I/O in here. What a command prints comes line by line, so that a capture is explained as it is read.

Exit codes: 0 done, 1 the input is no such thing (one line on standard error), 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from protocol import structures
from protocol.errors import ProtocolError
from protocol.explain import Paragraph, Trace, explain_packet, render
from protocol.ldc.packet import Mode
from protocol.wire import Layout

_IS_HEX: Final = re.compile(r"[0-9a-fA-F\s]+")  # a file of such a name is given with its folder: ./FACE


class _Refused(Exception):
    """Input that cannot be used; the text says why."""


def _read() -> str:
    if sys.stdin is None:  # closed by whoever started us
        raise _Refused("there is no standard input")
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


def _source(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty name: give a packet in hex or a capture")
    return text


def _decode(arguments: argparse.Namespace) -> Iterator[str]:
    yield json.dumps(structures.decode(arguments.structure, _hex(_read())))


def _encode(arguments: argparse.Namespace) -> Iterator[str]:
    try:
        found = json.loads(_read(), object_pairs_hook=_fields)
    except (ValueError, RecursionError) as error:
        raise _Refused(f"the input is not JSON: {error}") from error
    yield structures.encode(arguments.structure, found).hex()


def _fields(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is given twice")
    return found


def _list(arguments: argparse.Namespace) -> Iterator[str]:
    yield from structures.STANDARD


def _layout(arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.structure is not None:
        yield _printed(structures.STANDARD[arguments.structure])
    else:
        yield "\n\n".join(f"### {name}\n\n{_printed(layout)}" for name, layout in structures.STANDARD.items())


def _printed(layout: Layout[Any]) -> str:
    return f"{structures.heading(layout)}\n\n{structures.table(layout)}"


def _explain(arguments: argparse.Namespace) -> Iterator[str]:
    show = _SHOWN[arguments.only]
    for source in arguments.source:
        if _IS_HEX.fullmatch(source):
            yield from _explain_hex(source, arguments.mode, show)
        else:
            yield from _explain_file(source, show)
    if not arguments.source:
        yield from _explain_lines(_read(), arguments.mode, show)


def _explain_lines(text: str, mode: str, show: Callable[[Paragraph], bool]) -> Iterator[str]:
    """Explain a packet a line; blank lines and lines with # are skipped."""
    packets = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not packets:
        raise _Refused("there is no packet on standard input")
    for packet in packets:
        yield from _explain_hex(packet, mode, show)


def _explain_hex(text: str, mode: str, show: Callable[[Paragraph], bool]) -> Iterator[str]:
    paragraph = Paragraph(explain_packet(_hex(text), Mode[mode.upper()]))
    if show(paragraph):
        yield from _text(paragraph)


def _explain_file(path: str, show: Callable[[Paragraph], bool]) -> Iterator[str]:
    """Explain a capture as far as it goes, and only then say what is wrong with the file."""
    trace = Trace()
    failure: ProtocolError | None = None
    is_empty = True
    try:
        with open(path, "rb") as file:
            while piece := file.read(_PIECE):
                is_empty = False
                for paragraph in trace.receive_data(piece):
                    if show(paragraph):
                        yield from _text(paragraph)
    except ProtocolError as error:
        failure = error
    except OSError as error:
        raise _Refused(f"{path}: {error.strerror}") from error
    for paragraph in trace.summaries():
        if show(paragraph):
            yield from _text(paragraph)
    if failure is not None:
        raise _Refused(f"{path}: {failure.reason}")
    if is_empty:
        raise _Refused(f"{path}: the file is empty")
    if trace.is_cut_short:
        raise _Refused(f"{path}: the capture is cut short; this is all that is there")


def _text(paragraph: Paragraph) -> Iterator[str]:
    yield from render(paragraph.lines)
    yield ""


def _all(paragraph: Paragraph) -> bool:
    return True


def _is_summary(paragraph: Paragraph) -> bool:
    return paragraph.is_summary


def _has_warnings(paragraph: Paragraph) -> bool:
    return bool(paragraph.warnings)


_SHOWN: Final[Mapping[str, Callable[[Paragraph], bool]]] = {
    "all": _all,
    "summary": _is_summary,
    "warnings": _has_warnings,
}
_LONGEST_REASON: Final = 500  # characters; a line for people
_PIECE: Final = 256 * 1024  # bytes of a capture that are read at a time

_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], Iterator[str]]]] = {
    "decode": _decode,
    "encode": _encode,
    "list": _list,
    "layout": _layout,
    "explain": _explain,
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
    explain = commands.add_parser("explain", help="what packets and captures mean, and what breaks a rule")
    explain.add_argument(
        "source",
        nargs="*",
        type=_source,
        metavar="HEX|FILE",
        help="a packet of 64 bytes in hex, or a capture; without any, packets on standard input, one a line",
    )
    explain.add_argument(
        "--mode",
        choices=[mode.name.lower() for mode in Mode],
        default=Mode.UNRELIABLE.name.lower(),
        help="of the link that a packet in hex comes from; captures are of unreliable mode, as all disks are",
    )
    only = explain.add_mutually_exclusive_group()
    only.set_defaults(only="all")
    only.add_argument("--summary", dest="only", action="store_const", const="summary", help="only summaries")
    only.add_argument(
        "--warnings", dest="only", action="store_const", const="warnings", help="only what breaks a rule"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        _print(_COMMANDS[arguments.command](arguments))
    except (ProtocolError, _Refused) as error:
        return _fail(error.reason if isinstance(error, ProtocolError) else str(error))
    except BrokenPipeError:  # whoever reads has seen enough
        _forget_output()
    except OSError as error:
        _forget_output()
        return _fail(f"standard output: {error.strerror}")
    return 0


def _fail(reason: str) -> int:
    """Say in one line, which holds nothing that a terminal would obey, why nothing came of it."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(reason.split()))
    sys.stderr.write(f"protocol: {line[:_LONGEST_REASON]}\n")
    return 1


def _forget_output() -> None:
    """Let Python flush what could not be written to nowhere, or it complains once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(lines: Iterator[str]) -> None:
    if sys.stdout is None:
        raise _Refused("there is no standard output")
    try:
        for line in lines:
            sys.stdout.write(line + "\n")
    finally:  # what comes before an error is printed before it
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
