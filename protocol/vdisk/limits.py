"""What the drivers plan for; a peer that counts on it should find it. Limits of our own stand where they act.

Source: Solaris sys/vdsk_common.h, sys/vdc.h, vdc.c, sys/efi_partition.h.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTRIBUTE_ROUNDS_FIRST",
    "ATTRIBUTE_ROUNDS_LATER",
    "EFI_ARRAY_SIZE",
    "EFI_RESERVED_BLOCKS",
    "HANDSHAKE_TRIES",
    "MAX_TRANSFER",
    "RESERVED_ENTRIES",
    "RING_ENTRIES",
    "RING_ENTRY_SIZE",
]

RING_ENTRIES: Final = 512
"""Entries of a disk's ring. Source: Solaris sys/vdsk_common.h, VD_DRING_LEN."""
MAX_TRANSFER: Final = 256 * 1024
"""Bytes of the longest request. Source: Solaris sys/vdsk_common.h, VD_MAX_BLOCK_SIZE."""
RING_ENTRY_SIZE: Final = 576
"""Bytes of an entry with cookies for it. Source: Solaris sys/vdsk_common.h, VD_DRING_ENTRY_SZ."""
RESERVED_ENTRIES: Final = 1
"""Entries kept for error probes, from 0 on. Source: Solaris sys/vdc.h, VDC_DRING_NUM_RESV."""
HANDSHAKE_TRIES: Final = 3
"""Handshakes with one server before the next is tried. Source: Solaris vdc.c, vdc_hshake_retries."""
ATTRIBUTE_ROUNDS_FIRST: Final = 3
"""Attribute exchanges before a disk that was never online is given up. Source: vdc_hattr_min_initial."""
ATTRIBUTE_ROUNDS_LATER: Final = 1
"""The same for the later attempts of such a disk. Source: Solaris vdc.c, vdc_hattr_min."""
EFI_ARRAY_SIZE: Final = 16 * 1024
"""Bytes kept for GPT entries. Source: Solaris sys/efi_partition.h, EFI_MIN_ARRAY_SIZE."""
EFI_RESERVED_BLOCKS: Final = 16384
"""Blocks of the reserved partition. Source: Solaris sys/efi_partition.h, EFI_MIN_RESV_SIZE."""
