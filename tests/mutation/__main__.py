"""``python -m tests.mutation``: try every mutant, say who lives, fail if too many do or one has no reason."""

from __future__ import annotations

import argparse
import os
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

from cosmic_ray.work_item import TestOutcome, WorkItem

from .session import Session
from .survivors import PAGE, ROOT, expected, page, read_survivors
from .trial import Verdict


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", type=Path, help="modules or packages; the configured ones")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trials at once; one per CPU")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    parser.add_argument("--again", action="store_true", help="try those that lived again, after adding tests")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--session", type=Path, default=Path("build/mutation.sqlite"), help="%(default)s")
    return parser.parse_args()


def _expand(paths: list[Path]) -> list[Path]:
    """Return the modules of packages."""
    return [module for path in paths for module in (sorted(path.glob("*.py")) if path.is_dir() else [path])]


def _run(session: Session, again: bool, workers: int) -> None:
    """Try what has not been tried, and say how it goes."""
    known = session.results()
    done = {key for key, verdict in known.items() if not again or verdict.outcome is not TestOutcome.SURVIVED}
    todo = [item for item in session.items if item.job_id not in done]
    print(f"{len(session.items)} mutants, {len(todo)} to try", flush=True)
    if not todo:
        return
    print(f"the tests alone take {session.check_tests():.1f} s", flush=True)
    begun = time.monotonic()
    count = 0

    def tell(item: WorkItem, verdict: Verdict) -> None:
        nonlocal count
        count += 1
        if verdict.outcome is TestOutcome.SURVIVED:
            spec = item.mutations[0]
            print(
                f"alive  {spec.module_path}:{spec.start_pos[0]}\n  - {verdict.was}\n  + {verdict.now}",
                flush=True,
            )
        if count % 100 == 0:
            print(f"{count} of {len(todo)}, {time.monotonic() - begun:.0f} s", flush=True)

    session.run(todo, workers, tell)
    print(f"{count} tried in {time.monotonic() - begun:.0f} s", flush=True)


def _judge(session: Session, limit: float, write: bool) -> int:
    """Print the numbers by module; return the exit status."""
    results = session.results()
    total: Counter[str] = Counter()
    alive: Counter[str] = Counter()
    living = set()
    for item in session.items:
        module = str(item.mutations[0].module_path)
        verdict = results[item.job_id]
        if verdict.outcome is TestOutcome.INCOMPETENT:
            continue
        total[module] += 1
        if verdict.outcome is TestOutcome.SURVIVED:
            alive[module] += 1
            living.add((module, verdict.was, verdict.now))
    for module, count in total.items():
        print(f"{module:32} {count:5} mutants  {count - alive[module]:5} killed  {alive[module]:4} alive")
    share = alive.total() / total.total()
    print(f"all: {total.total()} mutants, {alive.total()} alive, {share:.1%}")
    survivors = [survivor for survivor in read_survivors() if survivor.module in total]
    reasons = expected(survivors)
    for module, was, now in sorted(living - reasons):
        print(f"no reason: {module}\n  - {was}\n  + {now}")
    for module, was, now in sorted(reasons - living):
        print(f"a reason for one that does not live: {module}\n  - {was}\n  + {now}")
    if write:
        PAGE.write_text(page({m: (total[m], alive[m]) for m in total}, survivors), encoding="utf-8")
    return int(share > limit or living != reasons)


def main() -> int:
    """Run as the command line says."""
    arguments = _arguments()
    os.chdir(ROOT)
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets have the same order in every run
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.mutation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    config = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutation"]
    arguments.session.parent.mkdir(parents=True, exist_ok=True)
    if arguments.fresh:
        arguments.session.unlink(missing_ok=True)
    tests = {Path(package): paths for package, paths in config["tests"].items()}
    modules = _expand(arguments.modules or list(tests))
    if strangers := {module.parent for module in modules} - set(tests):
        sys.exit(f"no tests are named for {', '.join(map(str, sorted(strangers)))}")
    session = Session(arguments.session, modules, tests)
    _run(session, arguments.again, arguments.workers)
    return _judge(session, config["alive-at-most"], arguments.write)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
