"""The scripted servers of other makes (``tests/vectors``) as processes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import quote

from tests.support.daemons import Daemon

__all__ = ["ForeignServer"]


class ForeignServer(Daemon):
    """A script that serves ``image`` on a socket beside it."""

    def __init__(self, make: str, transport: str, image: Path, *faults: str) -> None:
        self.socket = image.with_suffix(".sock")
        self.transport = transport
        super().__init__(
            *(sys.executable, "-m", f"tests.vectors.server_{make}", "--socket", str(self.socket)),
            *("--volume", "a disk", "--image", str(image), "--transport", transport),
            *(word for fault in faults for word in ("--fault", fault)),
        )

    @property
    def uri(self) -> str:
        """Where the disk is; a server that refuses us ends the test, not the patience."""
        return (
            f"vdisk+unix:///{quote('a disk')}?socket={quote(str(self.socket))}"
            f"&transport={self.transport}&timeout=10"
        )

    def counts(self) -> dict[str, int]:
        """End it; what it saw. Raises: AssertionError (an octet was wrong; all that it said)."""
        code = self.stop()
        assert code == 0, "\n".join(self.lines)
        return {name: int(number) for number, name in re.findall(r"(\d+) ([A-Za-z]+)", self.lines[-1])}
