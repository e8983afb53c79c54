"""The command line: ``python -m benchmarks disk [options]``."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks import machine, report
from benchmarks.disk import Plan, configurations, run
from benchmarks.results import summarise
from benchmarks.workload import FULL, QUICK, KiB, MiB, Workload, parse_workload

__all__ = ["main"]

_UNITS = {"k": KiB, "m": MiB, "g": 1024 * MiB}


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


@main.command()
@click.option("--transport", type=click.Choice(["shm", "socket", "both"]), default="both", show_default=True)
@click.option("--api", type=click.Choice(["async", "blocking", "both"]), default="both", show_default=True)
@click.option("--poll", type=click.Choice(["on", "off", "both"]), default="both", show_default=True)
@click.option(
    "--poll-us", type=click.IntRange(1, 10_000), default=50, show_default=True, help="While polling."
)
@click.option("--backend", type=click.Choice(["file", "memory", "null"]), default="file", show_default=True)
@click.option("--wce", is_flag=True, help="A volatile write cache: writes without a flush each.")
@click.option("--buffers", type=click.Choice(["shared", "bytes"]), default="bytes", show_default=True)
@click.option(
    "--loop", type=click.Choice(["asyncio", "uvloop"]), default=_default_loop, help="Default: uvloop."
)
@click.option(
    "--workload", "workloads", type=_Workload(), multiple=True, help="Instead of all; may be repeated."
)
@click.option("--size", type=_Size(), default=None, help="Of the disk: 1G, with --quick 256M.")
@click.option(
    "--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), default=_default_directory
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=None, help="5, with --quick 2.")
@click.option("--seconds", type=click.FloatRange(0.05, 10), default=None, help="1.2 each, with --quick 0.3.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--peers", is_flag=True, help="nbdkit with fio, and fio on the bare file, in the same rounds.")
@click.option("--quick", is_flag=True, help="A minute, for a first look; figures are rougher.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write everything."
)
@click.option(
    "--markdown", "markdown_path", type=click.Path(path_type=Path, dir_okay=False), help="Write tables."
)
def disk(
    transport: str,
    api: str,
    poll: str,
    poll_us: int,
    backend: str,
    wce: bool,
    buffers: str,
    loop: str,
    workloads: tuple[Workload, ...],
    size: int | None,
    directory: Path,
    rounds: int | None,
    seconds: float | None,
    seed: int,
    peers: bool,
    quick: bool,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """A server of our own, both transports and both APIs: IOPS, GB/s, latencies, CPU of both sides."""
    plan = Plan(
        configurations=configurations(transport, api, poll),
        workloads=workloads or (QUICK if quick else FULL),
        rounds=rounds or (2 if quick else 5),
        seconds=seconds or (0.3 if quick else 1.2),
        warmup=0.1 if quick else 0.2,
        size=size or (256 if quick else 1024) * MiB,
        backend=backend,
        directory=directory,
        poll_us=poll_us,
        wce=wce,
        pool=buffers == "shared",
        loop=loop,
        seed=seed,
        peers=peers,
        say=lambda text: click.echo(text, err=True),
    )
    for workload in plan.workloads:
        if workload.block_size * workload.depth > plan.size:
            raise click.UsageError(f"{workload.name} needs a disk of more than {plan.size // MiB} MiB")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    where = machine.describe(directory)
    commit = machine.commit()
    click.echo(f"{where['cpu']}, {where['cpus']} CPUs, Linux {where['kernel']}, commit {commit}", err=True)
    try:
        measured = run(plan)
    except RuntimeError as error:
        click.echo(f"benchmarks: {error}", err=True)
        sys.exit(1)
    rows = summarise(measured)
    if json_path:
        report.write_json(
            json_path,
            machine=where,
            commit=commit,
            options=plan.to_json(),
            started=started,
            rounds=measured,
            rows=rows,
        )
    if markdown_path:
        markdown_path.write_text(report.markdown(rows))
    report.show(rows)


@main.command()
@click.option(
    "--directory", type=click.Path(path_type=Path, exists=True, file_okay=False), default=_default_directory
)
def path(directory: Path) -> None:
    """Where the time of a 4 KiB read goes, step by step, both sides in one process."""
    from benchmarks.path import measure

    with tempfile.NamedTemporaryFile(dir=directory, prefix="vdisk-path-") as image:
        image.write(bytes(range(256)) * (MiB // 256))
        image.flush()
        report.show_path(measure(Path(image.name)))
