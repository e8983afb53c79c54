"""``python -m benchmarks disk``: our own server and client, every configuration, rounds interleaved.

A round runs every configuration once, in an order that moves on by one each round, so that neither a slow
minute of the machine nor a warm cache belongs to one of them. Two servers run throughout, one that polls
and one that does not; an idle one uses nothing.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.processes import Server
from benchmarks.task import Task
from benchmarks.workload import KiB, MiB, Workload

__all__ = ["Configuration", "Plan", "configurations", "run"]

Round = dict[str, Any]
VOLUME = "bench"
STARTUP_S = 60  # beyond the measured time: interpreter, imports, handshake, checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One column of the comparison."""

    transport: str
    api: str
    poll: bool

    @property
    def name(self) -> str:
        """For example ``shm async polling``."""
        return f"{self.transport} {self.api} {'polling' if self.poll else 'sleeping'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run depends on; all of it goes into the JSON file."""

    configurations: tuple[Configuration, ...]
    workloads: tuple[Workload, ...]
    rounds: int
    seconds: float
    warmup: float
    size: int
    backend: str
    directory: Path
    poll_us: int
    wce: bool
    pool: bool
    loop: str
    seed: int
    peers: bool = False
    say: Callable[[str], None] = field(default=lambda text: None)

    def to_json(self) -> dict[str, object]:
        """The options as plain values."""
        return {
            "configurations": [configuration.name for configuration in self.configurations],
            "workloads": [workload.name for workload in self.workloads],
            "rounds": self.rounds,
            "seconds": self.seconds,
            "warmup": self.warmup,
            "size": self.size,
            "backend": self.backend,
            "poll_us": self.poll_us,
            "wce": self.wce,
            "pool": self.pool,
            "loop": self.loop,
            "seed": self.seed,
            "peers": self.peers,
        }


def configurations(transport: str, api: str, poll: str) -> tuple[Configuration, ...]:
    """All combinations; ``both`` stands for both of a kind."""
    return tuple(
        Configuration(transport=one, api=way, poll=polling == "on")
        for polling in (("on", "off") if poll == "both" else (poll,))
        for one in (("shm", "socket") if transport == "both" else (transport,))
        for way in (("async", "blocking") if api == "both" else (api,))
    )


def fill(path: Path, size: int, seed: int) -> None:
    """Write ``size`` bytes of blocks that all differ, so that an answer from the wrong place is noticed."""
    base = random.Random(f"{seed} fill").randbytes(MiB + 64 * KiB)
    with path.open("wb") as file:
        for number in range(0, size, MiB):
            shift = number // MiB % (64 * KiB)
            file.write(base[shift : shift + min(MiB, size - number)])


@contextmanager
def _servers(plan: Plan, place: Path) -> Iterator[dict[bool, Server]]:
    """The servers that the plan needs, by whether they poll."""
    volume = f"{VOLUME}={plan.backend}:{plan.size}"
    if plan.backend == "file":
        volume = f"{VOLUME}={place / 'image'}"
    if plan.wce:
        volume += ",wce"
    if len(plan.configurations) > 1 and len({one.poll for one in plan.configurations}) > 1:
        volume += ",share"
    with ExitStack() as stack:
        servers = {}
        for poll in sorted({configuration.poll for configuration in plan.configurations}):
            listen = place / f"{'polling' if poll else 'sleeping'}.sock"
            server = Server.vds(listen, volume, poll_us=plan.poll_us if poll else 0, loop=plan.loop)
            servers[poll] = stack.enter_context(server)
        yield servers


def run(plan: Plan) -> list[Round]:
    """Measure all of ``plan``; raw rounds, as :func:`benchmarks.results.summarise` wants them.

    Raises: RuntimeError (a server or a client failed; its own words are in the text).
    """
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="vdisk-bench-", dir=plan.directory) as name:
        place = Path(name)
        if plan.backend == "file" or plan.peers:
            plan.say(f"writing {plan.size // MiB} MiB to {place / 'image'}")
            fill(place / "image", plan.size, plan.seed)
        with _servers(plan, place) as servers, ExitStack() as stack:
            beside = stack.enter_context(peers.available(place)) if plan.peers else []
            for number in range(plan.rounds):
                turn = number % len(plan.configurations)
                for configuration in plan.configurations[turn:] + plan.configurations[:turn]:
                    plan.say(f"round {number + 1} of {plan.rounds}: {configuration.name}")
                    results = _client(plan, configuration, servers[configuration.poll], place)
                    rounds += [
                        {"configuration": configuration.name, "round": number} | one for one in results
                    ]
                for peer in beside:
                    plan.say(f"round {number + 1} of {plan.rounds}: {peer.name}")
                    results = [peer.measure(workload, plan.seconds, plan.size) for workload in plan.workloads]
                    rounds += [{"configuration": peer.name, "round": number} | one for one in results]
    return rounds


def _client(plan: Plan, configuration: Configuration, server: Server, place: Path) -> list[Round]:
    """One client process: all workloads once."""
    task = Task(
        uri=f"vdisk+unix:///{VOLUME}?socket={server.listen}&transport={configuration.transport}",
        api=configuration.api,
        loop=plan.loop,
        poll_us=plan.poll_us if configuration.poll else 0,
        pool=plan.pool,
        workloads=[workload.name for workload in plan.workloads],
        seconds=plan.seconds,
        warmup=plan.warmup,
        seed=plan.seed,
        server_pid=server.pid,
        file=str(place / "image") if plan.backend == "file" else None,
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker"],
        cwd=Path(__file__).parents[1],
        input=task.to_json(),
        capture_output=True,
        text=True,
        timeout=STARTUP_S + 2 * len(plan.workloads) * (plan.seconds + plan.warmup),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"client {configuration.name} failed:\n{done.stderr.strip()}")
    results: list[Round] = json.loads(done.stdout)
    return results
