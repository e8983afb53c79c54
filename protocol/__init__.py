"""The wire of LDoms virtual disks, pure: LDC packets and link, VIO handshake and ring, vDisk requests.

Nothing in this package does I/O, reads a clock or draws random numbers: bytes go in, events and bytes
come out.
"""

__all__: list[str] = []
