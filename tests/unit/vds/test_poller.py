"""Many ports, one poller: they take turns, and what is long is glanced out of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import vds.poller
from hypervisor.patience import Patience
from tests.support.turns import turns
from vds.poller import SLICE_S, Poller


class Clock:
    """The time: it moves with each look at the clock, and with what takes time."""

    now = 1.0

    def __call__(self) -> float:
        """What time it is."""
        self.now += 1e-7
        return self.now


class Port:
    """A port of ``disk`` that always has work, which takes ``cost`` seconds."""

    busy_at = look_s = 0.0
    looked_at = False
    may_poll = True

    def __init__(self, clock: Clock, disk: object, cost: float) -> None:
        self.disk = disk
        self.looks = self.glances = 0
        self.patience = Patience(50e-6)
        self.middle: Callable[[], None] = lambda: None
        self._clock = clock
        self._cost = cost

    def look(self) -> bool:
        """Count, and take the time."""
        self.looks += 1
        self._clock.now += self._cost
        self.middle()
        return True

    def glance(self) -> bool:
        """Count."""
        self.glances += 1
        self.middle()
        return True

    def quiet(self) -> None:
        """Never: there is always work."""
        raise AssertionError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(vds.poller, "perf_counter", clock)
    return clock


@pytest.mark.parametrize("cost", [SLICE_S / 10, SLICE_S, 3 * SLICE_S])
async def test_sixty_four_busy_ports_are_looked_at_equally_often(clock: Clock, cost: float) -> None:
    """However long a look takes, and wherever a slice of time ends."""
    poller = Poller(asyncio.get_running_loop(), 50)
    ports = [Port(clock, number, cost) for number in range(64)]
    for port in ports:
        poller.watch(port)
    for _ in range(200):
        began = clock.now
        await turns(1)
        assert clock.now - began <= SLICE_S + cost + 64e-6  # then the event loop has its turn
        looks = [port.looks for port in ports]
        assert max(looks) - min(looks) <= 1
    for port in ports:
        poller.forget(port)
    await turns(2)
    assert min(port.looks for port in ports) >= 200 // 64


async def test_a_glance_goes_to_other_disks_and_no_deeper(clock: Clock) -> None:
    """Requests of the same disk may overlap the one under way; and a glance is no place for another."""
    poller = Poller(asyncio.get_running_loop(), 50)
    long, same, other = Port(clock, "a", 0), Port(clock, "a", 0), Port(clock, "b", 0)
    assert not poller.others("a")
    for port in (long, same):
        poller.watch(port)
    assert not poller.others("a")
    poller.watch(other)
    assert poller.others("a")
    long.middle = lambda: poller.glance("a")
    other.middle = lambda: poller.glance("b")
    long.look()
    long.look()
    assert [port.glances for port in (long, same, other)] == [0, 0, 2]
    assert other.looked_at
    for port in (long, same, other):
        poller.forget(port)
    await turns(2)
