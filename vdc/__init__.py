"""The virtual disk client: open a disk at a server and use it, with or without an event loop.

>>> disk = await vdc.open("vdisk+unix:///disk0?socket=/run/vds.sock")  # doctest: +SKIP
>>> first = await disk.pread(0, 4096)  # doctest: +SKIP

:func:`open` gives a :class:`Disk` for asyncio, :func:`connect` a :class:`BlockingDisk` for programs without
a loop. Both take a :class:`Capture`.
"""

from hypervisor.capture import Capture
from vdc.buffers import Buffer
from vdc.disk import Disk, open
from vdc.sync import Disk as BlockingDisk
from vdc.sync import connect
from vdc.uri import Target

__all__ = ["BlockingDisk", "Buffer", "Capture", "Disk", "Target", "connect", "open"]
