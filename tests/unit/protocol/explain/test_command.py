"""``python -m protocol explain``: packets and captures in, text out, and what it says to anything else."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.__main__ import main
from tests.support.talk import Talk, ring_data
from tests.support.traced import TracedDisk

ROOT = Path(__file__).resolve().parents[4]
VER = "01010100 00000000 00010000" + "00" * 52
RTS_RELIABLE = "01010203" + "00" * 60


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture of a read, and then of an answer to nothing."""
    talk = Talk()
    talk.begin()
    talk.client(ring_data(1, 1, 0, 0))
    talk.server(ring_data(2, 1, 0, 0))
    talk.server(ring_data(2, 1, 0, 0))
    path = tmp_path / "disk.pcapng"
    path.write_bytes(talk.file.bytes())
    return path


def test_a_packet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", VER]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("CTRL INFO VER\n  LDC   unreliable packet 0: CTRL INFO VER\n")
    assert printed.endswith("    minor             0x0000              0\n\n")


def test_packets_on_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"# two packets\n\n{VER}\n  {RTS_RELIABLE}  \n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(["explain", "--mode", "reliable"]) == 0
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line and not line.startswith(" ")] == [
        "CTRL INFO VER",
        "CTRL INFO RTS",
    ]
    assert "warning" not in printed


def test_only_what_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--warnings", VER, RTS_RELIABLE]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("CTRL INFO RTS\n")
    assert printed.endswith(
        "    warning: mode 3, not 1 [both ends use the same mode: Solaris ldc.c, i_ldc_process_RTS]\n\n"
    )


def test_a_capture(capsys: pytest.CaptureFixture[str], capture: Path) -> None:
    assert main(["explain", str(capture)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("0.000000000  disk#1  sent      our receive queue is configured\n")
    assert printed.endswith("  warnings    1\n\n")
    assert main(["explain", "--warnings", str(capture)]) == 0
    assert capsys.readouterr().out.startswith("0.000017000  disk#1  received  DRING_DATA ACK number 1")
    assert main(["explain", "--summary", str(capture)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "summary of disk#1"


def test_a_capture_that_is_cut_short_is_explained_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], capture: Path
) -> None:
    capture.write_bytes(capture.read_bytes()[:-1])
    assert main(["explain", "--summary", str(capture)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("summary of disk#1\n")
    assert printed.err == f"protocol: {capture}: the capture is cut short; this is all that is there\n"


def test_so_is_one_with_a_block_that_cannot_be(capsys: pytest.CaptureFixture[str], capture: Path) -> None:
    capture.write_bytes(capture.read_bytes() + b"\6\0\0\0\1\0\0\0\0\0\0\0")
    assert main(["explain", "--summary", str(capture)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("summary of disk#1\n")
    assert printed.err == f"protocol: {capture}: a block of 1 bytes\n"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("01", "a packet has 64 bytes, not 1"),
        ("no.pcapng", "no.pcapng: No such file or directory"),
        (str(ROOT), f"{ROOT}: Is a directory"),
        (__file__, f"{__file__}: not a pcapng file"),
        ("/dev/null", "/dev/null: the file is empty\n"),
    ],
)
def test_what_is_neither(capsys: pytest.CaptureFixture[str], argument: str, reason: str) -> None:
    assert main(["explain", argument]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"protocol: {reason}")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("given", [b"", b"\n", b"# no packet\n\n"])
def test_standard_input_without_packets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: bytes
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(["explain"]) == 1
    assert capsys.readouterr() == ("", "protocol: there is no packet on standard input\n")


def test_an_empty_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", VER, ""])
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "",
        "protocol: argument HEX|FILE: an empty name: give a packet in hex or a capture\n",
    )


@pytest.mark.parametrize("given", [["--summary", "--warnings", VER], ["--mode", "fast", VER]])
def test_wrong_usage(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *given])
    assert ended.value.code == 2


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    disk = TracedDisk(bytearray(1 << 19), end="client")
    for _ in range(50):
        disk.pread(0, 1 << 18)
    path = tmp_path / "long.pcapng"
    path.write_bytes(disk.file.bytes())
    with subprocess.Popen(
        [sys.executable, "-m", "protocol", "explain", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"0.000000000  disk#1  sent ")
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""


def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/how-to/explain-a-trace.md").read_text(encoding="utf-8")
    shown = re.search(r"protocol explain ([0-9a-f]{128})\n(.*?)\n```", page, re.DOTALL)
    assert shown is not None
    assert main(["explain", shown[1]]) == 0
    assert capsys.readouterr().out == shown[2] + "\n\n"
