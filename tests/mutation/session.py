"""A run over all mutants: several trials at once, what is known kept in a file of cosmic-ray's format.

The file can be read by cosmic-ray's own commands, such as ``cr-report`` and ``cr-html``.
"""

from __future__ import annotations

import gc
import json
import select
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkItem, WorkResult

from .mutants import Module
from .trial import Child, Verdict, prepare, run_tests, try_mutant

TIMEOUT_FACTOR = 5
"""How much longer than the whole of the tests a mutant may take."""


class Session:
    """The mutants of ``modules`` and what is known of them, kept at ``path``.

    ``tests`` are the files and folders, by package, that pytest is given for a mutant.
    """

    def __init__(self, path: Path, modules: list[Path], tests: Mapping[Path, list[str]]) -> None:
        self._modules = {module.path: module for module in map(Module, modules)}
        self._tests = tests
        self._timeout_s = 600.0
        self.items = [item for module in self._modules.values() for item in module.mutants()]
        self._db = WorkDB(path, WorkDB.Mode.create)
        self._align()

    def _align(self) -> None:
        """Make the file hold these mutants, beside those of other modules; what is known of them is kept."""
        before = self._db.work_items
        others = [item for item in before if item.mutations[0].module_path not in self._modules]
        items = [*others, *self.items]
        wanted = {item.job_id for item in items}
        if wanted == {item.job_id for item in before}:
            return
        known = [(job_id, result) for job_id, result in self._db.results if job_id in wanted]
        self._db.clear()
        self._db.add_work_items(items)
        for job_id, result in known:
            self._db.set_result(job_id, result)

    def results(self) -> dict[str, Verdict]:
        """Return what is known, by job id."""
        return {
            job_id: Verdict(result.test_outcome, result.output or "", *json.loads(result.diff or '["", ""]'))
            for job_id, result in self._db.results
        }

    def check_tests(self) -> float:
        """Run the tests on the modules as they are; return the seconds. Raises: RuntimeError (one fails)."""
        prepare(Path("build/pycache"))
        start = time.monotonic()
        for package in sorted({module.parent for module in self._modules}):
            verdict = Child(partial(run_tests, self._tests[package]), self._timeout_s).verdict()
            if verdict.outcome is not TestOutcome.SURVIVED:
                raise RuntimeError(f"without any mutant: {verdict.by}")
        took = time.monotonic() - start
        self._timeout_s = max(30.0, TIMEOUT_FACTOR * took)
        return took

    def run(self, items: list[WorkItem], workers: int, told: Callable[[WorkItem, Verdict], None]) -> None:
        """Try ``items``, ``workers`` at once, and note what comes of each; it may be interrupted."""
        gc.freeze()
        running: dict[int, tuple[Child, WorkItem]] = {}
        waiting = iter(items)
        poll = select.poll()
        try:
            while self._fill(running, waiting, workers, poll):
                earliest = min(child.deadline for child, _ in running.values())
                for pidfd, _ in poll.poll(max(0.0, earliest - time.monotonic()) * 1000):
                    poll.unregister(pidfd)
                    child, item = running.pop(pidfd)
                    verdict = child.verdict()
                    self._note(item, verdict)
                    told(item, verdict)
                for child, _ in running.values():
                    if time.monotonic() >= child.deadline:
                        child.kill()
        finally:
            for child, _ in running.values():
                child.kill()
                child.verdict()

    def _fill(
        self,
        running: dict[int, tuple[Child, WorkItem]],
        waiting: Iterator[WorkItem],
        workers: int,
        poll: select.poll,
    ) -> bool:
        """Start trials until ``workers`` run; tell whether any does."""
        while len(running) < workers and (item := next(waiting, None)) is not None:
            child = self._start(item)
            running[child.pidfd] = child, item
            poll.register(child.pidfd, select.POLLIN)
        return bool(running)

    def _start(self, item: WorkItem) -> Child:
        """Start the trial of one mutant: the module's own tests first, then its package's."""
        spec = item.mutations[0]
        module = self._modules[spec.module_path]
        package = spec.module_path.parent
        own = sorted(Path("tests/unit", package).glob(f"test_{spec.module_path.stem}*.py"))
        stages = [[str(path) for path in own], self._tests[package]] if own else [self._tests[package]]
        return Child(lambda: try_mutant(module, spec, stages), self._timeout_s)

    def _note(self, item: WorkItem, verdict: Verdict) -> None:
        self._db.set_result(
            item.job_id,
            WorkResult(
                worker_outcome=WorkerOutcome.NORMAL,
                test_outcome=verdict.outcome,
                output=verdict.by,
                diff=json.dumps([verdict.was, verdict.now]),
            ),
        )
