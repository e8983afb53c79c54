"""What counts as a change between two runs, and when two runs may be compared at all."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.pages.commands import compare as command
from benchmarks.pages.comparison import Verdict, compare, differences, is_lost
from benchmarks.pages.resultfile import read_result
from tests.support.benchresults import MACHINE, OPTIONS, a_file, a_job, a_peers_file, a_run, write

Json = dict[str, Any]

OURS, PEER, FLOOR = "shm async polling", "nbdkit file, fio", "fio psync, bare file"
LOAD = "randread-4k-32"
STEADY = (98_000, 99_000, 100_000, 101_000, 102_000)


def times(factor: float, rates: tuple[float, ...] = STEADY) -> list[float]:
    """Rates that differ by a factor."""
    return [rate * factor for rate in rates]


class Pair:
    """Two files on disk, and what is made of them."""

    def __init__(self, folder: Path) -> None:
        self.before, self.after = folder / "before.json", folder / "after.json"

    def write(self, before: list[Json], after: list[Json], **note: object) -> None:
        """Write both; ``note`` goes into the second."""
        write(self.before, a_file(before))
        write(self.after, a_file(after, **note))

    def verdicts(self) -> dict[str, Verdict]:
        """Configuration → verdict."""
        rows = compare(read_result(self.before), read_result(self.after))
        return {row.configuration: row.verdict for row in rows}

    def differences(self) -> set[str]:
        """The names of the reasons not to compare."""
        return {one.name for one in differences(read_result(self.before), read_result(self.after))}

    def run(self, *options: str) -> Result:
        """The command."""
        return CliRunner().invoke(command, [str(self.before), str(self.after), *options])


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize(
    ("factor", "verdict", "code"),
    [
        (0.8, Verdict.WORSE, 1),
        (0.9, Verdict.SAME, 0),  # no overlap, but less than a machine's mood
        (1.0, Verdict.SAME, 0),
        (1.1, Verdict.SAME, 0),
        (1.2, Verdict.BETTER, 0),
    ],
)
def test_a_change_must_be_large(pair: Pair, factor: float, verdict: Verdict, code: int) -> None:
    pair.write(a_run(OURS, LOAD, STEADY), a_run(OURS, LOAD, times(factor)))
    assert pair.verdicts() == {OURS: verdict}
    done = pair.run()
    assert done.exit_code == code
    assert verdict.value in done.output


def test_a_change_must_be_beyond_the_noise_of_both(pair: Pair) -> None:
    wild = (40_000, 60_000, 75_000, 78_000, 99_500)
    pair.write(a_run(OURS, LOAD, STEADY), a_run(OURS, LOAD, wild))
    assert pair.verdicts() == {OURS: Verdict.SAME}


def test_a_loss_of_a_peer_is_not_ours(pair: Pair) -> None:
    pair.write(
        a_run(OURS, LOAD, STEADY) + a_run(PEER, LOAD, STEADY),
        a_run(OURS, LOAD, STEADY) + a_run(PEER, LOAD, times(0.5)),
    )
    assert pair.verdicts() == {OURS: Verdict.SAME, PEER: Verdict.WORSE}
    done = pair.run()
    assert done.exit_code == 0
    assert "(worse)" in done.output
    assert "0 lost, 0 won, of 2 rows" in done.output


def test_what_the_peers_went_through_too_is_the_machines(pair: Pair) -> None:
    before = [job for name in (OURS, PEER, FLOOR) for job in a_run(name, LOAD, STEADY)]
    after = [job for name in (OURS, PEER, FLOOR) for job in a_run(name, LOAD, times(0.7))]
    pair.write(before, after)
    assert pair.verdicts()[OURS] is Verdict.SAME
    pair.write(before, a_run(OURS, LOAD, times(0.5)) + after[5:])
    assert pair.verdicts()[OURS] is Verdict.WORSE
    pair.write(before, a_run(OURS, LOAD, times(1.1)) + after[5:])
    assert pair.verdicts()[OURS] is Verdict.SAME, "better than the peers, but not better than it was"


def test_peers_under_another_load_say_nothing_of_this_one(pair: Pair) -> None:
    pair.write(
        a_run(OURS, LOAD, STEADY) + a_run(PEER, "randread-4k-1", STEADY),
        a_run(OURS, LOAD, times(0.7)) + a_run(PEER, "randread-4k-1", times(0.7)),
    )
    assert pair.verdicts()[OURS] is Verdict.WORSE


def test_a_peer_of_another_version_says_nothing_of_the_machine(pair: Pair) -> None:
    before = a_run(OURS, LOAD, STEADY) + a_run(PEER, LOAD, STEADY)
    after = a_run(OURS, LOAD, times(0.7)) + a_run(PEER, LOAD, times(0.7))
    pair.write(before, after)
    assert pair.verdicts()[OURS] is Verdict.SAME
    pair.write(before, after, versions={"python": "3.11.2", "fio": "fio-3.33", "nbdkit": "1.99"})
    assert pair.verdicts()[OURS] is Verdict.WORSE
    assert "nbdkit: None in A, 1.99 in B" in pair.run().output


def latencies(typical: int) -> list[list[int]]:
    """Five rounds around a latency."""
    return [[typical + number * 1000] * 500 for number in range(5)]


@pytest.mark.parametrize(
    ("typical", "verdict"),
    [(100_000, Verdict.SAME), (130_000, Verdict.SAME), (200_000, Verdict.WORSE), (50_000, Verdict.BETTER)],
)
def test_in_open_loop_the_latency_decides(pair: Pair, typical: int, verdict: Verdict) -> None:
    def jobs(at: int) -> list[Json]:
        rounds = enumerate(latencies(at))
        return [a_job(OURS, LOAD, number, latencies=values, rate=500.0) for number, values in rounds]

    pair.write(jobs(100_000), jobs(typical))
    assert pair.verdicts() == {OURS: verdict}
    assert pair.run().exit_code == (verdict is Verdict.WORSE)


def test_cpu_and_tail_are_marked_but_decide_nothing(pair: Pair) -> None:
    pair.write(
        a_run(OURS, LOAD, STEADY, sides={"client": 1000}),
        a_run(OURS, LOAD, STEADY, sides={"client": 2000}),
    )
    done = pair.run()
    assert "2.00 ×*" in done.output
    assert done.exit_code == 0


def test_figures_that_were_not_measured_are_dashes(pair: Pair) -> None:
    pair.write(a_run(OURS, LOAD, STEADY, sides={"client": 0}), a_run(OURS, LOAD, STEADY))
    assert " – " in pair.run().output


def test_wrong_answers_are_a_loss(pair: Pair) -> None:
    jobs = [a_job(OURS, LOAD, number, verify_errors=0) for number in range(5)]
    pair.write(jobs, [*jobs[:4], a_job(OURS, LOAD, 4, verify_errors=3)])
    done = pair.run()
    assert done.exit_code == 1
    assert "3 wrong answers" in done.output
    pair.write(jobs, jobs)
    assert pair.run().exit_code == 0


@pytest.mark.parametrize(
    ("note", "name"),
    [
        ({"machine": MACHINE | {"cpu": "Other"}}, "machine.cpu"),
        ({"machine": MACHINE | {"kernel": "6.2"}}, "machine.kernel"),
        ({"options": OPTIONS | {"size": 1}}, "options.size"),
        ({"options": OPTIONS | {"direct": True}}, "options.direct"),
        ({"seed": 2}, "seed"),
        ({"command": "peers"}, "command"),
    ],
)
def test_another_machine_or_option_is_not_comparable_unless_asked(pair: Pair, note: Json, name: str) -> None:
    jobs = a_run(OURS, LOAD, STEADY)
    pair.write(jobs, jobs, **note)
    assert pair.differences() == {name}
    refused = pair.run()
    assert refused.exit_code == 2
    assert f"benchmarks: not comparable: {name}: " in refused.stderr
    allowed = pair.run("--despite", name)
    assert allowed.exit_code == 0
    assert f"in spite of {name}: " in allowed.output


def test_what_may_differ_is_no_reason(pair: Pair) -> None:
    jobs = a_run(OURS, LOAD, STEADY)
    machine = MACHINE | {"python": "3.13", "packages": {}, "directory": "/tmp", "load": 3.25}
    pair.write(jobs, jobs, machine=machine, options=OPTIONS | {"without": ["x"], "rounds": 9}, commit="other")
    assert pair.differences() == set()


def test_what_only_one_run_has_is_named(pair: Pair) -> None:
    both = a_run(OURS, LOAD, STEADY)
    pair.write(both + a_run(PEER, LOAD, STEADY), both + a_run(OURS, "seqread-1m-4", STEADY))
    done = pair.run()
    assert done.exit_code == 2
    assert "missing: nbdkit file, fio, 4 KiB random read, depth 32 | not measured" in done.stderr
    assert "missing: not measured | shm async polling, 1 MiB sequential read, depth 4" in done.stderr
    assert pair.run("--despite", "missing").exit_code == 0


def test_runs_with_nothing_in_common_are_never_compared(pair: Pair) -> None:
    pair.write(a_run(OURS, LOAD, STEADY), a_run(OURS, "seqread-1m-4", STEADY))
    assert pair.run("--despite", "missing", "--despite", "nothing").exit_code == 2


def test_too_few_rounds_cannot_tell(pair: Pair) -> None:
    pair.write(a_run(OURS, LOAD, STEADY[:2]), a_run(OURS, LOAD, times(0.5)[:2]))
    assert pair.differences() == {"rounds"}
    assert "2 rounds" in pair.run().stderr
    assert pair.verdicts() == {OURS: Verdict.UNKNOWN}
    told = pair.run("--despite", "rounds")
    assert told.exit_code == 0
    assert "too few rounds" in told.output


def test_a_run_of_everything_compares_with_itself(tmp_path: Path) -> None:
    result = read_result(write(tmp_path / "all.json", a_peers_file()))
    rows = compare(result, result)
    assert len(rows) == 33
    assert {row.verdict for row in rows} == {Verdict.SAME}
    assert not any(map(is_lost, rows))


def test_the_caveat_of_two_runs_is_said(pair: Pair) -> None:
    pair.write(a_run(OURS, LOAD, STEADY), a_run(OURS, LOAD, STEADY))
    assert "Two runs, at different times" in pair.run().output


def test_a_file_that_is_none_ends_with_one_line(pair: Pair) -> None:
    pair.write(a_run(OURS, LOAD, STEADY), [])
    done = pair.run()
    assert (done.exit_code, done.stderr) == (2, f"benchmarks: {pair.after}: no job in it\n")
