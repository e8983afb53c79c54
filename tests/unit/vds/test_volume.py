"""vds.volume: NAME=BACKEND,option,option."""

from __future__ import annotations

import errno
import os

import pytest

from protocol.errors import ConfigError
from protocol.vdisk.operations import Operation
from vds.volume import Volume, parse_volume


def test_plain_volume() -> None:
    volume = parse_volume("disk0=/srv/disk.img")
    assert (volume.name, volume.backend, volume.options) == ("disk0", "/srv/disk.img", ())
    assert not (volume.read_only)
    assert not (volume.write_cache)
    assert not (volume.direct)
    assert not (volume.share)
    assert not volume.layers.any
    assert volume.block_size is None


def test_options() -> None:
    volume = parse_volume("d=x.img,wce,direct,share,blocksize=4096")
    assert volume.write_cache
    assert volume.direct
    assert volume.share
    assert volume.block_size == 4096
    assert volume.options == ("wce", "direct", "share", "blocksize=4096")
    assert parse_volume("d=x.img,ro").read_only


def test_layers() -> None:
    volume = parse_volume(
        "d=x.img,error-rate=5%,error-op=read+flush,error-errno=ENOSPC,error-file=armed,"
        "delay-read=50ms,delay-write=2s,delay-flush=1,pause-file=/run/pause"
    )
    layers = volume.layers
    assert layers.error_rate == pytest.approx(0.05)
    assert layers.error_operations == {Operation.BREAD, Operation.FLUSH}
    assert layers.error_errno == errno.ENOSPC
    assert layers.error_file == os.path.abspath("armed")
    assert layers.delays == {Operation.BREAD: 0.05, Operation.BWRITE: 2.0, Operation.FLUSH: 1.0}
    assert layers.pause_file == "/run/pause"


def test_doubled_comma_is_a_comma() -> None:
    volume = parse_volume("d=a,,b=c.img,ro")
    assert (volume.backend, volume.options) == ("a,b=c.img", ("ro",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("disk.img", "NAME=BACKEND"),
        ("d=", "NAME=BACKEND"),
        ("=x", "a name has letters"),
        ("../d=x", "a name has letters"),
        ("d" * 256 + "=x", "a name has letters"),
        ("d=,ro", "no backend"),
        ("d=x,rw", "no such option; there are"),
        ("d=x,ro=1", "takes no value"),
        ("d=x,blocksize=1024", "512 or 4096"),
        ("d=x,blocksize", "512 or 4096"),
        ("d=x,error-rate=2", "rate"),
        ("d=x,error-op=trim", "read, write, flush"),
        ("d=x,error-errno=5", "EIO"),
        ("d=x,error-errno=errorcode", "EIO"),
        ("d=x,delay-read=fast", "duration"),
        ("d=x,pause-file=", "path"),
        ("d=x,ro,wce", "no write cache"),
    ],
)
def test_bad_volumes(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse_volume(text)


@pytest.mark.parametrize("block_size", [0, -512, 513, 1024])
def test_volume_that_was_not_parsed_has_no_other_blocks_either(block_size: int) -> None:
    with pytest.raises(ConfigError, match="must be 512 or 4096"):
        Volume(name="d", backend="null:1M", block_size=block_size)
