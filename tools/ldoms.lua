-- A Wireshark dissector of logical domain channels: LDC packets, VIO messages, and the vDisk ring entries beside them.
--
-- It takes captures of link type USER0 (147). A frame of exactly 64 bytes is an LDC packet, a frame of any other
-- length is a note (capture_note), which says what happened to a descriptor or a queue, and has the ring entry in it.
-- tools/make_dissector.py writes ldoms.lua: what lies between "declarations" and "the end of the declarations" comes
-- from the Python declarations of the structures, all else from tools/ldoms.template.lua. Change those, not ldoms.lua.

local ldoms = Proto("ldoms", "LDoms virtual disk")

local numbers = {}     -- enumerations by name: numbers by name, and names by number
local structures = {}  -- by name: proto, size, fields in order, the fields' ProtoFields by name
local names = {}       -- of all structures, in order

-- Returns the names of a field's numbers, or nil. 0 is none of them where it only says that nobody has set it.
local function names_of(field)
    local known = field.numbers and numbers[field.numbers].names or nil
    if known and field.zero then
        local with_zero = {[0] = "none"}
        for number, name in pairs(known) do
            with_zero[number] = name
        end
        return with_zero
    end
    return known
end

-- Makes the ProtoFields of a field and of its parts.
local function make_fields(structure, field, all)
    local abbreviation = structure.name .. "." .. field.name
    local known = field.named or names_of(field)
    field.known = field.numbers and not field.any and known or nil  -- all others are pointed out
    if field.kind == "array" then
        field.proto = ProtoField.none(abbreviation, field.name, field.doc)
    elseif field.kind == "bytes" or field.kind == "reserved" then
        field.proto = ProtoField.bytes(abbreviation, field.name, base.NONE, field.doc)
    else
        local shown = base[field.base or "DEC"]
        field.proto = ProtoField[field.kind](abbreviation, field.name, shown, known, nil, field.doc)
    end
    all[#all + 1] = field.proto
    for _, parts in pairs(field.parts or {}) do
        for _, part in ipairs(parts) do
            local name = abbreviation .. "." .. part.name
            if part.numbers or part.base then
                local shown = base[part.base or "DEC"]
                part.proto = ProtoField[field.kind](name, part.name, shown, names_of(part), part.mask)
            else
                part.proto = ProtoField.bool(name, part.name, 8 * field.size, nil, part.mask)
            end
            all[#all + 1] = part.proto
        end
    end
end

-- Declares a structure; the fields are Wireshark's once all structures are known (see "registration").
local function structure(name, title, size, fields)
    local made = {name = name, size = size, fields = fields, proto = Proto(name, title), all = {}, field = {}}
    for _, field in ipairs(fields) do
        make_fields(made, field, made.all)
        made.field[field.name] = field
    end
    structures[name] = made
    names[#names + 1] = name
end

-- == declarations ==============================================================================================
local PACKET_SIZE = 64
local UNRELIABLE_PAYLOAD = 56
local RELIABLE_PAYLOAD = 48
local MAX_MESSAGE_SIZE = 28616
local CTRL_MASK = 15
local ENV_STOP = 128
local ENV_START = 64
local ENV_LENGTH_MASK = 63
local OPEN_ENDED = -1
local STATUS_UNSET = 4294967295
local SLICE_NONE = 255

numbers.PacketType = {CTRL = 1, DATA = 2, ERR = 16, names = {[0] = "none", [1] = "CTRL", [2] = "DATA", [16] = "ERR", [3] = "CTRL|DATA", [17] = "CTRL|ERR", [18] = "DATA|ERR", [19] = "CTRL|DATA|ERR"}}
numbers.PacketStype = {INFO = 1, ACK = 2, NACK = 4, names = {[0] = "none", [1] = "INFO", [2] = "ACK", [4] = "NACK", [3] = "INFO|ACK", [5] = "INFO|NACK", [6] = "ACK|NACK", [7] = "INFO|ACK|NACK"}}
numbers.PacketCtrl = {VER = 1, RTS = 2, RTR = 3, RDX = 4, names = {[1] = "VER", [2] = "RTS", [3] = "RTR", [4] = "RDX"}}
numbers.Mode = {RAW = 0, UNRELIABLE = 1, RELIABLE = 3, names = {[0] = "RAW", [1] = "UNRELIABLE", [3] = "RELIABLE"}}
numbers.PageSizeCode = {SIZE_8K = 0, SIZE_64K = 1, SIZE_512K = 2, SIZE_4M = 3, SIZE_32M = 4, SIZE_256M = 5, SIZE_2G = 6, SIZE_16G = 7, names = {[0] = "SIZE_8K", [1] = "SIZE_64K", [2] = "SIZE_512K", [3] = "SIZE_4M", [4] = "SIZE_32M", [5] = "SIZE_256M", [6] = "SIZE_2G", [7] = "SIZE_16G"}}
numbers.MessageType = {CTRL = 1, DATA = 2, ERR = 4, names = {[1] = "CTRL", [2] = "DATA", [4] = "ERR"}}
numbers.Subtype = {INFO = 1, ACK = 2, NACK = 4, names = {[1] = "INFO", [2] = "ACK", [4] = "NACK"}}
numbers.Envelope = {VER_INFO = 1, ATTR_INFO = 2, DRING_REG = 3, DRING_UNREG = 4, RDX = 5, DDS_INFO = 6, PKT_DATA = 64, DESC_DATA = 65, DRING_DATA = 66, names = {[1] = "VER_INFO", [2] = "ATTR_INFO", [3] = "DRING_REG", [4] = "DRING_UNREG", [5] = "RDX", [6] = "DDS_INFO", [64] = "PKT_DATA", [65] = "DESC_DATA", [66] = "DRING_DATA"}}
numbers.DeviceClass = {NETWORK = 1, NETWORK_SWITCH = 2, DISK = 3, DISK_SERVER = 4, PCI = 5, names = {[1] = "NETWORK", [2] = "NETWORK_SWITCH", [3] = "DISK", [4] = "DISK_SERVER", [5] = "PCI"}}
numbers.TransferMode = {PACKET = 1, INBAND = 2, RING = 3, RING_1_2 = 4, names = {[1] = "PACKET", [2] = "INBAND", [3] = "RING", [4] = "RING_1_2"}}
numbers.DringOption = {TX = 1, RX = 2, RX_DATA = 4, names = {[0] = "none", [1] = "TX", [2] = "RX", [4] = "RX_DATA", [3] = "TX|RX", [5] = "TX|RX_DATA", [6] = "RX|RX_DATA", [7] = "TX|RX|RX_DATA"}}
numbers.ProcState = {ACTIVE = 1, STOPPED = 2, names = {[1] = "ACTIVE", [2] = "STOPPED"}}
numbers.DiskType = {UNKNOWN = 0, SLICE = 1, DISK = 2, names = {[0] = "UNKNOWN", [1] = "SLICE", [2] = "DISK"}}
numbers.MediaType = {FIXED = 1, CD = 2, DVD = 3, names = {[1] = "FIXED", [2] = "CD", [3] = "DVD"}}
numbers.Operation = {BREAD = 1, BWRITE = 2, FLUSH = 3, GET_WCE = 4, SET_WCE = 5, GET_VTOC = 6, SET_VTOC = 7, GET_DISKGEOM = 8, SET_DISKGEOM = 9, SCSICMD = 10, GET_DEVID = 11, GET_EFI = 12, SET_EFI = 13, RESET = 14, GET_ACCESS = 15, SET_ACCESS = 16, GET_CAPACITY = 17, names = {[1] = "BREAD", [2] = "BWRITE", [3] = "FLUSH", [4] = "GET_WCE", [5] = "SET_WCE", [6] = "GET_VTOC", [7] = "SET_VTOC", [8] = "GET_DISKGEOM", [9] = "SET_DISKGEOM", [10] = "SCSICMD", [11] = "GET_DEVID", [12] = "GET_EFI", [13] = "SET_EFI", [14] = "RESET", [15] = "GET_ACCESS", [16] = "SET_ACCESS", [17] = "GET_CAPACITY"}}
numbers.Dstate = {FREE = 1, READY = 2, ACCEPTED = 3, DONE = 4, INITIALIZING = 5, names = {[1] = "FREE", [2] = "READY", [3] = "ACCEPTED", [4] = "DONE", [5] = "INITIALIZING"}}
numbers.WireErrno = {OK = 0, EPERM = 1, ENOENT = 2, EIO = 5, ENXIO = 6, EBADF = 9, EAGAIN = 11, EACCES = 13, EBUSY = 16, ENODEV = 19, EINVAL = 22, ENOTTY = 25, ENOSPC = 28, EROFS = 30, ECANCELED = 47, ENOTSUP = 48, ENODATA = 61, EOVERFLOW = 79, names = {[0] = "OK", [1] = "EPERM", [2] = "ENOENT", [5] = "EIO", [6] = "ENXIO", [9] = "EBADF", [11] = "EAGAIN", [13] = "EACCES", [16] = "EBUSY", [19] = "ENODEV", [22] = "EINVAL", [25] = "ENOTTY", [28] = "ENOSPC", [30] = "EROFS", [47] = "ECANCELED", [48] = "ENOTSUP", [61] = "ENODATA", [79] = "EOVERFLOW"}}
numbers.NoteKind = {SUBMITTED = 1, TAKEN = 2, FINISHED = 3, ANSWERED = 4, QUEUE_CONFIGURED = 5, names = {[1] = "SUBMITTED", [2] = "TAKEN", [3] = "FINISHED", [4] = "ANSWERED", [5] = "QUEUE_CONFIGURED"}}
numbers.How = {MESSAGE = 0, POLLING = 1, names = {[0] = "MESSAGE", [1] = "POLLING"}}

local PAGE_SHIFTS = {[0] = 13, [1] = 16, [2] = 19, [3] = 22, [4] = 25, [5] = 28, [6] = 31, [7] = 34}

local MESSAGES = {[1] = "vio_ver_msg", [2] = "vd_attr_msg", [3] = "vio_dring_reg_msg", [4] = "vio_dring_unreg_msg", [5] = "vio_rdx_msg", [64] = "vio_raw_data_msg", [65] = "vd_dring_inband_msg", [66] = "vio_dring_msg"}

structure("ldc_mem_cookie", "A range of exported memory: addr is a place in the map table, size counts bytes (ldc_mem_cookie)", 16, {
    {name = "addr", at = 0, size = 8, kind = "uint64", base = "HEX", doc = "page size code 63:60, table index, offset in the page"},
    {name = "size", at = 8, size = 8, kind = "uint64", doc = "bytes"},
})

structure("ldc_packet_raw", "A packet in raw mode (ldc_packet_raw)", 64, {
    {name = "payload", at = 0, size = 64, kind = "bytes", doc = "64 opaque bytes"},
})

structure("ldc_packet_unreliable", "A packet in unreliable mode (ldc_packet_unreliable)", 64, {
    {name = "type", at = 0, size = 1, kind = "uint8", base = "HEX", doc = "what the packet is for, bits", numbers = "PacketType", parts = {always = {{name = "ctrl", mask = 1}, {name = "data", mask = 2}, {name = "err", mask = 16}}}},
    {name = "stype", at = 1, size = 1, kind = "uint8", base = "HEX", doc = "what it says about it, bits", numbers = "PacketStype", parts = {always = {{name = "info", mask = 1}, {name = "ack", mask = 2}, {name = "nack", mask = 4}}}},
    {name = "ctrl", at = 2, size = 1, kind = "uint8", doc = "step, low 4 bits; 0 in data packets", numbers = "PacketCtrl", zero = true},
    {name = "env", at = 3, size = 1, kind = "uint8", base = "HEX", doc = "data: STOP 0x80, START 0x40, length; RTS and RTR: mode", parts = {data = {{name = "stop", mask = 128}, {name = "start", mask = 64}, {name = "length", mask = 63, base = "DEC"}}, mode = {{name = "mode", mask = 255, numbers = "Mode"}}}},
    {name = "seqid", at = 4, size = 4, kind = "uint32", doc = "sequence number, one per packet"},
    {name = "payload", at = 8, size = 56, kind = "bytes", doc = "piece of a message"},
})

structure("ldc_packet_reliable", "A packet in reliable mode (ldc_packet_reliable)", 64, {
    {name = "type", at = 0, size = 1, kind = "uint8", base = "HEX", doc = "what the packet is for, bits", numbers = "PacketType", parts = {always = {{name = "ctrl", mask = 1}, {name = "data", mask = 2}, {name = "err", mask = 16}}}},
    {name = "stype", at = 1, size = 1, kind = "uint8", base = "HEX", doc = "what it says about it, bits", numbers = "PacketStype", parts = {always = {{name = "info", mask = 1}, {name = "ack", mask = 2}, {name = "nack", mask = 4}}}},
    {name = "ctrl", at = 2, size = 1, kind = "uint8", doc = "step, low 4 bits; 0 in data packets", numbers = "PacketCtrl", zero = true},
    {name = "env", at = 3, size = 1, kind = "uint8", base = "HEX", doc = "data: STOP 0x80, START 0x40, length; RTS and RTR: mode", parts = {data = {{name = "stop", mask = 128}, {name = "start", mask = 64}, {name = "length", mask = 63, base = "DEC"}}, mode = {{name = "mode", mask = 255, numbers = "Mode"}}}},
    {name = "seqid", at = 4, size = 4, kind = "uint32", doc = "sequence number, one per packet"},
    {name = "reserved", at = 8, size = 4, kind = "reserved", doc = "reserved, zero"},
    {name = "ackid", at = 12, size = 4, kind = "uint32", doc = "last sequence number received"},
    {name = "payload", at = 16, size = 48, kind = "bytes", doc = "piece of the stream"},
})

structure("ldc_packet_ver", "A version packet, the same in every mode but raw (ldc_packet_ver)", 64, {
    {name = "type", at = 0, size = 1, kind = "uint8", base = "HEX", doc = "CTRL", numbers = "PacketType", parts = {always = {{name = "ctrl", mask = 1}, {name = "data", mask = 2}, {name = "err", mask = 16}}}},
    {name = "stype", at = 1, size = 1, kind = "uint8", base = "HEX", doc = "what it says about it, bits", numbers = "PacketStype", parts = {always = {{name = "info", mask = 1}, {name = "ack", mask = 2}, {name = "nack", mask = 4}}}},
    {name = "ctrl", at = 2, size = 1, kind = "uint8", doc = "VER", numbers = "PacketCtrl"},
    {name = "env", at = 3, size = 1, kind = "uint8", base = "HEX", doc = "zero", parts = {data = {{name = "stop", mask = 128}, {name = "start", mask = 64}, {name = "length", mask = 63, base = "DEC"}}, mode = {{name = "mode", mask = 255, numbers = "Mode"}}}},
    {name = "seqid", at = 4, size = 4, kind = "uint32", doc = "zero, ignored on receipt"},
    {name = "major", at = 8, size = 2, kind = "uint16", doc = "major version"},
    {name = "minor", at = 10, size = 2, kind = "uint16", doc = "minor version"},
    {name = "zero", at = 12, size = 52, kind = "reserved", doc = "reserved, zero"},
})

structure("vio_msg_tag", "What every message starts with (vio_msg_tag)", 8, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
})

structure("vio_ver_msg", "VER_INFO: version and device class (vio_ver_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "major", at = 8, size = 2, kind = "uint16", doc = "major version"},
    {name = "minor", at = 10, size = 2, kind = "uint16", doc = "minor version; the answer's is the lower of both"},
    {name = "dev_class", at = 12, size = 1, kind = "uint8", doc = "DISK in a request, DISK_SERVER in the ACK", numbers = "DeviceClass"},
    {name = "resv1", at = 13, size = 1, kind = "reserved", doc = "reserved, zero"},
    {name = "resv2", at = 14, size = 2, kind = "reserved", doc = "reserved, zero"},
    {name = "resv3", at = 16, size = 40, kind = "reserved", doc = "reserved, zero"},
})

structure("vd_attr_msg", "ATTR_INFO (vd_attr_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "xfer_mode", at = 8, size = 1, kind = "uint8", doc = "how requests travel", numbers = "TransferMode"},
    {name = "vdisk_type", at = 9, size = 1, kind = "uint8", doc = "0 from a client", numbers = "DiskType"},
    {name = "vdisk_mtype", at = 10, size = 1, kind = "uint8", doc = "1.1: media; 0 from a client", numbers = "MediaType", zero = true},
    {name = "resv1", at = 11, size = 1, kind = "reserved", doc = "reserved, zero"},
    {name = "vdisk_block_size", at = 12, size = 4, kind = "uint32", doc = "bytes; 0 from a client: max_xfer_sz is in bytes"},
    {name = "operations", at = 16, size = 8, kind = "uint64", base = "HEX", doc = "0 from a client; bit n = operation n", parts = {always = {{name = "bread", mask = 2}, {name = "bwrite", mask = 4}, {name = "flush", mask = 8}, {name = "get_wce", mask = 16}, {name = "set_wce", mask = 32}, {name = "get_vtoc", mask = 64}, {name = "set_vtoc", mask = 128}, {name = "get_diskgeom", mask = 256}, {name = "set_diskgeom", mask = 512}, {name = "scsicmd", mask = 1024}, {name = "get_devid", mask = 2048}, {name = "get_efi", mask = 4096}, {name = "set_efi", mask = 8192}, {name = "reset", mask = 16384}, {name = "get_access", mask = 32768}, {name = "set_access", mask = 65536}, {name = "get_capacity", mask = 131072}}}},
    {name = "vdisk_size", at = 24, size = 8, kind = "uint64", doc = "1.1: 0 from a client; blocks, all ones = unknown", words = {["18446744073709551615"] = "unknown"}},
    {name = "max_xfer_sz", at = 32, size = 8, kind = "uint64", doc = "blocks a request may have"},
    {name = "resv2", at = 40, size = 16, kind = "reserved", doc = "reserved, zero"},
})

structure("vd_attr_msg_v1_2", "ATTR_INFO (vd_attr_msg_v1_2)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "xfer_mode", at = 8, size = 1, kind = "uint8", doc = "how requests travel", numbers = "TransferMode"},
    {name = "vdisk_type", at = 9, size = 1, kind = "uint8", doc = "0 from a client", numbers = "DiskType"},
    {name = "vdisk_mtype", at = 10, size = 1, kind = "uint8", doc = "1.1: media; 0 from a client", numbers = "MediaType", zero = true},
    {name = "resv1", at = 11, size = 1, kind = "reserved", doc = "reserved, zero"},
    {name = "vdisk_block_size", at = 12, size = 4, kind = "uint32", doc = "bytes; 0 from a client: max_xfer_sz is in bytes"},
    {name = "operations", at = 16, size = 8, kind = "uint64", base = "HEX", doc = "0 from a client; bit n = operation n", parts = {always = {{name = "bread", mask = 2}, {name = "bwrite", mask = 4}, {name = "flush", mask = 8}, {name = "get_wce", mask = 16}, {name = "set_wce", mask = 32}, {name = "get_vtoc", mask = 64}, {name = "set_vtoc", mask = 128}, {name = "get_diskgeom", mask = 256}, {name = "set_diskgeom", mask = 512}, {name = "scsicmd", mask = 1024}, {name = "get_devid", mask = 2048}, {name = "get_efi", mask = 4096}, {name = "set_efi", mask = 8192}, {name = "reset", mask = 16384}, {name = "get_access", mask = 32768}, {name = "set_access", mask = 65536}, {name = "get_capacity", mask = 131072}}}},
    {name = "vdisk_size", at = 24, size = 8, kind = "uint64", doc = "1.1: 0 from a client; blocks, all ones = unknown", words = {["18446744073709551615"] = "unknown"}},
    {name = "max_xfer_sz", at = 32, size = 8, kind = "uint64", doc = "blocks a request may have"},
    {name = "phys_block_size", at = 40, size = 4, kind = "uint32", doc = "0 from a client; bytes"},
    {name = "resv2", at = 44, size = 4, kind = "reserved", doc = "reserved, zero"},
    {name = "resv3", at = 48, size = 8, kind = "reserved", doc = "reserved, zero"},
})

structure("vio_dring_reg_msg", "DRING_REG: where the ring is (vio_dring_reg_msg)", 32, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "dring_ident", at = 8, size = 8, kind = "uint64", doc = "0 in a request, assigned in the ACK"},
    {name = "num_descriptors", at = 16, size = 4, kind = "uint32", doc = "entries of the ring"},
    {name = "descriptor_size", at = 20, size = 4, kind = "uint32", doc = "bytes from one entry to the next"},
    {name = "options", at = 24, size = 2, kind = "uint16", base = "HEX", doc = "bits; not looked at", numbers = "DringOption", parts = {always = {{name = "tx", mask = 1}, {name = "rx", mask = 2}, {name = "rx_data", mask = 4}}}},
    {name = "resv", at = 26, size = 2, kind = "reserved", doc = "reserved, zero"},
    {name = "ncookies", at = 28, size = 4, kind = "uint32", doc = "cookies that follow; a disk's ring has exactly one"},
    {name = "cookie", at = 32, size = 16, kind = "array", doc = "where the ring is", element = "ldc_mem_cookie", counted_by = "ncookies"},
})

structure("vio_dring_reg_ext_msg", "What follows the last cookie of a DRING_REG with RX_DATA: where a network ring's data lie, since 1.6 (vio_dring_reg_ext_msg)", 8, {
    {name = "data_ncookies", at = 0, size = 4, kind = "uint32", doc = "cookies that follow"},
    {name = "data_area_size", at = 4, size = 4, kind = "uint32", doc = "bytes of the data area"},
    {name = "data_cookie", at = 8, size = 16, kind = "array", doc = "where the data area is", element = "ldc_mem_cookie", counted_by = "data_ncookies"},
})

structure("vio_dring_unreg_msg", "DRING_UNREG: forget the ring (vio_dring_unreg_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "dring_ident", at = 8, size = 8, kind = "uint64", doc = "as assigned in the ACK of DRING_REG"},
    {name = "resv", at = 16, size = 40, kind = "reserved", doc = "reserved, zero"},
})

structure("vio_rdx_msg", "RDX: ready to exchange data (vio_rdx_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "resv", at = 8, size = 48, kind = "reserved", doc = "reserved, zero"},
})

structure("vio_raw_data_msg", "PKT_DATA: a network packet; no disk uses it (vio_raw_data_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "seq_num", at = 8, size = 8, kind = "uint64", doc = "one more than the message before"},
    {name = "data", at = 16, size = 40, kind = "bytes", doc = "the packet"},
})

structure("vio_dring_msg", "DRING_DATA: a range of the ring is ready (vio_dring_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "seq_num", at = 8, size = 8, kind = "uint64", doc = "one more than the message before; an answer has its request's"},
    {name = "dring_ident", at = 16, size = 8, kind = "uint64", doc = "as assigned in the ACK of DRING_REG"},
    {name = "start_idx", at = 24, size = 4, kind = "uint32", doc = "first entry of the range"},
    {name = "end_idx", at = 28, size = 4, kind = "int32", doc = "last entry, included; -1 = until one is not READY", words = {["-1"] = "until one is not READY"}},
    {name = "proc_state", at = 32, size = 1, kind = "uint8", doc = "processing state, 0 from disk clients; echoed", numbers = "ProcState", zero = true, any = true},
    {name = "resv1", at = 33, size = 1, kind = "reserved", doc = "reserved, zero"},
    {name = "resv2", at = 34, size = 2, kind = "reserved", doc = "reserved, zero"},
    {name = "resv3", at = 36, size = 4, kind = "reserved", doc = "reserved, zero"},
    {name = "resv4", at = 40, size = 16, kind = "reserved", doc = "reserved, zero"},
})

structure("polled_doorbell_msg", "DRING_DATA where a polled ring was agreed: completions stand in what is reserved otherwise (polled_doorbell_msg)", 56, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "seq_num", at = 8, size = 8, kind = "uint64", doc = "client: one more than before; server: the last one received, or 0"},
    {name = "dring_ident", at = 16, size = 8, kind = "uint64", doc = "as assigned in the ACK of DRING_REG"},
    {name = "start_idx", at = 24, size = 4, kind = "uint32", doc = "the next entry the sender will fill, or take"},
    {name = "end_idx", at = 28, size = 4, kind = "int32", doc = "always -1", words = {["-1"] = "until one is not READY"}},
    {name = "proc_state", at = 32, size = 1, kind = "uint8", doc = "processing state of the sender", numbers = "ProcState"},
    {name = "resv1", at = 33, size = 1, kind = "reserved", doc = "reserved, zero"},
    {name = "resv2", at = 34, size = 2, kind = "reserved", doc = "reserved, zero"},
    {name = "completions", at = 36, size = 4, kind = "uint32", doc = "since RDX; client: consumed, server: published"},
    {name = "resv4", at = 40, size = 16, kind = "reserved", doc = "reserved, zero"},
})

structure("vd_dring_inband_msg", "DESC_DATA: header and payload (vd_dring_inband_msg)", 64, {
    {name = "msgtype", at = 0, size = 1, kind = "uint8", doc = "what kind of message", numbers = "MessageType"},
    {name = "subtype", at = 1, size = 1, kind = "uint8", doc = "request or answer", numbers = "Subtype"},
    {name = "subtype_env", at = 2, size = 2, kind = "uint16", doc = "envelope: what the message is about", numbers = "Envelope"},
    {name = "sid", at = 4, size = 4, kind = "uint32", base = "HEX", doc = "session id, chosen by the client"},
    {name = "seq_num", at = 8, size = 8, kind = "uint64", doc = "one more than the message before; an answer has its request's"},
    {name = "desc_handle", at = 16, size = 8, kind = "uint64", base = "HEX", doc = "the client's own, echoed"},
    {name = "req_id", at = 24, size = 8, kind = "uint64", doc = "the client's own; the server ignores it"},
    {name = "operation", at = 32, size = 1, kind = "uint8", doc = "what to do", numbers = "Operation"},
    {name = "slice", at = 33, size = 1, kind = "uint8", doc = "0 to 7, or 0xff: the whole disk", words = {["255"] = "the whole disk"}},
    {name = "resv1", at = 34, size = 2, kind = "reserved", doc = "reserved, zero"},
    {name = "status", at = 36, size = 4, kind = "uint32", doc = "0 or a Solaris errno, written by the server", named = {[0] = "OK", [1] = "EPERM", [2] = "ENOENT", [5] = "EIO", [6] = "ENXIO", [9] = "EBADF", [11] = "EAGAIN", [13] = "EACCES", [16] = "EBUSY", [19] = "ENODEV", [22] = "EINVAL", [25] = "ENOTTY", [28] = "ENOSPC", [30] = "EROFS", [47] = "ECANCELED", [48] = "ENOTSUP", [61] = "ENODATA", [79] = "EOVERFLOW", [4294967295] = "not answered yet"}},
    {name = "addr", at = 40, size = 8, kind = "uint64", doc = "first block, relative to the slice"},
    {name = "nbytes", at = 48, size = 8, kind = "uint64", doc = "bytes; the server writes how many were transferred"},
    {name = "ncookies", at = 56, size = 4, kind = "uint32", doc = "memory cookies that follow"},
    {name = "resv2", at = 60, size = 4, kind = "reserved", doc = "reserved, zero"},
    {name = "cookie", at = 64, size = 16, kind = "array", doc = "the buffer", element = "ldc_mem_cookie", counted_by = "ncookies"},
})

structure("vd_dring_entry", "A ring entry: header and payload (vd_dring_entry)", 48, {
    {name = "dstate", at = 0, size = 1, kind = "uint8", doc = "whose entry it is", numbers = "Dstate"},
    {name = "flags", at = 1, size = 1, kind = "uint8", base = "HEX", doc = "non-zero = acknowledge; 0x80 from SPARC bit-fields, 0x01 from Linux", parts = {always = {{name = "ack", mask = 128}}}},
    {name = "hdr_resv", at = 2, size = 6, kind = "reserved", doc = "reserved, zero"},
    {name = "req_id", at = 8, size = 8, kind = "uint64", doc = "the client's own; the server ignores it"},
    {name = "operation", at = 16, size = 1, kind = "uint8", doc = "what to do", numbers = "Operation"},
    {name = "slice", at = 17, size = 1, kind = "uint8", doc = "0 to 7, or 0xff: the whole disk", words = {["255"] = "the whole disk"}},
    {name = "resv1", at = 18, size = 2, kind = "reserved", doc = "reserved, zero"},
    {name = "status", at = 20, size = 4, kind = "uint32", doc = "0 or a Solaris errno, written by the server", named = {[0] = "OK", [1] = "EPERM", [2] = "ENOENT", [5] = "EIO", [6] = "ENXIO", [9] = "EBADF", [11] = "EAGAIN", [13] = "EACCES", [16] = "EBUSY", [19] = "ENODEV", [22] = "EINVAL", [25] = "ENOTTY", [28] = "ENOSPC", [30] = "EROFS", [47] = "ECANCELED", [48] = "ENOTSUP", [61] = "ENODATA", [79] = "EOVERFLOW", [4294967295] = "not answered yet"}},
    {name = "addr", at = 24, size = 8, kind = "uint64", doc = "first block, relative to the slice"},
    {name = "nbytes", at = 32, size = 8, kind = "uint64", doc = "bytes; the server writes how many were transferred"},
    {name = "ncookies", at = 40, size = 4, kind = "uint32", doc = "memory cookies that follow"},
    {name = "resv2", at = 44, size = 4, kind = "reserved", doc = "reserved, zero"},
    {name = "cookie", at = 48, size = 16, kind = "array", doc = "the buffer", element = "ldc_mem_cookie", counted_by = "ncookies"},
})

structure("capture_note", "What a note begins with; the ring entry follows (capture_note)", 24, {
    {name = "version", at = 0, size = 1, kind = "uint8", doc = "1"},
    {name = "kind", at = 1, size = 1, kind = "uint8", doc = "what happened", numbers = "NoteKind"},
    {name = "how", at = 2, size = 1, kind = "uint8", doc = "by message or by polling", numbers = "How"},
    {name = "resv1", at = 3, size = 1, kind = "reserved", doc = "reserved, zero"},
    {name = "index", at = 4, size = 4, kind = "uint32", doc = "the ring entry; for QUEUE_CONFIGURED entries of the queue"},
    {name = "seq_num", at = 8, size = 8, kind = "uint64", doc = "of the DRING_DATA message; 0 by polling"},
    {name = "length", at = 16, size = 4, kind = "uint32", doc = "bytes of the ring entry that follows"},
    {name = "resv2", at = 20, size = 4, kind = "reserved", doc = "reserved, zero"},
})
-- == the end of the declarations ===============================================================================

local CTRL, DATA = numbers.PacketType.CTRL, numbers.PacketType.DATA
local INFO, ACK, NACK = numbers.Subtype.INFO, numbers.Subtype.ACK, numbers.Subtype.NACK
local Envelope, PacketCtrl, NoteKind = numbers.Envelope, numbers.PacketCtrl, numbers.NoteKind

-- What no structure has: links between frames, and where the page of a cookie is.
local links = {
    request_in = ProtoField.framenum("ldoms.request_in", "Request in", base.NONE, frametype.REQUEST),
    response_in = ProtoField.framenum("ldoms.response_in", "Answer in", base.NONE, frametype.RESPONSE),
    response_time = ProtoField.relative_time("ldoms.response_time", "Time since the request"),
    message_in = ProtoField.framenum("ldoms.message_in", "Message in", base.NONE),
    reassembled_in = ProtoField.framenum("ldoms.reassembled_in", "Whole message in", base.NONE),
    piece_in = ProtoField.framenum("ldoms.piece_in", "Piece in", base.NONE),
    message_size = ProtoField.uint32("ldoms.message_size", "Bytes of the whole message"),
    extra = ProtoField.bytes("ldoms.extra", "Bytes that belong to no field"),
}
local cookie_parts = {
    page_size_code = ProtoField.uint8("ldc_mem_cookie.addr.page_size_code", "page_size_code", base.DEC,
        numbers.PageSizeCode.names, nil, "size of the page"),
    table_index = ProtoField.uint64("ldc_mem_cookie.addr.table_index", "table_index", base.DEC,
        nil, nil, "slot of the map table"),
    page_offset = ProtoField.uint64("ldc_mem_cookie.addr.page_offset", "page_offset", base.HEX,
        nil, nil, "offset in the page"),
}

local function expert_info(name, group, severity, text)
    return ProtoExpert.new("ldoms." .. name, text, expert.group[group], expert.severity[severity])
end
local experts = {
    too_short = expert_info("too_short", "MALFORMED", "ERROR", "The bytes end before the structure does"),
    bad_length = expert_info("bad_length", "MALFORMED", "ERROR", "A length that cannot be"),
    cut = expert_info("cut", "UNDECODED", "WARN", "The capturing program has cut this frame"),
    unknown = expert_info("unknown", "PROTOCOL", "WARN", "A number without a meaning"),
    undecoded = expert_info("undecoded", "UNDECODED", "WARN", "No structure is known for this"),
    other_length = expert_info("other_length", "PROTOCOL", "NOTE", "Longer or shorter than the structure, yet whole"),
    no_beginning = expert_info("no_beginning", "REASSEMBLE", "NOTE", "A piece of a message without a beginning"),
    refused = expert_info("refused", "RESPONSE_CODE", "NOTE", "Refused: a reset follows"),
    failed = expert_info("failed", "RESPONSE_CODE", "NOTE", "The request failed"),
}

-- Registration: Wireshark takes a Proto's fields once, as a whole.
for _, field in pairs(cookie_parts) do
    table.insert(structures.ldc_mem_cookie.all, field)
end
for _, name in ipairs(names) do
    structures[name].proto.fields = structures[name].all
end
ldoms.fields = links
ldoms.experts = experts

local BY_AGREEMENT, UNRELIABLE, RELIABLE, RAW = 0, 1, 2, 3
ldoms.prefs.mode = Pref.enum("Transport mode", BY_AGREEMENT, "What the packets of a capture are", {
    {1, "As RTS and RTR say, else unreliable", BY_AGREEMENT},
    {2, "Unreliable", UNRELIABLE},
    {3, "Reliable", RELIABLE},
    {4, "Raw", RAW},
}, false)

-- == what is remembered ========================================================================================
-- Frames are seen in order once, then in any order. What was learnt the first time is kept by the frame's number.
-- Which interface a frame is of, and its direction, are fields, and only there while Wireshark builds the tree: a pass
-- without one teaches nothing. This listener has Wireshark build it whenever it reads a file, as far as it can be had.

Listener.new("frame", nil, true)

local frames = {}    -- number → layout, request_in, response_in, response_time, message_in, reassembled_in, …
local channels = {}  -- one for each interface of the capture: what was agreed on it, and what waits for an answer

function ldoms.init()
    frames, channels = {}, {}
end

local frame_number = Field.new("frame.number")
local interface_id = Field.new("frame.interface_id")
local interface_name = Field.new("frame.interface_name")
local direction = Field.new("frame.packet_flags_direction")
local has_sections, section_number = pcall(Field.new, "frame.section_number")  -- since Wireshark 4.0

local function value_of(extractor)
    local info = extractor()
    return info and info.value or 0
end

local function new_channel()
    return {streams = {}, pending = {}, messages = {}, waiting = {}}
end

local function channel_of()
    local key = value_of(interface_id) .. "/" .. (has_sections and value_of(section_number) or 0)
    channels[key] = channels[key] or new_channel()
    return channels[key]
end

-- What an end forgets when its link starts again.
local function forget(channel)
    channel.streams, channel.pending, channel.messages, channel.waiting = {}, {}, {}, {}
    channel.version, channel.polled, channel.mode, channel.open = nil, nil, nil, nil
end

-- Remembers that this frame asks for something that goes by the name of `key`.
local function ask(context, key)
    if context.first then
        context.channel.pending[key] = {number = context.number, time = context.time}
    end
end

-- Joins this frame to the one that asked for `key`, and that one to the last of its answers.
local function answer(context, key, more_follow)
    local request = context.first and context.channel.pending[key]
    if request then
        if not more_follow then
            context.channel.pending[key] = nil
        end
        context.frame.request_in = request.number
        context.frame.response_time = context.time - request.time
        frames[request.number].response_in = context.number
    end
end

-- Says whether a message is about ring entry `index`. A piece of an open range is about its own ones, over the wrap;
-- of any other message the number is enough.
local function is_about(message, index)
    local first, last = message.first, message.last
    if not first then
        return true
    elseif first <= last then
        return first <= index and index <= last
    end
    return index >= first or index <= last
end

-- Joins the notes about a message to it; whichever of them comes first waits for the other. What an entry is finished
-- for is a piece that is not told yet, even if one told of the same entry before.
local function note_of_message(context, key, note)
    if context.first then
        local channel = context.channel
        local said = channel.messages[key] or {}
        for at = #said, 1, -1 do
            if is_about(said[at], note.index) and not (said[at].first and note.kind == NoteKind.FINISHED) then
                context.frame.message_in = said[at].number
                return
            end
        end
        channel.waiting[key] = channel.waiting[key] or {}
        table.insert(channel.waiting[key], {number = context.number, index = note.index})
    end
end
local function message_of_notes(context, key, first, last)
    if context.first then
        local channel = context.channel
        local message = {number = context.number, first = first, last = last}
        channel.messages[key] = channel.messages[key] or {}
        table.insert(channel.messages[key], message)
        local waiting = {}
        for _, note in ipairs(channel.waiting[key] or {}) do
            if is_about(message, note.index) then
                frames[note.number].message_in = context.number
            else
                table.insert(waiting, note)
            end
        end
        channel.waiting[key] = #waiting > 0 and waiting or nil
    end
end

-- == structures ================================================================================================

local WIDE = {uint64 = "uint64", int64 = "int64"}

local function read(field, range)
    if field.kind == "bytes" or field.kind == "reserved" then
        return range
    end
    local read_as = WIDE[field.kind] or (field.kind:sub(1, 1) == "u" and "uint" or "int")
    return range[read_as](range)
end

local function add_parts(field, item, range, variant)
    for group, parts in pairs(field.parts or {}) do
        if group == "always" or group == variant then
            for _, part in ipairs(parts) do
                item:add(part.proto, range)
            end
        end
    end
end

-- Adds one field of fixed size and returns its value; a number without a meaning is pointed out.
local function add_field(field, tree, range, variant)
    local value = read(field, range)
    local item = tree:add(field.proto, range)
    add_parts(field, item, range, variant)
    if field.known and not field.known[value] then
        item:add_proto_expert_info(experts.unknown, field.name .. " is " .. value .. ", which has no meaning")
    end
    local word = field.words and field.words[tostring(value)]
    if word then
        item:append_text(" (" .. word .. ")")
    end
    return value, item
end

-- Shows where the page of a cookie is. The bits of the offset are as many as the page's size has. In a request of no
-- bytes the cookies are stale, and may be anything.
local function add_cookie_parts(item, range, addr, is_stale)
    local code = addr:rshift(60):tonumber()
    local shift = PAGE_SHIFTS[code]
    item:add(cookie_parts.page_size_code, range, code):set_generated()
    if shift then
        item:add(cookie_parts.table_index, range, addr:lshift(4):rshift(4 + shift)):set_generated()
        item:add(cookie_parts.page_offset, range, addr:lshift(64 - shift):rshift(64 - shift)):set_generated()
    elseif not is_stale then
        item:add_proto_expert_info(experts.unknown, "page size code " .. code .. " has no meaning")
    end
end

-- Adds the fields of structure `name` at `at`, as far as the bytes go. Returns their values by name, how many bytes
-- they have, and how many fields that are not reserved are missing.
local function add_fields(name, tvb, at, tree, variant)
    local values, size, missing = {}, 0, 0
    for _, field in ipairs(structures[name].fields) do
        local element = field.element and structures[field.element]
        local count = not field.counted_by and field.size / (element or field).size or values[field.counted_by] or 0
        if element then
            local state = values.nbytes and tostring(values.nbytes) == "0" and "stale" or nil
            values[field.name] = {}
            for index = 0, count - 1 do
                local start = at + field.at + index * element.size
                if start + element.size > tvb:len() then
                    missing = missing + 1
                    break
                end
                local item = tree:add(field.proto, tvb(start, element.size))
                item:append_text("[" .. index .. "]")
                values[field.name][index + 1] = add_fields(field.element, tvb, start, item, state)
                size = field.at + (index + 1) * element.size
            end
        elseif at + field.at + field.size <= tvb:len() then
            local range, item = tvb(at + field.at, field.size), nil
            values[field.name], item = add_field(field, tree, range, variant)
            size = field.at + field.size
            if name == "ldc_mem_cookie" and field.name == "addr" then
                add_cookie_parts(item, range, values.addr, variant == "stale")
            end
        elseif field.kind ~= "reserved" then
            missing = missing + 1
        end
    end
    return values, size, missing
end

-- Adds structure `name` at `at` and returns its values, its item, where it ends, and whether each field is there. One
-- that ends where only reserved bytes would follow is whole: OpenBSD answers RDX by the tag alone.
local function add_structure(name, tvb, at, tree, variant)
    local item = tree:add(structures[name].proto, tvb(at))
    local values, size, missing = add_fields(name, tvb, at, item, variant)
    if size > 0 then
        item:set_len(size)
    end
    if missing > 0 then
        item:add_proto_expert_info(experts.too_short)
    elseif size < structures[name].size then
        item:add_proto_expert_info(experts.other_length, size .. " bytes, " .. structures[name].size .. " are usual")
    end
    return values, item, at + size, missing == 0
end

-- Shows what is left behind the last structure; where that is whole, there should be nothing.
local function add_extra(tvb, at, tree, is_whole)
    if at >= tvb:len() then
        return
    end
    local item = tree:add(links.extra, tvb(at))
    if is_whole then
        item:add_proto_expert_info(experts.other_length, tvb:len() - at .. " bytes more than the structure has")
    end
end

local function name_of(enumeration, number)
    return numbers[enumeration].names[number] or tostring(number)
end

-- == vDisk =====================================================================================================

local function describe_request(values)
    local where = values.slice == SLICE_NONE and "the whole disk" or "slice " .. values.slice
    return string.format("%s, %s bytes at block %s of %s", name_of("Operation", values.operation),
        tostring(values.nbytes), tostring(values.addr), where)
end

-- Adds the outcome of a request to its item and returns it as text.
local function describe_outcome(values, item)
    local status = values.status
    if status ~= 0 and status ~= STATUS_UNSET then
        item:add_proto_expert_info(experts.failed, "The request failed: " .. name_of("WireErrno", status))
    end
    return string.format("%s, %s", describe_request(values), name_of("WireErrno", status))
end

local ANSWERS = {[NoteKind.FINISHED] = "server", [NoteKind.ANSWERED] = "client"}
local REQUESTS = {[NoteKind.TAKEN] = "server", [NoteKind.SUBMITTED] = "client"}

-- Joins a note to its counterpart at the same end, and to the message that it belongs to.
local function link_note(context, note)
    local index = tostring(note.index)
    if REQUESTS[note.kind] then
        ask(context, "note " .. REQUESTS[note.kind] .. index)
    else
        answer(context, "note " .. ANSWERS[note.kind] .. index)
    end
    if note.how == numbers.How.MESSAGE then
        note_of_message(context, (REQUESTS[note.kind] and INFO or ACK) .. " " .. tostring(note.seq_num), note)
    elseif note.how == numbers.How.POLLING and context.first then
        context.channel.polled = true
    end
end

local function dissect_note(context, tvb, tree)
    context.protocol = "vDisk"
    local note, item, ends, is_whole = add_structure("capture_note", tvb, 0, tree)
    if not is_whole then
        return "note, too short"
    end
    local kind = name_of("NoteKind", note.kind)
    if note.version ~= 1 then
        item:add_proto_expert_info(experts.unknown, "notes of version " .. note.version .. " are not known")
    end
    local is_queue = note.kind == NoteKind.QUEUE_CONFIGURED
    if note.length ~= tvb:len() - ends or is_queue and note.length > 0 then
        item:add_proto_expert_info(experts.bad_length,
            "a ring entry of " .. note.length .. " bytes in " .. tvb:len() - ends .. " bytes")
    end
    if is_queue then
        if context.first then
            forget(context.channel)
        end
        add_extra(tvb, ends, tree, true)
        return string.format("%s, %d entries", kind, note.index)
    end
    if ends == tvb:len() then
        item:add_proto_expert_info(experts.too_short, "there is no ring entry")
        return kind
    end
    local entry, entry_item, last, has_entry = add_structure("vd_dring_entry", tvb, ends, tree)
    add_extra(tvb, last, tree, has_entry)
    if not has_entry or not NoteKind.names[note.kind] then
        return string.format("%s entry %d, which is not whole", kind, note.index)
    end
    link_note(context, note)
    local text = ANSWERS[note.kind] and describe_outcome(entry, entry_item) or describe_request(entry)
    return string.format("%s entry %d: %s", kind, note.index, text)
end

-- == VIO =======================================================================================================

-- Which structure a message is, where that depends on what was agreed.
local choose = {
    [Envelope.ATTR_INFO] = function(channel)
        local version = channel.version
        local has_more = version and (version.major > 1 or version.major == 1 and version.minor >= 2)
        return has_more and "vd_attr_msg_v1_2" or "vd_attr_msg"
    end,
    [Envelope.DRING_DATA] = function(channel, tvb)
        local function is(name, known)
            local field = structures.vio_dring_msg.field[name]
            local there = tvb:len() >= field.at + field.size
            return there and known[read(field, tvb(field.at, field.size))] ~= nil
        end
        if is("end_idx", {[OPEN_ENDED] = true}) and is("proc_state", numbers.ProcState.names) then
            channel.polled = true  -- and stays so: nobody else has a range without an end, and a state
        end
        local is_doorbell = channel.polled and not is("subtype", {[NACK] = true})  -- refused as without polling
        return is_doorbell and "polled_doorbell_msg" or "vio_dring_msg"
    end,
}

local function structure_of(context, tvb)
    local frame = context.frame
    if not frame.layout then
        local tag = structures.vio_msg_tag
        local at = tag.field.subtype_env
        local env = tvb:len() >= tag.size and tvb(at.at, at.size):uint()
        local chooser = choose[env]
        frame.layout = chooser and chooser(context.channel, tvb) or MESSAGES[env] or "vio_msg_tag"
    end
    return frame.layout
end

-- What is said about each structure behind its tag; nil where there is nothing to say.
local summaries = {
    vio_ver_msg = function(values)
        return string.format("%d.%d %s", values.major, values.minor, name_of("DeviceClass", values.dev_class))
    end,
    vd_attr_msg = function(values)
        return string.format("%s, %s blocks of %d bytes", name_of("TransferMode", values.xfer_mode),
            tostring(values.vdisk_size), values.vdisk_block_size)
    end,
    vio_dring_reg_msg = function(values)
        return string.format("ring %s, %d entries of %d bytes", tostring(values.dring_ident), values.num_descriptors,
            values.descriptor_size)
    end,
    vio_dring_msg = function(values)
        if values.end_idx == OPEN_ENDED then
            return string.format("%s: entries from %d on", tostring(values.seq_num), values.start_idx)
        end
        return string.format("%s: entries %d to %d", tostring(values.seq_num), values.start_idx, values.end_idx)
    end,
    polled_doorbell_msg = function(values)
        return string.format("%s: next entry %d, %d completed, %s", tostring(values.seq_num), values.start_idx,
            values.completions, name_of("ProcState", values.proc_state))
    end,
    vd_dring_inband_msg = function(values, item)
        local text = values.subtype == INFO and describe_request(values) or describe_outcome(values, item)
        return string.format("%s: %s", tostring(values.seq_num), text)
    end,
}
summaries.vd_attr_msg_v1_2 = summaries.vd_attr_msg

-- By what an answer is known: its request has the same.
local function key_of(layout, values)
    if layout == "vio_dring_msg" or layout == "vd_dring_inband_msg" then
        return values.subtype_env .. " " .. tostring(values.seq_num)
    end
    return layout ~= "polled_doorbell_msg" and "ctrl " .. values.subtype_env or nil
end

-- Follows ring data to its notes. A range without an end is open until an answer says STOPPED; each tells a piece.
-- Returns whether other answers follow.
local function follow_range(context, values)
    local channel, number = context.channel, tostring(values.seq_num)
    local is_request, piece = values.subtype == INFO, {}
    if context.first and is_request and values.end_idx == OPEN_ENDED then
        channel.open = number
    elseif context.first and values.subtype == ACK and channel.open == number then
        piece = values
        context.frame.more_follow = values.proc_state == numbers.ProcState.ACTIVE
        channel.open = context.frame.more_follow and number or nil
    end
    message_of_notes(context, (is_request and INFO or ACK) .. " " .. number, piece.start_idx, piece.end_idx)
    return context.frame.more_follow
end

-- Learns what a message agrees on, and joins it to the frames around it.
local function follow(context, layout, values)
    local channel = context.channel
    if layout == "vio_ver_msg" and context.first then
        channel.version = values.subtype == ACK and {major = values.major, minor = values.minor} or nil
        channel.polled = nil
    end
    local key = key_of(layout, values)
    local more_follow = layout == "vio_dring_msg" and follow_range(context, values)
    if key and values.subtype == INFO then
        ask(context, key)
    elseif key then
        answer(context, key, more_follow)
    end
end

local function dissect_message(context, tvb, tree)
    context.protocol = "VIO"
    local layout = structure_of(context, tvb)
    local values, item, ends, is_whole = add_structure(layout, tvb, 0, tree)
    if not values.sid then
        return "message of " .. tvb:len() .. " bytes"
    end
    local text = name_of("Envelope", values.subtype_env) .. " " .. name_of("Subtype", values.subtype)
    if values.subtype == NACK then
        item:add_proto_expert_info(experts.refused)
    end
    if layout == "vio_msg_tag" then
        item:add_proto_expert_info(experts.undecoded, "no structure is known for " .. text)
    end
    if layout == "vio_dring_reg_msg" and ends < tvb:len() and values.options
        and bit.band(values.options, numbers.DringOption.RX_DATA) ~= 0 then
        _, _, ends = add_structure("vio_dring_reg_ext_msg", tvb, ends, tree)
    end
    add_extra(tvb, ends, tree, is_whole and layout ~= "vio_msg_tag")
    if is_whole then
        follow(context, layout, values)
    end
    local summary = is_whole and summaries[layout]
    if summary then
        text = text .. " " .. summary(values, item)
    end
    item:append_text(": " .. text)
    return text
end

-- == LDC =======================================================================================================

-- Takes a piece of a message on the first pass: a message of several pieces is kept with its last frame.
local function collect(context, env, payload)
    local streams, way = context.channel.streams, context.way
    local stream = streams[way]
    if bit.band(env, ENV_START) ~= 0 then
        stream = {pieces = {}, bytes = ByteArray.new()}
        streams[way] = stream
    elseif not stream then
        context.frame.stray = true
        return
    end
    stream.bytes:append(payload:bytes())
    table.insert(stream.pieces, context.number)
    if stream.bytes:len() > MAX_MESSAGE_SIZE then
        streams[way] = nil
    elseif bit.band(env, ENV_STOP) ~= 0 then
        streams[way] = nil
        for _, number in ipairs(stream.pieces) do
            frames[number].reassembled_in = context.number
        end
        context.frame.pieces, context.frame.message = stream.pieces, stream.bytes
    end
end

-- Shows the message that this piece ends, if it does.
local function dissect_piece(context, values, item, payload, tree)
    local length = bit.band(values.env, ENV_LENGTH_MASK)
    if length > payload:len() then
        item:add_proto_expert_info(experts.bad_length, "a piece of " .. length .. " bytes")
        return nil
    elseif length == 0 then
        item:add_proto_expert_info(experts.other_length, "an empty piece")
        return nil
    end
    local piece = payload(0, length)
    if bit.band(values.env, ENV_START + ENV_STOP) == ENV_START + ENV_STOP then
        if context.first then
            context.channel.streams[context.way] = nil
        end
        return dissect_message(context, piece:tvb(), tree)
    end
    if context.first then
        collect(context, values.env, piece)
    end
    local frame = context.frame
    if frame.stray then
        item:add_proto_expert_info(experts.no_beginning)
    end
    return frame.message and dissect_message(context, frame.message:tvb("LDC message"), tree)
end

local function mode_of(context)
    local wanted = ldoms.prefs.mode
    if wanted == BY_AGREEMENT then
        return context.frame.mode == numbers.Mode.RELIABLE and RELIABLE or UNRELIABLE
    end
    return wanted
end

-- Steps of the handshake that answer another, besides ACK and NACK of the same.
local ANSWERS_STEP = {[PacketCtrl.RTR] = PacketCtrl.RTS, [PacketCtrl.RDX] = PacketCtrl.RTR}

-- Learns what a packet of the handshake agrees on, and joins it to the one that it answers.
local function follow_handshake(context, step, values)
    local is_info = bit.band(values.stype, numbers.PacketStype.INFO) ~= 0
    if context.first and step == PacketCtrl.VER and is_info then
        context.channel.streams[context.way] = nil
        context.channel.mode = nil
    elseif context.first and step == PacketCtrl.RTR and is_info then
        context.channel.mode = values.env
    end
    local function key_of_step(asked, way)
        return "ldc " .. asked .. way
    end
    local back = context.way == "out" and "in" or "out"
    if not is_info then
        answer(context, key_of_step(step, back))
        return
    elseif ANSWERS_STEP[step] then
        answer(context, key_of_step(ANSWERS_STEP[step], back))
    end
    if step ~= PacketCtrl.RDX then
        ask(context, key_of_step(step, context.way))
    end
end

local HANDSHAKE_MODES = {[PacketCtrl.RTS] = "mode", [PacketCtrl.RTR] = "mode"}

local function dissect_packet(context, tvb, tree)
    context.protocol = "LDC"
    local mode = mode_of(context)
    if mode == RAW then
        add_structure("ldc_packet_raw", tvb, 0, tree)
        return "raw"
    end
    local kind, stype = tvb(0, 1):uint(), tvb(1, 1):uint()
    local step = bit.band(tvb(2, 1):uint(), CTRL_MASK)
    local is_control = bit.band(kind, CTRL) ~= 0
    local is_data = bit.band(kind, DATA) ~= 0 and bit.band(stype, numbers.PacketStype.INFO) ~= 0
    local layout = is_control and step == PacketCtrl.VER and "ldc_packet_ver"
        or mode == RELIABLE and "ldc_packet_reliable" or "ldc_packet_unreliable"
    local variant = is_data and "data" or is_control and HANDSHAKE_MODES[step] or nil
    local values, item = add_structure(layout, tvb, 0, tree, variant)
    local text = name_of("PacketType", kind) .. " " .. name_of("PacketStype", stype)
    if is_control then
        follow_handshake(context, step, values)
        text = name_of("PacketCtrl", step) .. " " .. name_of("PacketStype", stype)
        if variant then
            text = text .. " " .. name_of("Mode", values.env)
        elseif values.major then
            text = text .. string.format(" %d.%d", values.major, values.minor)
        end
    elseif not is_data and bit.band(kind, DATA) == 0 then
        item:add_proto_expert_info(experts.unknown, "neither control nor data")
    end
    if stype == 0 then
        item:add_proto_expert_info(experts.unknown, "neither INFO nor ACK nor NACK")
    elseif bit.band(stype, numbers.PacketStype.NACK) ~= 0 then
        item:add_proto_expert_info(experts.refused)
    end
    item:append_text(": " .. text .. ", seqid " .. values.seqid)
    if not is_data or is_control then
        return text
    elseif mode == RELIABLE then
        return text .. " " .. bit.band(values.env, ENV_LENGTH_MASK) .. " bytes of the stream"
    end
    local payload = tvb(tvb:len() - UNRELIABLE_PAYLOAD)
    return dissect_piece(context, values, item, payload, tree) or text .. ", piece of a message"
end

-- == a frame ===================================================================================================

local function add_links(frame, tree)
    for _, number in ipairs(frame.pieces or {}) do
        tree:add(links.piece_in, number):set_generated()
    end
    if frame.message then
        tree:add(links.message_size, frame.message:len()):set_generated()
    elseif frame.reassembled_in then
        tree:add(links.reassembled_in, frame.reassembled_in):set_generated()
    end
    for _, name in ipairs({"request_in", "response_in", "message_in"}) do
        if frame[name] then
            tree:add(links[name], frame[name]):set_generated()
        end
    end
    if frame.response_time then
        local seconds = math.floor(frame.response_time)
        local rest = math.floor((frame.response_time - seconds) * 1e9 + 0.5)
        tree:add(links.response_time, NSTime.new(seconds, rest)):set_generated()
    end
end

local WAYS = {"in", "out"}  -- directions in a packet's flags; 0: not told
local WORDS = {["in"] = "to this end", out = "from this end", unknown = "direction not told"}

-- Names both ends in the columns, as far as they are known: this one by its interface.
local function name_ends(context, pinfo)
    local name = interface_name()
    local here = name and tostring(name.value) or "this end"
    if context.way == "out" then
        pinfo.cols.src, pinfo.cols.dst = here, "peer"
    elseif context.way == "in" then
        pinfo.cols.src, pinfo.cols.dst = "peer", here
    end
end

local function context_of(pinfo)
    local number, has_tree = pinfo.number, frame_number() ~= nil
    local channel = has_tree and channel_of() or new_channel()
    local first = has_tree and not frames[number]
    if first then
        frames[number] = {mode = channel.mode}
    end
    local way = WAYS[value_of(direction)] or "unknown"
    local context = {number = number, first = first, time = pinfo.rel_ts, channel = channel, way = way}
    context.frame = frames[number] or {}
    return context
end

function ldoms.dissector(tvb, pinfo, root)
    local context = context_of(pinfo)
    local tree = root:add(ldoms, tvb())
    tree:append_text(", " .. WORDS[context.way])
    local text
    if tvb:len() < tvb:reported_len() then
        tree:add_proto_expert_info(experts.cut)
        text = "cut to " .. tvb:len() .. " bytes of " .. tvb:reported_len()
    elseif tvb:len() == PACKET_SIZE then
        text = dissect_packet(context, tvb, root)
    else
        text = dissect_note(context, tvb, root)
    end
    add_links(context.frame, tree)
    name_ends(context, pinfo)
    pinfo.cols.protocol = context.protocol or "LDoms"
    pinfo.cols.info = text
end

DissectorTable.get("wtap_encap"):add((wtap_encaps or wtap).USER0, ldoms)
