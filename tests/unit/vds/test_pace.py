"""vds.pace: when short writes leave the event loop, and when they come back."""

from __future__ import annotations

from vds.pace import LIMIT_S, RETURN_S, Pace


def test_quick_writes_stay() -> None:
    pace = Pace()
    for _ in range(100):
        pace.measured(0.0, LIMIT_S)
    assert pace.quick


def slow() -> Pace:
    """A disk that took 20 ms twice."""
    pace = Pace()
    pace.measured(0.0, 0.020)
    pace.measured(0.0, 0.020)
    return pace


def test_one_hiccup_is_forgiven_however_long() -> None:
    pace = Pace()
    pace.measured(0.0, 10.0)
    assert pace.quick


def test_slow_writes_go_and_one_of_them_is_tried_later() -> None:
    pace = slow()
    assert not pace.quick
    assert not pace.again(0.020 + RETURN_S / 2)
    assert pace.again(0.020 + RETURN_S)
    assert pace.quick


def test_one_slow_write_after_the_return_is_enough() -> None:
    pace = slow()
    pace.again(2.0)
    pace.measured(2.0, 2.0 + 2 * LIMIT_S)
    assert not pace.quick


def test_quick_writes_after_the_return_stay() -> None:
    pace = slow()
    pace.again(2.0)
    for _ in range(10):
        pace.measured(2.0, 2.0 + LIMIT_S / 10)
    pace.measured(2.0, 2.004)
    assert pace.quick
