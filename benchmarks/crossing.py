"""What it costs that the other side is another process: a byte that it sees, a message that wakes it.

Two processes, each bound to a processor, answer one another again and again; half a round is one way. The
second one is this module run by itself: ``python -m benchmarks.crossing PROCESSOR MEMORY SOCKET``, the last
two being file descriptors.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Final

from benchmarks.processes import with_parent

__all__ = ["crossings"]

ROUNDS: Final = 500
"""Between two looks at the clock."""
REPEATS: Final = 9
SPINS: Final = range(100_000_000)
"""Looks at a byte before the other side is given up: some seconds."""
PATIENCE_S: Final = 5
MESSAGE: Final = bytes(64)
PING, PONG = 0, 64  # a cache line each


def crossings() -> list[tuple[str, float]]:
    """What goes one way, and its nanoseconds; nothing about another processor where there is none."""
    processors = sorted(os.sched_getaffinity(0))
    here, there = processors[0], processors[-1]
    found = []
    try:
        os.sched_setaffinity(0, {here})
        if there != here:
            with _peer(there) as (memory, sock):
                found.append(("other processor: a byte, seen by who looks", _halves(_bytes(memory))))
                found += [
                    (f"other processor: a message, waited for in {name}", _halves(_messages(sock, wait)))
                    for name, wait in _waits(sock)
                ]
        with _peer(here) as (memory, sock):
            found += [
                (f"same processor: a message, waited for in {name}", _halves(_messages(sock, wait)))
                for name, wait in _waits(sock)
            ]
    finally:
        os.sched_setaffinity(0, processors)
    return found


def _halves(exchange: Callable[[], None]) -> float:
    exchange()  # the first finds caches cold
    took = []
    for _ in range(REPEATS):
        started = perf_counter_ns()
        exchange()
        took.append((perf_counter_ns() - started) / ROUNDS / 2)
    return median(took)


def _waits(sock: socket.socket) -> Iterator[tuple[str, Callable[[], object]]]:
    """The ways to wait for a message; the peer waits in the same way at the same time."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    epoll = select.epoll()
    epoll.register(sock, select.EPOLLIN)
    with epoll:
        yield "recv", _nothing
        yield "poll", lambda: poll.poll(PATIENCE_S * 1000)
        yield "epoll", lambda: epoll.poll(PATIENCE_S)


def _nothing() -> None: ...


def _messages(sock: socket.socket, wait: Callable[[], object]) -> Callable[[], None]:
    def exchange() -> None:
        for _ in range(ROUNDS):
            sock.send(MESSAGE)
            wait()
            sock.recv(len(MESSAGE))

    return exchange


def _bytes(memory: memoryview) -> Callable[[], None]:
    def exchange() -> None:
        for number in range(ROUNDS):
            memory[PING] = mark = number & 1 ^ 1
            _see(memory, PONG, mark)

    return exchange


def _see(memory: memoryview, place: int, mark: int) -> None:
    for _ in SPINS:
        if memory[place] == mark:
            return
    raise RuntimeError("the other process says nothing")


@contextmanager
def _peer(processor: int) -> Iterator[tuple[memoryview, socket.socket]]:
    """A peer on ``processor``, the memory that it shares, and a socket to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.memfd_create("crossing")
    os.ftruncate(fd, mmap.PAGESIZE)
    command = [sys.executable, "-m", "benchmarks.crossing", str(processor), str(fd), str(theirs.fileno())]
    with ours, mmap.mmap(fd, mmap.PAGESIZE) as pages, memoryview(pages) as memory:
        process = subprocess.Popen(
            with_parent(command), pass_fds=(fd, theirs.fileno()), cwd=Path(__file__).parents[1]
        )
        theirs.close()
        os.close(fd)
        try:
            _patient(ours)
            ours.recv(len(MESSAGE))  # it is there
            yield memory, ours
        finally:
            process.kill()
            process.wait()


def _patient(sock: socket.socket) -> None:
    """Let ``recv`` end after a while; Python's own time limits would make another system call of it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", PATIENCE_S, 0))


def _answer(processor: int, memory: memoryview, sock: socket.socket, alone: bool) -> None:
    """The peer's part: answer whatever comes, in the same order, until killed."""
    os.sched_setaffinity(0, {processor})
    _patient(sock)
    sock.send(MESSAGE)
    if not alone:
        for number in range((REPEATS + 1) * ROUNDS):
            mark = number % ROUNDS & 1 ^ 1
            _see(memory, PING, mark)
            memory[PONG] = mark
    for _, wait in _waits(sock):
        for _ in range((REPEATS + 1) * ROUNDS):
            wait()
            sock.recv(len(MESSAGE))
            sock.send(MESSAGE)


if __name__ == "__main__":
    _processor, _memory, _socket = map(int, sys.argv[1:])
    _answer(
        _processor,
        memoryview(mmap.mmap(_memory, mmap.PAGESIZE)),
        socket.socket(fileno=_socket),
        alone=os.sched_getaffinity(0) == {_processor},  # as inherited from who measures
    )
