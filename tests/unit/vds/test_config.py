"""vds.config: the command line over a file over defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import ConfigError
from vds.config import Config, make_config


def _file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "vds.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_defaults() -> None:
    config = make_config({})
    assert config == Config()
    assert (config.max_channels, config.poll_us, config.threads, config.stop_timeout) == (4096, 50, 4, 10.0)
    assert (config.loop, config.log_level, config.allow_uid) == ("uvloop", "info", None)


def test_file_is_read(tmp_path: Path) -> None:
    text = """
    listen = "/run/vds.sock"
    capture = "/tmp/trace.pcapng"
    allow-uid = [0, 1000]
    poll_us = 0
    stop-timeout = "500ms"
    exit-with-parent = true

    [volume.disk0]
    backend = "/srv/a,b.img"
    ro = true
    wce = false
    error-rate = "1%"

    [volume.disk1]
    backend = "memory:64M"
    options = ["wce", "blocksize=4096"]
    """
    config = make_config({}, file=_file(tmp_path, text))
    assert config.listen == "/run/vds.sock"
    assert config.capture == "/tmp/trace.pcapng"
    assert config.allow_uid == (0, 1000)
    assert (config.poll_us, config.stop_timeout, config.exit_with_parent) == (0, 0.5, True)
    first, second = config.volumes
    assert (first.name, first.backend, first.read_only) == ("disk0", "/srv/a,b.img", True)
    assert first.layers.error_rate == pytest.approx(0.01)
    assert (second.name, second.write_cache, second.block_size) == ("disk1", True, 4096)


def test_what_is_given_overrides_the_file_and_defaults_do_not(tmp_path: Path) -> None:
    file = _file(tmp_path, 'poll-us = 7\nthreads = 2\n[volume.a]\nbackend = "x"\n[volume.b]\nbackend = "y"\n')
    config = make_config({"threads": 3}, ["b=z,ro", "c=w"], file)
    assert (config.poll_us, config.threads) == (7, 3)
    assert [(volume.name, volume.backend) for volume in config.volumes] == [
        ("a", "x"),
        ("b", "z"),
        ("c", "w"),
    ]


def test_shown_configuration_is_one_that_can_be_read(tmp_path: Path) -> None:
    config = make_config({"listen": "s", "poll_us": 1}, ["a=memory:1M,wce"])
    shown = config.as_dict()
    assert shown["poll-us"] == 1
    assert shown["volume"] == {"a": {"backend": "memory:1M", "options": ["wce"]}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen", ""),
        ("listen", 5),
        ("allow_uid", -1),
        ("allow_uid", ["root"]),
        ("max_channels", 0),
        ("max_channels", True),
        ("poll_us", 1.5),
        ("threads", 65),
        ("stop_timeout", -1),
        ("stop_timeout", "soon"),
        ("stop_timeout", False),
        ("stop_timeout", float("nan")),
        ("capture", ""),
        ("capture", "a\0b"),
        ("capture", True),
        ("loop", "trio"),
        ("log_level", 3),
        ("exit_with_parent", "yes"),
    ],
)
def test_bad_values(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key.replace("_", "-")):
        make_config({key: value})


@pytest.mark.parametrize(
    ("capture", "what"),
    [
        ("link", "the backend of volume b"),
        ("hard", "the backend of volume b"),
        ("sub/../new.img", "the backend of volume c"),
        ("./s", "the socket to listen on"),
    ],
)
def test_what_is_used_is_not_the_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: str, what: str
) -> None:
    """Neither under another name, nor before it is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").write_bytes(bytes(512))
    (tmp_path / "hard").hardlink_to("image")
    (tmp_path / "link").symlink_to("image")
    (tmp_path / "sub").mkdir()
    volumes = ["a=memory:1M", "b=image", "c=new.img"]
    with pytest.raises(ConfigError) as caught:
        make_config({"listen": "s", "capture": capture}, volumes)
    assert str(caught.value) == f"capture={capture}: this is {what}, it cannot be the capture"
    path = _file(tmp_path, f'listen = "s"\ncapture = "{capture}"')
    with pytest.raises(ConfigError, match=r"vds\.toml: capture="):
        make_config({}, volumes, file=path)
    assert make_config({"capture": "trace"}, volumes, file=path).capture == "trace"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("listen", "no TOML"),
        ("poll = 5", "no such setting; there are listen"),
        ("poll-us = -1", "whole number"),
        ("volume = 5", "tables"),
        ("[volume]\na = 1", "tables"),
        ("[volume.a]\nro = true", "no backend"),
        ("[volume.a]\nbackend = 5", "backend is a string"),
        ('[volume.a]\nbackend = "x"\noptions = "ro"', "list"),
        ('[volume.a]\nbackend = "x"\nrw = true', "no such option"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        make_config({}, file=_file(tmp_path, text))
    assert "vds.toml" in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        make_config({}, file=str(tmp_path / "none"))


def test_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bin").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no TOML"):
        make_config({}, file=str(tmp_path / "bin"))


def test_volume_given_twice() -> None:
    with pytest.raises(ConfigError, match="given twice"):
        make_config({}, ["a=x", "a=y"])
