"""Each target is fuzzed for a short while; what that finds, a longer run would have found too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20
LEAST_EXECUTIONS = (
    1000  # the slowest target does six times that on one free core; its corpus is a quarter of it
)
LEAST_COVERAGE = 100  # half of what the corpus of the smallest target reaches: the code is instrumented


def _fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, not measured: coverage's own trace would leave the fuzzer no time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_in_a_short_while(target: str) -> None:
    ended = _fuzz(target, "--seconds", str(SECONDS), "--seed", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = re.fullmatch(rf"{target}: (\d+) executions, coverage (\d+), no findings\n", ended.stdout)
    assert counts, ended.stdout
    assert int(counts[1]) >= LEAST_EXECUTIONS
    assert int(counts[2]) >= LEAST_COVERAGE
