"""The virtual disk server: exports backends as the disks of clients.

``python -m vds`` or ``vds`` is the command; programs embed :class:`vds.server.Server`.
"""

__all__: list[str] = []
