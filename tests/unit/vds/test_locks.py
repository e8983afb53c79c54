"""hypervisor.filelock, as the backends use it: two writers on one backend."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from vds.backends import Backend, Spec, open_backend


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file to fight over."""
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return path


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what was opened."""
    with ExitStack() as stack:
        yield stack


def _open(opened: ExitStack, image: Path, *, ro: bool = False, share: bool = False) -> Backend:
    return opened.enter_context(closing(open_backend(Spec(target=str(image), read_only=ro, share=share))))


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ({}, {}, False),
        ({}, {"ro": True}, False),
        ({}, {"share": True}, False),
        ({"ro": True}, {}, False),
        ({"share": True}, {}, False),
        ({"share": True}, {"share": True}, True),
        ({"ro": True}, {"ro": True}, True),
        ({"ro": True}, {"share": True}, True),
    ],
)
def test_who_goes_with_whom(
    opened: ExitStack, image: Path, first: dict[str, bool], second: dict[str, bool], together: bool
) -> None:
    _open(opened, image, **first)
    if together:
        _open(opened, image, **second)
    else:
        with pytest.raises(OSError, match="in use by process") as caught:
            _open(opened, image, **second)
        assert caught.value.errno == errno.EBUSY
        assert caught.value.filename == str(image)


def test_holder_is_named(image: Path) -> None:
    code = (
        "import sys; from vds.backends import Spec, open_backend; "
        "backend = open_backend(Spec(target=sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(OSError, match=rf"in use by process {process.pid} \(python"):
            open_backend(Spec(target=str(image)))
    open_backend(Spec(target=str(image))).close()


def test_close_gives_the_lock_back(opened: ExitStack, image: Path) -> None:
    open_backend(Spec(target=str(image))).close()
    _open(opened, image)


def test_holder_that_cannot_be_seen(opened: ExitStack, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _open(opened, image)
    monkeypatch.setattr(os, "listdir", lambda path: [str(2**22 + 1), "self"])  # a pid beyond all
    with pytest.raises(OSError, match="whose process cannot be seen"):
        _open(opened, image)


def test_file_system_without_locks_is_served_with_a_warning(
    opened: ExitStack, image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(fd: int, command: int, argument: bytes) -> bytes:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    _open(opened, image)
    assert "has no locks" in caplog.text


def test_other_errors_are_passed_on(opened: ExitStack, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, command: int, argument: bytes) -> bytes:
        raise OSError(errno.EIO, "server gone")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with pytest.raises(OSError, match="server gone"):
        _open(opened, image)


def test_process_that_ends_while_it_is_looked_for(
    opened: ExitStack, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptors and its name may go at any moment."""
    _open(opened, image)
    real = Path.read_text

    def gone(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path.name == "comm" or path.name == "0":
            raise FileNotFoundError(errno.ENOENT, "gone", str(path))
        return real(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", gone)
    with pytest.raises(OSError, match=rf"process {os.getpid()} \(gone by now\)"):
        _open(opened, image)


def test_programs_that_lock_as_qemu_does_are_not_kept_out(opened: ExitStack, image: Path) -> None:
    """QEMU locks single bytes from 100 and from 200 on."""
    _open(opened, image)
    with image.open("r+b") as file:
        for byte in (100, 203):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
