"""A disk's URI, right and wrong."""

from __future__ import annotations

import pytest

from hypervisor.rendezvous import Transport
from protocol.errors import ConfigError
from vdc.uri import Target


def test_every_parameter_is_read() -> None:
    target = Target.parse("vdisk+unix:///my%20disk?socket=/run/a%3Fb&transport=socket&timeout=2.5&poll-us=0")
    assert target == Target(
        volume="my disk", socket="/run/a?b", transport=Transport.SOCKET, timeout_s=2.5, poll_us=0
    )


def test_shared_memory_and_waiting_for_ever_are_the_defaults() -> None:
    target = Target.parse("vdisk+unix:///disk0?socket=/s")
    assert (target.transport, target.timeout_s, target.poll_us) == (Transport.SHM, 0.0, 50)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nbd+unix:///disk0?socket=/s", "expected vdisk\\+unix"),
        ("vdisk+unix://host/disk0?socket=/s", "Unix socket has none"),
        ("vdisk+unix:///?socket=/s", "volume is missing"),
        ("vdisk+unix:///disk0", "socket is missing"),
        ("vdisk+unix:///disk0?socket=", "socket is missing"),
        ("vdisk+unix:///disk0?socket=/s&speed=9", "unknown parameter"),
        ("vdisk+unix:///disk0?socket=/s&socket=/t", "given twice"),
        ("vdisk+unix:///disk0?socket=/s&transport=pigeon", "expected shm or socket"),
        ("vdisk+unix:///disk0?socket=/s&timeout=soon", "expected a number"),
        ("vdisk+unix:///disk0?socket=/s&timeout=-1", "expected 0 to"),
        ("vdisk+unix:///disk0?socket=/s&timeout=nan", "expected 0 to"),
        ("vdisk+unix:///disk0?socket=/s&poll-us=99999", "expected 0 to 10000"),
    ],
)
def test_what_is_wrong_is_named(uri: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Target.parse(uri)
