"""The server is killed at every message of a connection, from the hello to the last answer.

Whatever was on its way then, the disk is connected again afterwards and every request has had one answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import vdc
from tests.support.daemons import VdsServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow
REQUESTS: Final = 24
BLOCK: Final = 4096
HANDSHAKE: Final = 24
"""Messages, both ways, before the first request at the latest."""
MOST_STEPS: Final = 200
"""More messages than any connection here takes: without an end in sight something is wrong."""


def content(step: int, number: int) -> bytes:
    """What request ``number`` writes at a step, unlike any other block."""
    return f"{step}:{number}".encode().ljust(BLOCK, b".")


def work(disk: vdc.BlockingDisk, step: int) -> Counter[int]:
    """Write, then read; how often each was answered. Every answer is checked."""
    answers: Counter[int] = Counter()
    for start in range(0, REQUESTS, 8):  # 8 at a time, so that messages of both directions mix
        writes = [
            disk.submit_write(number * BLOCK, content(step, number)) for number in range(start, start + 8)
        ]
        reads = {disk.submit_read(number * BLOCK, BLOCK): number for number in range(start)}
        expected = len(writes) + len(reads)
        while expected:
            for token, result in disk.wait():
                expected -= 1
                answers[token] += 1
                if token in reads:
                    assert result == content(step, reads[token])
                else:
                    assert result is None
    return answers


def steps(stride: int) -> Iterator[int]:
    """Every message of the handshake, then every ``stride``-th. Raises: AssertionError (there is no end)."""
    yield from range(HANDSHAKE)
    yield from range(HANDSHAKE, MOST_STEPS, stride)
    raise AssertionError(f"still running after {MOST_STEPS} messages")


def test_killed_at_each_message(tmp_path: Path, transport: str) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(REQUESTS * BLOCK))
    asked = REQUESTS + sum(range(0, REQUESTS, 8))
    opening = resubmitting = 0
    with (
        VdsServer(tmp_path, {"disk": image}) as vds,
        Proxy(tmp_path / "proxy.sock", vds.socket) as proxy,
    ):

        def kill_and_start() -> None:
            vds.kill()
            vds.launch()

        for step in steps(5):
            proxy.arm(step, kill_and_start)
            with vdc.connect(proxy.uri("disk", transport=transport), wait_s=30) as disk:
                opening += proxy.acted
                answers = work(disk, step)
                assert set(answers.values()) == {1}
                assert len(answers) == asked
                assert disk.state == "running"
                resubmitting += disk.counters["resubmitted"] > 0
                assert disk.counters["connections"] <= 2
            stored = image.read_bytes()
            assert all(
                stored[number * BLOCK : (number + 1) * BLOCK] == content(step, number)
                for number in range(REQUESTS)
            )
            if not proxy.acted:
                break
    assert opening >= 16, "killed in too few steps of the handshake"  # it takes 18 datagrams
    assert resubmitting >= 2, "hardly ever killed with requests under way"


@pytest.mark.parametrize("transport", ["shm", "socket"])
def test_a_connection_cut_at_each_message_is_made_again(tmp_path: Path, transport: str) -> None:
    """The server lives and finds its client back: it is the same one, by its secret."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(REQUESTS * BLOCK))

    def cut() -> None:
        raise OSError("cut")

    with (
        VdsServer(tmp_path, {"disk": image}) as vds,
        Proxy(tmp_path / "proxy.sock", vds.socket) as proxy,
    ):
        for step in steps(1):
            proxy.arm(step, cut)
            with vdc.connect(proxy.uri("disk", transport=transport), wait_s=30) as disk:
                assert set(work(disk, step).values()) == {1}
            if proxy.at is not None:
                break
        assert step > 20
