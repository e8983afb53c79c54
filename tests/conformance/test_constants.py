"""Every constant and bit-field of ``tests/vectors/layouts.json`` has the value in our code that it has there.

Source: the headers that the entries of that file name; the file was read out of them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any

import pytest

from protocol.errors import HvStatus
from protocol.ldc import channel, cookie, events, fragment, handshake, hypervisor, packet, state
from protocol.vdisk import limits, operations, payloads, scsi, status, validate
from protocol.vdisk.descriptor import ACK_FLAG
from protocol.vdisk.labels import gpt, vtoc
from protocol.vdisk.operations import Operation, mask_of
from protocol.vio import dring, messages
from tests.conformance.test_layouts import PAPER

Numbers = type[IntEnum] | type[IntFlag]


def enumerated(kind: Numbers, prefix: str, **renamed: str) -> dict[str, int]:
    """The members of ``kind`` as the headers name them: with a prefix, a few with another name."""
    return {renamed.get(name, prefix + name): int(member) for name, member in kind.__members__.items()}


FIXED = {Operation(code).name: size for code, size in validate.CONTROL_NBYTES.items()}
LEAST = {f"{Operation(code).name}_MIN": size for code, size in validate.CONTROL_NBYTES_MIN.items()}
CAPACITY = mask_of((Operation.GET_CAPACITY,))

OURS: Mapping[str, dict[str, int]] = {
    "ldc_type": enumerated(packet.PacketType, "LDC_"),
    "ldc_stype": enumerated(packet.PacketStype, "LDC_"),
    "ldc_ctrl": enumerated(packet.PacketCtrl, "LDC_") | {"LDC_CTRL_MASK": packet.CTRL_MASK},
    "ldc_env": {
        "LDC_LEN_MASK": packet.ENV_LENGTH_MASK,
        "LDC_FRAG_MASK": packet.ENV_START | packet.ENV_STOP,
        "LDC_FRAG_START": packet.ENV_START,
        "LDC_FRAG_STOP": packet.ENV_STOP,
        "LDC_FRAG_CONT": 0,  # neither
    },
    "ldc_mode": enumerated(packet.Mode, "LDC_MODE_") | {"LDC_MODE_RESERVED": 2},  # nobody's
    "ldc_status": enumerated(state.LinkStatus, "LDC_"),
    "ldc_event": enumerated(events.EventCode, "LDC_EVT_"),
    "ldc_tstate": enumerated(state.TransportFlag, "TS_"),
    "ldc_hstate": {name: number for name, number in enumerated(state.Handshake, "TS_").items() if number},
    "ldc_limits": {
        "LDC_PACKET_SIZE": packet.PACKET_SIZE,
        "LDC_PAYLOAD_RAW": packet.RAW_PAYLOAD,
        "LDC_PAYLOAD_UNRELIABLE": packet.UNRELIABLE_PAYLOAD,
        "LDC_PAYLOAD_RELIABLE": packet.RELIABLE_PAYLOAD,
        "LDC_QUEUE_ENTRIES_MIN": fragment.QUEUE_ENTRIES,
        "LDC_MTU_MSGS": channel.MTU_MESSAGES,
        "LDC_DEFAULT_MTU": channel.DEFAULT_MTU,
        "LDC_MTBL_ENTRIES": channel.MAP_TABLE_ENTRIES,
        "LDC_MAX_RETRIES": channel.MAX_RETRIES,
        "LDC_DELAY_US": channel.RETRY_DELAY_US,
        "LDC_INIT_SEQID": handshake.INIT_SEQID,
        "LDC_VERSION_MAJOR": handshake.VERSIONS[0].major,
        "LDC_VERSION_MINOR": handshake.VERSIONS[0].minor,
        "VD_LDC_MTU": channel.VDISK_MTU,
    },
    "ldc_map_type": enumerated(
        cookie.MapType, "", SHADOW="LDC_SHADOW_MAP", DIRECT="LDC_DIRECT_MAP", IO="LDC_IO_MAP"
    ),
    "ldc_mem_perm": enumerated(cookie.MemoryPermission, "LDC_MEM_"),
    "ldc_copy_dir": enumerated(hypervisor.CopyDirection, "LDC_COPY_"),
    "ldc_page_size_code": {
        name.removeprefix("SIZE_"): int(code) for name, code in cookie.PageSizeCode.__members__.items()
    },
    "ldc_dev_class": enumerated(channel.DeviceClass, "LDC_DEV_"),
    "hv_fast_trap": enumerated(hypervisor.FastTrap, "LDC_"),
    "hv_channel_state": {f"LDC_CHANNEL_{each.name}": each.value for each in events.LinkState},
    "hv_intr_state": enumerated(hypervisor.InterruptState, "INTR_"),
    "hv_error": enumerated(HvStatus, ""),
    "vio_type": enumerated(messages.MessageType, "VIO_TYPE_"),
    "vio_subtype": enumerated(messages.Subtype, "VIO_SUBTYPE_"),
    "vio_env": enumerated(messages.Envelope, "VIO_"),
    "vio_dev_class": enumerated(messages.DeviceClass, "VDEV_"),
    "vio_xfer_mode": enumerated(
        messages.TransferMode,
        "",
        PACKET="VIO_PKT_MODE",
        INBAND="VIO_DESC_MODE",
        RING="VIO_DRING_MODE_V1_0",
        RING_1_2="VIO_DRING_MODE_V1_2",
    ),
    "vio_dring_option": enumerated(
        messages.DringOption, "", TX="VIO_TX_DRING", RX="VIO_RX_DRING", RX_DATA="VIO_RX_DRING_DATA"
    ),
    "vio_proc_state": enumerated(messages.ProcState, "VIO_DP_"),
    "vio_desc_state": enumerated(dring.Dstate, "VIO_DESC_") | {"VIO_DESC_MASK": dring.DSTATE_MASK},
    "vd_op": enumerated(operations.Operation, "VD_OP_"),
    "vd_op_mask": {
        "VD_OP_MASK_READ": operations.MASK_READ,
        "VD_OP_MASK_WRITE": operations.MASK_WRITE,
        "VD_OP_MASK_SCSI": operations.MASK_SCSI,
        "V1_0_ALL": operations.operations_known((1, 0)),
        "V1_1_IMAGE_RW": operations.MASK_READ | operations.MASK_WRITE | CAPACITY,
        "V1_1_IMAGE_RO": operations.MASK_READ | CAPACITY,
        "V1_1_SCSI_RW": operations.operations_known((1, 1)),
    },
    "vd_disk_type": enumerated(operations.DiskType, "VD_DISK_TYPE_", UNKNOWN="VD_DISK_TYPE_UNK"),
    "vd_disk_label": enumerated(operations.LabelType, "VD_DISK_LABEL_", UNKNOWN="VD_DISK_LABEL_UNK"),
    "vd_media": enumerated(operations.MediaType, "VD_MEDIA_"),
    "vd_slice": {
        "VD_SLICE_NONE": operations.SLICE_NONE,
        "VD_ENTIRE_DISK_SLICE": vtoc.BACKUP_SLICE,
        "VD_EFI_WD_SLICE": gpt.WHOLE_DISK_SLICE,
    },
    "vd_access": enumerated(payloads.AccessState, "VD_ACCESS_"),
    "vd_access_set": enumerated(payloads.AccessWish, "VD_ACCESS_SET_"),
    "vd_scsi_task": enumerated(scsi.ScsiTask, "VD_SCSI_TASK_", NONE="NONE"),
    "vd_scsi_opt": enumerated(scsi.ScsiOption, "VD_SCSI_OPT_"),
    "vd_limits": {
        "VD_DRING_LEN": limits.RING_ENTRIES,
        "VD_MAX_BLOCK_SIZE": limits.MAX_TRANSFER,
        "VD_MAX_COOKIES": messages.MAX_RING_COOKIES,
        "VD_DRING_ENTRY_SZ": limits.RING_ENTRY_SIZE,
        "VD_SCSI_SIZE": scsi.ScsiLayout.size,
        "VD_DEVID_DEFAULT_LEN": payloads.DEVID_DEFAULT_LENGTH,
        "VD_MAXPART": gpt.SOLARIS_ENTRIES,
        "V_NUMPAR": payloads.PARTITIONS,
        "VD_DSKIMG_NUM_BACKUP": len(list(vtoc.backup_blocks(payloads.default_geometry(1 << 30)))),
        "EFI_MIN_ARRAY_SIZE": limits.EFI_ARRAY_SIZE,
        "EFI_MIN_RESV_SIZE_BLOCKS": limits.EFI_RESERVED_BLOCKS,
        "VDC_DRING_NUM_RESV": limits.RESERVED_ENTRIES,
        "VDC_HSHAKE_RETRIES": limits.HANDSHAKE_TRIES,
        "VDC_HATTR_MIN_INITIAL": limits.ATTRIBUTE_ROUNDS_FIRST,
        "VDC_HATTR_MIN": limits.ATTRIBUTE_ROUNDS_LATER,
    },
    "vd_payload_nbytes": FIXED | LEAST,
    "vtoc_tag": enumerated(payloads.PartitionTag, "V_"),
    "vtoc_flag": enumerated(payloads.PartitionFlag, "V_"),
    "vtoc_magic": {"DKL_MAGIC": vtoc.MAGIC, "VTOC_SANE": vtoc.SANITY, "V_VERSION": vtoc.VERSION},
    "devid_type": enumerated(payloads.DeviceIdType, "DEVID_"),
    "status_errno": enumerated(status.WireErrno, ""),
}
PAPERS: dict[str, dict[str, int]] = {}
for _entry in PAPER["constants"]:
    PAPERS.setdefault(_entry["group"], {})[_entry["name"]] = _entry["value"]
BITFIELDS: dict[str, dict[str, Any]] = {
    entry["name"]: {field["name"]: (field["hi"], field["lo"]) for field in entry["fields"]}
    for entry in PAPER["bitfields"]
}


def test_every_group_is_there() -> None:
    assert set(OURS) == set(PAPERS)


@pytest.mark.parametrize("group", PAPERS)
def test_constants(group: str) -> None:
    assert {name: int(number) for name, number in OURS[group].items()} == PAPERS[group]


def bits(mask: int) -> tuple[int, int]:
    """Highest and lowest bit of a mask."""
    return mask.bit_length() - 1, (mask & -mask).bit_length() - 1


def test_bits_of_env() -> None:
    ours = {"stop": packet.ENV_STOP, "start": packet.ENV_START, "length": packet.ENV_LENGTH_MASK}
    assert {name: bits(mask) for name, mask in ours.items()} == BITFIELDS["ldc_env_data"]


def test_bits_of_a_map_table_entry() -> None:
    ours = {
        "copy_write": cookie.Permission.CW,
        "copy_read": cookie.Permission.CR,
        "io_write": cookie.Permission.IW,
        "io_read": cookie.Permission.IR,
        "execute": cookie.Permission.X,
        "write": cookie.Permission.W,
        "read": cookie.Permission.R,
        "real_address_55_13": cookie.build_mte((1 << 56) - cookie.PAGE_SIZE, 0),
    }
    paper = BITFIELDS["ldc_mte"]
    assert {name: bits(mask) for name, mask in ours.items()} == {name: paper[name] for name in ours}
    assert paper["page_size_code"] == (3, 0)
    assert cookie.build_mte(0, 0, cookie.PageSizeCode.SIZE_16G) == 7


def test_bits_of_a_cookie_address() -> None:
    high, low = BITFIELDS["ldc_cookie_addr"]["page_size_code"]
    assert cookie.split_cookie(0xF << low)[0] == (1 << high - low + 1) - 1
    assert BITFIELDS["ldc_cookie_addr"]["table_index"] == (low - 1, "page_shift")
    for code in cookie.PageSizeCode:
        shift = 13 + 3 * code
        assert cookie.split_cookie(code << low | 1 << shift | 8) == (code, 1, 8)


def test_the_ack_flag_is_the_highest_bit() -> None:
    assert bits(ACK_FLAG) == BITFIELDS["vio_dring_flags"]["ack"]


@pytest.mark.parametrize("name", ["EIO", "EINVAL", "ENOSPC", "EROFS"])
def test_low_errnos_are_those_of_this_host(name: str) -> None:
    assert PAPERS["status_errno"][name] == getattr(errno, name)
