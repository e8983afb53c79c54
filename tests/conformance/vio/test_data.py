"""The data phase, server's side: sequence, ranges, ACK against NACK, in-band.

Sources: Solaris 11 vds.c (vd_check_seq_num, vd_process_dring_msg, vd_process_element_range,
vd_process_desc_msg, vd_complete_notify); Linux sunvdc.c; OpenBSD vdsp.c; FWARC 2010/054.
"""

from __future__ import annotations

import pytest

from protocol.stack import DescriptorsReady, RequestReceived, SessionReset
from protocol.vdisk.descriptor import Request
from tests.support.stackdisk import RING, RING_AT, Packet, StackDisk, Wire
from tests.support.vioscript import SID, ServerScript, octets


def _batches(script: ServerScript) -> list[DescriptorsReady]:
    """Return the ranges reported since the last look."""
    return [event for event in script.events() if isinstance(event, DescriptorsReady)]


def _resets(script: ServerScript) -> list[SessionReset]:
    """Return the resets reported since the last look."""
    return [event for event in script.events() if isinstance(event, SessionReset)]


# -- sequence ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1, 2, 0xFFFFFFF0, 2**64 - 2])
def test_the_first_message_may_carry_any_number(first: int) -> None:
    """vds.c, vd_check_seq_num; Linux never restarts its counter, Solaris and OpenBSD start at 1."""
    script = ServerScript()
    script.data()
    script.send(*(script.ring((first + n) % 2**64, n, n) for n in range(4)))
    assert len(_batches(script)) == 4


@pytest.mark.parametrize("second", [0, 4, 5, 7, 2**63])
def test_each_later_one_is_the_previous_plus_1(second: int) -> None:
    """vds.c, vd_check_seq_num: else NACK and soft reset."""
    script = ServerScript()
    script.data()
    script.send(script.ring(5, 0, 0))
    (batch,) = _batches(script)
    script.stack.complete(batch.batch, 0)
    assert len(script.answers()) == 1
    (answer,) = script.send(script.ring(second, 1, 1))
    assert answer[1] == 4
    (reset,) = _resets(script)
    assert not reset.full


def test_a_new_session_begins_with_any_number_again() -> None:
    """vds.c: a reset forgets sid and sequence."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1000, 0, 0))
    script.reset()
    assert len(_resets(script)) == 1
    script.stack.reset_done()
    script.carry()
    script.data()
    script.send(script.ring(7, 0, 0))
    assert len(_batches(script)) == 1


def test_an_answer_carries_the_number_of_its_request() -> None:
    """vds.c: no counter for the other direction (OpenBSD has one)."""
    script = ServerScript()
    script.data()
    script.send(script.ring(0x1234, 2, 2))
    (batch,) = _batches(script)
    script.stack.complete(batch.batch, 2)
    assert script.answers()[0][8:16] == (0x1234).to_bytes(8, "big")


def test_replies_are_sent_in_request_order() -> None:
    """vdc.c wants rising numbers; vds.c completes on one serial queue."""
    script = ServerScript()
    script.data()
    script.send(*(script.ring(n, n, n) for n in range(1, 6)))
    for batch in reversed(_batches(script)):
        script.stack.complete(batch.batch, batch.start_idx)
    assert [answer[15] for answer in script.answers()] == [1, 2, 3, 4, 5]


# -- request -------------------------------------------------------------------------------------------------


def test_ring_data_has_56_bytes() -> None:
    """vds.c, vd_process_dring_msg: length 56."""
    script = ServerScript()
    script.data()
    assert [answer[1] for answer in script.send(script.ring(1, 0, 0)[:48])] == [4]
    assert [reset.full for reset in _resets(script)] == [False]


def test_dring_ident_is_the_one_assigned() -> None:
    """vds.c, vd_process_dring_msg."""
    script = ServerScript()
    script.data()
    message = bytearray(script.ring(1, 0, 0))
    message[23] = 0
    assert [answer[1] for answer in script.send(bytes(message))] == [4]
    assert [reset.full for reset in _resets(script)] == [False]


@pytest.mark.parametrize(("start", "end"), [(8, 0), (0xFFFFFFFF, 0), (0, 8), (0, 0x7FFFFFFF)])
def test_indices_are_below_num_descriptors(start: int, end: int) -> None:
    """vds.c, vd_process_dring_msg refuses them; decided here: an index fault is a full reset."""
    script = ServerScript()
    script.data()
    assert [answer[1] for answer in script.send(script.ring(1, start, end))] == [4]
    assert [reset.full for reset in _resets(script)] == [True]


def test_an_open_ended_range_is_refused() -> None:
    """vds.c: 0 <= end_idx. FWARC 2010/054 has -1, which only an agreed extension turns on here."""
    script = ServerScript()
    script.data()
    assert [answer[1] for answer in script.send(script.ring(1, 0, -1))] == [4]
    assert [reset.full for reset in _resets(script)] == [True]


def test_an_end_before_the_start_wraps() -> None:
    """vds.c, vd_process_element_range."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 6, 1))
    assert [(batch.start_idx, batch.count) for batch in _batches(script)] == [(6, 4)]


@pytest.mark.parametrize("state", [0, 1, 2, 0xA5])
def test_the_processing_state_is_echoed(state: int) -> None:
    """No disk client sets proc_state; vds echoes it unchanged."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 0, 0, state=state))
    (batch,) = _batches(script)
    script.stack.complete(batch.batch, 0)
    assert script.answers()[0][32] == state


# -- range ---------------------------------------------------------------------------------------------------


def test_a_range_gets_one_answer_when_its_last_element_completes() -> None:
    """vds.c: start_idx unchanged, end_idx the last."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 2, 4))
    (batch,) = _batches(script)
    for index in (4, 2):
        script.stack.complete(batch.batch, index)
        assert script.answers() == []
    script.stack.complete(batch.batch, 3)
    (answer,) = script.answers()
    assert answer[:1] + answer[1:2] + answer[24:32] == bytes.fromhex("02 02 00000002 00000004")


def test_a_range_is_executed_in_order_over_the_wrap() -> None:
    """vds.c, vd_process_element_range: from start to end, wrapping."""
    disk = StackDisk(bytearray(1 << 16))
    taken: list[list[int]] = []

    def note(indices: list[int]) -> list[int]:
        taken.append(indices)
        return indices

    disk.order = note
    memory = disk.guest.memory
    for index in (6, 7, 0):
        at = RING_AT + index * RING.descriptor_size
        memory[at : at + 48] = bytes([2, 0]) + bytes(14) + bytes([3]) + bytes(31)
    disk.client.announce(6, 0)
    disk.pump()
    assert taken == [[6, 7, 0]]
    assert [memory[RING_AT + index * RING.descriptor_size] for index in (6, 7, 0)] == [4, 4, 4]


def test_a_transport_error_stops_the_range_and_names_its_element() -> None:
    """vds.c: processing stops, running ones are waited for, NACK with end_idx = that index, full reset."""
    script = ServerScript()
    script.data()
    script.send(script.ring(1, 2, 5))
    (batch,) = _batches(script)
    script.stack.complete(batch.batch, 2)
    script.stack.fault(batch.batch, 3, "descriptor 3 is in state 1, not READY")
    (reset,) = _resets(script)
    assert reset.full
    script.stack.reset_done()
    (answer,) = script.answers()
    assert answer[:2] + answer[24:32] == bytes.fromhex("02 04 00000002 00000003")
    assert script.resets == 1


def test_an_entry_that_is_not_ready_is_a_nack_with_its_index_and_a_full_reset() -> None:
    """vds.c, vd_process_element: EBUSY."""
    disk = StackDisk(bytearray(1 << 16))
    disk.client.announce(5, 5)
    disk.pump()
    assert [reset.full for reset in disk.server.resets] == [True]
    assert len(disk.lost) == 1
    assert disk.sessions == 2


def test_an_error_of_an_earlier_element_is_in_its_entry_and_not_in_the_reply() -> None:
    """vds.c: each element is DONE with its own status; the one reply for the range is an ACK."""
    disk = StackDisk(bytearray(1 << 16))
    memory = disk.guest.memory
    told: list[int] = []

    def fail(request: Request) -> int:
        return 5 if request.req_id == 0x11 else 0

    def note(wire: Wire, packet: Packet) -> Packet:
        if wire is disk.to_client and isinstance(packet, bytes):
            told.append(packet[9])
        return packet

    disk.on_request, disk.on_packet = fail, note
    for index, req_id in ((2, 0x11), (3, 0x12)):
        at = RING_AT + index * RING.descriptor_size
        memory[at : at + 48] = bytes([2, 0]) + bytes(13) + bytes([req_id, 3]) + bytes(31)
    disk.client.announce(2, 3)
    disk.pump()
    assert told == [2]
    entries = [RING_AT + index * RING.descriptor_size for index in (2, 3)]
    assert [(memory[at], memory[at + 23]) for at in entries] == [(4, 5), (4, 0)]


# -- ACK against NACK ----------------------------------------------------------------------------------------


def test_a_disk_error_is_an_ack_with_a_status() -> None:
    """vds.c: NACK means protocol or transport failure only."""
    disk = StackDisk(bytearray(1 << 16))
    disk.on_request = lambda request: 5
    with pytest.raises(OSError, match="Errno 5"):
        disk.pread(0, 512)
    assert disk.lost == []


def test_an_ack_is_never_sent_before_done_is_visible() -> None:
    """vds.c, vd_complete_notify: a client that finds the entry not DONE ignores the ACK, for ever."""
    disk = StackDisk(bytearray(1 << 16))
    seen: list[int] = []

    def look(wire: Wire, packet: Packet) -> Packet:
        if wire is disk.to_client and isinstance(packet, bytes):
            assert packet[8:12] == bytes.fromhex("02 02 00 42")
            seen.append(disk.guest.memory[RING_AT + packet[35] * RING.descriptor_size])
        return packet

    disk.on_packet = look
    for _ in range(2 * RING.num_descriptors):
        disk.pread(0, 512)
    assert seen == [4] * 2 * RING.num_descriptors


def test_every_message_is_acknowledged_whatever_the_ack_flag_says() -> None:
    """vds.c never reads the flag."""
    disk = StackDisk(bytearray(1 << 16))
    memory = disk.guest.memory
    memory[RING_AT : RING_AT + 48] = bytes([2, 0]) + bytes(14) + bytes([3]) + bytes(31)
    carried = disk.to_client.carried
    disk.client.announce(0, 0)
    disk.pump()
    assert disk.to_client.carried == carried + 1


# -- in-band -------------------------------------------------------------------------------------------------

INBAND = octets(
    f"02 01 00 41 {SID} 0000000000000001 00000000deadbeef"
    "0000000000000007 01 ff 0000 ffffffff 0000000000000005 0000000000000200 00000001 00000000"
    "0000000000002000 0000000000000200",
    80,
)


def test_the_in_band_reply_is_the_message_with_status_and_length() -> None:
    """FWARC 2010/054. Solaris sends the original back for what finishes at once, a defect (vds.c)."""
    script = ServerScript()
    script.inband()
    script.send(INBAND)
    (event,) = script.events()
    assert isinstance(event, RequestReceived)
    script.stack.complete_inband(event.batch, 5, 0)
    expected = (
        INBAND[:1] + b"\x02" + INBAND[2:36] + (5).to_bytes(4, "big") + INBAND[40:48] + bytes(8) + INBAND[56:]
    )
    assert script.answers() == [expected]


def test_an_in_band_message_is_as_long_as_its_cookies_say() -> None:
    """vds.c, vd_process_desc_msg: must match exactly."""
    for wrong in (INBAND[:64], INBAND[:79], INBAND + bytes(16)):
        script = ServerScript()
        script.inband()
        assert [answer[1] for answer in script.send(wrong)] == [4]
        assert [reset.full for reset in _resets(script)] == [False]


@pytest.mark.parametrize(("cookies", "fits"), [(9, True), (10, False)])
def test_an_in_band_message_is_no_longer_than_the_largest_transfer_needs(cookies: int, fits: bool) -> None:
    """vds.c: 80 + 16 * ceil(max_xfer / 8192) at most; here 64 KiB."""
    script = ServerScript()
    script.inband()
    message = INBAND[:59] + bytes([cookies]) + INBAND[60:64] + INBAND[64:] * cookies
    answers = script.send(message)
    assert [answer[1] for answer in answers] == ([] if fits else [4])


def test_in_band_messages_are_numbered_and_answered_in_order_too() -> None:
    """vds.c, vd_check_seq_num, for both modes."""
    script = ServerScript()
    script.inband()
    script.send(INBAND, INBAND[:15] + b"\x02" + INBAND[16:])
    first, second = script.events()
    assert isinstance(first, RequestReceived)
    assert isinstance(second, RequestReceived)
    script.stack.complete_inband(second.batch, 0, 512)
    assert script.answers() == []
    script.stack.complete_inband(first.batch, 0, 512)
    assert [answer[15] for answer in script.answers()] == [1, 2]
    assert [answer[1] for answer in script.send(INBAND)] == [4]


def test_in_band_and_ring_do_not_mix() -> None:
    """vds.c: in mode 2 the data phase takes DESC_DATA alone, in mode 3 DRING_DATA."""
    script = ServerScript()
    script.inband()
    assert [answer[1] for answer in script.send(script.ring(1, 0, 0))] == [4]
    script = ServerScript()
    script.data()
    assert [answer[1] for answer in script.send(INBAND)] == [4]
