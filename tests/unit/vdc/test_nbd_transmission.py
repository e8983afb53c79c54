"""Requests to the NBD server: a client of raw bytes against a disk in memory, over a real socket."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.fakedisk import FakeDisk
from tests.support.nbdclient import (
    BLOCK_STATUS,
    CACHE,
    DF,
    DISC,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    REQ_ONE,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    NbdClient,
    request,
)
from tests.support.turns import turns, until
from vdc.frontends.nbd import NbdServer

MIB = 1 << 20
MAX = 32 * MIB
EIO, EPERM, EINVAL, ENOSPC, ENOMEM = 5, 1, 22, 28, 12
EOVERFLOW, ENOTSUP, ESHUTDOWN = 75, 95, 108


@asynccontextmanager
async def served(folder: Path, disk: FakeDisk, *, structured: bool = False) -> AsyncIterator[NbdClient]:
    """A client that has agreed with a server of ``disk``."""
    server = NbdServer(disk, folder / "nbd.sock")
    server.start()
    try:
        async with NbdClient(folder / "nbd.sock") as client:
            yield await client.negotiate(structured=structured)
    finally:
        await server.stop(0)


async def still_works(client: NbdClient) -> None:
    """The connection survived what came before."""
    assert await client.read(0, 512) == bytes(512)


async def test_write_then_read_gives_the_same(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    data = os.urandom(4096)
    async with served(tmp_path, disk) as client:
        assert client.size == MIB
        await client.send(request(WRITE, 1, 8192, 4096, data=data))
        assert await client.answer() == (0, 1)
        assert await client.read(8192, 4096) == data
        assert await client.read(8192 + 512, 1024) == data[512:1536]
    assert disk.contents[8192:12288] == data
    assert disk.contents.count(0) >= MIB - 4096


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("flags", [0, DF, DF | FUA])
async def test_structured_read_is_one_chunk(tmp_path: Path, views: bool, flags: int) -> None:
    disk = FakeDisk(MIB, views=views)
    disk.contents[1024:2048] = data = os.urandom(1024)
    async with served(tmp_path, disk, structured=True) as client:
        await client.send(request(READ, 0xFFFFFFFFFFFFFFFF, 1024, 1024, flags=flags))
        assert await client.chunk() == (1, 1, 0xFFFFFFFFFFFFFFFF, struct.pack(">Q", 1024) + data)


async def test_simple_read_from_a_view(tmp_path: Path) -> None:
    disk = FakeDisk(MIB, views=True)
    disk.contents[:512] = data = os.urandom(512)
    async with served(tmp_path, disk) as client:
        assert await client.read(0, 512) == data


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(
    ("linux", "nbd"),
    [
        (errno.EIO, EIO),
        (errno.EPERM, EPERM),
        (errno.EROFS, EPERM),
        (errno.EACCES, EPERM),
        (errno.ENOSPC, ENOSPC),
        (errno.EDQUOT, ENOSPC),
        (errno.EFBIG, ENOSPC),
        (errno.ENOMEM, ENOMEM),
        (errno.EINVAL, EINVAL),
        (errno.EOVERFLOW, EOVERFLOW),
        (errno.ENOTSUP, ENOTSUP),
        (errno.ESHUTDOWN, ESHUTDOWN),
        (errno.ETIMEDOUT, EIO),
        (errno.ENXIO, EIO),
    ],
)
async def test_disk_errors_reach_the_client(tmp_path: Path, linux: int, nbd: int, structured: bool) -> None:
    disk = FakeDisk(MIB)
    for operation in ("read", "write", "flush"):
        disk.fail(operation, linux)
    requests = [request(READ, 1, 0, 512), request(WRITE, 2, 0, 512, data=bytes(512)), request(FLUSH, 3)]
    async with served(tmp_path, disk, structured=structured) as client:
        for cookie, message in enumerate(requests, start=1):
            await client.send(message)
            if structured:
                flags, kind, echoed, data = await client.chunk()
                assert (flags, kind, echoed) == (1, 0x8001, cookie)
                text = os.strerror(nbd).encode()
                assert data == struct.pack(">IH", nbd, len(text)) + text
            else:
                assert await client.answer() == (nbd, cookie)


REFUSALS = [
    pytest.param(request(READ, 9, 0, 0), EINVAL, id="read nothing"),
    pytest.param(request(READ, 9, 1, 512), EINVAL, id="read unaligned offset"),
    pytest.param(request(READ, 9, 0, 511), EINVAL, id="read unaligned length"),
    pytest.param(request(READ, 9, MIB, 512), EINVAL, id="read at the end"),
    pytest.param(request(READ, 9, MIB - 512, 1024), EINVAL, id="read across the end"),
    pytest.param(request(READ, 9, 2**63, 512), EINVAL, id="read at 2**63"),
    pytest.param(request(READ, 9, 2**64 - 512, 512), EINVAL, id="read at 2**64"),
    pytest.param(request(READ, 9, 0, 2**32 - 512), EINVAL, id="read 4 GiB"),
    pytest.param(request(READ, 9, 0, 512, flags=DF), EINVAL, id="read DF, not agreed"),
    pytest.param(request(READ, 9, 0, 512, flags=REQ_ONE), EINVAL, id="read with a strange flag"),
    pytest.param(request(WRITE, 9, 0, 0), EINVAL, id="write nothing"),
    pytest.param(request(WRITE, 9, 1, 512, data=bytes(512)), EINVAL, id="write unaligned offset"),
    pytest.param(request(WRITE, 9, 0, 513, data=bytes(513)), EINVAL, id="write unaligned length"),
    pytest.param(request(WRITE, 9, MIB, 512, data=bytes(512)), ENOSPC, id="write at the end"),
    pytest.param(request(WRITE, 9, MIB - 512, 1024, data=bytes(1024)), ENOSPC, id="write across the end"),
    pytest.param(request(WRITE, 9, 2**64 - 512, 512, data=bytes(512)), ENOSPC, id="write at 2**64"),
    pytest.param(request(WRITE, 9, 0, 512, flags=8, data=bytes(512)), EINVAL, id="write with a strange flag"),
    pytest.param(request(WRITE, 9, 0, MAX + 512, data=bytes(MAX + 512)), EINVAL, id="write too much"),
    pytest.param(request(WRITE_ZEROES, 9, 0, 0), EINVAL, id="zero nothing"),
    pytest.param(request(WRITE_ZEROES, 9, 512, 100), EINVAL, id="zero unaligned"),
    pytest.param(request(WRITE_ZEROES, 9, 512, MIB), ENOSPC, id="zero across the end"),
    pytest.param(request(WRITE_ZEROES, 9, 0, 512, flags=FAST_ZERO), EINVAL, id="zero fast"),
    pytest.param(request(FLUSH, 9, 512, 0), EINVAL, id="flush at an offset"),
    pytest.param(request(FLUSH, 9, 0, 512), EINVAL, id="flush a length"),
    pytest.param(request(TRIM, 9, 0, 512), EINVAL, id="trim"),
    pytest.param(request(CACHE, 9, 0, 512), EINVAL, id="cache"),
    pytest.param(request(BLOCK_STATUS, 9, 0, 512), EINVAL, id="block status"),
    pytest.param(request(0xFFFF, 9, 0, 512), EINVAL, id="no such command"),
]


@pytest.mark.parametrize(("message", "error"), REFUSALS)
async def test_what_cannot_be_done_is_refused(tmp_path: Path, message: bytes, error: int) -> None:
    disk = FakeDisk(MIB)
    async with served(tmp_path, disk) as client:
        await client.send(message)
        assert await client.answer() == (error, 9)
        assert disk.log == []
        await still_works(client)


async def test_largest_read_and_write_are_served(tmp_path: Path) -> None:
    disk = FakeDisk(MAX)
    async with served(tmp_path, disk) as client:
        data = os.urandom(MIB) * 32
        await client.send(request(WRITE, 1, 0, MAX, data=data))
        assert await client.answer() == (0, 1)
        assert await client.read(0, MAX) == data


async def test_block_size_of_the_disk_is_the_smallest(tmp_path: Path) -> None:
    async with served(tmp_path, FakeDisk(MIB, block_size=4096)) as client:
        await client.send(request(READ, 1, 512, 4096))
        assert await client.answer() == (EINVAL, 1)
        assert await client.read(4096, 4096) == bytes(4096)


async def test_read_only_refuses_writes_and_keeps_in_step(tmp_path: Path) -> None:
    disk = FakeDisk(MIB, read_only=True)
    async with served(tmp_path, disk) as client:
        assert client.flags & 2
        await client.send(request(WRITE, 1, 0, 4096, data=bytes(4096)) + request(WRITE_ZEROES, 2, 0, 4096))
        await client.send(request(FLUSH, 3))
        assert [await client.answer() for _ in range(3)] == [(EPERM, 1), (EPERM, 2), (0, 3)]
        await still_works(client)
    assert [entry[0] for entry in disk.log] == ["flush", "read"]


async def test_answers_come_in_the_order_of_completion(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    disk.hold()
    async with served(tmp_path, disk) as client:
        for cookie in range(1, 6):
            await client.send(request(WRITE, cookie, cookie * 512, 512, data=bytes([cookie]) * 512))
        await until(lambda: len(disk.held) == 5)
        disk.release(newest_first=True)
        assert [(await client.answer()).cookie for _ in range(5)] == [5, 4, 3, 2, 1]
        assert await client.read(512, 512) == b"\1" * 512


async def test_fua_flushes_after_the_write_and_before_the_answer(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE, 1, 0, 512, flags=FUA, data=b"x" * 512))
        assert await client.answer() == (0, 1)
        assert [entry[0] for entry in disk.log] == ["write", "flush"]
        assert disk.stable[:512] == b"x" * 512


@pytest.mark.parametrize("operation", ["write", "flush"])
async def test_fua_reports_either_failure(tmp_path: Path, operation: str) -> None:
    disk = FakeDisk(MIB)
    disk.fail(operation, errno.ENOSPC)
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE, 1, 0, 512, flags=FUA, data=b"x" * 512))
        assert await client.answer() == (ENOSPC, 1)
        await still_works_after_write(client)


async def still_works_after_write(client: NbdClient) -> None:
    """The connection survived, whatever became of the first block."""
    assert await client.read(4096, 512) == bytes(512)


@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize("flags", [0, NO_HOLE, FUA, FUA | NO_HOLE])
async def test_write_zeroes_writes_zeroes(tmp_path: Path, flags: int, immediate: bool) -> None:
    disk = FakeDisk(8 * MIB)
    disk.immediate = immediate
    disk.contents[:] = b"\xff" * len(disk.contents)
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE_ZEROES, 1, 512, 7 * MIB, flags=flags))
        assert await client.answer() == (0, 1)
    assert disk.contents[:512].count(0) == 0
    assert not any(disk.contents[512 : 512 + 7 * MIB])
    assert disk.contents[512 + 7 * MIB :].count(0) == 0
    assert disk.counts["flush"] == bool(flags & FUA)


async def test_write_zeroes_may_be_longer_than_a_write(tmp_path: Path) -> None:
    disk = FakeDisk(MAX + 2 * MIB)
    disk.contents[-1] = disk.contents[0] = 1
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE_ZEROES, 1, 0, MAX + 2 * MIB))
        assert await client.answer() == (0, 1)
    assert not any(disk.contents)


async def test_write_zeroes_stops_at_the_first_error(tmp_path: Path) -> None:
    disk = FakeDisk(64 * MIB)
    disk.fail("write", errno.ENOSPC, after=1)
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE_ZEROES, 1, 0, 64 * MIB))
        assert await client.answer() == (ENOSPC, 1)
    assert disk.counts["write"] < 10


async def test_zeroing_leaves_room_for_others(tmp_path: Path) -> None:
    disk = FakeDisk(64 * MIB)
    disk.hold()
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE_ZEROES, 1, 0, 64 * MIB) + request(READ, 2, 0, 512))
        await until(lambda: disk.counts["read"] == 1)
        assert disk.counts["write"] <= 4
        disk.release()
        assert {(await client.answer()).cookie, *[2]} <= {1, 2}


async def test_a_disk_that_shrank_gives_eio(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    async with served(tmp_path, disk) as client:
        disk.size = MIB // 2
        await client.send(request(READ, 1, MIB - 512, 512))
        await client.send(request(WRITE, 2, MIB - 512, 512, data=bytes(512)))
        await client.send(request(WRITE_ZEROES, 3, 0, MIB))
        assert [await client.answer() for _ in range(3)] == [(EIO, 1), (EIO, 2), (EIO, 3)]
        await still_works(client)


async def test_a_disk_that_refuses_at_once_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FakeDisk(MIB)

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EROFS, "became read-only")

    monkeypatch.setattr(disk, "submit_write", refuse)
    async with served(tmp_path, disk) as client:
        await client.send(request(WRITE, 1, 0, 512, data=bytes(512)))
        assert await client.answer() == (EPERM, 1)


async def test_less_data_than_asked_for_is_never_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FakeDisk(MIB)
    monkeypatch.setattr(disk, "submit_read", lambda _offset, _nbytes, callback: callback(b"short", None))
    async with served(tmp_path, disk) as client:
        await client.send(request(READ, 1, 0, 512))
        assert await client.answer() == (EIO, 1)


@pytest.mark.parametrize("step", [1, 7, 27, 29, 1000])
async def test_requests_may_arrive_in_pieces(tmp_path: Path, step: int) -> None:
    disk = FakeDisk(MIB)
    data = os.urandom(1024)
    message = request(WRITE, 1, 512, 1024, data=data) + request(FLUSH, 2) + request(READ, 3, 512, 1024)
    async with served(tmp_path, disk) as client:
        for index in range(0, len(message), step):
            await client.send(message[index : index + step])
            await asyncio.sleep(0)  # lets the server take this piece alone
        assert {await client.answer(), await client.answer()} == {(0, 1), (0, 2)}
        assert await client.answer() == (0, 3)
        assert await client.receive(1024) == data


async def test_many_requests_at_once(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    disk.contents[:] = os.urandom(MIB)
    count = 1000
    async with served(tmp_path, disk) as client:
        message = b"".join(request(READ, cookie, cookie % 2048 * 512, 512) for cookie in range(count))
        sending = asyncio.ensure_future(client.send(message))
        for _ in range(count):
            error, cookie = await client.answer()
            offset = cookie % 2048 * 512
            assert not error
            assert await client.receive(512) == disk.contents[offset : offset + 512]
        await sending


async def test_requests_in_flight_are_bounded(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    disk.hold()
    async with served(tmp_path, disk) as client:
        await client.send(b"".join(request(READ, cookie, 0, 512) for cookie in range(400)))
        await until(lambda: len(disk.held) == 256)
        await turns(20)
        assert len(disk.held) == 256
        disk.release()
        cookies = set()
        for _ in range(400):
            cookies.add((await client.answer()).cookie)
            await client.receive(512)
        assert cookies == set(range(400))


async def test_bytes_in_flight_are_bounded(tmp_path: Path) -> None:
    disk = FakeDisk(MAX)
    disk.hold()
    async with served(tmp_path, disk) as client:
        await client.send(b"".join(request(READ, cookie, 0, MAX) for cookie in range(4)))
        await until(lambda: len(disk.held) == 2)
        await turns(20)
        assert len(disk.held) == 2
        disk.release()
        for _ in range(4):
            assert (await client.answer()).error == 0
            await client.receive(MAX)


async def test_a_client_that_does_not_read_gets_no_more_done(tmp_path: Path) -> None:
    disk = FakeDisk(16 * MIB)
    async with served(tmp_path, disk) as client:
        message = b"".join(request(READ, cookie, 0, 16 * MIB) for cookie in range(100))
        await client.send(message)
        await until(lambda: disk.counts["read"] >= 4)
        await turns(50)
        assert disk.counts["read"] <= 5
        async with NbdClient(tmp_path / "nbd.sock") as other:
            await still_works(await other.negotiate())


async def test_a_client_that_only_asks_is_bounded_too(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    async with served(tmp_path, disk) as client:
        count = 50_000
        flood = asyncio.ensure_future(client.send(b"".join(request(FLUSH, n, 512) for n in range(count))))
        await turns(300)
        assert not flood.done()
        answers = await client.receive(16 * count)
        assert [each for each in struct.iter_unpack(">4sIQ", answers)] == [
            (b"gDf\x98", EINVAL, cookie) for cookie in range(count)
        ]
        await flood


async def test_wrong_magic_ends_the_connection_alone(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    async with served(tmp_path, disk) as client, NbdClient(tmp_path / "nbd.sock") as other:
        await other.negotiate()
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await client.is_closed()
        await still_works(other)


async def test_absurd_write_ends_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path, FakeDisk(MIB)) as client:
        await client.send(request(WRITE, 1, 0, 2**32 - 512))
        assert await client.is_closed()


async def test_refused_write_takes_its_data_along(tmp_path: Path) -> None:
    async with served(tmp_path, FakeDisk(MIB)) as client:
        trap = request(READ, 66, 0, 512) * 2000  # data that looks like requests
        await client.send(request(WRITE, 1, 3, len(trap), data=trap) + request(READ, 2, 0, 512))
        assert await client.answer() == (EINVAL, 1)
        assert await client.answer() == (0, 2)


async def test_disconnect_is_answered_by_a_close(tmp_path: Path) -> None:
    async with served(tmp_path, FakeDisk(MIB)) as client:
        await client.send(request(DISC, 1))
        assert await client.is_closed()


async def test_disconnect_waits_for_what_runs(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    disk.hold()
    async with served(tmp_path, disk) as client:
        await client.send(
            request(WRITE, 1, 0, 512, data=b"x" * 512) + request(DISC, 2) + request(READ, 3, 0, 512)
        )
        await until(lambda: len(disk.held) == 1)
        await client.send(b"more that nobody reads")
        await turns(5)
        disk.release()
        assert await client.answer() == (0, 1)
        assert await client.is_closed()
    assert disk.counts["read"] == 0


async def test_client_that_vanishes_leaves_nothing(tmp_path: Path) -> None:
    disk = FakeDisk(4 * MIB)
    server = NbdServer(disk, tmp_path / "nbd.sock")
    server.start()
    disk.hold()
    client = await NbdClient(tmp_path / "nbd.sock").negotiate()
    await client.send(b"".join(request(READ, cookie, 0, 2 * MIB) for cookie in range(4)))
    await client.send(request(WRITE, 5, 0, 2 * MIB, data=bytes(1000)))
    await until(lambda: len(disk.held) == 4)
    client.sock.close()
    await until(lambda: server.connections == 0)
    disk.release()
    await turns(3)
    assert await server.stop(0)


async def test_client_that_vanishes_while_answers_wait(tmp_path: Path) -> None:
    disk = FakeDisk(16 * MIB)
    server = NbdServer(disk, tmp_path / "nbd.sock")
    server.start()
    client = await NbdClient(tmp_path / "nbd.sock").negotiate()
    await client.send(b"".join(request(READ, cookie, 0, 16 * MIB) for cookie in range(50)))
    await until(lambda: disk.counts["read"] >= 4)
    client.sock.close()
    await until(lambda: server.connections == 0)
    assert await server.stop(0)
