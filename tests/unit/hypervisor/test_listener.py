"""Whom a listener serves, and what it does to a path that is taken."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from hypervisor.listener import REFUSED_KEPT, Listener
from hypervisor.rendezvous import Refused, connect, receive_answer

pytestmark = pytest.mark.usefixtures("no_leak")


def leave_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
        dead.listen()


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_socket_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        listener = Listener(tmp_path / "s", mode=mode)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    listener.close()


def test_path_goes_with_the_listener(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "s")
    assert listener.fileno() >= 0
    listener.close()
    listener.close()
    assert listener.fileno() == -1
    assert not (tmp_path / "s").exists()


def test_path_of_another_server_is_left(tmp_path: Path) -> None:
    first = Listener(tmp_path / "s")
    (tmp_path / "s").unlink()
    second = Listener(tmp_path / "s")
    first.close()
    connect(tmp_path / "s").close()
    second.close()


def test_path_that_is_gone_is_no_error(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "s")
    (tmp_path / "s").unlink()
    listener.close()


def test_live_server_is_refused(tmp_path: Path) -> None:
    first = Listener(tmp_path / "s")
    with pytest.raises(OSError, match="listens on this socket already") as caught:
        Listener(tmp_path / "s")
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == str(tmp_path / "s")
    connect(tmp_path / "s").close()
    first.close()


def test_live_server_of_another_kind_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(tmp_path / "s"))
        stream.listen()
        with pytest.raises(OSError, match="in use, or not ours to try"):
            Listener(tmp_path / "s")


def test_dead_server_is_replaced(tmp_path: Path) -> None:
    leave_dead_socket(tmp_path / "s")
    listener = Listener(tmp_path / "s")
    connect(tmp_path / "s").close()
    listener.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        leave_dead_socket(tmp_path / "link")
        path.symlink_to(tmp_path / kind)
    with pytest.raises(OSError, match="exists and is not a socket") as caught:
        Listener(path)
    assert caught.value.errno == errno.EEXIST
    assert os.path.lexists(path)


@pytest.mark.parametrize(
    ("path", "number"),
    [("nowhere/s", errno.ENOENT), ("file/s", errno.ENOTDIR), ("x" * 108, errno.ENAMETOOLONG)],
)
def test_path_that_cannot_be_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, number: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(OSError, match="socket") as caught:
        Listener(path)
    assert caught.value.errno == number


def test_bind_failure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: socket.socket, address: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(socket.socket, "bind", fail)
    before = os.umask(0o022)
    os.umask(before)
    with pytest.raises(OSError, match="cannot create the socket: Read-only") as caught:
        Listener(tmp_path / "s")
    assert caught.value.filename == str(tmp_path / "s")
    assert os.umask(before) == before


def test_directory_open_to_everybody_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    with pytest.raises(PermissionError, match="other users"):
        Listener(tmp_path / "d" / "s")
    (tmp_path / "d").chmod(0o1777)
    Listener(tmp_path / "d" / "s").close()


def test_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypervisor.listener.default_uids", lambda: frozenset({os.geteuid() + 1}))
    with pytest.raises(PermissionError, match="other users"):
        Listener(tmp_path / "s", allow_uids=[])


def test_own_user_and_root_are_served_by_default(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "s")
    assert listener.allow_uids == {os.geteuid(), 0}
    listener.close()


def test_user_who_is_not_listed_is_told_so(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "s", allow_uids={os.geteuid() + 1})
    client = connect(tmp_path / "s")
    assert listener.accept() is None
    with pytest.raises(Refused, match=f"user {os.geteuid()} is not served here") as caught:
        receive_answer(client)
    assert caught.value.errno == errno.EACCES
    assert [peer.uid for peer in listener.refused] == [os.geteuid()]
    for end in (client, listener):
        end.close()


def test_refused_users_do_not_pile_up(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "s", allow_uids=[])
    for _ in range(REFUSED_KEPT + 5):
        client = connect(tmp_path / "s")
        assert listener.accept() is None
        client.close()
    assert len(listener.refused) == REFUSED_KEPT
    listener.close()


def test_client_that_left_while_waiting_is_harmless(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "s")
    connect(tmp_path / "s").close()
    pending = listener.accept()
    assert pending is not None
    pending.close()
    assert listener.accept() is None
    listener.close()
