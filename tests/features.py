"""What this machine can do: the probes behind ``tests/deselect.txt``."""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

#: Linux ``include/uapi/linux/loop.h``, LOOP_CTL_GET_FREE.
LOOP_CTL_GET_FREE = 0x4C82


def _is_root() -> bool:
    """Tell whether tests may change their user id and mount."""
    return os.geteuid() == 0


def _has_loop_devices() -> bool:
    """Tell whether this user can get a loop device."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        return os.access(f"/dev/loop{number}", os.R_OK | os.W_OK)
    except OSError:
        return False
    finally:
        os.close(control)


def _is_x86_64() -> bool:
    """Tell whether plain stores become visible in order, so that polling is used."""
    return os.uname().machine == "x86_64"


def _has_shared_memory_files() -> bool:
    """Tell whether a tmpfs is at hand for backends in memory."""
    return Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK)


def _has_atheris() -> bool:
    """Tell whether the fuzzer is installed, which has no wheels but for Linux on x86-64."""
    return importlib.util.find_spec("atheris") is not None


#: Feature name → probe. A name used in ``deselect.txt`` must stand here.
PROBES: dict[str, Callable[[], bool]] = {
    "atheris": _has_atheris,
    "loop": _has_loop_devices,
    "root": _is_root,
    "tmpfs": _has_shared_memory_files,
    "x86-64": _is_x86_64,
}


@functools.cache
def probe() -> dict[str, bool]:
    """Probe every feature once: name → present."""
    return {name: check() for name, check in PROBES.items()}
