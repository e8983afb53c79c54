"""What stands beside us in the same rounds: nbdkit with fio's nbd engine, and fio on the bare file.

Only what is installed takes part. fio reports its own CPU use; a server's is read from the outside. fio has
no warm-up here: the file is in the page cache since it was written.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.processes import Server, usage
from benchmarks.workload import Workload

__all__ = ["Peer", "available", "parse_fio"]

_PATTERNS = {
    (False, False): "randread",
    (True, False): "randwrite",
    (False, True): "read",
    (True, True): "write",
}


def parse_fio(report: dict[str, Any], workload: Workload) -> dict[str, Any]:
    """A raw round from fio's JSON of one job: I/Os, time, latencies from its own buckets, CPU of the client.

    fio's buckets (``--output-format=json+``) are nanoseconds and counts. Raises: RuntimeError (the job
    failed).
    """
    (job,) = report["jobs"]
    if job["error"]:
        raise RuntimeError(f"fio ended with error {job['error']}")
    side = job["write" if workload.write else "read"]
    latency = Histogram()
    for bound, times in side["clat_ns"]["bins"].items():
        latency.add(int(bound), int(times))
    took_ns = int(side["runtime"]) * 1_000_000
    share = (job["usr_cpu"] + job["sys_cpu"]) / 100
    client = {"cpu_ns": round(share * took_ns), "voluntary": int(job["ctx"]), "involuntary": 0}
    return {
        "workload": workload.name,
        "ios": int(side["total_ios"]),
        "took_ns": took_ns,
        "usage": {"client": client},
        "latency": latency.to_json(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One row of the comparison: what fio is told, and the server behind it if there is one."""

    name: str
    target: tuple[str, ...]
    server: Server | None = None

    def measure(self, workload: Workload, seconds: float, size: int) -> dict[str, Any]:
        """Run fio once. Raises: RuntimeError (it failed, in its own words)."""
        command = [
            "fio",
            "--name=peer",
            "--output-format=json+",
            "--thread",
            "--norandommap",
            "--scramble_buffers=0",
        ]
        command += [f"--rw={_PATTERNS[workload.write, workload.sequential]}", f"--bs={workload.block_size}"]
        command += [
            f"--iodepth={workload.depth}",
            f"--size={size}",
            "--time_based",
            f"--runtime={round(seconds * 1000)}ms",
        ]
        before = usage(self.server.pid) if self.server else None
        done = subprocess.run([*command, *self.target], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stderr.strip() or done.stdout.strip()}")
        result = parse_fio(json.loads(done.stdout[done.stdout.index("{") :]), workload)
        if self.server and before:
            result["usage"]["server"] = {"cpu_ns": (usage(self.server.pid) - before).cpu_ns}
        return result


@contextmanager
def available(place: Path) -> Iterator[list[Peer]]:
    """The peers that this machine has, on ``place / 'image'``; servers run until the ``with`` ends."""
    with ExitStack() as stack:
        found = []
        image = place / "image"
        if shutil.which("fio"):
            found.append(
                Peer(name="fio psync, bare file", target=("--ioengine=psync", f"--filename={image}"))
            )
        if shutil.which("fio") and shutil.which("nbdkit"):
            listen = place / "nbdkit.sock"
            command = [
                "nbdkit",
                "--foreground",
                "--exit-with-parent",
                "--unix",
                str(listen),
                "file",
                str(image),
            ]
            server = stack.enter_context(Server(command, listen, kind=socket.SOCK_STREAM))
            uri = f"nbd+unix:///?socket={listen}"
            found.append(
                Peer(name="nbdkit file, fio nbd", target=("--ioengine=nbd", f"--uri={uri}"), server=server)
            )
        yield found
