"""The command ``vdc``: arguments in, exit code out (0 done, 1 failed, 2 usage or configuration)."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from typing import Any, NoReturn, ParamSpec, TypeVar, Unpack

import click

from hypervisor.capture import Capture, check_capture
from protocol.errors import ChannelError, ConfigError, DiskError, ProtocolError
from vdc.config import LOG_LEVELS, LOOPS, ServeConfig, Settings
from vdc.copy import DEFAULT_PARALLEL, Advance, copy
from vdc.daemon import capturing, naming, serve
from vdc.disk import Disk
from vdc.disk import open as open_disk
from vdc.info import DiskInfo, format_size
from vdc.uri import MAX_POLL_US, Target

__all__ = ["main"]

CONNECT_LIMIT_S = 5.0
"""A server that accepts but does not come to an agreement in this time is reported, not waited for."""
MAX_PARALLEL = 64

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _version() -> str:
    try:
        return metadata.version("ldoms-vdisk")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"vdc: {text}", err=True)
    sys.exit(code)


def _one_line(error: Exception) -> str:
    """What went wrong, in a line: for an OSError with a path, the path first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and not isinstance(error, DiskError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _reporting(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turn the errors that a user can meet into one line and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            _fail(_one_line(error), 2)
        except (OSError, ChannelError, ProtocolError) as error:
            _fail(_one_line(error), 1)

    return wrapped


def _run(loop: str, work: Coroutine[Any, Any, _T]) -> _T:
    if loop == "asyncio":
        return asyncio.run(work)
    import uvloop  # late: the other loop does not need it

    return uvloop.run(work)


_wait = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Go on trying for so long while the server cannot be reached.",
)
_capture = click.option(
    "--capture", metavar="FILE", help="Write every packet and descriptor to FILE (pcapng), made anew."
)
_loop = click.option(
    "--loop", type=click.Choice(LOOPS), default=LOOPS[0], show_default=True, help="The event loop."
)


class _Group(click.Group):
    """Reports wrong usage as every other error is reported: in one line."""

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - whatever click takes
        """Run the command line and exit."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            _fail(" ".join(error.format_message().split()), error.exit_code)
        except click.Abort:
            _fail("interrupted", 1)
        sys.exit(code if isinstance(code, int) else 0)


class _Formatter(logging.Formatter):
    """``vdc: message``, with the level in between when it is not just information."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return one line."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"vdc: {level}{record.message}"


def _set_up_log(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(_version(), prog_name="vdc")
@click.pass_context
def main(context: click.Context) -> None:
    """Client of virtual disks.

    A URI names one: vdisk+unix:///NAME?socket=PATH[&transport=shm|socket][&timeout=SECONDS]
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


@main.command("serve")
@click.argument("uri")
@click.option("--nbd", required=True, metavar="SOCKET", help="Unix socket to listen on for NBD clients.")
@click.option("--export", metavar="NAME", help="Name of the NBD export.  [default: the volume's]")
@click.option("--read-only", is_flag=True, help="Refuse writes.")
@click.option(
    "--poll-us",
    type=click.IntRange(0, MAX_POLL_US),
    metavar="N",
    help="Microseconds to look for answers before sleeping; 0 never looks.  [default: the URI's, else 50]",
)
@click.option(
    "--stop-timeout",
    "stop_timeout_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default="10",
    metavar="SECONDS",
    help="How long requests may still run after TERM.",
)
@_capture
@_wait
@_loop
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option("--exit-with-parent", is_flag=True, help="Stop when the process that started this one ends.")
@click.option("--show-config", is_flag=True, help="Print the settings as JSON and exit.")
@_reporting
def serve_command(uri: str, show_config: bool, **settings: Unpack[Settings]) -> None:
    """Present the disk URI as an NBD server.

    TERM or INT ends it in order, a second one at once.
    """
    config = ServeConfig.read(uri, **settings)
    if show_config:
        click.echo(json.dumps(config.shown(), indent=2))
        return
    _set_up_log(config.log_level)
    orderly = _run(config.loop, serve(config, lambda text: click.echo(f"vdc: {text}", err=True)))
    if not orderly:
        _fail("stopped with requests unanswered", 1)


@main.command("info")
@click.argument("uri")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_capture
@_wait
@_reporting
def info_command(uri: str, as_json: bool, capture: str | None, wait_s: float) -> None:
    """Describe the disk URI.

    Prints its size, block size, version, operations, transport and more.
    """
    _set_up_log("warning")
    check_capture(capture)
    target = Target.parse(uri)
    with capturing(capture) as file:
        info = _run("asyncio", _look(target, wait_s, file))
    click.echo(json.dumps(asdict(info), indent=2) if as_json else info.text())


async def _look(target: Target, wait_s: float, capture: Capture | None) -> DiskInfo:
    async with await _open_soon(target, wait_s, capture) as disk:
        return DiskInfo.of(disk, target.socket)


async def _open_soon(target: Target, wait_s: float, capture: Capture | None) -> Disk:
    """Open a disk for a command that somebody waits for."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S + wait_s):
            with naming(target.socket):
                return await open_disk(target, wait_s=wait_s, capture=capture)
    except TimeoutError:
        raise TimeoutError(None, f"no answer within {CONNECT_LIMIT_S + wait_s:g} s", target.socket) from None


@main.command("copy")
@click.argument("source")
@click.argument("target")
@click.option("--verify", is_flag=True, help="Read both afterwards and compare.")
@click.option(
    "--parallel",
    type=click.IntRange(1, MAX_PARALLEL),
    default=DEFAULT_PARALLEL,
    show_default=True,
    metavar="N",
    help="Requests in flight.",
)
@_capture
@_wait
@_loop
@_reporting
def copy_command(
    source: str, target: str, verify: bool, parallel: int, capture: str | None, wait_s: float, loop: str
) -> None:
    """Copy SOURCE to TARGET.

    Each is a vdisk URI, a file or a block device. A file as TARGET is made, or emptied first, and gets holes
    for zeroes. A disk or device must be large enough. What vds serves is no TARGET but by its URI.
    """

    _set_up_log("warning")
    check_capture(capture, ((source, "what is copied"), (target, "what is copied to")))

    async def opener(uri: str) -> Disk:
        return await _open_soon(Target.parse(uri), wait_s, file)

    with capturing(capture) as file, _progress() as started:
        nbytes = _run(
            loop, copy(source, target, parallel=parallel, verify=verify, opener=opener, started=started)
        )
    click.echo(f"vdc: copied {format_size(nbytes)}{', verified' if verify else ''}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, int], Advance] | None]:
    """A bar for each pass of a copy, when somebody looks; else None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # late: 40 ms, for a terminal only
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def started(description: str, nbytes: int) -> Advance:
            task = bar.add_task(description, total=nbytes)
            return lambda step: bar.advance(task, step)

        yield started
