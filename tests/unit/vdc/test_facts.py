"""What both kinds of disk have in common."""

from __future__ import annotations

import os

import pytest

from vdc.facts import make_patience


def test_a_disk_on_one_processor_does_not_poll_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would take from the server the very time that it waits for."""
    caplog.set_level("INFO")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert make_patience(50).span() == 0.0
    assert caplog.messages == ["polling is off: there is one processor only"]
