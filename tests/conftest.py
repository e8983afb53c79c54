"""What every test runs under: both event loops, the tiers, the list of tests this machine cannot run.

* Every ``async`` test runs twice, on asyncio's own loop and on uvloop (``--loops`` narrows it).
* ``--tier quick`` leaves out what is marked ``slow``; only ``--tier night`` runs what is marked ``night``.
* A test that this kernel or user cannot run is *deselected* by ``tests/deselect.txt``. A test that skips
  itself at run time has hidden something: the run then fails.
* Tests that start the daemons go to one worker, one after the other: two at once would fight for two cores.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import hypothesis
import pytest
import uvloop

from tests import features

ROOT = Path(__file__).resolve().parent
DESELECT_LIST = ROOT / "deselect.txt"

#: Node ids of the tests that skipped themselves.
SKIPPED = pytest.StashKey[list[str]]()

#: Tests in these folders start processes of their own.
PROCESS_FOLDERS = ("interop", "fault", "conformance")

LOOP_FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}

# The daemons that tests start complain, like the loops here (``asyncio_debug``), about a coroutine never
# awaited and about a call from the wrong thread.
os.environ.setdefault("PYTHONASYNCIODEBUG", "1")

# Quick and full runs try the same examples every time, so that the same tree gives the same answer; a night
# run rolls the dice and prints how to repeat what it found.
hypothesis.settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("full", max_examples=200, deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("night", max_examples=5000, deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--tier`` and ``--loops``."""
    parser.addoption("--tier", choices=("quick", "full", "night"), default="full", help="how much to run")
    parser.addoption("--loops", default="asyncio,uvloop", help="event loops for async tests, comma separated")


def pytest_configure(config: pytest.Config) -> None:
    """Load the hypothesis profile of the tier."""
    hypothesis.settings.load_profile(config.getoption("--tier"))
    config.stash[SKIPPED] = []


def pytest_report_header(config: pytest.Config) -> str:
    """Say what this machine lacks, since tests are deselected for it."""
    absent = [name for name, present in features.probe().items() if not present]
    return f"tier: {config.getoption('--tier')}; this machine lacks: {', '.join(absent) or 'nothing'}"


def pytest_asyncio_loop_factories(
    config: pytest.Config,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test on each of the loops asked for."""
    return {name: LOOP_FACTORIES[name] for name in config.getoption("--loops").split(",")}


def read_deselect_list(text: str) -> list[tuple[str, str]]:
    """Read the list: ``(feature, pattern)`` of each entry, which must name a known feature and give a reason.

    Raises: ValueError for a line that does not have its three fields, or names no known feature.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) != 3 or not all(fields) or fields[0] not in features.PROBES:
            raise ValueError(
                f"{DESELECT_LIST.name}:{number}: expected 'feature | pattern | reason': {line!r}"
            )
        entries.append((fields[0], fields[1]))
    return entries


def _is_left_out(item: pytest.Item, tier: str, unsupported: list[str]) -> bool:
    """Tell whether this run leaves the test out, by its tier or because the machine cannot run it."""
    if item.get_closest_marker("night") and tier != "night":
        return True
    if item.get_closest_marker("slow") and tier == "quick":
        return True
    return any(fnmatch.fnmatchcase(item.nodeid.split("[")[0], pattern) for pattern in unsupported)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect by tier and by what the machine lacks; keep the tests with processes on one worker."""
    tier = config.getoption("--tier")
    present = features.probe()
    entries = read_deselect_list(DESELECT_LIST.read_text(encoding="utf-8"))
    unsupported = [pattern for feature, pattern in entries if not present[feature]]
    left_out = [item for item in items if _is_left_out(item, tier, unsupported)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
    for item in items:
        if item.path.is_relative_to(ROOT) and item.path.relative_to(ROOT).parts[0] in PROCESS_FOLDERS:
            item.add_marker(pytest.mark.xdist_group("processes"))


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> object:
    """Note each test that skipped itself (an expected failure is no skip)."""
    if report.skipped and not hasattr(report, "wasxfail"):
        config.stash[SKIPPED].append(report.nodeid)
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which a test skipped itself."""
    if session.config.stash[SKIPPED] and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the tests that skipped themselves."""
    skipped = config.stash[SKIPPED]
    for nodeid in dict.fromkeys(skipped):
        terminalreporter.write_line(f"SKIPPED AT RUN TIME: {nodeid} (list it in tests/deselect.txt instead)")
