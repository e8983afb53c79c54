"""What a result must say of where it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

__all__ = ["commit", "describe", "versions"]

ROOT = Path(__file__).parents[1]
PACKAGES = ("construct", "uvloop", "click", "msgspec", "rich")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_PROGRAMS = {
    "fio": ("fio", "--version"),
    "nbdkit": ("nbdkit", "--version"),
    "qemu-nbd": ("qemu-nbd", "--version"),
    "qemu-storage-daemon": ("qemu-storage-daemon", "--version"),
    "libnbd": ("pkg-config", "--modversion", "libnbd"),
    "cc": ("cc", "--version"),
}


def versions() -> dict[str, str | None]:
    """Of everything that takes part; ``None`` for what is not installed."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    found |= {package: _version(package) for package in PACKAGES}
    return found | {name: _said(command) for name, command in _PROGRAMS.items()}


def _said(command: tuple[str, ...]) -> str | None:
    """The first line that ``command`` prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None


def commit() -> str | None:
    """The commit of the working tree, with ``-dirty`` if it was changed since; ``None`` without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def describe(directory: Path) -> dict[str, object]:
    """Machine, kernel, interpreter, package versions, and the file system that holds ``directory``."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual": "hypervisor" in (_read("/proc/cpuinfo") or ""),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": {package: _version(package) for package in PACKAGES},
        "load": os.getloadavg()[0],
        "directory": str(directory),
        "filesystem": _filesystem(directory),
    }


def _filesystem(directory: Path) -> str | None:
    """The type of the mount that holds ``directory``: the longest mount point that is a prefix of it."""
    place = directory.resolve()
    best: tuple[int, str] | None = None
    for line in (_read("/proc/self/mounts") or "").splitlines():
        _, mount_point, kind, *_ = line.split()
        if place.is_relative_to(mount_point) and (best is None or len(mount_point) >= best[0]):
            best = len(mount_point), kind
    return best[1] if best else None
