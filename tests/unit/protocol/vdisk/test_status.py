"""Status numbers: Solaris' on the wire, this host's above it."""

from __future__ import annotations

import errno

import pytest

from protocol.vdisk.status import WireErrno, from_wire, to_wire

# Source: Solaris sys/errno.h.
SOLARIS = {
    "EPERM": 1,
    "ENOENT": 2,
    "EIO": 5,
    "ENXIO": 6,
    "EBADF": 9,
    "EAGAIN": 11,
    "EACCES": 13,
    "EBUSY": 16,
    "ENODEV": 19,
    "EINVAL": 22,
    "ENOTTY": 25,
    "ENOSPC": 28,
    "EROFS": 30,
    "ECANCELED": 47,
    "ENOTSUP": 48,
    "ENODATA": 61,
    "EOVERFLOW": 79,
}


@pytest.mark.parametrize("name", SOLARIS)
def test_a_number_means_the_same_error_on_both_sides(name: str) -> None:
    host = getattr(errno, name)
    assert to_wire(host) == SOLARIS[name] == WireErrno[name]
    assert from_wire(SOLARIS[name]) == host


def test_success_is_0() -> None:
    assert to_wire(0) == 0
    assert from_wire(0) == 0


def test_what_the_other_side_does_not_know_is_an_io_error() -> None:
    assert to_wire(errno.EILSEQ) is WireErrno.EIO
    assert from_wire(95) == errno.EIO
    assert from_wire(0xFFFFFFFF) == errno.EIO
