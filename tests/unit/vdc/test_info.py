"""Sizes as people read them; the rest of ``vdc.info`` is tested with the command."""

from __future__ import annotations

import pytest

from vdc.info import format_size


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (256 << 20, "256.0 MiB"),
        (1 << 40, "1.0 TiB"),
        ((1 << 63) - 512, "8.0 EiB"),
        (1 << 72, "4096.0 EiB"),
    ],
)
def test_format_size(nbytes: int, text: str) -> None:
    assert format_size(nbytes) == text
