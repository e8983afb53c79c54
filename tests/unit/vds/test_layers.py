"""vds.layers: which requests fail, wait or stand still."""

from __future__ import annotations

import errno
import random
from pathlib import Path

from protocol.vdisk.operations import Operation
from vds.layers import LayerOptions, Layers


def test_without_options_nothing_happens() -> None:
    layers = Layers(LayerOptions())
    assert not layers.options.any
    assert not layers.fault(Operation.BREAD)
    assert not layers.delay(Operation.BREAD)
    assert not layers.paused
    assert layers.report() == ""


def test_rate_is_kept_and_counted() -> None:
    layers = Layers(LayerOptions(error_rate=0.25), random.Random(1))
    failed = sum(layers.fault(Operation.BREAD) == errno.EIO for _ in range(4000))
    assert 900 < failed < 1100
    assert layers.injected == {"read": failed}


def test_only_the_operations_asked_for_fail() -> None:
    layers = Layers(LayerOptions(error_rate=1.0))
    assert [layers.fault(op) for op in (Operation.BREAD, Operation.BWRITE, Operation.FLUSH)] == [5, 5, 0]
    flush = Layers(LayerOptions(error_rate=1.0, error_operations=frozenset({Operation.FLUSH})))
    assert [flush.fault(op) for op in (Operation.BREAD, Operation.BWRITE, Operation.FLUSH)] == [0, 0, 5]


def test_file_arms_and_disarms(tmp_path: Path) -> None:
    file = tmp_path / "armed"
    layers = Layers(LayerOptions(error_rate=1.0, error_errno=errno.ENOSPC, error_file=str(file)))
    assert not layers.fault(Operation.BWRITE)
    file.touch()
    assert layers.fault(Operation.BWRITE) == errno.ENOSPC
    file.unlink()
    assert not layers.fault(Operation.BWRITE)
    assert layers.report() == "1 errors (1 write)"


def test_report_says_when_nothing_was_injected() -> None:
    assert Layers(LayerOptions(error_rate=0.5)).report() == "0 errors (none)"


def test_pause_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "pause"
    layers = Layers(LayerOptions(pause_file=str(file)))
    assert layers.options.any
    assert not layers.paused
    file.touch()
    assert layers.paused


def test_delay_by_operation() -> None:
    layers = Layers(LayerOptions(delays={Operation.BREAD: 0.5}))
    assert layers.delay(Operation.BREAD) == 0.5
    assert layers.delay(Operation.FLUSH) == 0.0
