"""The command line that all foreign peers share, and what this server is free to choose."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.vectors.link import Link
from tests.vectors.memory import Memory
from tests.vectors.octets import Mismatch
from tests.vectors.records import TRANSPORT
from tests.vectors.rendezvous import QUEUE_ENTRIES, Channel
from tests.vectors.scenario import Image

# The server answers its own largest transfer, not the smaller of both (Solaris vds.c, vd_process_attr_msg).
MAX_XFER = "00 00 00 00 00 00 08 00"  # 2048 blocks
PHYS_BLOCK_SIZE = "00 00 02 00"

AnyLink = TypeVar("AnyLink", bound=Link[Channel])

OURS = ("protocol", "hypervisor", "vds", "vdc", "construct")


@contextmanager
def naming(case: str) -> Iterator[None]:
    """Put the name of a case before what went wrong in it."""
    try:
        yield
    except (Mismatch, OSError) as error:
        raise Mismatch(f"{case}: {error}") from error


def main(
    converse: Callable[[AnyLink, Memory, Image], None],
    *,
    size: int,
    slots: int,
    queue_entries: int = QUEUE_ENTRIES,
    link: Callable[[Channel], AnyLink],
) -> None:
    """Parse the arguments, hold the conversation, say how it went; exit 1 at the first octet that differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True, help="where vds listens")
    parser.add_argument("--volume", required=True)
    parser.add_argument("--image", required=True, type=Path, help="the volume's file, 3147264 octets")
    parser.add_argument("--transport", choices=sorted(TRANSPORT), default="shm")
    options = parser.parse_args()
    memory = Memory(size, slots, shared=options.transport == "shm")
    started = time.monotonic()
    try:
        end = link(Channel(options.socket, options.volume, memory, queue_entries))
        converse(end, memory, Image(options.image))
        end.channel.close()
    except (Mismatch, OSError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    finally:
        memory.close()
    foreign = sorted(name for name in sys.modules if name.partition(".")[0] in OURS)
    if foreign:
        sys.stderr.write(f"not a foreign peer: {', '.join(foreign)}\n")
        raise SystemExit(1)
    took = time.monotonic() - started
    sys.stdout.write(f"{end.checked} packets compared, {end.channel.copies} COPYs served, {took:.2f} s\n")
