"""What keeps the heap: seen from the kernel's account of the process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys
from hypervisor.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    return [bytes(60_000) for _ in range(100)]

work()
before = used()
for _ in range(20):
    work()
print(used() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def faults(mode: str) -> tuple[int, int]:
    """Return (page faults of repeated work, most memory in KiB) of a process."""
    child = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, check=True, text=True)
    count, size = child.stdout.split()
    return int(count), int(size)


def test_freed_memory_is_used_again_and_costs_nothing() -> None:
    without, size_without = faults("leave")
    kept, size = faults("keep")
    assert kept < without / 10
    assert size < size_without + 8 * 1024
