"""VIO over LDC: messages, handshake of both roles, descriptor ring; knows no disk."""

__all__: list[str] = []
