"""What stands beside us: other NBD servers on the same file, each with two clients, and fio on the bare file.

All of them, and our own servers, have the same file open at once and so the same pages in memory. Write
caching is the same everywhere: a write may be answered before it is stable (our volumes have ``wce``, nobody
asks for FUA or flushes).
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fio import Fio, nbd_target
from benchmarks.libnbd import Libnbd, compile_client
from benchmarks.processes import Server
from benchmarks.subject import Settings, Subject
from benchmarks.workload import MiB

__all__ = ["FLOORS", "PEERS", "Peer", "missing_packages", "peer_server", "subjects"]

Command = Callable[[Path, Path, int], Sequence[str]]  # from socket, image and size


def _nbdkit_file(listen: Path, image: Path, size: int) -> Sequence[str]:
    return ("nbdkit", "--foreground", "--unix", str(listen), "file", str(image))


def _nbdkit_memory(listen: Path, image: Path, size: int) -> Sequence[str]:
    return ("nbdkit", "--foreground", "--unix", str(listen), "memory", str(size))


def _qemu_nbd(listen: Path, image: Path, size: int) -> Sequence[str]:
    options = f"driver=raw,file.driver=file,file.filename={_escaped(image)},file.locking=off"
    return (
        *("qemu-nbd", "--persistent", "--shared=0", f"--socket={listen}"),
        *("--cache=writeback", "--image-opts", options),
    )


def _qemu_storage_daemon(listen: Path, image: Path, size: int) -> Sequence[str]:
    file = f"driver=file,node-name=file,filename={_escaped(image)},locking=off,aio={_qemu_aio()}"
    return (
        *("qemu-storage-daemon", "--blockdev", file),
        *("--blockdev", "driver=raw,node-name=disk,file=file"),
        *("--nbd-server", f"addr.type=unix,addr.path={_escaped(listen)},max-connections=0"),
        *("--export", "type=nbd,id=export,node-name=disk,name=,writable=on"),
    )


def _escaped(path: Path) -> str:
    """As a QEMU option wants it."""
    return str(path).replace(",", ",,")


def _qemu_aio() -> str:
    """io_uring, with which it is faster, where the kernel lets it; qemu-nbd keeps its default, threads."""
    try:
        refused = Path("/proc/sys/kernel/io_uring_disabled").read_text().strip() != "0"
    except OSError:
        refused = False
    return "threads" if refused else "io_uring"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An NBD server of somebody else. ``counts``: it serves the file, so goals are set against it."""

    name: str
    package: str
    command: Command
    counts: bool = True

    @property
    def program(self) -> str:
        """What must be installed."""
        return "nbdkit" if self.name.startswith("nbdkit") else self.name


PEERS = (
    Peer(name="nbdkit file", package="nbdkit", command=_nbdkit_file),
    Peer(name="qemu-nbd", package="qemu-utils", command=_qemu_nbd),
    Peer(name="qemu-storage-daemon", package="qemu-system-common", command=_qemu_storage_daemon),
    Peer(name="nbdkit memory", package="nbdkit", command=_nbdkit_memory, counts=False),
)
FLOORS = {"psync": "fio psync, bare file", "io_uring": "fio io_uring, bare file"}


def missing_packages(without: Sequence[str]) -> list[str]:
    """The Debian packages that are needed and not there; peers in ``without`` need nothing."""
    needed = [(peer.program, peer.package) for peer in PEERS if peer.name not in without]
    needed += [("fio", "fio"), ("cc", "gcc"), ("cc", "libc6-dev"), ("pkg-config", "pkgconf")]
    missing = {package for program, package in needed if shutil.which(program) is None}
    if shutil.which("pkg-config") is None or subprocess.run(["pkg-config", "--exists", "libnbd"]).returncode:
        missing.add("libnbd-dev")
    return sorted(missing)


def peer_server(peer: Peer, settings: Settings, image: Path) -> Server:
    """The server, not yet started."""
    listen = settings.sockets / f"{peer.name.replace(' ', '-')}.sock"
    return Server(peer.command(listen, image, settings.size), listen, kind=socket.SOCK_STREAM)


@contextmanager
def subjects(settings: Settings, image: Path, without: Sequence[str]) -> Iterator[dict[str, list[Subject]]]:
    """All peers with both clients, and the floors, by the server's name; servers run until the end."""
    program = compile_client(settings.place)
    found: dict[str, list[Subject]] = {}
    with ExitStack() as stack:
        for peer in PEERS:
            if peer.name in without:
                continue
            server = stack.enter_context(peer_server(peer, settings, image))
            found[peer.name] = [
                Fio(
                    name=f"{peer.name}, fio",
                    settings=settings,
                    target=nbd_target(server),
                    servers={"server": server},
                ),
                Libnbd(name=f"{peer.name}, libnbd", settings=settings, program=program, server=server),
            ]
            if peer.command is _nbdkit_memory:
                _write_once(settings, server)
        for engine, name in FLOORS.items():
            target = (f"--ioengine={engine}", f"--filename={image}")
            found[name] = [Fio(name=name, settings=settings, target=target)]
        yield found


def _write_once(settings: Settings, server: Server) -> None:
    """Memory that was never written is not there, and reading it would cost nothing."""
    done = subprocess.run(
        ["fio", "--name=fill", "--rw=write", f"--bs={MiB}", f"--size={settings.size}", *nbd_target(server)],
        cwd=settings.place,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"nbdkit memory cannot be filled: {done.stderr.strip()}")
