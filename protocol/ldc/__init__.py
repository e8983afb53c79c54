"""Logical domain channels: 64-byte packets, the link over them, and memory cookies.

Source: Solaris ldc.c, ldc_shm.c, sys/ldc_impl.h; FWARC 2006/571 (link protocol), 2008/424 (map table);
Hypervisor API 3.0, chapters "LDC services" and "LDC infrastructure".
"""

__all__: list[str] = []
