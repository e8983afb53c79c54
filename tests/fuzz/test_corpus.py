"""Every input that is remembered, and every seed, as a plain test: the fuzzer itself is not needed."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator

import pytest

import protocol
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.seeds import SEEDS
from tests.fuzz.tape import Tape
from tests.fuzz.targets import TARGETS, both_stacks, client_stack, decoders, link, server_stack

MOST_BYTES = 512 * 1024  # of all corpora: they are cloned with everything else


def _run(target: str, inputs: Iterable[tuple[str, bytes]]) -> int:
    """Run inputs and return how many there were; the first that is a finding is named."""
    count = 0
    for name, data in inputs:
        count += 1
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"{target}: {name}: {error!r}") from error
    return count


def test_every_target_has_a_corpus_and_seeds() -> None:
    assert set(TARGETS) == set(SEEDS) == {folder.name for folder in CORPUS.iterdir()}


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_found_stays_fixed(target: str) -> None:
    files = sorted(file for file in (CORPUS / target).iterdir())
    count = _run(target, ((str(file.relative_to(CORPUS.parent)), file.read_bytes()) for file in files))
    assert count, f"the corpus of {target} is empty"


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_run(target: str) -> None:
    assert _run(target, ((f"seed {number}", seed) for number, seed in enumerate(SEEDS[target]())))


def test_the_corpus_stays_small() -> None:
    assert sum(file.stat().st_size for file in CORPUS.rglob("*")) <= MOST_BYTES


def test_a_seed_of_a_link_brings_it_up() -> None:
    for seed in SEEDS["link"]():
        driver = link.LinkDriver(Tape(seed))
        driver.play()
        assert driver.ups, seed.hex()


def test_a_seed_of_a_stack_is_a_session() -> None:
    for seed in SEEDS["server_stack"]():
        server = server_stack.ServerDriver(Tape(seed))
        server.play()
        assert server.sessions == 1, seed.hex()
    for seed in SEEDS["client_stack"]():
        client = client_stack.ClientDriver(Tape(seed))
        client.play()
        assert client.sessions == 1, seed.hex()
    for seed in SEEDS["both_stacks"]():
        disk = both_stacks.DisturbedDisk(Tape(seed))
        disk.play()
        assert disk.client.sessions, seed.hex()


def test_every_check_has_a_seed() -> None:
    reached = {decoders.choose(seed[:2]) for seed in SEEDS["decoders"]()}
    assert reached == set(decoders.CHECKS)


def _readers() -> Iterator[str]:
    """Yield the name of every public function of ``protocol`` that says that it parses or reads."""
    for found in pkgutil.walk_packages(protocol.__path__, "protocol."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            for name, value in inspect.getmembers(module, inspect.isfunction):
                if value.__module__ == module.__name__ and name.startswith(("parse_", "read_")):
                    yield name


def test_every_reader_is_fuzzed() -> None:
    readers = list(_readers())
    assert len(set(readers)) == len(readers)  # a check is found by its name
    assert set(readers) <= set(decoders.CHECKS)
