"""What ``python -m benchmarks peers`` measures: ours, the peers and the bare file, on one file at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks import peers
from benchmarks.fio import Fio, nbd_target
from benchmarks.goals import FRONT, OURS, SHARED
from benchmarks.images import fill
from benchmarks.ours import Client, disk_uri, volume_name
from benchmarks.processes import Server
from benchmarks.runner import Plan
from benchmarks.subject import Settings, Subject
from benchmarks.workload import Workload, parse_workload

__all__ = ["POLL_US", "WORKLOADS", "prepare"]

POLL_US = 50  # the daemons' own default

WORKLOADS: Sequence[Workload] = tuple(parse_workload(name) for name in OURS)
"""Those that have a goal."""


@contextmanager
def prepare(
    settings: Settings, rounds: int, without: Sequence[str], workloads: Sequence[Workload] = WORKLOADS
) -> Iterator[Plan]:
    """Everything of a run: it is there, and running, until the ``with`` ends.

    4 KiB and 64 KiB are handed out as ``bytes`` objects; 1 MiB uses buffers that are shared with the server.

    Raises: RuntimeError (a server does not start, the libnbd client cannot be compiled).
    """
    image = settings.place / "image"
    fill(image, settings.size, settings.seed)
    volume = f"{volume_name(0)}={str(image).replace(',', ',,')},wce,share"
    with ExitStack() as stack:
        servers = {
            word: stack.enter_context(
                Server.vds(settings.sockets / f"{word}.sock", [volume], poll_us=poll_us, loop=settings.loop)
            )
            for word, poll_us in (("polling", POLL_US), ("sleeping", 0))
        }
        ours: dict[str, Subject] = {FRONT: _front(settings, servers["polling"], stack)}
        for name in dict.fromkeys(name for names in OURS.values() for name in names):
            if name != FRONT:
                transport, api, poll = name.partition(",")[0].split()
                ours[name] = Client(
                    name=name,
                    settings=settings,
                    server=servers[poll],
                    transport=transport,
                    api=api,
                    poll_us=POLL_US if poll == "polling" else 0,
                    pool=name.endswith(SHARED),
                    files=[image],
                )
        others = stack.enter_context(peers.subjects(settings, image, without))
        beside = [subject for group in others.values() for subject in group]
        yield Plan(
            subjects=[
                (workload, [*(ours[name] for name in OURS[workload.name]), *beside]) for workload in workloads
            ],
            rounds=rounds,
        )


def _front(settings: Settings, server: Server, stack: ExitStack) -> Fio:
    listen = settings.sockets / "front.sock"
    front = Server.vdc(listen, disk_uri(server, 0, "shm"), poll_us=POLL_US, loop=settings.loop)
    return Fio(
        name=FRONT,
        settings=settings,
        target=nbd_target(stack.enter_context(front)),
        servers={"front": front, "server": server},
    )
