"""``python -m tests.fuzz TARGET|all``: fuzz for a while, and say what came of it.

A run starts from the corpus of the target and from its seeds. What it finds is stored under ``crashes/``, and
``python -m tests.fuzz TARGET --replay FILE`` runs it again, without the fuzzer.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS

__all__ = ["CORPUS", "CRASHES", "main"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
CORPUS: Final = HERE / "corpus"
CRASHES: Final = HERE / "crashes"

ONE_INPUT_S: Final = 10  # an input takes a millisecond; this long, it hangs
MEMORY_MB: Final = 1024  # ten times what the interpreter needs with all modules
LONGEST: Final = 512  # bytes of an input: a few dozen instructions
GRACE_S: Final = 60  # to import, to read the corpus, to print; then it is killed

_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED: Final = re.compile(r"\bcov: (\d+)")
_FOUND: Final = re.compile(r"=== Uncaught Python exception|==\d+== ?ERROR|ALARM:|SUMMARY:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to; ``finding`` is the end of what the fuzzer printed, empty if it found nothing."""

    executions: int
    coverage: int
    finding: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    if options.replay is not None:
        TARGETS[options.target](options.replay.read_bytes())
        return 0
    failed = False
    for name in TARGETS if options.target == "all" else [options.target]:
        corpus = options.corpus or CORPUS / name
        outcome = _fuzz(name, corpus, options)
        print(
            f"{name}: {outcome.executions} executions, coverage {outcome.coverage}, "
            f"{'a finding' if outcome.finding else 'no findings'}",
            flush=True,
        )
        if outcome.finding:
            failed = True
            print(outcome.finding, file=sys.stderr, flush=True)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz decoders and stacks.")
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="how long, each target (default 60)")
    parser.add_argument("--corpus", type=Path, help="inputs to start from (default tests/fuzz/corpus/TARGET)")
    parser.add_argument("--grow", action="store_true", help="keep what reaches more, as little as will do")
    parser.add_argument("--seed", type=int, default=0, help="start of the random numbers (default 0: any)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input, without the fuzzer")
    return parser


def _fuzz(name: str, corpus: Path, options: argparse.Namespace) -> Outcome:
    """Fuzz one target; its corpus changes only if it is to grow."""
    CRASHES.mkdir(exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        known, new, merged = (Path(scratch, part) for part in ("known", "new", "merged"))
        shutil.copytree(corpus, known)
        new.mkdir()
        merged.mkdir()
        for number, seed in enumerate(SEEDS[name]()):
            (known / f"seed-{number:04}").write_bytes(seed)
        limits = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-print_final_stats=1"]
        status, text = _engine(name, [new, known], limits, options.seconds)
        if not status and options.grow:
            merge_status, merge_text = _engine(
                name, [merged, known, new], ["-set_cover_merge=1"], options.seconds
            )
            if merge_status:
                return Outcome(executions=0, coverage=0, finding=_finding(merge_status, merge_text))
            _replace(corpus, merged)
    executed = _EXECUTED.search(text)
    covered = _COVERED.findall(text)
    return Outcome(
        executions=int(executed[1]) if executed else 0,
        coverage=int(covered[-1]) if covered else 0,
        finding=_finding(status, text),
    )


def _engine(name: str, folders: list[Path], extra: list[str], seconds: int) -> tuple[int, str]:
    """Run the fuzzer's process; returns its exit status and all it printed."""
    command = [
        *(sys.executable, "-m", "tests.fuzz.engine", name),
        *map(str, folders),
        *extra,
        f"-timeout={ONE_INPUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={CRASHES.relative_to(ROOT) / name}-",
    ]
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + GRACE_S,
        )
    except subprocess.TimeoutExpired:
        return -1, f"{name}: the fuzzer did not end within {seconds + GRACE_S} s"
    return ended.returncode, ended.stdout


def _finding(status: int, text: str) -> str:
    """Return what the fuzzer printed about what it found."""
    if not status:
        return ""
    begins = _FOUND.search(text)
    return text[begins.start() :] if begins else "\n".join(text.splitlines()[-20:]) or f"status {status}"


def _replace(corpus: Path, merged: Path) -> None:
    """Make ``corpus`` what the merge left; the files are named by their hash."""
    for old in corpus.iterdir():
        old.unlink()
    for file in merged.iterdir():
        shutil.copyfile(file, corpus / file.name)


if __name__ == "__main__":
    sys.exit(main())
