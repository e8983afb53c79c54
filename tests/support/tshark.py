"""tshark with the dissector of ``tools/``: what it shows of a capture, and that it finds nothing wrong.

It runs apart from the user's own Wireshark settings and plug-ins. Each call fails the test if tshark ends
with an error or if a Lua error occurred, whatever the capture holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["LUA", "complaints", "dissect", "layers", "lines", "show"]

LUA = Path(__file__).resolve().parents[2] / "tools" / "ldoms.lua"
LIMIT_S = 120.0

TWO_PASSES = ("-2", "-Y")
"""So tshark knows answers to come. It builds a tree in the first pass only if there is a display filter."""

_ROOT_WARNING = "Running as user "  # what tshark says to root: a warning, nothing else
_SEPARATOR = "\x1f"  # between values of a field that occurs several times


def dissect(path: Path, *fields: str, display_filter: str = "frame") -> list[tuple[list[str], ...]]:
    """Return for each frame that matches ``display_filter`` the values of ``fields``."""
    names = [part for field in fields for part in ("-e", field)]
    layout = ("-T", "fields", "-E", "separator=/t", "-E", f"aggregator={_SEPARATOR}", "-E", "occurrence=a")
    lines = _tshark(path, *TWO_PASSES, display_filter, *layout, *names).split("\n")[:-1]
    return [tuple(cell.split(_SEPARATOR) if cell else [] for cell in line.split("\t")) for line in lines]


def layers(path: Path, *options: str) -> list[dict[str, Any]]:
    """Return for each frame its protocols and their fields by name; what occurs twice is a list."""
    frames = json.loads(_tshark(path, *TWO_PASSES, "frame", "-T", "json", "--no-duplicate-keys", *options))
    return [frame["_source"]["layers"] for frame in frames]


def show(path: Path) -> str:
    """Return all that ``tshark -V`` prints."""
    return _tshark(path, "-V")


def complaints(path: Path) -> list[tuple[str, str]]:
    """Return (frame number, message) of each frame with a warning or an error: none in legal traffic."""
    severe = "_ws.malformed || _ws.lua.error || _ws.expert.severity >= 6291456"  # warning
    found = dissect(path, "frame.number", "_ws.expert.message", display_filter=severe)
    return [(number[0], "; ".join(messages)) for number, messages in found]


def lines(path: Path) -> Iterator[str]:
    """Yield what ``tshark -V`` prints, line by line: of a large capture it is too much to hold."""
    with tempfile.TemporaryDirectory() as home:
        command, environment = _command(path, "-V"), _environment(home)
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
        ) as process:
            assert process.stdout is not None
            yield from process.stdout
        assert process.returncode == 0


def _tshark(path: Path, *options: str) -> str:
    """Run tshark on ``path`` and return what it printed."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            _command(path, *options),
            env=_environment(home),
            capture_output=True,
            encoding="utf-8",
            timeout=LIMIT_S,
            check=False,
        )
    said = [line for line in done.stderr.splitlines() if line and not line.startswith(_ROOT_WARNING)]
    assert (done.returncode, said) == (0, []), f"tshark {' '.join(options)}: {done.stderr}"
    assert "Lua Error" not in done.stdout, done.stdout
    return done.stdout


def _command(path: Path, *options: str) -> list[str]:
    return ["tshark", "-r", str(path), "-X", f"lua_script:{LUA}", *options]


def _environment(home: str) -> dict[str, str]:
    """Return an environment in which there are no settings of a user's, and one way to print."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    return {**environment, "HOME": home, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
