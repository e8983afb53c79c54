"""What the steps of a request cost: both ends in one process, and the way between two."""

import os
from collections.abc import Sequence
from pathlib import Path
from time import sleep

import pytest

from benchmarks import crossing, laps, path
from benchmarks.path import Step


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (laps, path):
        monkeypatch.setattr(module, "CALLS", 200)
        monkeypatch.setattr(module, "REPEATS", 3)


def test_each_call_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laps, "CALLS", 5)
    monkeypatch.setattr(laps, "REPEATS", 3)
    long, short = laps.laps((lambda: sleep(0.002), lambda: None))
    assert long >= 2e6
    assert short < 1e6
    assert laps.cost(lambda: sleep(0.002)) >= 1.9e6


@pytest.mark.usefixtures("few")
def test_every_step_of_a_read_is_measured(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    polled, messages, pushes, waiting, ways = path.measure(image).values()
    assert _sides(polled) == ["both", "client", "client", "server", "server", "client"]
    assert _sides(messages) == ["both", "client", "client", "server", "client"]
    assert _sides(pushes) == ["both", "client", "client", "server", "server", "client"]
    assert messages[0].nanoseconds > 2 * polled[0].nanoseconds > 0, "two packets are sent and received"
    assert len(waiting) == 2
    assert len(ways) in (3, 7)


def _sides(steps: Sequence[Step]) -> list[str]:
    return [step.side for step in steps if not step.part]


def test_processors_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    found = dict(crossing.crossings())
    assert os.sched_getaffinity(0) == before
    assert {name for name in found if name.startswith("same")} == {
        f"same processor: a message, waited for in {way}" for way in ("recv", "poll", "epoll")
    }
    assert all(spent > 0 for spent in found.values())


def test_a_peer_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossing, "SPINS", range(10))
    with pytest.raises(RuntimeError, match="says nothing"):
        crossing._see(memoryview(bytearray(1)), 0, 1)
