"""Captures of real conversations, shown by tshark: every field by its name, and what was really sent.

The dissector and ``explain`` share their declarations with the code that sent the packets; here they are held
against what the client was asked to do, and against all that the end-to-end suite does.
"""

from __future__ import annotations

import logging
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import vdc
from protocol import structures
from protocol.capture import NoteKind
from protocol.vdisk.operations import Operation
from tests.support import tshark
from tests.support.daemons import CAPTURES, ROOT
from tests.support.foreignserver import ForeignServer

BLOCK = 512
SIZE = 6147 * BLOCK
ROUNDS = 30

SENT = (
    *("vio_ver_msg", "vio_dring_reg_msg", "vio_rdx_msg", "vio_dring_msg", "vd_attr_msg", "vd_dring_entry"),
    *("ldc_packet_unreliable", "ldc_packet_ver", "vio_msg_tag"),
)


@pytest.mark.parametrize("transport", ["shm", "socket"])
def test_tshark_shows_what_the_client_sent(
    transport: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Handshake, reads, writes, a reset and what is sent again after it, with a server of Solaris' make."""
    caplog.set_level(logging.INFO)
    image, path = tmp_path / "disk.img", tmp_path / "session.pcapng"
    image.write_bytes(random.Random(transport).randbytes(SIZE))
    with ForeignServer("solaris", transport, image, "reset@40") as server:
        with vdc.Capture(path, "test") as capture, vdc.connect(server.uri, capture=capture) as disk:
            asked = exercise(disk)
            size, version = disk.size, disk.version
        counts = server.counts()
    assert counts["resets"] == 1
    again = sum(int(number) for number in re.findall(r"(\d+) requests resubmitted", caplog.text))
    assert again > 0, "nothing was under way at the reset"

    assert tshark.complaints(path) == []
    entry = [f"vd_dring_entry.{field}" for field in ("req_id", "operation", "addr", "nbytes", "slice")]
    submitted = tshark.dissect(path, *entry, display_filter=f"capture_note.kind == {NoteKind.SUBMITTED}")
    sent = [tuple(int(cell[0], 0) for cell in row) for row in submitted]
    assert len(sent) == len(asked) + again
    first = {req_id: tuple(rest) for req_id, *rest in reversed(sent)}
    assert [first[req_id][:3] for req_id in sorted(first)] == asked
    assert sorted(Counter(req_id for req_id, *_ in sent).values()) == [1] * (len(asked) - again) + [2] * again
    assert {part for *_, part in sent} == {0xFF}

    answered = tshark.dissect(
        path,
        *("vd_dring_entry.status", "vd_dring_entry.nbytes", "vd_dring_entry.req_id"),
        display_filter=f"capture_note.kind == {NoteKind.ANSWERED}",
    )
    assert {int(row[0][0], 0) for row in answered} == {0}
    assert {int(row[2][0]): int(row[1][0]) for row in answered} == {
        req_id: nbytes for req_id, (_, _, nbytes, _) in first.items()
    }
    versions = tshark.dissect(path, "vio_ver_msg.major", "vio_ver_msg.minor", display_filter="vio_ver_msg")
    assert (tuple(int(cell[0]) for cell in versions[-1])) == version == (1, 1)
    sizes = tshark.dissect(path, "vd_attr_msg.vdisk_size", display_filter="vd_attr_msg.vdisk_size > 0")
    assert {int(row[0][0]) * BLOCK for row in sizes} == {size}


def exercise(disk: vdc.BlockingDisk) -> list[tuple[int, int, int]]:
    """Read and write at all sorts of places, eight at a time; (operation, addr, nbytes) in that order."""
    dice = random.Random(11)
    asked: list[tuple[int, int, int]] = []
    for _ in range(ROUNDS):
        waiting = set()
        for start in dice.sample(range(0, SIZE // BLOCK - 16, 16), 8):
            nbytes = dice.randint(1, 16) * BLOCK
            if dice.random() < 0.5:
                asked.append((Operation.BWRITE, start, nbytes))
                waiting.add(disk.submit_write(start * BLOCK, dice.randbytes(nbytes)))
            else:
                asked.append((Operation.BREAD, start, nbytes))
                waiting.add(disk.submit_read(start * BLOCK, nbytes))
        while waiting:
            waiting -= {token for token, _ in disk.wait()}
    return asked


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_end_to_end_suite_has_not_one_malformed_packet(tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--loops", "uvloop"),
            "tests/interop/test_end_to_end.py",
        ],
        cwd=ROOT,
        env={**os.environ, CAPTURES: str(tmp_path)},
        stdout=subprocess.DEVNULL,
        timeout=400,
        check=True,
    )
    (path,) = tmp_path.glob("*.pcapng")
    names: set[str] = set()
    frames = 0
    for line in tshark.lines(path):
        frames += line.startswith("Frame ")
        assert not re.search(r"[Mm]alformed|Lua Error|Expert Info \((Warning|Error)", line), line
        names.update(re.findall(r"^ +(\w+)(?:\[\d+\])?(?:: |$)", line))
    assert frames > 50_000, "a suite this short has shown next to nothing"
    expected = {row.name for name in SENT for row in structures.STANDARD[name].fields}
    assert sorted(expected - names) == []
