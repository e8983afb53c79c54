"""The capture file: opened or refused, written at once, given up at the first error and never in the way."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import resource
import stat
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from hypervisor.capture import Capture
from hypervisor.filelock import lock
from protocol.capture import Direction, Frame, How, Note, NoteKind, Reader, build_frame
from tests.support.captures import CaptureFile

PACKET = bytes(range(64))
ENTRY = bytes(48)


@pytest.fixture
def path(tmp_path: Path, no_leak: None) -> Path:
    return tmp_path / "trace.pcapng"


@pytest.fixture
def fifo(tmp_path: Path, no_leak: None) -> Iterator[tuple[Path, int]]:
    """A FIFO and the descriptor that reads it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, fd
    os.close(fd)


class TestWriting:
    def test_each_tap_is_an_interface(self, path: Path) -> None:
        with Capture(path, "vds", clock=itertools.count(1000).__next__) as capture:
            one = capture.tap("disk0#1", "client process 1, user 0, shm")
            two = capture.tap("disk1#2", "client process 2, user 0, socket")
            two.queue(Direction.OUTBOUND, 512)
            one.packet(Direction.INBOUND, PACKET)
            two.entry(Direction.OUTBOUND, NoteKind.FINISHED, 7, None, ENTRY)
            one.entry(Direction.INBOUND, NoteKind.TAKEN, 3, 9, ENTRY)
        file = CaptureFile(path)
        assert [(link.name, link.description) for link in file.interfaces] == [
            ("disk0#1", "client process 1, user 0, shm"),
            ("disk1#2", "client process 2, user 0, socket"),
        ]
        assert file.steps == [
            (1, Direction.OUTBOUND, None, Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, 512, 0)),
            (0, Direction.INBOUND, PACKET, None),
            (1, Direction.OUTBOUND, None, Note(NoteKind.FINISHED, How.POLLING, 7, 0, ENTRY)),
            (0, Direction.INBOUND, None, Note(NoteKind.TAKEN, How.MESSAGE, 3, 9, ENTRY)),
        ]
        assert file.times == [1000, 1001, 1002, 1003]
        assert not file.is_cut_short

    def test_each_frame_is_in_the_file_at_once(self, path: Path) -> None:
        """Nothing is lost with a process that is killed."""
        with Capture(path, "vds") as capture:
            tap = capture.tap("disk0#1", "")
            for count in range(1, 4):
                tap.packet(Direction.INBOUND, PACKET)
                assert CaptureFile(path).packets(Direction.INBOUND) == [PACKET] * count

    def test_the_writer_is_named(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metadata, "version", lambda _name: "1.2.3")
        Capture(path, "vdc").close()
        assert b"vdc 1.2.3" in path.read_bytes()

    def test_the_writer_is_named_where_nothing_is_installed(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(name: str) -> str:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "version", missing)
        Capture(path, "vdc").close()
        assert b"vdc\x00" in path.read_bytes()

    def test_a_file_is_overwritten(self, path: Path) -> None:
        path.write_bytes(b"x" * 10000)
        Capture(path, "vds").close()
        assert not CaptureFile(path).is_cut_short
        assert path.stat().st_size < 300

    def test_a_pipe_will_do(self, fifo: tuple[Path, int]) -> None:
        path, fd = fifo
        with Capture(path, "vds") as capture:
            capture.tap("disk0#1", "").packet(Direction.INBOUND, PACKET)
        reader = Reader()
        reader.receive_data(os.read(fd, 65536))
        reader.next_event()
        frame = reader.next_event()
        assert isinstance(frame, Frame)
        assert frame.data == PACKET

    def test_after_closing_nothing_is_written_and_nothing_fails(self, path: Path) -> None:
        capture = Capture(path, "vds")
        tap = capture.tap("disk0#1", "")
        states = [capture.is_open]
        capture.close()
        capture.close()
        states.append(capture.is_open)
        assert states == [True, False]
        size = path.stat().st_size
        tap.packet(Direction.INBOUND, PACKET)
        capture.tap("disk0#2", "")
        assert path.stat().st_size == size


class TestRefusing:
    @pytest.mark.parametrize(
        ("name", "number"),
        [("", errno.EISDIR), ("missing/x", errno.ENOENT), ("file/x", errno.ENOTDIR), ("full", errno.ENOSPC)],
    )
    def test_what_cannot_be_written(self, tmp_path: Path, no_leak: None, name: str, number: int) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "full").symlink_to("/dev/full")
        with pytest.raises(OSError, match="capture: ") as caught:
            Capture(tmp_path / name, "vds")
        assert caught.value.errno == number
        assert caught.value.filename == str(tmp_path / name)

    def test_a_fifo_that_nobody_reads(self, path: Path) -> None:
        os.mkfifo(path)
        with pytest.raises(OSError, match="FIFO that nobody reads"):
            Capture(path, "vds")

    def test_a_block_device(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path.write_bytes(b"a disk")
        monkeypatch.setattr(stat, "S_ISBLK", lambda _mode: True)
        with pytest.raises(OSError, match="block device"):
            Capture(path, "vds")
        monkeypatch.undo()
        assert path.read_bytes() == b"a disk"

    def test_a_disk_in_use_is_left_as_it_is(self, path: Path) -> None:
        path.write_bytes(b"a disk")
        fd = os.open(path, os.O_RDWR)
        try:
            lock(fd, str(path), exclusive=True)
            with pytest.raises(OSError, match="capture: in use by process") as caught:
                Capture(path, "vds")
        finally:
            os.close(fd)
        assert caught.value.errno == errno.EBUSY
        assert path.read_bytes() == b"a disk"

    def test_the_capture_of_another(self, path: Path) -> None:
        with Capture(path, "vds") as capture:
            capture.tap("disk0#1", "")
            size = path.stat().st_size
            with pytest.raises(OSError, match="in use"):
                Capture(path, "vdc")
            assert path.stat().st_size == size


class TestFailing:
    @pytest.mark.parametrize("room", [0, 1, 100, len(b"".join(build_frame(0, 0, Direction.INBOUND, PACKET)))])
    def test_a_full_disk_ends_the_capture_and_nothing_else(
        self, path: Path, room: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The last frame is begun and does not fit: what is left of the file is whole; said once."""
        frame = len(b"".join(build_frame(0, 0, Direction.INBOUND, PACKET)))
        capture = Capture(path, "vds")
        tap = capture.tap("disk0#1", "")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = path.stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + frame + room, before[1]))
            with caplog.at_level(logging.ERROR, "vds"):
                for _ in range(10):
                    tap.packet(Direction.INBOUND, PACKET)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        whole = 1 + room // frame
        assert path.stat().st_size == size + frame * whole
        assert not capture.is_open
        assert caplog.messages == [f"{path}: the capture ends here: File too large"]
        file = CaptureFile(path)
        assert file.packets(Direction.INBOUND) == [PACKET] * whole
        assert not file.is_cut_short

    def test_a_pipe_that_nobody_empties_is_not_waited_for(
        self, fifo: tuple[Path, int], caplog: pytest.LogCaptureFixture
    ) -> None:
        path, _ = fifo
        with Capture(path, "vdc") as capture, caplog.at_level(logging.ERROR, "vdc"):
            tap = capture.tap("disk0#1", "")
            for _ in range(5000):
                tap.packet(Direction.INBOUND, PACKET)
            assert not capture.is_open
        assert caplog.messages == [f"{path}: the capture ends here: Resource temporarily unavailable"]

    def test_a_pipe_whose_reader_goes_away(
        self, tmp_path: Path, no_leak: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "fifo"
        os.mkfifo(path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        capture = Capture(path, "vdc")
        os.close(fd)
        tap = capture.tap("disk0#1", "")
        tap.packet(Direction.INBOUND, PACKET)
        assert caplog.messages == [f"{path}: the capture ends here: Broken pipe"]
