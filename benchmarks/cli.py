"""The command line: ``python -m benchmarks COMMAND [options]``."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, Unpack

import click

from benchmarks import contest, disk, peers, tables
from benchmarks.options import (
    Common,
    WorkloadName,
    default_directory,
    make_session,
    measuring_options,
    rounds_of,
)
from benchmarks.pages.commands import register
from benchmarks.results import Round
from benchmarks.runner import Plan
from benchmarks.session import Session
from benchmarks.subject import Settings
from benchmarks.workload import FULL, QUICK, MiB, Workload

__all__ = ["main"]


@click.group()
def main() -> None:
    """Measure the virtual disk server and client."""
    # An exit as any other: servers are ended and files removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


register(main)


def _stop(code: int, text: str) -> NoReturn:
    click.echo(f"benchmarks: {text}", err=True)
    sys.exit(code)


def _run(
    session: Session, prepare: Callable[[Settings], AbstractContextManager[Plan]], *, goals: bool = False
) -> list[Round]:
    try:
        return session.run(prepare, goals=goals)
    except RuntimeError as error:
        _stop(1, str(error))


@main.command("disk")
@click.option("--transport", type=click.Choice(["shm", "socket", "both"]), default="both", show_default=True)
@click.option(
    "--api",
    type=click.Choice(["async", "blocking", "nbd", "both", "all"]),
    default="both",
    show_default=True,
    help="nbd is 'vdc serve --nbd' under fio; both leaves it out.",
)
@click.option("--poll", type=click.Choice(["on", "off", "both"]), default="both", show_default=True)
@click.option(
    "--poll-us", type=click.IntRange(1, 10_000), default=50, show_default=True, help="While polling."
)
@click.option("--backend", type=click.Choice(["file", "memory", "null"]), default="file", show_default=True)
@click.option("--wce", is_flag=True, help="A volatile write cache: writes without a flush each.")
@click.option("--buffers", type=click.Choice(["shared", "bytes"]), default="bytes", show_default=True)
@click.option(
    "--disks",
    "counts",
    type=click.IntRange(1, 64),
    multiple=True,
    default=(1,),
    help="At once on one server; may be repeated.  [default: 1]",
)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    help="An open loop: so many requests are due a second, and latency counts from then.",
)
@click.option("--verify", is_flag=True, help="Tag every block and check what is read; exit 1 on an error.")
@click.option(
    "--workload", "workloads", type=WorkloadName(), multiple=True, help="Instead of all; may be repeated."
)
@measuring_options
def disk_command(
    transport: str,
    api: str,
    poll: str,
    poll_us: int,
    backend: str,
    wce: bool,
    buffers: str,
    counts: tuple[int, ...],
    rate: float | None,
    verify: bool,
    workloads: tuple[Workload, ...],
    **common: Unpack[Common],
) -> None:
    """A server of our own, both transports and all APIs: IOPS, GB/s, latencies, CPU of all sides."""
    workloads = workloads or (QUICK if common["quick"] else FULL)
    chosen = disk.configurations(transport, api, poll)
    options: dict[str, object] = {
        "configurations": [one.name for one in chosen],
        "workloads": [workload.name for workload in workloads],
        "backend": backend,
        "poll_us": poll_us,
        "wce": wce,
        "buffers": buffers,
        "disks": list(counts),
        "rate": rate,
        "verify": verify,
    }
    session = make_session("disk", options, common, max(counts))
    _check_disk(session.settings.size, api, backend, counts, rate, verify, workloads)

    def prepare(settings: Settings) -> AbstractContextManager[Plan]:
        disks = disk.Disks(
            settings=settings,
            backend=backend,
            counts=counts,
            poll_us=poll_us,
            wce=wce,
            pool=buffers == "shared",
            rate=rate,
            verify=verify,
        )
        return disk.prepare(disks, chosen, workloads, rounds_of(common))

    wrong = [one for one in _run(session, prepare) if one.verify_errors]
    for one in wrong:
        click.echo(
            f"benchmarks: {one.configuration}, {one.workload.name}, round {one.number + 1}: "
            f"{one.verify_errors} wrong; first: {one.first_error}",
            err=True,
        )
    if verify and not wrong:
        click.echo("verify: 0 errors")
    sys.exit(1 if wrong else 0)


def _check_size(size: int, workloads: Sequence[Workload]) -> None:
    for workload in workloads:
        if workload.block_size * workload.depth > size:
            raise click.UsageError(f"{workload.name} needs a disk of more than {size // MiB} MiB")


def _check_disk(
    size: int,
    api: str,
    backend: str,
    counts: tuple[int, ...],
    rate: float | None,
    verify: bool,
    workloads: tuple[Workload, ...],
) -> None:
    """What cannot be measured is refused before anything starts."""
    _check_size(size, workloads)
    if api in ("nbd", "all"):
        if rate is not None or verify or counts != (1,):
            raise click.UsageError("--rate, --verify and --disks are not for the NBD front end")
        if shutil.which("fio") is None:
            _stop(2, "the NBD front end is driven by fio: apt-get install fio")
    if verify and backend == "null":
        raise click.UsageError("--verify: the null backend keeps nothing")


@main.command("peers")
@click.option(
    "--without",
    type=click.Choice([peer.name for peer in peers.PEERS]),
    multiple=True,
    help="Leave this peer out; may be repeated.",
)
@click.option(
    "--workload",
    "names",
    type=click.Choice([workload.name for workload in contest.WORKLOADS]),
    multiple=True,
    help="Instead of all that have a goal; may be repeated.",
)
@measuring_options
def peers_command(without: tuple[str, ...], names: tuple[str, ...], **common: Unpack[Common]) -> None:
    """Ours beside other NBD servers and the bare file, and how that stands against the goals."""
    missing = peers.missing_packages(without)
    if missing:
        _stop(
            2,
            "missing on this machine; install with:  sudo apt-get install --no-install-recommends "
            f"{' '.join(missing)}  (or leave a peer out: --without)",
        )
    workloads = [one for one in contest.WORKLOADS if not names or one.name in names]
    options: dict[str, object] = {
        "workloads": [workload.name for workload in workloads],
        "without": list(without),
        "poll_us": contest.POLL_US,
    }
    session = make_session("peers", options, common)
    _check_size(session.settings.size, workloads)
    rounds = rounds_of(common)
    _run(session, lambda settings: contest.prepare(settings, rounds, without, workloads), goals=True)


@main.command("path")
@click.option(
    "--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), default=default_directory
)
def path_command(directory: Path) -> None:
    """Where the time of a 4 KiB read goes, step by step; what the way to another process costs."""
    from benchmarks.path import measure

    with tempfile.NamedTemporaryFile(dir=directory, prefix="vdisk-path-") as image:
        image.write(bytes(range(256)) * (MiB // 256))
        image.flush()
        tables.show_path(measure(Path(image.name)))
