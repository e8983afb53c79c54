"""What ``python -m benchmarks disk`` measures: our own server and client, in all their configurations.

Two servers run throughout, one that looks at rings and one that does not; an idle one uses nothing, and the
run says so if one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fio import Fio, nbd_target
from benchmarks.images import fill
from benchmarks.ours import Client, disk_uri, volume_name
from benchmarks.processes import Server
from benchmarks.runner import Plan
from benchmarks.subject import Settings, Subject
from benchmarks.workload import Workload

__all__ = ["Configuration", "Disks", "configurations", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One column of the comparison. ``api`` nbd is ``vdc serve --nbd`` under fio."""

    transport: str
    api: str
    poll: bool

    @property
    def name(self) -> str:
        """For example ``shm async polling``."""
        return f"{self.transport} {self.api} {'polling' if self.poll else 'sleeping'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """What is served and how it is used, the same for all configurations."""

    settings: Settings
    backend: str  # file, memory or null
    counts: Sequence[int]  # of disks at once; each is measured
    poll_us: int
    wce: bool
    pool: bool
    rate: float | None
    verify: bool


def configurations(transport: str, api: str, poll: str) -> tuple[Configuration, ...]:
    """All combinations; ``both`` stands for both of a kind, ``all`` for every API and the NBD front end."""
    apis = {"both": ("async", "blocking"), "all": ("async", "blocking", "nbd")}.get(api, (api,))
    return tuple(
        Configuration(transport=one, api=way, poll=polling == "on")
        for polling in (("on", "off") if poll == "both" else (poll,))
        for one in (("shm", "socket") if transport == "both" else (transport,))
        for way in apis
    )


@contextmanager
def prepare(
    disks: Disks, chosen: Sequence[Configuration], workloads: Sequence[Workload], rounds: int
) -> Iterator[Plan]:
    """Files, servers and clients of a run; the servers run and the files are there until the ``with`` ends.

    Raises: RuntimeError (a server does not start).
    """
    settings = disks.settings
    files: list[Path] = []
    if disks.backend == "file":
        files = [settings.place / f"image{number}" for number in range(max(disks.counts))]
        for number, file in enumerate(files):
            fill(file, settings.size, settings.seed + number)
    with ExitStack() as stack:
        servers = {
            poll: stack.enter_context(_server(disks, files, poll, shared=len({c.poll for c in chosen}) > 1))
            for poll in sorted({configuration.poll for configuration in chosen})
        }
        subjects = [
            _subject(disks, configuration, servers[configuration.poll], files, count, stack)
            for configuration in chosen
            for count in disks.counts
        ]
        yield Plan(subjects=[(workload, subjects) for workload in workloads], rounds=rounds)


def _server(disks: Disks, files: Sequence[Path], poll: bool, *, shared: bool) -> Server:
    settings = disks.settings
    options = (",wce" if disks.wce else "") + (",share" if shared else "")
    backends = [str(file).replace(",", ",,") for file in files]
    if not files:
        backends = [f"{disks.backend}:{settings.size}"] * max(disks.counts)
    volumes = [f"{volume_name(number)}={backend}{options}" for number, backend in enumerate(backends)]
    listen = settings.sockets / f"{'polling' if poll else 'sleeping'}.sock"
    return Server.vds(listen, volumes, poll_us=disks.poll_us if poll else 0, loop=settings.loop)


def _subject(
    disks: Disks,
    configuration: Configuration,
    server: Server,
    files: Sequence[Path],
    count: int,
    stack: ExitStack,
) -> Subject:
    poll_us = disks.poll_us if configuration.poll else 0
    if configuration.api == "nbd":
        listen = disks.settings.sockets / f"{configuration.name.replace(' ', '-')}.sock"
        uri = disk_uri(server, 0, configuration.transport)
        front = Server.vdc(listen, uri, poll_us=poll_us, loop=disks.settings.loop)
        return Fio(
            name=configuration.name,
            settings=disks.settings,
            target=nbd_target(stack.enter_context(front)),
            servers={"front": front, "server": server},
        )
    return Client(
        name=configuration.name,
        settings=disks.settings,
        server=server,
        transport=configuration.transport,
        api=configuration.api,
        poll_us=poll_us,
        pool=disks.pool,
        disks=count,
        files=files[:count],
        rate=disks.rate,
        verify=disks.verify,
    )
