"""Looking before sleeping: a long look after a vain one, then fewer; all of it back when one pays."""

from __future__ import annotations

import os
import platform

import pytest

from hypervisor.patience import LONG, MOST_LEFT_OUT, Patience, polling


def test_no_time_to_look_is_no_time_ever() -> None:
    patience = Patience(0.0)
    patience.vain()
    assert patience.span() == 0.0
    patience.paid()
    assert patience.span() == 0.0


def test_a_vain_look_is_followed_by_a_long_one() -> None:
    patience = Patience(1.0)
    assert patience.span() == 1.0
    patience.vain()
    assert patience.span() == LONG
    patience.paid()
    assert patience.span() == 1.0


def left_out(patience: Patience) -> int:
    """How many looks are left out until the next, which is a long one."""
    count = 0
    while not (span := patience.span()):
        count += 1
    assert span == LONG
    return count


def test_vain_looks_become_rarer_up_to_a_bound() -> None:
    patience = Patience(1.0)
    patience.vain()
    gaps = []
    for _ in range(9):
        patience.vain()
        gaps.append(left_out(patience))
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 64, MOST_LEFT_OUT]


def test_one_that_pays_restores_them() -> None:
    patience = Patience(1.0)
    for _ in range(5):
        patience.vain()
    patience.paid()
    assert patience.span() == 1.0
    patience.vain()
    patience.vain()
    assert left_out(patience) == 1


def test_polling_needs_two_processors_of_the_right_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert polling(50) == (50, "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert polling(50)[0] == 0
    assert "aarch64" in polling(50)[1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert polling(50)[0] == 0
    assert polling(0) == (0, "")
