"""A result file (``--json FILE``) as typed values.

The file has the shape of fio's JSON+, one job for each configuration, workload and round, and says in its
``vdisk`` object what fio has no words for. All that is read is checked, and whatever is wrong is one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.histogram import Histogram
from benchmarks.pages.load import Load

__all__ = ["SCHEMA", "Goal", "Result", "ResultError", "Round", "Usage", "read_result"]

SCHEMA = 2
"""Of the files that are read: ``vdisk.schema``."""

MIXTURES = frozenset({"rw", "randrw"})
PATTERNS = MIXTURES | {"read", "write", "randread", "randwrite"}


class ResultError(ValueError):
    """A file that is no result, or not one of this schema; the text names file, place and reason."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one side used in a round; ``None`` where it could not be counted."""

    cpu_ns: int
    voluntary: int | None = None
    involuntary: int | None = None


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of goals, as the run that measured it has decided it."""

    workload: str
    configuration: str
    against: str
    goal: float
    ratio: float | None
    spread: float | None
    verdict: str
    title: str = ""
    best: tuple[str, ...] = ()  # who stood behind ``against`` in each round, if it is not one name


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One configuration under one load, once."""

    configuration: str
    load: Load
    number: int
    took_ns: int
    ios: int
    bytes: int
    latency: Histogram
    usage: Mapping[str, Usage] = field(default_factory=dict)
    verify_errors: int | None = None

    @property
    def iops(self) -> float:
        """Requests answered in a second."""
        return self.ios / self.took_ns * 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run of ``python -m benchmarks``: where, with what, and every round."""

    path: Path
    command: str
    time: str
    commit: str | None
    seed: int | None
    machine: Mapping[str, object]
    versions: Mapping[str, str | None]
    options: Mapping[str, object]
    goals: tuple[Goal, ...]
    rounds: tuple[Round, ...]

    @property
    def verify_errors(self) -> int | None:
        """Wrong answers of all rounds; ``None`` if none was verified."""
        counted = [one.verify_errors for one in self.rounds if one.verify_errors is not None]
        return sum(counted) if counted else None


# ------------------------------------------------------------------------------- the file, key by key


class _Times(msgspec.Struct):
    min: float = 0
    max: float = 0
    N: int = 0
    bins: dict[int, int] = {}


class _Direction(msgspec.Struct):
    total_ios: int
    io_bytes: int
    clat_ns: _Times


class _RoundNote(msgspec.Struct):
    configuration: str
    workload: str
    round: int
    took_ns: int
    disks: int = 1
    rate: float | None = None
    verify_errors: int | None = None
    usage: dict[str, Usage | None] = {}


class _Job(msgspec.Struct):
    jobname: str
    read: _Direction
    write: _Direction
    vdisk: _RoundNote
    options: dict[str, str] = msgspec.field(name="job options")
    error: int = 0


class _RunNote(msgspec.Struct):
    command: str
    machine: dict[str, object]
    options: dict[str, object]
    versions: dict[str, str | None] = {}
    commit: str | None = None
    seed: int | None = None
    goals: list[Goal] = []


class _File(msgspec.Struct):
    vdisk: _RunNote
    jobs: list[_Job]
    time: str = ""


class _SchemaNote(msgspec.Struct):
    schema: int


class _AnyFile(msgspec.Struct):
    vdisk: _SchemaNote | None = None
    schema: int | None = None  # where schema 1 had it


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises: ResultError (not readable, not JSON, not of this schema, a field missing or of the wrong type, or
        a job that fails or contradicts itself).
    """
    try:
        data = path.read_bytes()
        _check_schema(msgspec.json.decode(data, type=_AnyFile))
        file = msgspec.json.decode(data, type=_File)
        rounds = tuple(_round(job) for job in file.jobs)
        if not rounds:
            raise ValueError("no job in it")
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ResultError(f"{path}: {error}") from error
    note = file.vdisk
    return Result(
        path=path,
        command=note.command,
        time=file.time,
        commit=note.commit,
        seed=note.seed,
        machine=note.machine,
        versions=note.versions,
        options=note.options,
        goals=tuple(note.goals),
        rounds=rounds,
    )


def _check_schema(file: _AnyFile) -> None:
    """Raises: ValueError (not a result file, or one of another schema)."""
    schema = file.vdisk.schema if file.vdisk else file.schema
    if schema is None:
        raise ValueError("not a result of python -m benchmarks (no vdisk.schema)")
    if schema != SCHEMA:
        raise ValueError(f"schema {schema}, not {SCHEMA}: measure again")


def _round(job: _Job) -> Round:
    """The round of a job. Raises: ValueError (it failed, or says what cannot be)."""
    note = job.vdisk
    try:
        if job.error:
            raise ValueError(f"it ended with error {job.error}")
        if note.took_ns <= 0 or note.disks <= 0:
            raise ValueError(f"{note.took_ns} ns on {note.disks} disks")
        directions = [one for one in (job.read, job.write) if one.total_ios]
        if not directions:
            raise ValueError("no I/O in it")
        latency = Histogram()
        for one in directions:
            latency.merge(_histogram(one.clat_ns))
        return Round(
            configuration=note.configuration,
            load=_load(job),
            number=note.round,
            took_ns=note.took_ns,
            ios=sum(one.total_ios for one in directions),
            bytes=sum(one.io_bytes for one in directions),
            latency=latency,
            usage={side: used for side, used in note.usage.items() if used is not None},
            verify_errors=note.verify_errors,
        )
    except ValueError as error:
        raise ValueError(f"job {job.jobname}: {error}") from error


def _load(job: _Job) -> Load:
    """What the job was told to do. Raises: ValueError (a pattern or number that is none)."""
    pattern = job.options.get("rw", "")
    if pattern not in PATTERNS:
        raise ValueError(f"job options: rw={pattern!r}")
    return Load(
        workload=job.vdisk.workload,
        pattern=pattern,
        block_size=_positive(job, "bs"),
        depth=_positive(job, "iodepth"),
        disks=job.vdisk.disks,
        rate=job.vdisk.rate,
        reads=_positive(job, "rwmixread") if pattern in MIXTURES else None,
    )


def _positive(job: _Job, key: str) -> int:
    """A job option that is a number above 0. Raises: ValueError (it is not)."""
    text = job.options.get(key, "")
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"job options: {key}={text!r}")
    return int(text)


def _histogram(times: _Times) -> Histogram:
    """The latencies of one direction, from fio's bins. Raises: ValueError (they do not add up)."""
    histogram = Histogram()
    for nanoseconds, count in times.bins.items():
        histogram.add(nanoseconds, count)
    if histogram.count != times.N:
        raise ValueError(f"{histogram.count} latencies in the bins, {times.N} said")
    if times.N:
        histogram.least, histogram.greatest = round(times.min), round(times.max)
    return histogram
