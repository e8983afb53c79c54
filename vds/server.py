"""The server: exports opened, a socket listened on, sessions served, and all of it stopped in order.

To stop: accept no more → let requests under way end, within the time allowed → end the sessions → flush →
close. Requests without an answer are left so: a client sends them again when a server is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Awaitable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from hypervisor.capture import Capture
from hypervisor.patience import polling
from hypervisor.rendezvous import Listener
from vds.admission import PENDING_LIMIT, Admission
from vds.config import Config
from vds.execute import Executor
from vds.export import Export, open_export
from vds.poller import Poller

__all__ = ["Server", "reserve_descriptors"]

FDS_PER_CHANNEL: Final = 2
"""A socket, and the mapping of the client's memory."""
FDS_BESIDES: Final = 64
"""Standard streams, event loop, libraries."""
LAST_WORDS_S: Final = 1.0
"""What sessions and a last flush have at least, when all the time allowed has gone into requests."""

log = logging.getLogger("vds")

_T = TypeVar("_T")


def reserve_descriptors(max_channels: int, volumes: int) -> None:
    """Raise the limit of open files to what is needed. Raises: OSError (the hard limit is lower)."""
    needed = FDS_BESIDES + volumes + FDS_PER_CHANNEL * (max_channels + PENDING_LIMIT)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < needed:
        raise OSError(
            f"{max_channels} channels need {needed} open files, the limit is {hard}: "
            "raise it (ulimit -Hn), or give a smaller --max-channels"
        )
    if resource.RLIM_INFINITY != soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Server:
    """Serves the volumes of ``config`` on its socket. In a loop: :meth:`start`, later :meth:`stop`."""

    def __init__(self, config: Config) -> None:
        """Open backends, capture and socket. Raises: OSError, ConfigError; nothing stays open then."""
        assert config.listen is not None
        self.config = config
        self.exports: dict[str, Export] = {}
        self._pools: list[ThreadPoolExecutor] = []
        self._capture: Capture | None = None
        self._admission: Admission | None = None
        self._stopped: asyncio.Task[bool] | None = None
        with contextlib.ExitStack() as undo:
            reserve_descriptors(config.max_channels, len(config.volumes))
            for volume in config.volumes:
                export = open_export(volume)
                undo.callback(export.close)
                self.exports[volume.name] = export
            if config.capture is not None:  # after the backends: it is none of them, they are locked
                self._capture = Capture(config.capture, "vds")
                undo.callback(self._capture.close)
            self._listener = Listener(config.listen, allow_uids=config.allow_uid)
            undo.pop_all()

    def start(self) -> None:
        """Begin to serve, in the running loop, and say so."""
        loop = asyncio.get_running_loop()
        poll_us, why = polling(self.config.poll_us)
        if why:
            log.info(why)
        for export in self.exports.values():
            pool = ThreadPoolExecutor(self.config.threads, thread_name_prefix=f"vds-{export.name}")
            self._pools.append(pool)
            export.executor = Executor(export, pool, loop)
        self._admission = Admission(
            self._listener,
            self.exports,
            Poller(loop, poll_us),
            poll_us=poll_us,
            max_channels=self.config.max_channels,
            capture=self._capture,
        )
        self._admission.open()
        count = len(self.exports)
        described = ", ".join(export.describe() for export in self.exports.values())
        log.info(
            "ready: %d volume%s on %s: %s", count, "" if count == 1 else "s", self._listener.path, described
        )

    async def stop(self) -> bool:
        """Stop in order; False if a request was left without an answer, or the last flush failed.

        Takes at most ``stop_timeout`` and a moment. After False a thread may still be in the backend: the
        process should end without waiting for it. Called again it waits for the same end.
        """
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_task(self._stop())
        return await asyncio.shield(self._stopped)

    def abandon(self) -> None:
        """Leave no socket behind: the process ends now, whatever still runs."""
        self._listener.close()

    async def _stop(self) -> bool:
        assert self._admission is not None
        loop = asyncio.get_running_loop()
        until = loop.time() + self.config.stop_timeout
        self._admission.close()
        executors = [export.executor for export in self.exports.values()]
        left = await _all((executor.stop() for executor in executors), until)
        until = max(until, loop.time() + LAST_WORDS_S)
        sessions = list(self._admission.sessions)
        ended = await _all((session.stop("the server stops") for session in sessions), until)
        statuses = await _all((executor.flush() for executor in executors), until)
        unanswered = None if left is None else sum(left)
        if unanswered != 0:
            log.warning(
                "%s requests were left without an answer", "some" if unanswered is None else unanswered
            )
        clean = unanswered == 0 and ended is not None and statuses is not None and not any(statuses)
        if ended is not None and statuses is not None:  # nothing runs
            for export, pool in zip(self.exports.values(), self._pools, strict=True):
                pool.shutdown(wait=False)
                export.close()
        if self._capture is not None:
            self._capture.close()
        log.info("stopped")
        return clean


async def _all(works: Iterable[Awaitable[_T]], until: float) -> list[_T] | None:
    """Return the results, or None if not all came in time."""
    tasks = [asyncio.ensure_future(work) for work in works]
    if not tasks:
        return []
    late = (await asyncio.wait(tasks, timeout=max(0.0, until - asyncio.get_running_loop().time())))[1]
    for task in late:
        task.cancel()
    return None if late else [task.result() for task in tasks]
