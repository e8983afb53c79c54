"""Doorbells of a polled ring: who wakes whom, and that nobody waits for a message that never comes."""

from __future__ import annotations

import pytest

from protocol.errors import Reaction, RingError
from protocol.vio.doorbell import ClientDoorbell, Doorbell, ServerDoorbell
from protocol.vio.messages import ProcState

ACTIVE = ProcState.ACTIVE
STOPPED = ProcState.STOPPED


# -- server ------------------------------------------------------------------------------------------------


def test_server_wakes_a_sleeping_client_once() -> None:
    bell = ServerDoorbell(polls=False, num_descriptors=8)
    bell.received(*Doorbell(1, 2, STOPPED, 0))
    assert bell.due(2, stopping=True) is None
    bell.completed(1)
    assert bell.due(2, stopping=True) == Doorbell(1, 2, STOPPED, 1)
    bell.completed(1)
    assert bell.due(2, stopping=True) is None


def test_server_wakes_at_once_when_completions_were_not_consumed() -> None:
    bell = ServerDoorbell(polls=False, num_descriptors=8)
    bell.completed(3)
    bell.received(*Doorbell(1, 3, STOPPED, 1))
    assert bell.due(3, stopping=False) == Doorbell(1, 3, STOPPED, 3)


def test_server_does_not_wake_a_client_that_looks_itself() -> None:
    bell = ServerDoorbell(polls=False, num_descriptors=8)
    bell.received(*Doorbell(1, 2, STOPPED, 0))
    bell.received(*Doorbell(2, 3, ACTIVE, 0))
    bell.completed(2)
    assert bell.due(3, stopping=True) is None


def test_polling_server_tells_when_it_stops_and_only_then() -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=8)
    bell.received(*Doorbell(1, 2, ACTIVE, 0))
    told = [bell.looking]
    assert bell.due(2, stopping=False) is None
    assert bell.due(2, stopping=True) == Doorbell(1, 2, STOPPED, 0)
    told.append(bell.looking)
    assert told == [True, False]
    assert bell.due(2, stopping=True) is None


def test_polling_server_that_wakes_says_whether_it_goes_on_looking() -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=8)
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    bell.completed(1)
    assert bell.due(1, stopping=False) == Doorbell(1, 1, ACTIVE, 1)
    bell.received(*Doorbell(2, 2, STOPPED, 1))
    bell.completed(1)
    assert bell.due(2, stopping=True) == Doorbell(2, 2, STOPPED, 2)
    assert bell.due(2, stopping=True) is None


def test_a_stop_notice_does_not_use_up_the_clients_wish() -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=8)
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    assert bell.due(1, stopping=True) == Doorbell(1, 1, STOPPED, 0)
    bell.completed(1)
    assert bell.due(1, stopping=True) == Doorbell(1, 1, STOPPED, 1)


def test_server_counts_modulo_2_to_the_32() -> None:
    bell = ServerDoorbell(polls=False, num_descriptors=8)
    bell.completed(0xFFFFFFFF)
    bell.received(*Doorbell(1, 0, STOPPED, 0xFFFFFFFE))
    bell.completed(2)
    assert bell.due(0, stopping=True) == Doorbell(1, 0, STOPPED, 1)


@pytest.mark.parametrize(
    ("doorbell", "reaction"),
    [
        (Doorbell(1, 8, STOPPED, 0), Reaction.RESET),  # no such entry
        (Doorbell(1, 9, STOPPED, 0), Reaction.RESET),
        (Doorbell(1, 0, 0, 0), Reaction.NACK),  # no such state
        (Doorbell(1, 0, 3, 0), Reaction.NACK),
        (Doorbell(1, 0, STOPPED, 1), Reaction.RESET),  # consumed what was never published
        (Doorbell(1, 0, STOPPED, 0xFFFFFFF7), Reaction.RESET),  # more unconsumed than entries
    ],
)
def test_server_refuses_what_no_client_could_mean(doorbell: Doorbell, reaction: Reaction) -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=8)
    with pytest.raises(RingError) as caught:
        bell.received(*doorbell)
    assert caught.value.reaction is reaction
    assert not bell.looking


# -- client ------------------------------------------------------------------------------------------------


def test_client_rings_for_the_first_request_and_not_again_while_the_server_looks() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    assert bell.ring(sleeping=False) is None
    bell.post(2)
    assert bell.ring(sleeping=False) == Doorbell(1, 2, ACTIVE, 0)
    bell.post(1)
    assert bell.ring(sleeping=False) is None


def test_client_rings_each_time_where_the_server_never_polls() -> None:
    bell = ClientDoorbell(server_polls=False, num_descriptors=8)
    bell.post(1)
    assert bell.ring(sleeping=True) == Doorbell(1, 1, STOPPED, 0)
    assert bell.ring(sleeping=True) is None
    bell.post(1)
    assert bell.ring(sleeping=True) == Doorbell(2, 2, STOPPED, 0)


def test_client_asks_to_be_woken_only_when_something_is_outstanding() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    assert bell.ring(sleeping=False) is not None
    bell.consumed(1)
    assert bell.ring(sleeping=True) is None
    bell.post(1)
    assert bell.ring(sleeping=True) == Doorbell(2, 2, STOPPED, 1)
    assert bell.ring(sleeping=True) is None


def test_client_asks_again_after_it_was_woken() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(2)
    bell.ring(sleeping=True)
    bell.received(*Doorbell(1, 2, ACTIVE, 1))
    bell.consumed(1)
    assert bell.ring(sleeping=True) == Doorbell(2, 2, STOPPED, 1)


def test_client_does_not_ask_again_after_a_mere_stop_notice() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=True)
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    assert bell.ring(sleeping=True) is None


def test_client_rings_for_what_the_server_did_not_see_before_it_stopped() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=False)
    bell.post(2)
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    assert bell.ring(sleeping=False) == Doorbell(2, 3, ACTIVE, 0)


def test_client_does_not_ring_for_what_the_server_saw_before_it_stopped() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=False)
    bell.post(2)
    bell.received(*Doorbell(1, 3, STOPPED, 0))
    assert bell.ring(sleeping=False) is None
    bell.post(1)
    assert bell.ring(sleeping=False) == Doorbell(2, 4, ACTIVE, 0)


def test_a_full_ring_of_new_entries_rings_once_and_then_not_again() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=4)
    bell.post(4)
    bell.ring(sleeping=False)
    bell.consumed(4)
    bell.post(4)
    bell.received(*Doorbell(1, 0, STOPPED, 4))
    assert bell.ring(sleeping=False) == Doorbell(2, 0, ACTIVE, 4)
    bell.received(*Doorbell(2, 0, STOPPED, 4))
    assert bell.ring(sleeping=False) is None


def test_a_message_that_crossed_the_last_doorbell_is_out_of_date() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=False)
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    bell.post(1)
    assert bell.ring(sleeping=True) == Doorbell(2, 2, STOPPED, 0)
    bell.received(*Doorbell(1, 1, STOPPED, 1))
    assert bell.ring(sleeping=True) is None


def test_an_active_server_needs_no_doorbell_for_what_was_not_rung() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=True)
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    bell.post(1)
    bell.received(*Doorbell(1, 1, ACTIVE, 1))
    assert bell.ring(sleeping=False) is None


@pytest.mark.parametrize(
    ("doorbell", "reaction"),
    [
        (Doorbell(1, 8, STOPPED, 0), Reaction.RESET),
        (Doorbell(1, 9, STOPPED, 0), Reaction.RESET),
        (Doorbell(1, 0, 0, 0), Reaction.NACK),
        (Doorbell(2, 0, STOPPED, 0), Reaction.RESET),  # a doorbell never rung
        (Doorbell(1, 0, STOPPED, 3), Reaction.RESET),  # more completions than requests
    ],
)
def test_client_refuses_what_no_server_could_mean(doorbell: Doorbell, reaction: Reaction) -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(2)
    bell.ring(sleeping=True)
    with pytest.raises(RingError) as caught:
        bell.received(*doorbell)
    assert caught.value.reaction is reaction


def test_an_old_doorbell_is_no_fault_however_often_the_ring_went_round() -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=4)
    bell.received(*Doorbell(1, 2, ProcState.ACTIVE, 0))
    bell.completed(9)  # the client looks by itself: it consumes and posts, and tells nobody
    bell.received(*Doorbell(2, 3, ProcState.STOPPED, 0))  # sent long ago
    assert bell.due(1, stopping=False) == Doorbell(2, 1, ProcState.ACTIVE, 9)


@pytest.mark.parametrize("completions", [10, 2, 0, 1 << 31])
def test_a_count_beyond_ours_or_before_the_last_is_a_fault(completions: int) -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=4)
    bell.completed(9)
    bell.received(*Doorbell(1, 2, ProcState.ACTIVE, 3))
    with pytest.raises(RingError, match="9 published"):
        bell.received(*Doorbell(2, 2, ProcState.ACTIVE, completions))


# -- counts near 2**32, and rings that have gone round ------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "consumed", "refused"),
    [
        (0xFFFFFFFF, 5, 0),  # the whole range is unconsumed: still before the last
        (0x1_0000_0002, 0xFFFFFFFE, 0xFFFFFFFD),  # one before the last, published has wrapped
        (0x1_0000_0002, 0xFFFFFFFE, 3),  # one beyond ours
    ],
)
def test_counts_are_compared_modulo_2_to_the_32(published: int, consumed: int, refused: int) -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=4)
    bell.completed(consumed)
    bell.received(*Doorbell(1, 0, ACTIVE, consumed))
    bell.completed(published - consumed)
    with pytest.raises(RingError, match=f"{refused} completions consumed"):
        bell.received(*Doorbell(2, 0, ACTIVE, refused))
    bell.received(*Doorbell(3, 0, ACTIVE, consumed))  # the same again is no fault
    bell.received(*Doorbell(4, 0, ACTIVE, published % 2**32))


def test_client_counts_modulo_2_to_the_32() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(2**32 + 1)
    bell.consumed(2**32 - 1)
    assert bell.ring(sleeping=False) == Doorbell(1, 1, ACTIVE, 0xFFFFFFFF)
    bell.consumed(1)
    bell.post(1)
    bell.received(*Doorbell(1, 1, STOPPED, 0xFFFFFFFF))
    assert bell.ring(sleeping=True) == Doorbell(2, 2, STOPPED, 0)
    bell.received(*Doorbell(2, 2, STOPPED, 0))  # a mere stop notice: our wish still stands
    assert bell.ring(sleeping=True) is None
    bell.received(*Doorbell(2, 2, STOPPED, 1))
    assert bell.ring(sleeping=True) == Doorbell(3, 2, STOPPED, 0)


def test_a_client_that_was_told_of_some_is_still_to_be_told_of_the_next() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(3)
    bell.consumed(2)
    assert bell.ring(sleeping=True) == Doorbell(1, 3, STOPPED, 2)
    bell.received(*Doorbell(1, 3, STOPPED, 2))  # nothing since: our wish still stands
    assert bell.ring(sleeping=True) is None


def test_client_takes_every_count_up_to_that_of_its_requests() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=True)
    with pytest.raises(RingError, match="4294967295 completions of 1 requests"):
        bell.received(*Doorbell(1, 1, STOPPED, 0xFFFFFFFF))
    with pytest.raises(RingError, match="2 completions of 1 requests"):
        bell.received(*Doorbell(1, 1, STOPPED, 2))
    bell.received(*Doorbell(1, 1, STOPPED, 1))


def test_a_server_that_stopped_past_the_end_of_the_ring_has_seen_the_rest() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(7)
    assert bell.ring(sleeping=False) == Doorbell(1, 7, ACTIVE, 0)
    bell.consumed(7)
    bell.post(1)
    bell.received(*Doorbell(1, 0, STOPPED, 8))
    assert bell.ring(sleeping=False) is None


def test_a_server_that_stopped_short_after_our_last_doorbell_needs_no_other() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(2)
    bell.ring(sleeping=False)
    bell.received(*Doorbell(1, 1, STOPPED, 0))  # it has our doorbell, which covers the entry it did not take
    assert bell.ring(sleeping=False) is None


def test_client_asks_again_when_the_count_it_was_told_has_wrapped() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(2**32 + 1)
    bell.consumed(2**32 - 1)
    assert bell.ring(sleeping=True) == Doorbell(1, 1, STOPPED, 0xFFFFFFFF)
    bell.received(*Doorbell(1, 1, STOPPED, int.from_bytes(b"\xff" * 4, "big")))  # nothing since
    assert bell.ring(sleeping=True) is None
    bell.received(*Doorbell(1, 1, STOPPED, 0))
    assert bell.ring(sleeping=True) == Doorbell(2, 1, STOPPED, 0xFFFFFFFF)


# -- before the first doorbell, and after many ---------------------------------------------------------------


def test_server_says_nothing_before_the_first_doorbell() -> None:
    bell = ServerDoorbell(polls=True, num_descriptors=8)
    bell.completed(1)
    assert bell.due(0, stopping=True) is None
    assert (bell.asked, bell.looking) == (False, False)


def test_client_takes_a_message_from_before_its_first_doorbell() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.received(*Doorbell(0, 3, STOPPED, 0))
    assert bell.ring(sleeping=False) is None
    bell.received(*Doorbell(0, 0, ACTIVE, 0))
    bell.post(1)
    assert bell.ring(sleeping=False) is None
    assert bell.ring(sleeping=True) == Doorbell(1, 1, STOPPED, 0)  # it looks, but was not asked to wake us


def test_large_counts_are_compared_by_value() -> None:
    server = ServerDoorbell(polls=False, num_descriptors=1024)
    server.completed(1000)
    server.received(*Doorbell(1, 1000, STOPPED, int("1000")))
    assert server.due(1000, stopping=True) is None
    client = ClientDoorbell(server_polls=False, num_descriptors=1024)
    for number in range(1, 1001):
        client.post(1)
        assert client.ring(sleeping=False) == Doorbell(number, number, ACTIVE, 0)
    client.received(*Doorbell(int("1000"), 1000, ACTIVE, 1000))
    assert client.server_looks
    client.consumed(1000)
    assert client.ring(sleeping=True) is None


# -- what a stopped server has seen --------------------------------------------------------------------------


def test_server_that_stopped_ahead_of_us_has_seen_nothing_for_sure() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=8)
    bell.post(1)
    bell.ring(sleeping=False)
    bell.post(2)
    bell.received(*Doorbell(1, 5, STOPPED, 0))
    assert bell.ring(sleeping=False) == Doorbell(2, 3, ACTIVE, 0)


def test_server_that_stopped_at_a_high_index_has_seen_what_is_before_it() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=1024)
    bell.post(1)
    bell.ring(sleeping=False)
    bell.post(299)
    bell.received(*Doorbell(1, int("300"), STOPPED, 0))
    assert bell.ring(sleeping=False) is None


def test_two_rings_full_of_new_entries_are_not_told_from_none_either() -> None:
    bell = ClientDoorbell(server_polls=True, num_descriptors=4)
    bell.post(1)
    bell.ring(sleeping=False)
    bell.post(3)
    bell.consumed(4)
    bell.post(4)
    bell.consumed(4)
    bell.post(1)
    bell.received(*Doorbell(1, 1, STOPPED, 8))
    assert bell.ring(sleeping=False) == Doorbell(2, 1, ACTIVE, 8)


@pytest.mark.parametrize("polls", [False, True])
def test_looking_at_the_ring_without_filling_it_rings_no_bell(polls: bool) -> None:
    """A request that takes long is waited for with one message, however often the client looks meanwhile."""
    client = ClientDoorbell(polls)
    client.post(1)
    sent = [client.ring(sleeping=True)]
    assert sent[0] is not None
    client.received(*Doorbell(sent[0].seq_num, 1, ProcState.STOPPED, 0))
    for _ in range(10):
        client.post(0)
        client.consumed(0)
        sent.append(client.ring(sleeping=True))
    assert sent[1:] == [None] * 10
