"""The backend as requests see it: whatever it does becomes a status.

A flush that failed is final: the kernel has told us once that data is lost and will not again, so every later
flush fails, and without a cache every write, until the volume is opened anew.

Source: Solaris vds.c, vd_dskimg_flush; Linux Documentation/filesystems/vfs.rst, "Error handling".
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import Final

from protocol.vdisk.status import WireErrno, to_wire
from vds.backends.base import Backend
from vds.work import Work

__all__ = ["Medium"]

log = logging.getLogger("vds")


class Medium:
    """The backend of one disk. Its three verbs may block; they run in the loop where they do not, else in
    threads.
    """

    def __init__(self, name: str, backend: Backend, *, cached: bool) -> None:
        self.name: Final = name
        self.backend: Final = backend
        self.cached: Final = cached
        """Whether an acknowledged write waits for a flush to become stable."""
        self.failed = False
        """A flush failed: nothing becomes stable any more."""
        self.errors = 0
        """Reads and writes that the backend has failed."""

    def read(self, work: Work) -> None:
        """Fill the buffers of ``work``; nothing but a status ever comes out of it."""
        self._transfer(work, self.backend.preadv)

    def write(self, work: Work) -> None:
        """Write the buffers of ``work``; nothing but a status ever comes out of it."""
        self._transfer(work, self.backend.pwritev)

    def _transfer(self, work: Work, transfer: Callable[[Sequence[memoryview], int], None]) -> None:
        try:
            transfer(work.buffers, work.offset)
        except OSError as error:
            work.status = to_wire(error.errno or errno.EIO)
            level = logging.DEBUG if self.errors else logging.WARNING  # the first is news
            log.log(
                level, "%s: %d bytes at %d: %s", self.name, work.nbytes, work.offset, error.strerror or error
            )
            self.errors += 1
        except Exception:
            work.status = WireErrno.EIO
            log.exception("%s: %d bytes at %d", self.name, work.nbytes, work.offset)
        else:
            work.count = work.nbytes

    def flush(self) -> OSError | None:
        """Make what was written stable; return why that failed, for :meth:`flush_failed`."""
        try:
            self.backend.flush()
        except OSError as error:
            return error
        except Exception as error:
            log.exception("%s: flush", self.name)
            return OSError(errno.EIO, str(error))
        return None

    def flush_failed(self, failure: OSError) -> None:
        """From now on nothing becomes stable. Called in the loop only, so that it shows between requests."""
        if not self.failed:
            log.error("%s: flush failed, and will until the server is started again: %s", self.name, failure)
        self.failed = True
