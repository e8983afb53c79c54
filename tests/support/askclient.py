"""A disk that is asked for anything: any operation, of any length, which no front end of ours would send."""

from __future__ import annotations

import select

from protocol.errors import DiskError
from vdc.engine import Engine
from vdc.requests import Request
from vdc.uri import Target

__all__ = ["Asker"]


class Asker:
    """Drives a :class:`vdc.engine.Engine` one request at a time."""

    def __init__(self, uri: str) -> None:
        self.engine = Engine(Target.parse(uri), self)

    def changed(self) -> None:
        """Nothing to do: the loop below looks at everything. Source: :class:`vdc.engine.Driver`."""

    def detach(self, fd: int) -> None:
        """Nobody watches between two turns. Source: :class:`vdc.engine.Driver`."""

    def ask(self, operation: int, nbytes: int, *, connections: int | None = None) -> bytes | DiskError | None:
        """Send one request; its data, its error, or None if it was asked on ``connections`` in vain.

        What is in vain is withdrawn: the disk is closed then.
        """
        answers: list[bytes | DiskError] = []

        def finish(request: Request, error: DiskError | None) -> None:
            answers.append(error or request.result or b"")

        self.engine.submit(Request(operation, 0, nbytes, finish))
        while not answers:
            if connections is not None and self.engine.connections > connections:
                self.engine.close()
                return None
            self._turn()
        return answers[0]

    def _turn(self) -> None:
        engine = self.engine
        engine.tick()
        engine.ring(sleeping=True)
        fd = engine.fileno()
        readable, _, _ = select.select([fd] if fd is not None else [], [], [], 0.01)
        if readable:
            engine.readable()

    def close(self) -> None:
        """End the disk."""
        self.engine.close()
