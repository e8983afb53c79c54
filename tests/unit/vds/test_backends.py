"""vds.backends: files, memory, nothing; what is refused, and with which words."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from vds.backends import Backend, Spec, open_backend
from vds.backends import descriptor as descriptor_module
from vds.backends.file import FileBackend
from vds.backends.registry import is_path

MIB = 1 << 20
SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file of 1 MiB in which every sector has its own number."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(number.to_bytes(512, "big") for number in range(MIB // 512)))
    return path


@pytest.fixture(params=["file", "memory", "direct"])
def backend(request: pytest.FixtureRequest, image: Path) -> Iterator[Backend]:
    """One of each kind that keeps what is written."""
    target = "memory:1M" if request.param == "memory" else str(image)
    with closing(open_backend(Spec(target=target, direct=request.param == "direct"))) as backend:
        yield backend


def _views(*lengths: int) -> list[memoryview]:
    return [memoryview(bytearray(length)) for length in lengths]


# -- the interface -----------------------------------------------------------------------------------------


def test_what_is_written_is_read_in_any_division(backend: Backend) -> None:
    data = os.urandom(8192)
    backend.pwritev([memoryview(data)[:512], memoryview(data)[512:5000], memoryview(data)[5000:]], 4096)
    backend.flush()
    views = _views(100, 8000, 92)
    backend.preadv(views, 4096)
    assert b"".join(views) == data
    assert backend.size == MIB
    assert len(backend.instance) == 16


def test_more_buffers_than_one_call_takes(backend: Backend) -> None:
    count = 2500
    data = [bytes([i % 251]) * 8 for i in range(count)]
    nbytes = count * 8 - count * 8 % 512
    backend.pwritev([memoryview(b"".join(data)[i : i + 8]) for i in range(0, nbytes, 8)], 512)
    views = _views(*[8] * (nbytes // 8))
    backend.preadv(views, 512)
    assert b"".join(views) == b"".join(data)[:nbytes]


def test_last_block_is_there(backend: Backend) -> None:
    backend.pwritev([memoryview(b"e" * 512)], MIB - 512)
    views = _views(512)
    backend.preadv(views, MIB - 512)
    assert bytes(views[0]) == b"e" * 512


def test_close_twice_is_harmless(image: Path) -> None:
    backend = open_backend(Spec(target=str(image)))
    backend.close()
    backend.close()


# -- files -------------------------------------------------------------------------------------------------


def test_cached_file_is_read_without_blocking(image: Path) -> None:
    with closing(open_backend(Spec(target=str(image)))) as backend:
        views = _views(512)
        backend.preadv(views, 512)
        assert backend.try_preadv(views, 1024) == 512
        assert int.from_bytes(views[0], "big") == 2


def test_file_in_memory_is_read_without_blocking() -> None:
    path = SHARED_MEMORY / f"vds-test-{os.getpid()}"
    path.write_bytes(bytes(4096))
    try:
        with closing(open_backend(Spec(target=str(path)))) as backend:
            assert backend.try_preadv(_views(4096), 0) == 4096
    finally:
        path.unlink()


def test_file_system_that_promises_nothing_leaves_reads_to_threads(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, buffers: Sequence[object], offset: int, flags: int = 0) -> int:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "preadv", refuse)
    monkeypatch.setattr(descriptor_module, "MEMORY_FILE_SYSTEMS", frozenset())
    with closing(open_backend(Spec(target=str(image)))) as backend:
        assert backend.try_preadv(_views(512), 0) == -1


def test_file_system_that_cannot_be_found_is_not_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.memfd_create("nowhere")  # its file system is mounted nowhere
    try:
        os.ftruncate(fd, 4096)
        with closing(open_backend(Spec(target=f"/proc/self/fd/{fd}"))) as backend:
            assert backend.try_preadv(_views(512), 0) == -1
            backend.preadv(_views(512), 0)
    finally:
        os.close(fd)


def test_cold_probe_still_means_that_reads_do_not_block(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    calls: list[int] = []

    def cold_first(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        calls.append(flags)
        if len(calls) == 1:
            raise BlockingIOError(errno.EAGAIN, "not cached")
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", cold_first)
    with closing(open_backend(Spec(target=str(image)))) as backend:
        backend.try_preadv(_views(512), 0)
    assert calls == [os.RWF_NOWAIT, os.RWF_NOWAIT]


def test_short_transfers_are_continued(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[int, Sequence[memoryview], int], int] = os.pwritev
    calls: list[int] = []

    def stingy(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        calls.append(sum(map(len, buffers)))
        return real(fd, [buffers[0][:300]], offset)

    with closing(open_backend(Spec(target=str(image)))) as backend:
        monkeypatch.setattr(os, "pwritev", stingy)
        data = os.urandom(1024)
        backend.pwritev([memoryview(data)[:512], memoryview(data)[512:]], 512)
    assert calls == [1024, 724, 512, 212]
    assert image.read_bytes()[512:1536] == data


def test_size_is_rounded_down_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(b"o" * 1500)
    with closing(open_backend(Spec(target=str(path)))) as backend:
        assert backend.size == 1024


def test_truncated_file_ends_in_an_error(image: Path) -> None:
    with closing(open_backend(Spec(target=str(image)))) as backend:
        os.truncate(image, 4096)
        with pytest.raises(OSError, match="ends before byte 6144") as caught:
            backend.preadv(_views(1024, 3072), 2048)
        assert caught.value.errno == errno.EIO


def test_truncated_file_ends_in_an_error_with_direct_io(image: Path) -> None:
    with closing(open_backend(Spec(target=str(image), direct=True))) as backend:
        os.truncate(image, 4096)
        with pytest.raises(OSError, match="ends before byte 6144"):
            backend.preadv([memoryview(bytearray(4097))[1:]], 2048)


def test_direct_io_of_odd_length_is_refused(image: Path) -> None:
    with closing(open_backend(Spec(target=str(image), direct=True))) as backend:
        with pytest.raises(OSError, match="Invalid argument"):
            backend.preadv(_views(100), 0)
        assert backend.try_preadv(_views(512), 0) == -1
        assert not backend.quick_writes


def test_direct_io_to_aligned_memory_needs_no_copy(image: Path) -> None:
    with (
        closing(open_backend(Spec(target=str(image), direct=True))) as backend,
        closing(mmap.mmap(-1, 8192)) as pages,
        memoryview(pages) as view,
    ):
        view[:] = b"a" * 8192
        backend.pwritev([view], 8192)
        backend.preadv([view[:4096]], 12288)
    assert image.read_bytes()[8192:16384] == b"a" * 8192


def test_errors_of_direct_io_other_than_alignment_are_passed_on(image: Path) -> None:
    with (
        closing(open_backend(Spec(target=str(image), direct=True, read_only=True))) as backend,
        pytest.raises(OSError, match="Bad file descriptor"),
    ):
        backend.pwritev(_views(512), 0)


def test_direct_io_in_blocks_that_are_too_small(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        raise OSError(number, "said the kernel")

    monkeypatch.setattr(os, "preadv", refuse)
    number = errno.EINVAL
    with pytest.raises(OSError, match="in blocks of 512: give 'blocksize=4096'"):
        open_backend(Spec(target=str(image), direct=True))
    number = errno.EIO
    with pytest.raises(OSError, match="said the kernel"):
        open_backend(Spec(target=str(image), direct=True))


def test_direct_io_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="leave 'direct' out") as caught:
        FileBackend(Spec(target="/proc/self/mountinfo", direct=True, read_only=True))
    assert caught.value.filename == "/proc/self/mountinfo"


def test_instance_is_the_file_not_its_name(image: Path, tmp_path: Path) -> None:
    def instance(path: Path) -> bytes:
        with closing(open_backend(Spec(target=str(path), read_only=True))) as backend:
            return backend.instance

    first = instance(image)
    os.rename(image, tmp_path / "renamed.img")
    assert instance(tmp_path / "renamed.img") == first
    image.write_bytes(bytes(4096))
    assert instance(image) != first


def test_deleted_file_and_its_successor_are_two(tmp_path: Path) -> None:
    seen = set()
    path = tmp_path / "a.img"
    for _ in range(20):  # a file system gives an inode number again sooner or later
        path.write_bytes(bytes(512))
        with closing(open_backend(Spec(target=str(path)))) as backend:
            seen.add(backend.instance)
        path.unlink()
    assert len(seen) == 20


@pytest.mark.parametrize(
    ("make", "number", "words"),
    [
        (lambda path: None, errno.ENOENT, "No such file"),
        (lambda path: path.mkdir(), errno.EISDIR, "a directory is no disk"),
        (lambda path: path.touch(), errno.EINVAL, "at least 512 bytes, this one has 0"),
        (lambda path: path.write_bytes(bytes(511)), errno.EINVAL, "this one has 511"),
        (lambda path: os.mkfifo(path), errno.EINVAL, "neither a file nor a block device"),
        (lambda path: path.symlink_to("/dev/null"), errno.EINVAL, "neither a file nor a block device"),
    ],
)
def test_what_is_no_disk(tmp_path: Path, make: Callable[[Path], object], number: int, words: str) -> None:
    path = tmp_path / "backend"
    make(path)
    with pytest.raises(OSError, match=words) as caught:
        open_backend(Spec(target=str(path)))
    assert caught.value.errno == number
    assert caught.value.filename == str(path)


def test_socket_as_a_backend(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        with pytest.raises(OSError, match="No such device"):
            open_backend(Spec(target=str(tmp_path / "sock")))


def test_file_that_may_only_be_read_names_the_way_out(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def read_only(path: str, flags: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(PermissionError, match="with 'ro' it is only read"):
        open_backend(Spec(target=str(image)))
    with closing(open_backend(Spec(target=str(image), read_only=True))) as backend:
        assert backend.read_only
        with pytest.raises(OSError, match="Bad file descriptor"):
            backend.pwritev(_views(512), 0)


# -- memory, nothing ---------------------------------------------------------------------------------------


def test_memory_begins_as_zeros_and_each_time_as_another(image: Path) -> None:
    with (
        closing(open_backend(Spec(target="memory:64K"))) as one,
        closing(open_backend(Spec(target="memory:64K"))) as two,
    ):
        views = _views(512, 512)
        assert one.try_preadv(views, 65536 - 1024) == 1024
        assert b"".join(views) == bytes(1024)
        assert one.instance != two.instance


def test_null_reads_zeros_and_forgets() -> None:
    with closing(open_backend(Spec(target="null:1G", read_only=True))) as backend:
        assert backend.size == 1 << 30
        assert backend.read_only
        view = memoryview(bytearray(b"x" * 600_000))
        backend.pwritev([view], 0)
        backend.flush()
        backend.preadv([view, view[:10]], 0)
        assert bytes(view) == bytes(600_000)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("memory:lots", "a size is a number"),
        ("null:", "a size is a number"),
        ("null:511", "at least 512"),
        ("memory:7P", "is not to be had"),
    ],
)
def test_sizes_that_cannot_be(target: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_backend(Spec(target=target))


def test_odd_size_is_rounded_down() -> None:
    with closing(open_backend(Spec(target="null:1000"))) as backend:
        assert backend.size == 512


@pytest.mark.parametrize(
    ("target", "path"),
    [("disk.img", True), ("memory", True), ("./memory:1M", True), ("a:b", True), ("null:1", False)],
)
def test_prefix_or_path(target: str, path: bool) -> None:
    assert is_path(target) is path
