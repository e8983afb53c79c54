"""vds.backends.device: block devices, real loop devices among them."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from vds.backends import Spec, open_backend
from vds.backends import device as device_module
from vds.backends.device import DeviceBackend

pytestmark = pytest.mark.xdist_group("loop")  # tests with loop devices take each other's

MIB = 1 << 20
Attach = Callable[..., str]


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Attach]:
    """Makes a loop device of a file, with options of losetup(8); takes all of them away again."""
    devices: list[str] = []

    def attach(size: int, *options: str) -> str:
        path = tmp_path / f"loop{len(devices)}.img"
        path.write_bytes(os.urandom(size))
        command = ["losetup", "--find", "--show", *options, str(path)]
        devices.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        return devices[-1]

    yield attach
    for device in devices:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_loop_device_is_read_and_written(attach: Attach, tmp_path: Path) -> None:
    device = attach(MIB)
    with closing(open_backend(Spec(target=device))) as backend:
        assert (backend.kind, backend.size, backend.block_size) == ("device", MIB, 512)
        view = memoryview(bytearray(4096))
        backend.preadv([view], MIB - 4096)
        assert bytes(view) == (tmp_path / "loop0.img").read_bytes()[-4096:]
        backend.pwritev([memoryview(b"w" * 4096)], 4096)
        backend.flush()
    assert (tmp_path / "loop0.img").read_bytes()[4096:8192] == b"w" * 4096


def test_own_block_size(attach: Attach) -> None:
    device = attach(MIB, "--sector-size", "4096")
    with closing(open_backend(Spec(target=device, direct=True, block_size=4096))) as backend:
        assert backend.block_size == 4096
        backend.preadv([memoryview(bytearray(4096))], 4096)


def test_direct_io_below_the_block_size(attach: Attach) -> None:
    device = attach(MIB, "--sector-size", "4096")
    with pytest.raises(OSError, match="blocksize=4096"):
        open_backend(Spec(target=device, direct=True, block_size=512))


def test_read_only_device(attach: Attach) -> None:
    device = attach(MIB, "--read-only")
    with pytest.raises(OSError, match="'ro'"):
        open_backend(Spec(target=device))
    with closing(open_backend(Spec(target=device, read_only=True))) as backend:
        backend.preadv([memoryview(bytearray(512))], 0)


def test_device_attached_anew_is_another_instance(attach: Attach, tmp_path: Path) -> None:
    device = attach(MIB)
    with closing(open_backend(Spec(target=device))) as backend:
        first = backend.instance
    with closing(open_backend(Spec(target=device))) as backend:
        assert backend.instance == first
    subprocess.run(["losetup", "--detach", device], check=True)
    again = ["losetup", device, str(tmp_path / "loop0.img")]
    wait_until(lambda: not subprocess.run(again, check=False).returncode, f"{device} to be free again")
    with closing(open_backend(Spec(target=device))) as backend:
        assert backend.instance != first


def test_second_writer_is_refused(attach: Attach) -> None:
    device = attach(MIB)
    with (
        closing(open_backend(Spec(target=device))),
        pytest.raises(OSError, match=f"in use by process {os.getpid()}"),
    ):
        open_backend(Spec(target=device))


def test_device_without_a_medium(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    device = attach(MIB)
    monkeypatch.setattr(device_module, "_ask", lambda fd, request, answer: 0)
    with pytest.raises(OSError, match="the device is empty") as caught:
        open_backend(Spec(target=device, read_only=True))
    assert caught.value.errno == errno.ENOMEDIUM


def test_kernel_that_does_not_number_attachments(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    device = attach(MIB)
    monkeypatch.setattr(device_module, "BLKGETDISKSEQ", 0x125E00)  # no such request
    with closing(open_backend(Spec(target=device))) as backend:
        assert len(backend.instance) == 16


def test_what_is_no_device(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(512))
    with pytest.raises(OSError, match="not a block device"):
        DeviceBackend(Spec(target=str(path)))
