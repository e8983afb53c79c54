"""Looking before sleeping: it is given up where it brings nothing, and comes back where it does."""

from __future__ import annotations

from hypervisor.patience import MOST_LEFT_OUT, VAIN_LOOKS, Patience


def test_no_time_to_look_is_no_time_ever() -> None:
    patience = Patience(0.0)
    patience.paid()
    assert patience.span() == 0.0


def test_a_few_vain_looks_change_nothing() -> None:
    patience = Patience(1.0)
    for _ in range(VAIN_LOOKS - 1):
        assert patience.span() == 1.0
        patience.vain()
    assert patience.span() == 1.0


def left_out(patience: Patience) -> int:
    """How many looks are left out until the next."""
    count = 0
    while not patience.span():
        count += 1
    return count


def test_vain_looks_become_rarer_up_to_a_bound() -> None:
    patience = Patience(1.0)
    for _ in range(VAIN_LOOKS - 1):
        patience.vain()
    gaps = []
    for _ in range(6):
        patience.vain()
        gaps.append(left_out(patience))
    assert gaps == [1, 2, 4, 8, 8, MOST_LEFT_OUT]


def test_one_that_pays_restores_them() -> None:
    patience = Patience(1.0)
    for _ in range(VAIN_LOOKS):
        patience.vain()
    patience.paid()
    assert patience.span() == 1.0
    patience.vain()
    assert patience.span() == 1.0
