"""The examples of ``docs/embed.md`` run, print what the page says, and stay short."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vdc
from tests.support.daemons import ROOT, run
from tests.support.waiting import wait_until

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGE = (ROOT / "docs" / "embed.md").read_text(encoding="utf-8")
SIZE = 16 << 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_under_80_lines_and_on_the_page(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    assert f"(../examples/{path.name})" in PAGE


def test_a_session_in_memory_prints_what_the_page_says() -> None:
    printed = run(sys.executable, "examples/session_in_memory.py")
    assert f"```\n{printed}```" in PAGE


def test_code_on_the_page_prints_what_stands_below_it() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == PAGE.count("```python")
    for code, below in blocks:
        assert run(sys.executable, "-c", code) == below


def test_the_driver_on_the_page_is_that_of_the_example() -> None:
    [loop] = re.findall(
        r"^def settle.*?\n\n\n", (ROOT / "examples" / "session_in_memory.py").read_text(), re.M | re.S
    )
    assert loop in PAGE


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[str]:
    """The second example as a process; the URI of its disk."""
    socket = tmp_path / "own.sock"
    words = [sys.executable, "-W", "always::ResourceWarning", "examples/own_server.py", str(socket)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_until(socket.exists, "the socket of the example")
        yield f"vdisk+unix:///any?socket={socket}"
        assert process.poll() is None, "the server died"
        process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == b"", "it closes what it has opened"


def test_a_server_of_ones_own_serves_vdc(own_server: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(random.Random(1).randbytes(SIZE))
    run(sys.executable, "-m", "vdc", "copy", "--verify", image, own_server)
    assert '"size": 16777216' in run(sys.executable, "-m", "vdc", "info", "--json", own_server)
    back = tmp_path / "back.img"
    run(sys.executable, "-m", "vdc", "copy", own_server, back)
    assert back.read_bytes() == image.read_bytes()


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_a_server_of_ones_own_says_how_it_is_used(arguments: list[str]) -> None:
    words = [sys.executable, "examples/own_server.py", *arguments]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: own_server.py [-h] SOCKET\n")


def test_a_server_of_ones_own_outlives_its_clients(own_server: str) -> None:
    for number in range(3):
        with vdc.connect(own_server) as disk:
            disk.pwrite(SIZE - 512, bytes([number]) * 512)
            disk.flush()
            assert disk.pread(SIZE - 512, 512) == bytes([number]) * 512
    with pytest.raises(OSError, match="only shared memory here"):
        vdc.connect(f"{own_server}&transport=socket")
