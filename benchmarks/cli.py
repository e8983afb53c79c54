"""The command line: ``python -m benchmarks COMMAND [options]``."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, TypedDict, Unpack

import click

from benchmarks import contest, disk, hdr, peers, tables
from benchmarks.results import Round
from benchmarks.runner import Plan
from benchmarks.session import Files, Session
from benchmarks.subject import Settings
from benchmarks.workload import FULL, QUICK, KiB, MiB, Workload, parse_workload

__all__ = ["main"]

_UNITS = {"k": KiB, "m": MiB, "g": 1024 * MiB}
QUICK_S, FULL_S = (0.3, 0.05), (1.0, 0.2)  # measured, warm-up


class _Size(click.ParamType[int]):
    """A number of bytes with K, M or G."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number, unit = (text[:-1], _UNITS[text[-1].lower()]) if text[-1:].lower() in _UNITS else (text, 1)
        if not number.isdigit() or not int(number) or int(number) * unit % MiB:
            self.fail(f"{text!r} is not a multiple of 1M, like 256M or 1G", param, ctx)
        return int(number) * unit


class _Workload(click.ParamType[Workload]):
    """A name like randread-4k-32."""

    name = "workload"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Workload:
        try:
            return parse_workload(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _default_directory() -> Path:
    """A tmpfs, so that the disk of this machine is not what is measured."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() else Path(tempfile.gettempdir())


def _default_loop() -> str:
    from importlib.util import find_spec

    return "uvloop" if find_spec("uvloop") else "asyncio"


@click.group()
def main() -> None:
    """Measure the virtual disk server and client."""
    # An exit as any other: servers are ended and files removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """What every measuring command takes."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    file = click.Path(path_type=Path, dir_okay=False)
    for option in reversed(
        (
            click.option(
                "--size",
                type=_Size(),
                default=None,
                help="Of each disk: 1G, with --quick 256M; of several disks together, so 16M or more each.",
            ),
            click.option("--directory", type=folder, default=_default_directory, help="Default: /dev/shm."),
            click.option("--rounds", type=click.IntRange(1, 1000), default=None, help="5, with --quick 2."),
            click.option(
                "--seconds", type=click.FloatRange(0.05, 60), default=None, help="1 each, with --quick 0.3."
            ),
            click.option("--seed", type=click.IntRange(0, 1 << 62), default=1, show_default=True),
            click.option(
                "--loop",
                type=click.Choice(["asyncio", "uvloop"]),
                default=_default_loop,
                help="Default: uvloop.",
            ),
            click.option("--quick", is_flag=True, help="For a first look; figures are rougher."),
            click.option("--json", "json_path", type=file, help="Write everything, in fio's shape."),
            click.option("--markdown", "markdown_path", type=file, help="Write the tables."),
            click.option(
                "--hdr",
                "hdr_path",
                type=click.Path(path_type=Path, file_okay=False),
                help="Write HdrHistogram logs into this folder.",
            ),
        )
    ):
        command = option(command)
    return command


class _Common(TypedDict):
    """The values of :func:`_options`."""

    size: int | None
    directory: Path
    rounds: int | None
    seconds: float | None
    seed: int
    loop: str
    quick: bool
    json_path: Path | None
    markdown_path: Path | None
    hdr_path: Path | None


def _session(command: str, options: dict[str, object], common: _Common, disks: int = 1) -> Session:
    """The run of a command on up to ``disks`` disks, which share the usual size among them."""
    quick = common["quick"]
    usual = max(16, (256 if quick else 1024) // disks) * MiB
    seconds, warmup = QUICK_S if quick else FULL_S
    settings = Settings(
        place=common["directory"],
        size=common["size"] or usual,
        seconds=common["seconds"] or seconds,
        warmup=warmup,
        seed=common["seed"],
        loop=common["loop"],
    )
    if common["hdr_path"] is not None and not hdr.available():
        _stop(2, "--hdr needs the package hdrhistogram: pip install 'ldoms-vdisk[bench]'")
    kept = {name: getattr(settings, name) for name in ("size", "seconds", "warmup", "seed", "loop")}
    return Session(
        command=command,
        settings=settings,
        options={**options, **kept, "rounds": _rounds(common), "directory": str(settings.place)},
        files=Files(json=common["json_path"], markdown=common["markdown_path"], hdr=common["hdr_path"]),
    )


def _rounds(common: _Common) -> int:
    return common["rounds"] or (2 if common["quick"] else 5)


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
    "--workload", "workloads", type=_Workload(), multiple=True, help="Instead of all; may be repeated."
)
@_options
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
    **common: Unpack[_Common],
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
    session = _session("disk", options, common, max(counts))
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
        return disk.prepare(disks, chosen, workloads, _rounds(common))

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
    for workload in workloads:
        if workload.block_size * workload.depth > size:
            raise click.UsageError(f"{workload.name} needs a disk of more than {size // MiB} MiB")
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
@_options
def peers_command(without: tuple[str, ...], **common: Unpack[_Common]) -> None:
    """Ours beside other NBD servers and the bare file, and how that stands against the goals."""
    missing = peers.missing_packages(without)
    if missing:
        _stop(
            2,
            "missing on this machine; install with:  sudo apt-get install --no-install-recommends "
            f"{' '.join(missing)}  (or leave a peer out: --without)",
        )
    session = _session("peers", {"without": list(without), "poll_us": contest.POLL_US}, common)
    for workload in contest.WORKLOADS:
        if workload.block_size * workload.depth > session.settings.size:
            raise click.UsageError(f"{workload.name} needs a larger --size")
    _run(session, lambda settings: contest.prepare(settings, _rounds(common), without), goals=True)


@main.command("path")
@click.option(
    "--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), default=_default_directory
)
def path_command(directory: Path) -> None:
    """Where the time of a 4 KiB read goes, step by step, both sides in one process."""
    from benchmarks.path import measure

    with tempfile.NamedTemporaryFile(dir=directory, prefix="vdisk-path-") as image:
        image.write(bytes(range(256)) * (MiB // 256))
        image.flush()
        tables.show_path(measure(Path(image.name)))
