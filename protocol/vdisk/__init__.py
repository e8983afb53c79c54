"""vDisk: operations, attributes, requests and their payloads, status numbers; no I/O, no files."""

__all__: list[str] = []
