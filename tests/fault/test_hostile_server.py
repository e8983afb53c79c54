"""Servers that lie, fall silent or go: what vdc makes of them. It never returns what was not asked for, never
waits longer than it may, and fails with nothing but OSError, ProtocolError or ChannelError.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vdc
from hypervisor.greeting import Welcome, build_answer
from hypervisor.records import Copy, CopyDone, Push
from protocol.errors import ChannelError, DiskError, ProtocolError
from protocol.vdisk.attributes import AttributeLayoutV12
from protocol.vdisk.descriptor import Request
from protocol.vio.dring import Dstate
from protocol.vio.extensions import Extension
from tests.support.badserver import (
    ATTRIBUTES,
    CONTENT,
    INSTANCE,
    BadServer,
    Conversation,
    Manners,
    Turn,
)
from tests.support.waiting import wait_until

EXPECTED = (OSError, ProtocolError, ChannelError)
GOOD = Manners()
HANDSHAKE = 12
"""Datagrams that a server sends until a session stands: more would mean that a step is not covered."""
LIMIT_S = 10.0
"""Whoever waits longer for the other thread has failed."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bad.sock"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up an attempt soon."""
    monkeypatch.setattr("vdc.engine.RENDEZVOUS_LIMIT_S", 0.2)
    monkeypatch.setattr("vdc.engine.HANDSHAKE_LIMIT_S", 0.2)


def reads_right(disk: vdc.BlockingDisk) -> None:
    """Every block is what it should be, alone and together."""
    for block in range(64):
        assert disk.pread(block * 512, 512) == CONTENT[block * 512 : block * 512 + 512]
    assert disk.pread(0, len(CONTENT)) == CONTENT


# -- before the session ------------------------------------------------------------------------------------


def datagrams_of_a_handshake(path: Path) -> int:
    """How many a server sends until the first request."""
    sent: list[int] = []
    with BadServer(path, [Manners(on_running=lambda it: sent.append(it.sent))]) as server:
        vdc.connect(server.uri()).close()
    return sent[0]


@pytest.mark.parametrize("count", range(HANDSHAKE))
def test_a_server_that_hangs_up_at_any_step_of_the_handshake(path: Path, count: int) -> None:
    """Opening fails; with time to wait, the next attempt succeeds."""
    steps = datagrams_of_a_handshake(path)
    assert steps <= HANDSHAKE
    gone = Manners(datagrams=min(count, steps - 1), turn=Turn.HANG_UP)
    with BadServer(path, [gone]) as server, pytest.raises(EXPECTED):
        vdc.connect(server.uri())
    with BadServer(path, [gone, GOOD]) as server, vdc.connect(server.uri(), wait_s=30) as disk:
        reads_right(disk)
        assert server.connections == 2


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("count", range(HANDSHAKE))
def test_a_server_that_falls_silent_at_any_step_of_the_handshake(path: Path, count: int) -> None:
    silent = Manners(datagrams=count, turn=Turn.FALL_SILENT)
    with BadServer(path, [silent]) as server:
        if count >= datagrams_of_a_handshake(path.with_name("other")):
            vdc.connect(server.uri()).close()  # silent only afterwards
        else:
            with pytest.raises(EXPECTED, match=r"no answer from .* phase"):
                vdc.connect(server.uri())


def answer(**changes: Any) -> bytes:  # noqa: ANN401 - the fields of a welcome
    """The right answer to a hello, with other fields."""
    welcome = Welcome(extensions=Extension(0), instance=INSTANCE, poll_us=0)
    return build_answer(replace(welcome, **changes))


ANSWERS: dict[str, bytes] = {
    "garbage": bytes(range(100)),
    "a packet": bytes(64),
    "one octet": b"\0",
    "another magic number": answer()[:8] + b"LDon" + answer()[12:],
    "another version": answer()[:12] + b"\0\2" + answer()[14:],
    "extensions that were not offered": answer(extensions=Extension.INLINE),
    "extensions that nobody knows": answer()[:20] + b"\xff\xff\0\0" + answer()[24:],
    "a sentence longer than said": answer() + b"!",
    "too long": answer() + bytes(60_000),
    "a hello": struct.pack(">HHI", 1, 0, 72) + answer()[8:],
    "a refusal with an errno that is none": build_answer(
        Welcome(extensions=Extension(0), instance=INSTANCE, poll_us=0), 0xFFFFFFFF & 99999, "no\n\x1b[31m\0"
    ),
    "a refusal with errno 2^32-1": answer()[:16] + b"\xff" * 4 + answer()[20:],
}


@pytest.mark.parametrize("case", list(ANSWERS))
def test_an_answer_that_cannot_be_is_not_a_welcome(path: Path, case: str) -> None:
    with (
        BadServer(path, [Manners(answer=ANSWERS[case])]) as server,
        pytest.raises(EXPECTED) as caught,
    ):
        vdc.connect(server.uri())
    assert "\x1b" not in str(caught.value)


DISKS = {
    "no blocks": {"vdisk_size": 0},
    "2^63 blocks": {"vdisk_size": 1 << 63},
    "blocks of 513": {"vdisk_block_size": 513},
    "blocks of 256": {"vdisk_block_size": 256},
    "blocks of 1536": {"vdisk_block_size": 1536},
    "transfers of nothing": {"max_xfer_sz": 0},
    "no operations": {"operations": 0},
}


@pytest.mark.parametrize("case", list(DISKS))
def test_a_disk_that_cannot_be_is_not_opened(path: Path, case: str) -> None:
    told: list[bytes] = []

    def change(packet: bytes) -> bytes:
        """Tell other attributes than the stack: it would not."""
        header, message = packet[:8], packet[8:]
        if message[:4] != bytes.fromhex("01020002"):
            return packet
        answer = AttributeLayoutV12.parse(message)
        told.append(AttributeLayoutV12.build(answer._replace(**DISKS[case])))
        return header + told[-1]

    with BadServer(path, [Manners(change=change)]) as server, pytest.raises(EXPECTED):
        vdc.connect(server.uri())
    assert len(told) == 1


def test_a_server_that_wants_smaller_transfers_gets_them(path: Path) -> None:
    small = Manners(attributes=replace(ATTRIBUTES, max_xfer_blocks=1))
    with BadServer(path, [small]) as server, vdc.connect(server.uri()) as disk:
        assert disk.pread(0, len(CONTENT)) == CONTENT
        assert server.requests == 64


# -- another disk ------------------------------------------------------------------------------------------

OTHERS = {
    "another instance": Manners(instance=bytes(16)),
    "other blocks": Manners(attributes=replace(ATTRIBUTES, block_size=4096)),
}


@pytest.mark.parametrize("case", list(OTHERS))
def test_another_disk_under_the_same_name_gets_no_requests(path: Path, case: str) -> None:
    lost = Manners(on_request=lambda it, index, request: it.hang_up())
    with BadServer(path, [lost, OTHERS[case]]) as server, vdc.connect(server.uri()) as disk:
        with pytest.raises(DiskError) as caught:
            disk.pread(0, 512)
        assert caught.value.errno == errno.EIO
        assert disk.state == "replaced"
        assert server.requests == 1


# -- answers to requests -----------------------------------------------------------------------------------


def result(status: int, nbytes: int) -> Manners:
    """Answers every request with these."""
    return Manners(on_request=lambda it, index, request: it.finish(index, status, nbytes))


RESULTS = {
    "status 2^32-1": (0xFFFFFFFF, 512),
    "status 99999": (99999, 512),
    "status 1000, nothing of it": (1000, 0),
    "nothing read": (0, 0),
    "one byte less": (0, 511),
    "one block more": (0, 1024),
    "2^64-1 bytes": (0, (1 << 64) - 1),
    "2^63 bytes": (0, 1 << 63),
}


@pytest.mark.parametrize("case", list(RESULTS))
def test_a_result_that_is_not_what_was_asked_is_an_error(path: Path, case: str) -> None:
    with BadServer(path, [result(*RESULTS[case])]) as server, vdc.connect(server.uri()) as disk:
        for operation in (lambda: disk.pread(0, 512), lambda: disk.pwrite(0, bytes(512))):
            with pytest.raises(DiskError) as caught:
                operation()
            assert caught.value.errno


def done_without_being_asked(it: Conversation, index: int, request: Request) -> None:
    it.done_everywhere()
    it.execute(request)
    it.set_state(index, Dstate.ACCEPTED)
    it.finish(index, 0, request.nbytes)
    it.done_everywhere()


def done_twice(it: Conversation, index: int, request: Request) -> None:
    it.execute(request)
    it.finish(index, 0, request.nbytes)
    it.settle()
    it.set_state(index, Dstate.DONE)


@pytest.mark.parametrize("manners", [done_without_being_asked, done_twice])
def test_done_of_what_was_not_asked_is_not_looked_at(
    path: Path, manners: Callable[[Conversation, int, Request], None]
) -> None:
    """Unless it was posted meanwhile: then it is the server's answer, true or not; our data or none."""

    def only_before_the_answer(it: Conversation, index: int, request: Request) -> None:
        it.done_everywhere()
        it.set_state(index, Dstate.ACCEPTED)
        it.execute(request)
        it.finish(index, 0, request.nbytes)

    with BadServer(path, [Manners(on_running=Conversation.done_everywhere)]) as server:
        disk = vdc.connect(server.uri())
        reads_right(disk)
        disk.close()
    with BadServer(path, [Manners(on_request=only_before_the_answer)]) as server:
        disk = vdc.connect(server.uri())
        assert disk.pread(512, 512) == CONTENT[512:1024]
        disk.close()
    with BadServer(path, [Manners(on_request=manners)]) as server:
        disk = vdc.connect(server.uri())
        assert disk.pread(512, 512) == CONTENT[512:1024]
        disk.close()


def message(text: str) -> Callable[[Conversation, int, Request], None]:
    """Instead of an answer, this message comes; ``SID`` and ``SEQ`` stand for the right ones."""

    def say(it: Conversation, index: int, request: Request) -> None:
        sid = it.stack._handshake.sid
        filled = text.replace("SID", f"{sid:08x}").replace("SEQ", f"{1:016x}")
        it.say(bytes.fromhex(filled).ljust(56, b"\0"))
        it.settle()

    return say


def record(datagram: bytes) -> Callable[[Conversation, int, Request], None]:
    """Instead of an answer, this datagram comes."""
    return lambda it, index, request: void(it.sock.send(datagram))


def void(_sent: int) -> None:
    """Nothing."""


BREACHES: dict[str, Callable[[Conversation, int, Request], None]] = {
    "hangs up": lambda it, index, request: it.hang_up(),
    "NACK": message("02 04 00 42 SID SEQ 00000000 00000001 00000000 00000000"),
    "another session": message("02 02 00 42 00000000 SEQ 00000000 00000001 00000000 00000000"),
    "a number never sent": message("02 02 00 42 SID 00000000 00000077 00000000 00000001 00000000 00000000"),
    "another ring": message("02 02 00 42 SID SEQ 00000000 00000002 00000000 00000000"),
    "an entry that is not done": message("02 02 00 42 SID SEQ 00000000 00000001 00000000 00000000"),
    "an entry beyond the ring": message("02 02 00 42 SID SEQ 00000000 00000001 00010000 00010000"),
    "a request of its own": message("02 01 00 42 SID SEQ 00000000 00000001 00000000 00000000"),
    "a version": message("01 01 00 01 SID 0001 0002 03"),
    "an answer to attributes": message("01 02 00 02 SID 03 02 01 00 00 00 02 00"),
    "half a tag": message("02 02 00"),
    "unknown message": message("09 09 99 99 SID"),
    "a packet out of sequence": record(bytes.fromhex("020100f87ffffff0").ljust(64, b"\0")),
    "a packet refused": record(bytes.fromhex("020400000000000100000000").ljust(64, b"\0")),
    "a short datagram": record(b"x"),
    "a record that is none": record(bytes(80)),
    "COPY_DONE": record(struct.pack(">HHIIII4x", 6, 0, 24, 1, 0, 0)),
    "PUSH": record(struct.pack(">HHIII", 7, 0, 16, 0, 0)),
}


@pytest.mark.parametrize("case", list(BREACHES))
def test_a_server_that_breaks_a_rule_is_left_and_the_request_sent_again(path: Path, case: str) -> None:
    """The next connection is a good one; the request is answered there, once."""
    bad = Manners(on_request=BREACHES[case])
    with BadServer(path, [bad, GOOD]) as server, vdc.connect(server.uri(timeout=20)) as disk:
        assert disk.pread(1024, 512) == CONTENT[1024:1536]
        reads_right(disk)
        assert disk.counters["connections"] == server.connections == 2
        assert disk.counters["resubmitted"] == 1


def test_a_server_that_does_nothing_is_waited_for_only_as_long_as_the_disk_may(path: Path) -> None:
    """It has said nothing against us and keeps the link: the request waits, and is answered at last."""
    held: list[tuple[Conversation, int, Request]] = []

    def hold(it: Conversation, index: int, request: Request) -> None:
        held.append((it, index, request))
        if len(held) == 2:
            for each, its_index, its_request in held:
                each.execute(its_request)
                each.finish(its_index, 0, its_request.nbytes)

    with BadServer(path, [Manners(on_request=hold)]) as server, vdc.connect(server.uri()) as disk:
        first = disk.submit_read(0, 512)
        assert disk.wait(0) == []
        wait_until(lambda: bool(held), "the server to have it")
        second = disk.submit_read(512, 512)
        assert dict(disk.wait(2)) == {first: CONTENT[:512], second: CONTENT[512:1024]}


class Gate:
    """The server stops here until the client lets it go on."""

    def __init__(self) -> None:
        self._is_there = threading.Event()
        self._goes_on = threading.Event()

    def stop(self) -> None:
        """The server's side."""
        self._is_there.set()
        assert self._goes_on.wait(LIMIT_S)

    def wait(self) -> None:
        """The client's side: wait until the server is there."""
        assert self._is_there.wait(LIMIT_S)

    def let_go(self) -> None:
        """The client's side: let the server go on."""
        self._goes_on.set()


def test_done_does_not_count_before_it_is_acknowledged(path: Path) -> None:
    """Without an extension the entry is the server's until then, whatever its state."""
    is_done, acknowledged = Gate(), Gate()

    def finish_first(it: Conversation, index: int, request: Request) -> None:
        it.execute(request)
        it.ring.finish(index, 0, request.nbytes)
        is_done.stop()
        it.stack.complete(it.batches.pop(index), index)
        it.settle()
        acknowledged.stop()

    with BadServer(path, [Manners(on_request=finish_first)]) as server, vdc.connect(server.uri()) as disk:
        token = disk.submit_read(512, 512)
        assert disk.wait(0) == []
        is_done.wait()
        assert disk.wait(0) == []
        is_done.let_go()
        acknowledged.wait()
        assert disk.wait(0) == [(token, CONTENT[512:1024])]
        acknowledged.let_go()
        assert disk.counters["connections"] == 1


@pytest.mark.parametrize("extensions", [Extension(0), Extension.POLLED_RING])
def test_what_was_finished_before_a_loss_is_not_sent_again(path: Path, extensions: Extension) -> None:
    """The acknowledgement and the reset arrive together; one of two requests is left.

    On a polled ring there is no acknowledgement: DONE is one.
    """
    has_both, has_reset = Gate(), Gate()

    held: list[tuple[int, Request]] = []

    def reset_after_one(it: Conversation, index: int, request: Request) -> None:
        held.append((index, request))
        if len(held) == 2:
            index, request = held[0]
            has_both.stop()
            it.execute(request)
            it.finish(index, 0, request.nbytes)
            it.settle()
            it.channel.queue_configured()
            has_reset.stop()

    bad = Manners(extensions=extensions, on_request=reset_after_one)
    with BadServer(path, [bad, GOOD]) as server, vdc.connect(server.uri(timeout=20)) as disk:
        first, second = disk.submit_read(0, 512), disk.submit_read(512, 512)
        assert disk.wait(0) == []
        has_both.wait()
        has_both.let_go()
        has_reset.wait()
        assert disk.wait(0) == [(first, CONTENT[:512])]
        has_reset.let_go()
        assert disk.wait(1) == [(second, CONTENT[512:1024])]
        assert disk.counters["resubmitted"] == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_a_server_that_comes_back_mute_costs_no_more_than_the_timeout(path: Path, count: int) -> None:
    lost = Manners(on_request=lambda it, index, request: it.hang_up())
    mute = Manners(datagrams=count, turn=Turn.FALL_SILENT)
    with BadServer(path, [lost, mute]) as server, vdc.connect(server.uri(timeout=1)) as disk:
        with pytest.raises(DiskError) as caught:
            disk.pread(0, 512)
        assert caught.value.errno == errno.EIO
        assert disk.state == "failed"


# -- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize(
    ("addr", "nbytes", "status"),
    [(1 << 40, 8, 14), (4000 * 8192, 8, 14), (4, 8, 8), (0, 12, 8), (1 << 60, 8, 4), ((1 << 64) - 8, 8, 4)],
)
def test_a_copy_of_what_is_not_exported_is_refused(
    path: Path, direction: int, addr: int, nbytes: int, status: int
) -> None:
    """Not one byte of the client leaves it or changes."""
    answers: list[CopyDone] = []

    def ask(it: Conversation) -> None:
        if it.manners.on_linked is not None:
            it.manners.on_linked = None
            it.channel.send_record(Copy(5, direction, addr, nbytes, bytes(nbytes) if direction else b""))
            while not answers:
                it.server.wait(it.sock)
                answers.extend(item for item in it.channel.receive() if isinstance(item, CopyDone))
            it.hang_up()

    with BadServer(path, [Manners(on_linked=ask)]) as server, pytest.raises(EXPECTED):
        vdc.connect(server.uri(transport="socket"))
    assert [(done.id, done.status, done.length, bytes(done.data)) for done in answers] == [
        (5, status, 0, b"")
    ]


PUSHES = {
    "not agreed": (Extension(0), Push([(0, bytes(8))])),
    "outside the table": (Extension.INLINE, Push([(1 << 40, bytes(8))])),
    "of a page not exported": (Extension.INLINE, Push([(4000 * 8192, bytes(8))])),
}


@pytest.mark.parametrize("case", list(PUSHES))
def test_memory_pushed_where_it_must_not_be_ends_the_connection(path: Path, case: str) -> None:
    extensions, push = PUSHES[case]

    def shove(it: Conversation) -> None:
        it.channel.send_record(push)

    manners = Manners(extensions=extensions, on_linked=shove)
    with BadServer(path, [manners]) as server, pytest.raises(EXPECTED):
        vdc.connect(server.uri(transport="socket"))
