"""OpenBSD at the other end: vdsk, a client, and vdsp, a server.

Sources: OpenBSD sys/arch/sparc64/dev/ldc.c 1.7 (ldc_rx_ctrl_vers, ldc_rx_ctrl_rts, ldc_rx_data, ldc_send_rdx,
ldc_reset), vdsk.c 1.27 (vdsk_attach, vdsk_rx_intr, vdsk_rx_vio_rdx), vdsp.c 1.26 (vdsp_rx_vio_ver_info,
vdsp_open, vdsp_alloc, vdsp_rx_vio_rdx, vdsp_rx_vio_dring_data, vdsp_ack_desc, vdsp_get_diskgeom), viovar.h.
"""

from __future__ import annotations

import struct
from collections import deque

import pytest

from protocol.ldc.cookie import Cookie, Permission
from protocol.ldc.events import LinkState, QueueConfigured
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    DescriptorsDone,
    DescriptorsReady,
    Server,
    SessionLost,
    SessionReady,
    SessionReset,
)
from protocol.vdisk.payloads import GEOMETRY_NBYTES, parse_geometry
from tests.support.farend import FarEnd, map_table
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    MARK,
    RDX,
    RTR,
    RTS,
    VER,
    data,
    numbered,
    outputs,
    packet,
    rtr,
    rts,
    version,
)
from tests.support.vioscript import ATTRIBUTES, SID, ClientScript, ServerScript, octets
from vdc.guest import RING as OUR_RING

RING = bytes.fromhex(
    f"01 01 00 03 {SID} {0:016x} {32:08x} {176:08x} 0003 0000 00000001 {0:016x} {0x2000:016x}"
)


class Vdsk:
    """The link of vdsk: it starts, it answers, and it resets at whatever it calls spurious."""

    def __init__(self, stack: Server) -> None:
        self.stack = stack
        self.queue: deque[bytes] = deque()  # its receive queue
        self.wire: deque[bytes | QueueConfigured] = deque()  # what it has sent and we have not read
        self.channel = LinkState.UP  # what the hypervisor will say of our queue
        self.rx_state = LinkState.DOWN  # what it said last
        self.state = ""
        self.seqid = 0
        self.resets = 0
        self._send("VER", version(INFO))  # vdsk_attach

    def _send(self, state: str, sent: bytes) -> None:
        """Send, unless the link state is not UP: then nothing happens, and nobody is told."""
        channel, self.channel = self.channel, LinkState.UP
        if channel is LinkState.UP:
            self.wire.append(sent)
            self.state = state

    def _numbered(self, ctrl: int) -> bytes:
        self.seqid += 1
        return packet(CTRL, INFO, ctrl, 1, self.seqid - 1)  # the mode in RDX as well

    def interrupt(self) -> None:
        """vdsk_rx_intr: one packet, or a change of the link state with which all packets go."""
        channel, self.channel = self.channel, LinkState.UP
        if channel is not self.rx_state:
            self.state, self.seqid = "", 0
            if channel is LinkState.UP:
                self._send("VER", version(INFO))
            self.rx_state = channel
            self.queue.clear()
        elif self.queue:
            self._receive(self.queue.popleft())

    def _receive(self, received: bytes) -> None:
        type_, stype, ctrl = struct.unpack_from(">3B", received)
        step = (type_, stype, ctrl, self.state)
        if (type_, stype, ctrl) == (CTRL, INFO, VER):
            self._send("ACKED", version(ACK))
        elif step == (CTRL, ACK, VER, "VER"):
            self._send("RTS", self._numbered(RTS))
        elif step == (CTRL, INFO, RTS, "ACKED"):
            self._send("UP", self._numbered(RTR))  # data are taken from here on
        elif step == (CTRL, INFO, RTR, "RTS"):
            self._send("UP", self._numbered(RDX))
        elif step != (CTRL, INFO, RDX, "UP"):
            self._reset()

    def _reset(self) -> None:
        """ldc_reset: both queues anew; it starts again when it next looks at the link state."""
        self.queue.clear()
        self.wire.append(MARK)
        self.rx_state = LinkState.DOWN
        self.state, self.seqid = "", 0
        self.resets += 1

    def read(self) -> None:
        """We read all that it has sent; what we send for it is in its queue."""
        while self.wire:
            first = self.wire.popleft()
            if isinstance(first, QueueConfigured):
                self.stack.link_state(LinkState.RESET)
                self.stack.link_state(LinkState.UP)
            else:
                self.stack.receive_packet(first)
            self.collect()

    def collect(self) -> None:
        """What we have sent is in its queue."""
        for output in outputs(self.stack):
            if isinstance(output, bytes):
                self.queue.append(output)
            else:
                self.channel = LinkState.RESET
                self.wire.clear()

    def say(self, message: bytes) -> None:
        """Send a message of one packet."""
        self.seqid += 1
        self.wire.append(data(self.seqid - 1, message))


# -- link, vdsk at the other end -----------------------------------------------------------------------------


@pytest.mark.parametrize("order", range(256))
def test_a_link_that_both_start_comes_up_in_any_order_of_events(order: int) -> None:
    """ldc_rx_ctrl_vers: an ACK after it has ACKed ours is "spurious", a reset; a later attempt stands.

    ``order`` says, bit by bit, whether we read or vdsk looks next; then both take turns. Each time that vdsk
    looks at its new queue before we have answered its reset, the versions cross again.
    """
    server = Server(ATTRIBUTES)
    vdsk = Vdsk(server)
    server.link_state(LinkState.UP)
    vdsk.collect()
    for turn in range(40):
        ours = order >> turn & 1 if turn < 8 else turn & 1
        if ours:
            vdsk.read()
        else:
            vdsk.interrupt()
    assert vdsk.state == "UP"
    assert vdsk.resets <= 4  # each takes two of the eight turns that are not ours to choose
    vdsk.say(octets(f"01 01 00 01 {SID} 0001 0000 03"))
    vdsk.read()
    answer = vdsk.queue[-1]
    assert answer[:4] == bytes.fromhex("02 01 00 f8")
    assert answer[8:] == octets(f"01 02 00 01 {SID} 0001 0000 04")


def test_a_version_that_is_already_there_is_answered_and_not_crossed() -> None:
    """Our offer went with the change of its link state; its own stands, and no ACK is spurious."""
    far = FarEnd(Server(ATTRIBUTES))
    assert far.give(LinkState.UP) == [version(INFO)]  # dropped by vdsk with the change of its link state
    assert far.give(version(INFO)) == [version(ACK)]
    assert far.give(rts()) == [rtr()]
    assert far.give(packet(CTRL, INFO, RDX, 1, 1)) == []
    far.seqid = 1
    assert len(far.say(octets(f"01 01 00 01 {SID} 0001 0000 03"))) == 1


def test_two_versions_in_a_row_are_two_starts() -> None:
    """vdsk_attach sends one, the first vdsk_rx_intr another."""
    far = FarEnd(Server(ATTRIBUTES))
    far.give(LinkState.UP)
    assert far.give(version(INFO)) == [version(ACK)]
    assert far.give(version(INFO)) == [version(ACK)]
    assert far.give(rts()) == [rtr()]


@pytest.mark.parametrize("env", [0, 1])
def test_the_mode_in_rdx_is_not_looked_at(env: int) -> None:
    """ldc_send_rdx puts the mode there; everybody else 0."""
    far = FarEnd(Server(ATTRIBUTES))
    far.give(LinkState.UP)
    assert far.give(version(INFO), rts(), packet(CTRL, INFO, RDX, env, 1)) == [version(ACK), rtr()]
    far.seqid = 1
    assert len(far.say(octets(f"01 01 00 01 {SID} 0001 0000 03"))) == 1


def test_an_offer_that_openbsd_leaves_unanswered_is_no_dead_end() -> None:
    """ldc_send_ack sends nothing while the link state is RESET; then vdsk's own VER INFO starts it."""
    far = FarEnd(Server(ATTRIBUTES))
    assert far.give(LinkState.UP) == [version(INFO)]
    assert far.give(version(INFO), rts(), packet(CTRL, INFO, RDX, 1, 1)) == [version(ACK), rtr()]
    far.seqid = 1
    assert len(far.say(octets(f"01 01 00 01 {SID} 0001 0000 03"))) == 1


def test_what_openbsd_does_not_check_is_right_all_the_same() -> None:
    """ldc.c never looks at a seqid; ours count up, and its own are checked: a gap is lost data."""
    far = FarEnd(Server(ATTRIBUTES))
    far.give(LinkState.UP)
    far.give(version(INFO), rts(), packet(CTRL, INFO, RDX, 1, 1))
    ver = octets(f"01 01 00 01 {SID} 0001 0000 03")
    numbers = [output[4:8] for output in far.give(data(2, ver), data(3, ver)) if isinstance(output, bytes)]
    far.events()
    far.stack.reset_done()  # the second VER_INFO is a restart
    numbers += [output[4:8] for output in outputs(far.stack) if isinstance(output, bytes)]
    assert numbers == [b"\0\0\0\1", b"\0\0\0\2"]
    assert far.give(data(5, ver)) == [numbered(DATA, 4, 0, 3, 3)]


def test_a_reset_of_openbsd_is_a_soft_reset_of_ours() -> None:
    """ldc_reset at what it calls spurious, a DATA NACK of ours too: both queues anew, then a VER INFO."""
    script = ServerScript()
    script.data(minor=0)
    script.reset()
    (reset,) = script.events()
    assert isinstance(reset, SessionReset)
    assert not reset.full
    script.stack.reset_done()
    script.carry()
    script.data(minor=0)


# -- memory and session, vdsk at the other end ---------------------------------------------------------------


def test_everything_is_exported_for_everything() -> None:
    """vdsk_scsi_cmd: copy, map and IO, always both ways; 2048 entries, slot 0 the ring."""
    word = 0x400 | 0x200 | 0x100 | 0x80 | 0x20 | 0x10
    table = map_table(2048, {0: 0x40000 | 0x630, 2047: 0x42000 | word})
    for need in (Permission.CR, Permission.CW, Permission.R | Permission.W):
        assert table.resolve(2047 << 13, 8192, need) == [(0x42000, 8192)]
        assert table.resolve(0, 32 * 176, need) == [(0x40000, 32 * 176)]


@pytest.mark.parametrize("minor", [0, 1])
def test_the_session_of_vdsk_octet_by_octet(minor: int) -> None:
    """1.0, later 1.1; 32 entries of 176, options 3; numbers from 1, set when the ring was registered."""
    script = ServerScript()
    (answer,) = script.send(octets(f"01 01 00 01 {SID} 0001 {minor:04x} 03"))
    assert answer == octets(f"01 02 00 01 {SID} 0001 {minor:04x} 04")
    (answer,) = script.send(octets(f"01 01 00 02 {SID} 03 00 00 00 00000200 {'00' * 16} {0x80:016x}"))
    assert (answer[1], answer[9], answer[24:32]) == (2, 2, (0x1803).to_bytes(8, "big"))
    assert script.send(RING) == []
    script.stack.accept_ring()
    assert script.answers() == [b"\x01\x02" + RING[2:8] + (1).to_bytes(8, "big") + RING[16:]]
    assert script.send(octets(f"01 01 00 05 {SID}")) == [octets(f"01 02 00 05 {SID}")]
    script.events()
    script.send(script.ring(1, 0, 0), script.ring(2, 1, 1))
    for batch in script.events():
        assert isinstance(batch, DescriptorsReady)
        script.stack.complete(batch.batch, batch.start_idx)
    assert [(answer[1], answer[15], answer[27]) for answer in script.answers()] == [(2, 1, 0), (2, 2, 1)]


@pytest.mark.parametrize("size", [16, 24, 40])
def test_the_short_messages_of_the_oldest_vdsk_are_refused(size: int) -> None:
    """vds NACKs what is not 56 bytes; so the oldest vdsk works with neither."""
    script = ServerScript()
    message = octets(f"01 01 00 01 {SID} 0001 0000 03")[:size]
    assert script.send(message) == [message[:1] + b"\x04" + message[2:]]


# -- vdsp at the other end -----------------------------------------------------------------------------------

#: vdsp.c, VD_OP_MASK: operations 1 to 8, of which GET_WCE and SET_WCE are answered ENOTSUP.
OFFERED = 0x1FE
VDSP = [
    octets(f"01 02 00 01 {SID} 0001 0001 04"),
    octets(f"01 02 00 02 {SID} 03 02 01 00 00000200 {OFFERED:016x} {0x1803:016x} {0x80:016x}"),
    octets(f"01 02 00 03 {SID} {7:016x}", 48),
    bytes.fromhex(f"01 02 00 05 {SID}"),
]


def to_vdsp(steps: int = 4) -> ClientScript:
    """A client of ours after that many of vdsp's answers."""
    script = ClientScript()
    assert script.events() == [ChannelUp()]
    script.stack.start(0x2A)
    for answer in VDSP[:steps]:
        script.send(answer)
        if answer[3] == 2:
            (known,) = script.events()
            assert isinstance(known, AttributesReceived)
            script.stack.register_ring(Cookie(0x2000, 0x4000), OUR_RING)
    script.answers()
    return script


def ack(seq_num: int, index: int) -> bytes:
    """vdsp_ack_desc: a fresh message, numbered by itself."""
    return octets(f"02 02 00 42 {SID} {seq_num:016x} {7:016x} {index:08x} {index:08x}")


def test_vdsp_only_answers_the_link_and_its_data_begin_at_1() -> None:
    """vdsp_rx_intr starts no handshake; RTR took number 0."""
    far = FarEnd(Client(max_xfer_blocks=256))
    assert far.give(LinkState.UP) == [version(INFO)]
    assert far.give(version(ACK)) == [rts()]
    assert far.give(rtr()) == [numbered(CTRL, INFO, RDX, 1, 0)]
    assert far.events() == [ChannelUp()]
    far.stack.start(0x2A)
    assert outputs(far.stack) == [data(2, octets(f"01 01 00 01 {SID} 0001 0002 03"))]
    assert far.say(VDSP[0])[0][3] == 2


def test_a_session_with_vdsp() -> None:
    """Attributes and ring are acknowledged with fresh zeroed messages, RDX with a tag of 8 bytes."""
    script = to_vdsp()
    (ready,) = script.events()
    assert isinstance(ready, SessionReady)
    assert (ready.version, ready.attributes.operations, ready.attributes.max_xfer_blocks) == (
        (1, 1),
        OFFERED,
        0x80,
    )
    script.stack.announce(5, 5)
    (sent,) = script.answers()
    assert sent[16:24] == (7).to_bytes(8, "big")  # the ident of vdsp counts up for ever
    script.send(ack(1, 5))
    assert script.events() == [DescriptorsDone(5, 5)]


def test_the_numbers_of_vdsp_are_its_own() -> None:
    """vdsp_ack_desc: 1, 2, 3 … in the order of completion, whichever request it is that was completed."""
    script = to_vdsp()
    script.events()
    for index in (5, 6, 7):
        script.stack.announce(index, index)
    script.send(ack(1, 6), ack(2, 7), ack(3, 5))
    assert script.events() == [DescriptorsDone(6, 6), DescriptorsDone(7, 7), DescriptorsDone(5, 5)]


def test_one_message_names_one_entry() -> None:
    """vdsp_rx_vio_dring_data looks at start_idx alone; without an extension we never name more than one."""
    script = to_vdsp()
    script.events()
    script.stack.announce(9, 9)
    (sent,) = script.answers()
    assert sent[24:32] == bytes.fromhex("00000009 00000009")


def test_our_ring_is_one_that_vdsp_takes() -> None:
    """vdsp_rx_vio_dring_reg: 1024 entries of 512 bytes and one cookie at most, else NACK and no reset."""
    assert OUR_RING.num_descriptors <= 1024
    assert OUR_RING.descriptor_size <= 512


@pytest.mark.parametrize("step", [1, 2])
def test_a_nack_of_vdsp_without_a_reset_is_a_loss_and_our_reset_is_seen(step: int) -> None:
    """vdsp NACKs and stays as it is; only a reset of the link makes it forget (vdsp_ldc_reset)."""
    script = to_vdsp(step)
    script.events()
    script.send(VDSP[step][:1] + b"\x04" + VDSP[step][2:])
    assert [type(event) for event in script.events()] == [SessionLost]
    script.stack.reset_done()
    script.carry()
    assert script.resets == 1


def test_a_data_nack_of_vdsp_is_a_loss() -> None:
    """vdsp_rx_vio_dring_data: a ring it does not know, an index outside; nothing follows."""
    script = to_vdsp()
    script.events()
    script.stack.announce(5, 5)
    (sent,) = script.answers()
    script.send(sent[:1] + b"\x04" + sent[2:])
    assert [type(event) for event in script.events()] == [SessionLost]


def test_a_major_that_vdsp_lacks_is_offered_lower() -> None:
    """vdsp_rx_vio_ver_info: NACK with 1.1."""
    script = ClientScript(versions=((2, 0), (1, 2)))
    script.events()
    script.stack.start(0x2A)
    script.answers()
    assert script.send(octets(f"01 04 00 01 {SID} 0001 0001 03")) == [
        octets("01 01 00 01 0000002b 0001 0002 03")
    ]


def test_a_wrong_device_class_is_refused_with_major_0_and_ends_the_attempt() -> None:
    """vdsp_rx_vio_ver_info: the minor is left as it was, where Solaris changes nothing."""
    script = to_vdsp(0)
    script.send(octets(f"01 04 00 01 {SID} 0000 0002 03"))
    assert [type(event) for event in script.events()] == [SessionLost]


def test_a_geometry_of_vdsp_is_read_from_what_it_copies() -> None:
    """vdsp_get_diskgeom: 64 bytes rounded up, cut by our cookie of 24; 3600 rpm, where Solaris says 7200."""
    octets_ = struct.pack(">11H", 8, 2, 0, 1, 600, 0, 0, 3600, 10, 0, 0) + bytes(42)
    geometry = parse_geometry(octets_[:GEOMETRY_NBYTES])
    assert GEOMETRY_NBYTES == 24
    assert (geometry.ncyl, geometry.nhead, geometry.nsect, geometry.rpm) == (8, 1, 600, 3600)
