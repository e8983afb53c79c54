"""Our own client as a subject: either API, either transport, looking at the ring or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.histogram import Histogram
from benchmarks.processes import Server, Usage
from benchmarks.results import Round
from benchmarks.subject import Settings, run_client
from benchmarks.task import Task
from benchmarks.workload import Workload

__all__ = ["Client", "VerifyFailed", "disk_uri", "volume_name"]

ROOT = Path(__file__).parents[1]


class VerifyFailed(RuntimeError):
    """A read gave what had not been written."""


def volume_name(number: int) -> str:
    """Of one of the disks of a server."""
    return f"bench{number}"


def disk_uri(server: Server, number: int, transport: str) -> str:
    """Of one of the disks of ``server``."""
    return f"vdisk+unix:///{volume_name(number)}?socket={server.listen}&transport={transport}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """``files`` are the backends', one for each disk, if they are files."""

    name: str
    settings: Settings
    server: Server
    transport: str
    api: str
    poll_us: int
    pool: bool
    disks: int = 1
    files: Sequence[Path] = field(default=())
    rate: float | None = None
    verify: bool = False

    @property
    def servers(self) -> Mapping[str, Server]:
        """The one behind it."""
        return {"server": self.server}

    def measure(self, workload: Workload, number: int) -> Round:
        """Run one client process. Raises: RuntimeError (it failed)."""
        settings = self.settings
        task = Task(
            uris=[disk_uri(self.server, disk, self.transport) for disk in range(self.disks)],
            api=self.api,
            loop=settings.loop,
            poll_us=self.poll_us,
            pool=self.pool,
            workload=workload.name,
            seconds=settings.seconds,
            warmup=settings.warmup,
            seed=f"{settings.seed}" + (f" {self.name} {number}" if self.verify else ""),
            pids={side: server.pid for side, server in self.servers.items()},
            files=[str(file) for file in self.files],
            rate=self.rate,
            verify=self.verify,
        )
        limit_s = 2 * (settings.seconds + settings.warmup) + (self.disks * settings.size / 1e7) * self.verify
        printed = run_client(
            self.name, [sys.executable, "-m", "benchmarks.worker"], task.to_json(), limit_s, ROOT
        )
        return self._round(json.loads(printed), workload, number)

    def _round(self, answer: dict[str, object], workload: Workload, number: int) -> Round:
        values: dict[str, dict[str, int]] = answer["usage"]  # type: ignore[assignment]  # JSON has no types
        errors = answer.get("verify_errors")
        return Round(
            configuration=self.name,
            workload=workload,
            number=number,
            took_ns=int(str(answer["took_ns"])),
            reads=Histogram.from_fio(answer["reads"]),  # type: ignore[arg-type]  # JSON has no types
            writes=Histogram.from_fio(answer["writes"]),  # type: ignore[arg-type]  # JSON has no types
            usage={side: Usage(**used) for side, used in values.items()},
            user=float(str(answer["user"])),
            system=float(str(answer["system"])),
            disks=self.disks,
            rate=self.rate,
            verify_errors=None if errors is None else int(str(errors)),
            first_error=str(answer["first_error"]) if answer.get("first_error") else None,
        )
