"""vds.export: what clients are told of a volume."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from protocol.errors import ConfigError
from protocol.vdisk.descriptor import Request
from protocol.vdisk.operations import Operation
from tests.unit.vds.backend import HeldBackend
from vds.export import Export, open_export
from vds.volume import parse_volume


def _request(operation: Operation, addr: int = 0, nbytes: int = 512, slice_: int = 0xFF) -> Request:
    return Request(req_id=1, operation=operation, slice=slice_, addr=addr, nbytes=nbytes, cookies=())


def _export(text: str) -> Export:
    return open_export(parse_volume(text))


def test_full_disk() -> None:
    export = _export("disk0=memory:256M")
    assert (export.block_size, export.size, export.read_only) == (512, 256 << 20, False)
    assert export.attributes.size_blocks == 524288
    assert export.attributes.operations == 0x2010E
    assert export.attributes.max_xfer_blocks * 512 == 1 << 20
    assert export.describe() == "disk0 (256.0 MiB, memory, rw)"
    export.close()


def test_read_only_disk_offers_no_writing() -> None:
    export = _export("d=null:1M,ro")
    assert export.attributes.operations == 0x20102
    assert export.describe() == "d (1.0 MiB, null, ro)"


def test_write_cache_is_mentioned() -> None:
    assert _export("d=null:1M,wce").describe() == "d (1.0 MiB, null, rw, wce)"


def test_large_blocks() -> None:
    export = _export("d=null:10000,blocksize=4096")
    assert (export.block_size, export.size, export.attributes.size_blocks) == (4096, 8192, 2)
    assert export.attributes.phys_block_size == 4096
    assert export.attributes.max_xfer_blocks == 256


def test_capacity_and_geometry() -> None:
    export = _export("d=null:256M,blocksize=4096")
    assert export.facts(Operation.GET_CAPACITY) == bytes.fromhex("00001000000000000000000000010000")
    geometry = export.facts(Operation.GET_DISKGEOM)
    # 256 MiB: 1 head, 600 sectors, 873 cylinders of which 2 alternate, 7200 rpm
    assert geometry == bytes.fromhex("0367 0002 0000 0001 0258 0000 0000 1c20 0369 0000 0000 0000")


def test_backend_smaller_than_a_block() -> None:
    with pytest.raises(ConfigError, match="not one block"):
        _export("d=null:2048,blocksize=4096")


def test_backend_that_is_no_size() -> None:
    with pytest.raises(ConfigError, match="a size is a number"):
        _export("d=memory:much")


def test_direct_io_in_blocks_smaller_than_the_backends(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(8192))
    volume = parse_volume(f"d={path},direct,blocksize=512")
    with closing(open_export(volume)) as export:
        export.backend.block_size = 4096
        with pytest.raises(ConfigError, match="at least 4096"):
            Export(volume, export.backend)


def test_layers_report_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    export = _export("d=null:1M,error-rate=100%")
    export.layers.fault(Operation.BREAD)
    export.close()
    assert "d: injected 1 errors (1 read)" in caplog.text


@pytest.mark.parametrize(
    ("block_size", "size"), [(0, 1 << 20), (513, 1 << 20), (-512, 1 << 20), (2 << 20, 4 << 20), (512, -512)]
)
def test_backend_whose_blocks_make_no_disk(block_size: int, size: int) -> None:
    """Neither 512 times a power of two, nor as few bytes as a request may have."""
    backend = HeldBackend(max(size, 0))
    backend.block_size, backend.size = block_size, size
    with pytest.raises(ConfigError, match="disk0"):
        Export(parse_volume("disk0=null:1M"), backend)
