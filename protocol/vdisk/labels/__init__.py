"""What stands on a disk about the disk: the VTOC label, the GPT, the device id block; bytes and arithmetic.

Everything here is pure and believes nothing: a sector that is no label gives ``None``, counts are bounded.
Source: Solaris sys/dklabel.h, sys/efi_partition.h, sys/ddi_impldefs.h; vds.c; vdsk_common.c.
"""

from .devid import (
    DevidBlock,
    DevidBlockLayout,
    EncodedDevid,
    EncodedDevidLayout,
    FabricatedId,
    FabricatedIdLayout,
    build_devid_block,
    fabricated,
    read_devid_block,
)
from .gpt import (
    SOLARIS_ENTRIES,
    Gpt,
    GptEntry,
    GptEntryLayout,
    GptLayout,
    array_crc,
    build_gpt,
    entries_match,
    read_entries,
    read_gpt,
)
from .vtoc import (
    DiskLabel,
    DiskLabelLayout,
    LabelMap,
    LabelPart,
    backup_blocks,
    build_label,
    default_label,
    devid_block,
    geometry_of,
    label_from,
    read_label,
    slice_bounds,
    vtoc_of,
)

__all__ = [
    "SOLARIS_ENTRIES",
    "DevidBlock",
    "DevidBlockLayout",
    "DiskLabel",
    "DiskLabelLayout",
    "EncodedDevid",
    "EncodedDevidLayout",
    "FabricatedId",
    "FabricatedIdLayout",
    "Gpt",
    "GptEntry",
    "GptEntryLayout",
    "GptLayout",
    "LabelMap",
    "LabelPart",
    "array_crc",
    "backup_blocks",
    "build_devid_block",
    "build_gpt",
    "build_label",
    "default_label",
    "devid_block",
    "entries_match",
    "fabricated",
    "geometry_of",
    "label_from",
    "read_devid_block",
    "read_entries",
    "read_gpt",
    "read_label",
    "slice_bounds",
    "vtoc_of",
]
