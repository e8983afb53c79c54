"""Clients of other makes, as scripts of raw octets, against the real server process.

They speak FWARC 2010/054 (VIO), 2006/571 (LDC) and 2008/424 (shared memory) as Solaris' vdc, Linux' sunvdc,
OpenBSD's vdsk and boot firmware do (``tests/vectors/README.md``). Each compares every octet of every answer
and ends with 1 at the first difference.
"""

import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import ROOT, VdsServer, run

SCRIPTS = ("client_openbsd", "client_solaris", "client_linux", "client_inband", "client_faults")
TRANSPORTS = ("shm", "socket")
IMAGE_SIZE = 6147 * 512
VECTORS = ROOT / "tests" / "vectors"


def image_of(folder: Path, script: str, transport: str) -> Path:
    """The image that this conversation has for itself."""
    return folder / f"{script}-{transport}.img"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image for every conversation, all different, none with a label."""
    folder = tmp_path_factory.mktemp("foreign")
    for number, (script, transport) in enumerate((s, t) for s in SCRIPTS for t in TRANSPORTS):
        image_of(folder, script, transport).write_bytes(random.Random(number).randbytes(IMAGE_SIZE))
    return folder


@pytest.fixture(scope="module")
def vds(folder: Path) -> Iterator[VdsServer]:
    """One server for all of them."""
    volumes = {image.stem: image for image in sorted(folder.glob("*.img"))}
    with VdsServer(folder, volumes) as server:
        yield server


def converse(vds: VdsServer, script: str, transport: str, image: Path, volume: str) -> str:
    """Run a script to its end; what it printed."""
    return run(
        *(sys.executable, "-m", f"tests.vectors.{script}", "--socket", vds.socket, "--volume", volume),
        *("--image", image, "--transport", transport),
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_foreign_client_gets_every_octet_as_specified(
    vds: VdsServer, folder: Path, script: str, transport: str
) -> None:
    image = image_of(folder, script, transport)
    said = converse(vds, script, transport, image, image.stem)
    match = re.fullmatch(r"(\d+) packets compared, (\d+) COPYs served, .* s\n", said)
    assert match is not None, said
    assert int(match[1]) > 100, "a conversation this short compared next to nothing"
    assert (int(match[2]) > 0) == (transport == "socket")


def test_a_session_after_another_client_left_is_as_good_as_the_first(vds: VdsServer, folder: Path) -> None:
    image = image_of(folder, "client_openbsd", "shm")
    for script in ("client_openbsd", "client_inband", "client_faults"):
        converse(vds, script, "shm", image, image.stem)


def test_a_foreign_client_notices_other_data(vds: VdsServer, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(bytes(IMAGE_SIZE))
    image = image_of(folder, "client_solaris", "shm")
    before = image.read_bytes()
    with pytest.raises(AssertionError, match=r"BREAD of 1 at 0: differs at offset 0"):
        converse(vds, "client_solaris", "shm", other, image.stem)
    assert image.read_bytes() == before


@pytest.mark.parametrize("module", sorted(path.stem for path in VECTORS.glob("*.py")))
def test_a_foreign_client_imports_nothing_of_ours(module: str) -> None:
    tree = ast.parse((VECTORS / f"{module}.py").read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name for name in foreign if name.split(".")[:2] != ["tests", "vectors"]} == set()


def test_a_foreign_client_without_a_server_says_so_in_one_line(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(IMAGE_SIZE))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.vectors.client_openbsd", "--socket", tmp_path / "none.sock"),
            *("--volume", "d", "--image", image),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
