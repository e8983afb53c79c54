"""The command line that both foreign servers share."""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.vectors.disk_server import Backend, Died, Record, Session
from tests.vectors.listener import Listener
from tests.vectors.octets import Mismatch
from tests.vectors.records import TRANSPORT, HungUp
from tests.vectors.runner import OURS


class Stop(Exception):
    """Somebody asked us to end."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stop


def _fault(text: str, kinds: tuple[str, ...]) -> tuple[int, str]:
    kind, _, number = text.partition("@")
    if kind not in kinds:
        raise argparse.ArgumentTypeError(f"{kind} is none of {', '.join(kinds)}")
    return int(number), kind


def main(session: type[Session], *, queue_entries: int, faults: tuple[str, ...]) -> None:
    """Serve one client after the other until TERM; exit 1 at the first octet that no client may send.

    ``--fault KIND@N``: at the Nth request, instead of an answer.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True, help="where to listen")
    parser.add_argument("--volume", required=True)
    parser.add_argument("--image", required=True, type=Path, help="the volume's file")
    parser.add_argument("--transport", choices=sorted(TRANSPORT), default="shm")
    parser.add_argument("--fault", action="append", default=[], type=lambda text: _fault(text, faults))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    record = Record(options.fault)
    try:
        _serve(session, queue_entries, options, record)
    except Stop:
        sys.stderr.write(f"{_last_word(record)}\n")
    except Died as death:
        sys.stderr.write(f"dying with {death.args[0]} requests unanswered\n")
        sys.stderr.flush()
        os._exit(9)
    except (Mismatch, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(1) from error
    foreign = sorted(name for name in sys.modules if name.partition(".")[0] in OURS)
    if foreign:
        sys.stderr.write(f"not a foreign peer: {', '.join(foreign)}\n")
        raise SystemExit(1)


def _last_word(record: Record) -> str:
    try:
        return record.settle()
    except Mismatch as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def _serve(session: type[Session], queue_entries: int, options: argparse.Namespace, record: Record) -> None:
    listener = Listener(options.socket, options.volume, options.transport)
    backend = Backend(options.image)
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    while True:
        try:
            channel = listener.accept(queue_entries)
        except HungUp:
            continue
        session(channel, backend, record).live()
