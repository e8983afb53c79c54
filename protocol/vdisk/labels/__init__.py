"""What stands on a disk about the disk: the VTOC label, the GPT, the device id block; bytes and arithmetic.

Everything here is pure and believes nothing: a sector that is no label gives ``None``, counts are bounded.
Source: Solaris sys/dklabel.h, sys/efi_partition.h, sys/ddi_impldefs.h; vds.c; vdsk_common.c.
"""
