"""vds.session: a client that goes away, as the event loop tells of it."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from hypervisor.channel import Channel
from hypervisor.greeting import Welcome
from hypervisor.records import MapTableRecord
from protocol.vio.extensions import NO_EXTENSION
from tests.unit.vds.backend import HeldBackend
from tests.unit.vds.conftest import Make
from vds.poller import Poller
from vds.session import Session

RECORDS = 200  # more than one look at the socket takes


async def test_a_client_that_goes_without_reading_is_noticed(
    make: Make, held: HeldBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libuv calls once for a connection that was reset, however much there is to read."""
    monkeypatch.setattr("vds.session.CLIENT_BEGINS_S", 60)  # or it is noticed when we begin
    bench = make(held)
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    welcome = Welcome(extensions=NO_EXTENSION, instance=bytes(16), poll_us=0)
    log = logging.LoggerAdapter(logging.getLogger("vds"))
    session = Session(its, None, welcome, bench.export, Poller(asyncio.get_running_loop(), 0), log)
    client = Channel(ours)
    client.queue_configured()
    for _ in range(RECORDS):
        client.send_record(MapTableRecord(base=0, nentries=4))  # nothing is said to it
    session.start()  # its own record is what the client never reads
    client.close()
    await asyncio.wait_for(session.closed, 10)
