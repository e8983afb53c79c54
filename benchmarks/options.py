"""What the measuring commands have in common: their options, and the run that these ask for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import click

from benchmarks import hdr
from benchmarks.session import Files, Session
from benchmarks.subject import Settings
from benchmarks.workload import KiB, MiB, Workload, parse_workload

__all__ = [
    "Common",
    "Size",
    "WorkloadName",
    "default_directory",
    "make_session",
    "measuring_options",
    "rounds_of",
]

_UNITS = {"k": KiB, "m": MiB, "g": 1024 * MiB}
QUICK_S, FULL_S = (0.3, 0.05), (1.0, 0.2)  # measured, warm-up


class Size(click.ParamType[int]):
    """A number of bytes with K, M or G."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number, unit = (text[:-1], _UNITS[text[-1].lower()]) if text[-1:].lower() in _UNITS else (text, 1)
        if not number.isdigit() or not int(number) or int(number) * unit % MiB:
            self.fail(f"{text!r} is not a multiple of 1M, like 256M or 1G", param, ctx)
        return int(number) * unit


class WorkloadName(click.ParamType[Workload]):
    """A name like randread-4k-32."""

    name = "workload"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Workload:
        try:
            return parse_workload(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def default_directory() -> Path:
    """A tmpfs, so that the disk of this machine is not what is measured."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() else Path(tempfile.gettempdir())


def _default_loop() -> str:
    from importlib.util import find_spec

    return "uvloop" if find_spec("uvloop") else "asyncio"


def measuring_options(command: Callable[..., None]) -> Callable[..., None]:
    """What every measuring command takes."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    file = click.Path(path_type=Path, dir_okay=False)
    for option in reversed(
        (
            click.option(
                "--size",
                type=Size(),
                default=None,
                help="Of each disk: 1G, with --quick 256M; of several disks together, so 16M or more each.",
            ),
            click.option("--directory", type=folder, default=default_directory, help="Default: /dev/shm."),
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


class Common(TypedDict):
    """The values of :func:`measuring_options`."""

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


def make_session(command: str, options: dict[str, object], common: Common, disks: int = 1) -> Session:
    """The run of a command on up to ``disks`` disks, which share the usual size among them."""
    quick = common["quick"]
    usual = max(16, (256 if quick else 1024) // disks) * MiB
    seconds, warmup = QUICK_S if quick else FULL_S
    settings = Settings(
        place=common["directory"],
        sockets=common["directory"],
        size=common["size"] or usual,
        seconds=common["seconds"] or seconds,
        warmup=warmup,
        seed=common["seed"],
        loop=common["loop"],
    )
    if common["hdr_path"] is not None and not hdr.available():
        raise click.UsageError("--hdr needs the package hdrhistogram: pip install 'ldoms-vdisk[bench]'")
    kept = {name: getattr(settings, name) for name in ("size", "seconds", "warmup", "seed", "loop")}
    return Session(
        command=command,
        settings=settings,
        options={**options, **kept, "rounds": rounds_of(common), "directory": str(settings.place)},
        files=Files(json=common["json_path"], markdown=common["markdown_path"], hdr=common["hdr_path"]),
    )


def rounds_of(common: Common) -> int:
    """How many rounds are wanted."""
    return common["rounds"] or (2 if common["quick"] else 5)
