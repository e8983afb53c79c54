"""One run of a command from its options to its files: a place, the rounds, what is shown, what is written."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import hdr, machine, resultfile, tables
from benchmarks.goals import Standing, evaluate
from benchmarks.live import watching
from benchmarks.results import Round, summarise
from benchmarks.runner import Plan, run, steps
from benchmarks.subject import Settings

__all__ = ["Files", "Session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is written in the end, each if it was asked for."""

    json: Path | None
    markdown: Path | None
    hdr: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A command and its options. ``settings.place`` is where the run makes its own directory."""

    command: str
    settings: Settings
    options: Mapping[str, object]
    files: Files

    def run(self, prepare: Callable[[Settings], AbstractContextManager[Plan]], *, goals: bool) -> list[Round]:
        """Measure what ``prepare`` gives, show it, write it.

        Raises: RuntimeError (a server or a client failed; its own words are in the text).
        """
        started_ns = time.time_ns()
        described = machine.describe(self.settings.place)
        where = self.settings.place
        with (
            tempfile.TemporaryDirectory(prefix="vdisk-bench-", dir=where) as place,
            tempfile.TemporaryDirectory(prefix="vdisk-") as sockets,
            prepare(replace(self.settings, place=Path(place), sockets=Path(sockets))) as plan,
            watching(sum(1 for _ in steps(plan))) as progress,
        ):
            progress.say(
                f"{described['cpu']}, {described['cpus']} CPUs, Linux {described['kernel']}, "
                f"commit {machine.commit()}, {self.settings.size >> 20} MiB in {where}"
            )
            rounds, disturbed = run(plan, progress.coming, progress.measured)
            for name, share in disturbed.items():
                progress.say(f"disturbed: {Path(name).stem} used {share:.0%} of a processor out of its turn")
        standings = evaluate(rounds) if goals else None
        tables.show(summarise(rounds), standings or ())
        self._write(rounds, standings, described, started_ns)
        return rounds

    def _write(
        self,
        rounds: Sequence[Round],
        standings: Sequence[Standing] | None,
        described: Mapping[str, object],
        started_ns: int,
    ) -> None:
        if self.files.json:
            content = resultfile.document(
                self.command,
                rounds=rounds,
                options=self.options,
                machine=described,
                versions=machine.versions(),
                commit=machine.commit(),
                seed=self.settings.seed,
                standings=standings,
                started_ns=started_ns,
            )
            resultfile.write(self.files.json, content)
        if self.files.markdown:
            self.files.markdown.write_text(tables.markdown(summarise(rounds), standings or ()))
        if self.files.hdr:
            hdr.write_logs(self.files.hdr, rounds, started_ns / 1e9)
