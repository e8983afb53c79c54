"""The command ``vds``: arguments in, exit code out (0 done, 1 failed, 2 usage or configuration)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NoReturn, TypeVar

import click

from protocol.errors import ConfigError
from vds.config import LOG_LEVELS, LOOPS, Config, make_config
from vds.process import run, serve, set_up_log

__all__ = ["main"]

_F = TypeVar("_F", bound=Callable[..., object])


def _version() -> str:
    try:
        return metadata.version("ldoms-vdisk")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _options(command: _F) -> _F:
    """Add what ``serve`` and ``run`` have in common. Nothing has a default here: only what is given
    overrides.
    """
    for option in reversed(_COMMON):
        command = option(command)
    return command


_COMMON = (
    click.option(
        "--config", metavar="FILE", help="Read settings and volumes from a TOML file; options override it."
    ),
    click.option(
        "--allow-uid",
        type=int,
        multiple=True,
        metavar="UID",
        help="Serve this user; repeatable.  [default: your own and root]",
    ),
    click.option("--max-channels", type=int, metavar="N", help="Channels at once.  [default: 4096]"),
    click.option(
        "--poll-us",
        type=int,
        metavar="N",
        help="Microseconds to look for requests before sleeping; 0 never looks.  [default: 50]",
    ),
    click.option("--threads", type=int, metavar="N", help="Worker threads of each volume.  [default: 4]"),
    click.option(
        "--stop-timeout",
        type=float,
        metavar="SECONDS",
        help="Time for requests under way when asked to stop.  [default: 10]",
    ),
    click.option(
        "--capture", metavar="FILE", help="Write every packet and descriptor to FILE (pcapng), made anew."
    ),
    click.option("--loop", type=click.Choice(LOOPS), help="The event loop.  [default: uvloop]"),
    click.option("--log-level", type=click.Choice(LOG_LEVELS), help="What is logged.  [default: info]"),
    click.option("--exit-with-parent", is_flag=True, default=None, help="Stop when the parent process ends."),
    click.option("--show-config", is_flag=True, help="Print the effective configuration as JSON and exit."),
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(_version(), prog_name="vds")
@click.pass_context
def _vds(context: click.Context) -> None:
    """Server of virtual disks.

    A volume is NAME=BACKEND[,OPTION...]. BACKEND is the path of an image or block device, memory:SIZE or
    null:SIZE. Options: ro, wce (volatile write cache), direct, share, blocksize=512|4096; and, to see what a
    bad disk does, error-rate=, error-op=, error-errno=, error-file=, delay-read=, delay-write=, delay-flush=,
    pause-file=.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


@_vds.command("serve")
@click.argument("volumes", nargs=-1, metavar="[NAME=BACKEND[,OPTION...]]...")
@click.option("--listen", metavar="SOCKET", help="Unix socket to listen on.")
@_options
@click.pass_obj
def _serve(
    command: Sequence[str] | None, /, volumes: Sequence[str], show_config: bool, **given: object
) -> int:
    """Serve volumes until told to stop.

    TERM or INT says so; a second one ends it at once.
    """
    if command is not None:
        raise click.UsageError("serve takes no command: 'vds run' does")
    config = _configure(given, volumes)
    if config.listen is None:
        raise click.UsageError("no socket to listen on: give --listen SOCKET")
    return _show(config) if show_config else serve(config)


@_vds.command("run")
@click.argument("volumes", nargs=-1, metavar="NAME=BACKEND[,OPTION...]... -- COMMAND...")
@_options
@click.pass_obj
def _run(command: Sequence[str] | None, /, volumes: Sequence[str], show_config: bool, **given: object) -> int:
    """Serve volumes while COMMAND runs, and exit with its status.

    The socket is private. COMMAND finds the first volume's URI in $VDISK_URI and the socket in $VDISK_SOCKET.
    """
    config = _configure(given, volumes)
    if show_config:
        return _show(config)
    if not command:
        raise click.UsageError("no command: vds run NAME=BACKEND... -- COMMAND...")
    return run(config, command)


def _configure(given: dict[str, object], volumes: Sequence[str]) -> Config:
    file = given.pop("config")
    settings = {key: value for key, value in given.items() if value is not None and value != ()}
    config = make_config(settings, volumes, file if isinstance(file, str) else None)
    if not config.volumes:
        raise click.UsageError("no volume to serve: give NAME=BACKEND, for example disk0=disk.img")
    set_up_log(config.log_level)
    return config


def _show(config: Config) -> int:
    click.echo(json.dumps(config.as_dict(), indent=2))
    return 0


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = None
    if "--" in arguments:  # what follows is another program's and not ours to parse
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    sys.exit(_main(arguments, command))


def _main(arguments: list[str], command: list[str] | None) -> int:
    try:
        code = _vds.main(args=arguments, prog_name="vds", obj=command, standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except ConfigError as error:
        return _fail(str(error), 2)
    except OSError as error:
        text = error.strerror or str(error)
        return _fail(f"{error.filename}: {text}" if error.filename is not None else text, 1)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 1)
    return code if isinstance(code, int) else 0


def _fail(text: str, code: int) -> int:
    click.echo(f"vds: {' '.join(text.split())}", err=True)
    return code
