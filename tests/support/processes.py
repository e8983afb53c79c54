"""What a process has used and holds, from /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Used", "private_memory", "used"]


@dataclass(frozen=True, slots=True)
class Used:
    """CPU time in ns and context switches of all threads of a process, so far or between two moments."""

    cpu_ns: int
    switches: int

    def __add__(self, other: Used) -> Used:
        return Used(self.cpu_ns + other.cpu_ns, self.switches + other.switches)

    def __sub__(self, other: Used) -> Used:
        return Used(self.cpu_ns - other.cpu_ns, self.switches - other.switches)


def used(pid: int) -> Used:
    """What process ``pid`` has used so far. Source: Linux proc(5), schedstat and status of each task."""
    cpu_ns = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        cpu_ns += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                switches += int(line.split()[1])
    return Used(cpu_ns, switches)


def private_memory(pid: int) -> int:
    """Bytes of memory that process ``pid`` shares with nobody. Source: Linux proc(5), RssAnon."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(kib) * 1024
