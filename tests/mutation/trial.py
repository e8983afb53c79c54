"""One mutant against the tests, in a forked process: pytest is imported already, ``protocol`` never is."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
from cosmic_ray.work_item import MutationSpec, TestOutcome

from .mutants import Module

PREPARED = (
    *("construct", "hypothesis.stateful", "hypothesis.strategies", "uvloop"),
    *("_hypothesis_pytestplugin", "pytest_asyncio.plugin", "pytest_timeout", "xdist.plugin"),
)
"""What the tests import and no mutant changes: imported here, so that no child has to."""

MEMORY_LIMIT = 2 << 30
"""Address space of a child: a mutant that fills the memory gets a MemoryError, not the machine."""

TEST_TIMEOUT_S = 10
"""Seconds for one test; the slowest takes a tenth of one."""

PYTEST_OPTIONS = (
    *("-x", "-q", "--tb=no", "--no-header", "--tier=quick", "--loops=asyncio"),
    *("-p", "no:cacheprovider", "-p", "no:faulthandler", f"--timeout={TEST_TIMEOUT_S}"),
    "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning",  # on purpose
)


def prepare(pycache: Path) -> None:
    """Import and cache in this process whatever saves its children time."""
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(pycache)
    for name in PREPARED:
        importlib.import_module(name)


class Verdict(NamedTuple):
    """How a trial ended: ``by`` names the test that noticed; ``was`` and ``now`` what the mutant changes."""

    outcome: TestOutcome
    by: str = ""
    was: str = ""
    now: str = ""


class _Loader(importlib.abc.InspectLoader):
    """Loads the mutant in place of the module."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def get_source(self, fullname: str) -> str:
        """Return the mutant's text."""
        return self._text

    def get_code(self, fullname: str) -> types.CodeType:
        """Return it compiled."""
        return self.source_to_code(self._text, str(self._path))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant where its module is imported."""

    def __init__(self, module: Module, text: str) -> None:
        self._name = module.name
        self._loader = _Loader(module.path, text)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return how to load ``fullname``, if it is the one."""
        return (
            importlib.util.spec_from_loader(fullname, self._loader, origin=str(self._loader._path))
            if fullname == self._name
            else None
        )


class _Observer:
    """A plugin of pytest: notes the first test that fails; hypothesis looks for no smaller example."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_sessionstart(self) -> None:
        """Take the profile of quick runs without the search for a smaller example."""
        profile = hypothesis.settings(
            hypothesis.settings.get_profile("quick"),
            phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        )
        hypothesis.settings.register_profile("mutation", profile)
        hypothesis.settings.load_profile("mutation")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that cannot even be imported."""
        if report.failed:
            self.failed = self.failed or f"import of {report.nodeid}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that fails."""
        if report.failed:
            self.failed = self.failed or report.nodeid


def run_tests(paths: Sequence[str]) -> Verdict:
    """Run the tests of ``paths`` here until one fails."""
    observer = _Observer()
    status = pytest.main([*PYTEST_OPTIONS, *paths], plugins=[observer])
    if status == pytest.ExitCode.OK:
        return Verdict(TestOutcome.SURVIVED)
    return Verdict(TestOutcome.KILLED, observer.failed or f"pytest ended with {status}")


def try_mutant(module: Module, spec: MutationSpec, stages: Sequence[Sequence[str]]) -> Verdict:
    """Put the mutant in its module's place and run the tests, the likeliest to notice first."""
    change = module.mutate(spec)
    try:
        compile(change.text, str(module.path), "exec")
    except SyntaxError:
        return Verdict(TestOutcome.INCOMPETENT, "it is not Python")
    sys.meta_path.insert(0, _Finder(module, change.text))
    verdicts = map(run_tests, stages)
    killed = next((verdict for verdict in verdicts if verdict.outcome is not TestOutcome.SURVIVED), None)
    return (killed or Verdict(TestOutcome.SURVIVED))._replace(was=change.was, now=change.now)


class Child:
    """A forked process that works out a verdict; ``pidfd`` becomes readable when it has ended."""

    def __init__(self, work: Callable[[], Verdict], timeout_s: float) -> None:
        self.deadline = time.monotonic() + timeout_s
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._reader)
            _work_in_child(work, writer)
        os.close(writer)
        self.pidfd = os.pidfd_open(self._pid)

    def kill(self) -> None:
        """End it: its time is over, or nobody wants to know any more."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def verdict(self) -> Verdict:
        """Return its verdict, once it has ended; one that died without is killed, as by a failing test."""
        with open(self._reader, encoding="utf-8") as pipe:
            told = pipe.read()
        os.waitpid(self._pid, 0)
        os.close(self.pidfd)
        if not told:
            why = "time limit" if time.monotonic() >= self.deadline else "death of the process"
            return Verdict(TestOutcome.KILLED, why)
        outcome, *rest = json.loads(told)
        return Verdict(TestOutcome(outcome), *rest)


def _work_in_child(work: Callable[[], Verdict], writer: int) -> None:
    """Work, tell the verdict, end; nothing of the parent runs here again."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        with open(os.devnull, "r+b", buffering=0) as nothing:
            for standard in range(3):
                os.dup2(nothing.fileno(), standard)
        try:
            verdict = work()
        except BaseException:  # even of SystemExit nothing may get out of here
            verdict = Verdict(TestOutcome.KILLED, traceback.format_exc())
        os.write(writer, json.dumps(verdict).encode())
    finally:
        os._exit(0)
