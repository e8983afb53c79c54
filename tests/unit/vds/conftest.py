"""Benches for the tests of the executor, and a backend that can be held up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.bench import Bench
from vds.backends.base import Backend

Make = Callable[..., Bench]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes benches and takes them apart again; a held backend is let go first."""
    benches: list[Bench] = []

    def make(backend: Backend, options: str = "", **settings: Callable[[], float]) -> Bench:
        benches.append(Bench(backend, options, **settings))
        return benches[-1]

    yield make
    for bench in benches:
        if isinstance(bench.backend, HeldBackend):
            bench.backend.gate.set()
        bench.close()


@pytest.fixture
def held() -> HeldBackend:
    """A backend whose calls the test can hold up."""
    return HeldBackend()
