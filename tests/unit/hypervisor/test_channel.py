"""One endpoint: order, link states, back-pressure, and what a peer must not send."""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from hypervisor import channel as module
from hypervisor.channel import Channel
from hypervisor.pushing import Parcel
from hypervisor.records import (
    RECORD_LIMIT,
    Copy,
    CopyDirection,
    CopyDone,
    MapTableRecord,
    Push,
    QueueRecord,
    Record,
    build_record,
)
from protocol.errors import ChannelLost, HvStatus, PacketError, Reaction
from protocol.ldc.cookie import PAGE_SIZE
from protocol.ldc.events import LinkState
from protocol.vio.extensions import Extension

from .conftest import DATA_SIZE, Ends, Sockets, open_descriptors

PACKET = bytes(range(64))


@pytest.fixture
def channels(sockets: Sockets) -> Iterator[tuple[Channel, Channel]]:
    """Return two endpoints, neither of which exports anything."""
    pair = Channel(sockets[0]), Channel(sockets[1])
    yield pair
    for end in pair:
        end.close()


def fill(sender: Channel) -> None:
    """Send packets until the socket is full and one is kept."""
    while not sender.wants_write:
        sender.send_packet(PACKET)


def datagram(record: Record) -> bytes:
    return b"".join(build_record(record))


class TestReceiving:
    def test_nothing_there(self, channels: tuple[Channel, Channel]) -> None:
        assert channels[0].receive() == []
        assert channels[0].fileno() >= 0

    def test_everything_comes_in_order(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        sender.queue_configured()
        sender.send_packet(PACKET)
        sender.send_record(MapTableRecord(64, 2))
        sender.send_packet(bytes(64))
        expected = [LinkState.UP, PACKET, MapTableRecord(64, 2), bytes(64)]
        assert receiver.receive() == expected

    def test_budget_leaves_the_rest_for_the_next_turn(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        for number in range(5):
            sender.send_packet(bytes([number]) * 64)
        assert [len(receiver.receive(2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_default_budget_bounds_a_storm(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        for _ in range(100):
            sender.send_packet(PACKET)
        assert [len(receiver.receive()) for _ in range(3)] == [64, 36, 0]

    def test_news_are_known_before_they_are_taken(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        news = [receiver.has_news]
        sender.send_packet(PACKET)
        news.append(receiver.has_news)
        items = receiver.receive()
        news.append(receiver.has_news)
        receiver.unread(items)
        news.append(receiver.has_news)
        assert news == [False, True, False, True]

    def test_what_was_put_back_comes_first(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        sender.send_packet(PACKET)
        receiver.unread([*receiver.receive(), LinkState.RESET])
        sender.send_packet(bytes(64))
        assert receiver.receive() == [PACKET, LinkState.RESET, bytes(64)]

    def test_batches_are_counted(self, channels: tuple[Channel, Channel]) -> None:
        before = channels[0].batch
        channels[0].receive()
        assert channels[0].batch == before + 1

    def test_padded_record_is_a_record(self, ends: Ends) -> None:
        ends.importer.send_record(Copy(1, CopyDirection.OUT, ends.cookie.addr, 32, b"d" * 32))
        assert ends.exporter.receive() == []
        assert ends.importer.receive() == [CopyDone(1, HvStatus.EOK, 32)]


class TestTakingOnePacket:
    """For a socket that was reported readable."""

    def test_one_at_a_time(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        sender.send_packet(PACKET)
        sender.send_packet(bytes(64))
        before = receiver.batch
        assert receiver.take_packet() == PACKET
        assert receiver.take_packet() == bytes(64)
        assert receiver.batch == before + 2

    def test_nothing_there(self, channels: tuple[Channel, Channel]) -> None:
        assert channels[0].take_packet() is None
        assert channels[0].receive() == []

    def test_anything_else_is_returned_by_receive(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        sender.send_record(MapTableRecord(64, 2))
        sender.send_packet(PACKET)
        assert receiver.take_packet() is None
        assert receiver.take_packet() is None  # order is kept
        assert receiver.receive() == [MapTableRecord(64, 2), PACKET]

    def test_copy_is_answered(self, ends: Ends) -> None:
        ends.importer.send_record(Copy(1, CopyDirection.OUT, ends.cookie.addr, 32, b"d" * 32))
        assert ends.exporter.take_packet() is None
        assert ends.importer.receive() == [CopyDone(1, HvStatus.EOK, 32)]

    def test_what_was_put_back_comes_first(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        receiver.unread([LinkState.RESET])
        sender.send_packet(PACKET)
        assert receiver.take_packet() is None
        assert receiver.receive() == [LinkState.RESET, PACKET]

    def test_silence_after_the_end_is_a_lost_channel(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        sender.send_packet(PACKET)
        sender.close()
        assert receiver.take_packet() == PACKET
        with pytest.raises(ChannelLost):
            receiver.take_packet()

    def test_own_end_closed_is_a_lost_channel(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].close()
        with pytest.raises(ChannelLost):
            channels[0].take_packet()

    def test_a_packet_with_descriptors_closes(self, sockets: Sockets) -> None:
        receiver = Channel(sockets[1])
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))
        sockets[0].sendmsg([PACKET], [rights])
        with pytest.raises(PacketError) as caught:
            receiver.take_packet()
        assert caught.value.reaction is Reaction.CLOSE

    def test_garbage_closes(self, sockets: Sockets) -> None:
        receiver = Channel(sockets[1])
        sockets[0].send(b"x" * 65)
        with pytest.raises(PacketError):
            receiver.take_packet()


class TestLinkState:
    @pytest.mark.parametrize(
        ("entries", "states"),
        [
            ([512], [LinkState.UP]),
            ([512, 512], [LinkState.UP, LinkState.RESET]),
            ([512, 128, 512], [LinkState.UP, LinkState.RESET, LinkState.RESET]),
            ([512, 0], [LinkState.UP, LinkState.DOWN]),
            ([512, 0, 0], [LinkState.UP, LinkState.DOWN]),
            ([0], []),
            ([0, 512, 0, 512], [LinkState.UP, LinkState.DOWN, LinkState.UP]),
        ],
    )
    def test_peers_queue_shows_as_link_state(
        self, channels: tuple[Channel, Channel], entries: list[int], states: list[LinkState]
    ) -> None:
        for nentries in entries:
            channels[0].queue_configured(nentries)
        assert channels[1].receive() == states

    def test_configuring_drops_packets_not_yet_consumed(self, channels: tuple[Channel, Channel]) -> None:
        receiver, peer = channels
        receiver.unread([PACKET, MapTableRecord(0, 0), PACKET])
        receiver.queue_configured()
        assert receiver.receive() == [MapTableRecord(0, 0)]
        assert peer.receive() == [LinkState.UP]


class TestPeerDeath:
    def test_silence_after_the_end_is_a_lost_channel(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].close()
        channels[0].close()
        assert channels[0].fileno() == -1
        with pytest.raises(ChannelLost, match="the peer is gone"):
            channels[1].receive()

    def test_last_words_are_heard_first(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].send_packet(PACKET)
        channels[0].close()
        assert channels[1].receive() == [PACKET]
        with pytest.raises(ChannelLost):
            channels[1].receive()

    def test_reset_is_a_lost_channel(self, channels: tuple[Channel, Channel]) -> None:
        channels[1].send_packet(PACKET)
        channels[0].close()
        with pytest.raises(ChannelLost, match="the peer is gone"):
            channels[1].receive()

    @pytest.mark.parametrize("budget", [1, 64])
    def test_last_words_are_heard_of_a_peer_that_did_not_listen(
        self, channels: tuple[Channel, Channel], budget: int
    ) -> None:
        """The kernel tells first that it reset the connection, then what had been sent before."""
        channels[1].send_packet(PACKET)
        channels[0].send_packet(PACKET)
        channels[0].send_packet(PACKET)
        channels[0].close()
        heard: list[object] = []

        def listen() -> None:
            while True:
                heard.extend(channels[1].receive(budget))

        with pytest.raises(ChannelLost):
            listen()
        assert heard == [PACKET, PACKET]

    def test_reset_waits_until_what_is_there_was_returned(self, channels: tuple[Channel, Channel]) -> None:
        channels[1].unread([PACKET])
        channels[1].send_packet(PACKET)
        channels[0].close()
        assert channels[1].receive() == [PACKET]
        with pytest.raises(ChannelLost):
            channels[1].receive()

    @pytest.mark.parametrize("send", ["packet", "record", "kept"])
    def test_sending_to_the_dead_is_a_lost_channel(
        self, channels: tuple[Channel, Channel], send: str
    ) -> None:
        sender, receiver = channels
        if send == "kept":
            fill(sender)
        receiver.close()
        act: dict[str, Callable[[], object]] = {
            "packet": lambda: sender.send_packet(PACKET),
            "record": lambda: sender.send_record(QueueRecord(512)),
            "kept": sender.flush,
        }
        with pytest.raises(ChannelLost, match="the peer is gone"):
            act[send]()

    def test_own_end_closed_is_a_lost_channel(self, channels: tuple[Channel, Channel]) -> None:
        channels[0].close()
        with pytest.raises(ChannelLost):
            channels[0].receive()


class TestBackPressure:
    def test_full_socket_keeps_and_flush_sends_in_order(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        sent = 0
        while sent < 1000:
            sender.send_packet(sent.to_bytes(64, "big"))
            sent += 1
        sender.send_record(MapTableRecord(0, 2))
        received: list[object] = []
        while not sender.flush():
            received += receiver.receive()
        assert 0 < len(received) < sent
        received += receiver.receive(2000)
        assert received == [n.to_bytes(64, "big") for n in range(sent)] + [MapTableRecord(0, 2)]

    def test_kept_record_does_not_change_with_its_memory(self, ends: Ends) -> None:
        """COPY answers are kept as copies: the exporter may go on writing."""
        ends.data[:8] = b"old data"
        fill(ends.exporter)
        ends.importer.send_record(Copy(1, CopyDirection.IN, ends.cookie.addr, 8))
        ends.exporter.receive()
        ends.data[:8] = b"new data"
        received: list[object] = []
        while not ends.exporter.flush():
            received += ends.importer.receive(10_000)
        received += ends.importer.receive(10_000)
        assert received[-1] == CopyDone(1, 0, 8, b"old data")

    def test_record_that_does_not_fit_is_kept_whole(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        record = CopyDone(1, 0, 32768, bytes(32768))
        while not sender.wants_write:
            sender.send_record(record)
        received: list[object] = []
        while not sender.flush():
            received += receiver.receive()
        received += receiver.receive(1000)
        assert set(map(type, received)) == {CopyDone}
        assert all(item == record for item in received)

    def test_it_can_receive_while_it_cannot_send(self, channels: tuple[Channel, Channel]) -> None:
        one, other = channels
        for end in channels:
            fill(end)
        assert one.receive()
        assert other.receive()

    def test_congestion_begins_at_a_mebibyte(self, channels: tuple[Channel, Channel]) -> None:
        sender, receiver = channels
        fill(sender)
        states = [sender.congested]
        for _ in range(40):
            sender.send_record(CopyDone(1, 0, 32768, bytes(32768)))
        states.append(sender.congested)
        while not sender.flush():
            receiver.receive()
        states.append(sender.congested)
        assert states == [False, True, False]

    def test_peer_that_never_reads_is_lost(
        self, channels: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "QUEUE_LIMIT", 10_000)
        fill(channels[0])
        for _ in range(10_000 // (64 + module.ITEM_COST) - 1):
            channels[0].send_packet(PACKET)
        with pytest.raises(ChannelLost, match="does not read"):
            channels[0].send_packet(PACKET)

    def test_peer_that_asks_and_never_reads_is_lost(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "QUEUE_LIMIT", 1_000_000)
        ask = Copy(1, CopyDirection.IN, ends.cookie.addr, 32768)

        def ask_again() -> None:
            while True:
                ends.importer.send_record(ask)
                ends.exporter.receive()

        with pytest.raises(ChannelLost, match="does not read"):
            ask_again()


class TestHostilePeer:
    @pytest.mark.parametrize("count", [1, 2, 253])
    @pytest.mark.parametrize("data", [PACKET, bytes.fromhex("0003 0000 00000010 00000200 00000000"), b""])
    def test_descriptors_close_the_channel_and_none_stays(
        self, sockets: Sockets, data: bytes, count: int
    ) -> None:
        receiver = Channel(sockets[1])
        before = open_descriptors()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * count))]
        sockets[0].sendmsg([data], rights)
        with pytest.raises(PacketError, match="descriptors") as caught:
            receiver.receive()
        assert caught.value.reaction is Reaction.CLOSE
        assert open_descriptors() == before

    @pytest.mark.parametrize("length", [1, 7, 8, 63, 65, 128, RECORD_LIMIT])
    def test_garbage_of_any_length_closes(self, sockets: Sockets, length: int) -> None:
        sockets[0].send(b"\xa5" * length)
        with pytest.raises(PacketError):
            Channel(sockets[1]).receive()

    def test_longer_than_any_record_closes(self, sockets: Sockets) -> None:
        data = bytearray(RECORD_LIMIT + 1)
        data[:8] = bytes.fromhex("0006 0000 00010001")
        sockets[0].send(data)
        with pytest.raises(PacketError, match="longer than 64 KiB"):
            Channel(sockets[1]).receive()

    def test_empty_datagram_is_a_hang_up(self, sockets: Sockets) -> None:
        sockets[0].send(b"")
        with pytest.raises(ChannelLost):
            Channel(sockets[1]).receive()

    @pytest.mark.parametrize("record", [MapTableRecord(0, 2), CopyDone(1, 0, 8, bytes(8))])
    def test_exporter_takes_no_exporters_record(self, ends: Ends, record: Record) -> None:
        ends.importer.send_record(record)
        with pytest.raises(PacketError, match="sent to the exporter"):
            ends.exporter.receive()

    def test_importer_serves_no_copy(self, ends: Ends) -> None:
        ends.exporter.send_record(Copy(1, CopyDirection.IN, 0, 8))
        with pytest.raises(PacketError, match="exports nothing"):
            ends.importer.receive()

    @pytest.mark.parametrize("to", ["exporter", "importer"])
    def test_push_must_have_been_agreed(self, ends: Ends, to: str) -> None:
        sender, receiver = (
            (ends.importer, ends.exporter) if to == "exporter" else (ends.exporter, ends.importer)
        )
        sender.push([(ends.cookie.addr, b"x" * 8)], [PACKET])
        with pytest.raises(PacketError, match="not agreed"):
            receiver.receive()
        assert bytes(ends.data[:8]) == bytes(8)


class TestSpuriousReadiness:
    def test_readable_without_a_datagram_is_nothing(self, sockets: Sockets) -> None:
        """The kernel may say readable and have nothing after all."""

        class Empty(socket.socket):
            def recvmsg(self, *args: object) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        sockets[0].send(PACKET)
        receiver = Channel(Empty(fileno=os.dup(sockets[1].fileno())))
        assert receiver.receive() == []
        receiver.close()


class TestPush:
    def test_server_to_client_writes_memory_before_its_packets(self, inline: Ends) -> None:
        inline.importer.push([(inline.cookie.addr, b"A" * 8), (inline.cookie.addr + 16, b"B" * 24)], [PACKET])
        assert inline.exporter.receive() == [PACKET]
        assert bytes(inline.data[:48]) == b"A" * 8 + bytes(8) + b"B" * 24 + bytes(8)

    def test_client_to_server_arrives_as_pieces_then_packets(self, inline: Ends) -> None:
        inline.exporter.push([(0x4000, b"entry...")], [PACKET, bytes(64)])
        assert inline.importer.receive() == [
            Push([(0x4000, b"entry...")], [PACKET, bytes(64)]),
            PACKET,
            bytes(64),
        ]

    def test_long_contents_take_several_records_and_arrive_as_one(self, inline: Ends) -> None:
        data = os.urandom(DATA_SIZE)
        inline.exporter.push([(inline.cookie.addr, data)], [PACKET])
        received: list[object] = []
        while not received:
            inline.exporter.flush()
            received += inline.importer.receive()
        push, *rest = received
        assert isinstance(push, Push)
        assert len(push.pieces) > 1
        assert b"".join(piece for _, piece in push.pieces) == data
        assert push.pieces[1][0] == push.pieces[0][0] + len(push.pieces[0][1])
        assert rest == [PACKET]

    def test_unfinished_group_is_not_shown(self, inline: Ends) -> None:
        inline.exporter.send_record(Push([(0x4000, b"one.....")], [], True))
        assert inline.importer.receive() == []
        inline.exporter.send_record(Push([(0x4008, b"two.....")], [PACKET]))
        push = Push([(0x4000, b"one....."), (0x4008, b"two.....")], [PACKET])
        assert inline.importer.receive() == [push, PACKET]

    def test_long_contents_reach_the_clients_memory(self, inline: Ends) -> None:
        data = os.urandom(DATA_SIZE)
        inline.importer.push([(inline.cookie.addr, data)], [PACKET])
        received: list[object] = []
        while not received:
            inline.importer.flush()
            received += inline.exporter.receive()
        assert received == [PACKET]
        assert bytes(inline.data) == data

    def test_packets_beyond_a_record_follow_on_their_own(self, inline: Ends) -> None:
        packets = [number.to_bytes(64, "big") for number in range(600)]
        inline.exporter.push([(0x4000, b"12345678")], packets)
        received: list[object] = []
        while len(received) < 601:
            inline.exporter.flush()
            received += inline.importer.receive()
        assert isinstance(received[0], Push)
        assert received[1:] == packets

    def test_empty_group_is_a_doorbell_without_words(self, inline: Ends) -> None:
        inline.exporter.push([])
        assert inline.importer.receive() == [Push([], [])]

    def test_packets_outlive_the_room_they_were_received_in(self, inline: Ends) -> None:
        for number in range(4):
            inline.importer.push([(inline.cookie.addr, bytes([number]) * 8)], [bytes([number]) * 64])
            inline.importer.send_packet(bytes([number + 100]) * 64)
        expected = [bytes([byte]) * 64 for number in range(4) for byte in (number, number + 100)]
        assert inline.exporter.receive() == expected
        assert bytes(inline.data[:8]) == bytes([3]) * 8

    @pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
    def test_a_parcel_and_its_packets_arrive_in_order(self, inline: Ends, count: int) -> None:
        packets = [bytes([number]) * 64 for number in range(count)]
        parcel = Parcel()
        parcel.reserve(inline.cookie.addr + 8, 8)[:] = b"contents"
        inline.importer.send_parcel(parcel, packets)
        parcel.reserve(inline.cookie.addr + 8, 8)[:] = b"not sent"
        assert inline.exporter.receive() == packets
        assert bytes(inline.data[:24]) == bytes(8) + b"contents" + bytes(8)

    def test_a_kept_parcel_does_not_change_with_the_next(self, inline: Ends) -> None:
        parcel = Parcel()
        for number in range(200):
            parcel.reserve(inline.cookie.addr + 8192 * (number % 4), 32768)[:] = bytes([number]) * 32768
            inline.importer.send_parcel(parcel, [bytes([number]) * 64])
        assert inline.importer.wants_write
        received: list[object] = []
        while len(received) < 200:
            inline.importer.flush()
            for packet in inline.exporter.receive(1):
                assert isinstance(packet, bytes)
                assert bytes(inline.data[8192 * (packet[0] % 4) :][:32768]) == packet[:1] * 32768
                received.append(packet)
        assert received == [bytes([number]) * 64 for number in range(200)]

    def test_push_without_permission_closes(self, inline: Ends) -> None:
        inline.memory.table.revoke(inline.cookie)
        inline.importer.push([(inline.cookie.addr, bytes(8))])
        with pytest.raises(PacketError, match="PUSH") as caught:
            inline.exporter.receive()
        assert caught.value.reaction is Reaction.CLOSE

    def test_push_behind_the_export_closes(self, inline: Ends) -> None:
        inline.importer.push([(inline.cookie.addr + DATA_SIZE - 8, bytes(16))])
        with pytest.raises(PacketError, match="PUSH"):
            inline.exporter.receive()

    @pytest.mark.parametrize("to", ["exporter", "importer"])
    def test_endless_group_closes(self, inline: Ends, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "GROUP_LIMIT", 4 * PAGE_SIZE)
        sender, receiver = (
            (inline.importer, inline.exporter) if to == "exporter" else (inline.exporter, inline.importer)
        )
        part = Push([(inline.cookie.addr, bytes(PAGE_SIZE))], [], True)
        for _ in range(4):
            sender.send_record(part)
            receiver.receive()
        sender.send_record(part)
        with pytest.raises(PacketError, match="more than 32768 bytes"):
            receiver.receive()

    def test_limit_is_for_each_group(self, inline: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "GROUP_LIMIT", 4 * PAGE_SIZE)
        for _ in range(3):
            inline.importer.push([(inline.cookie.addr, bytes(3 * PAGE_SIZE))], [PACKET])
            assert inline.exporter.receive() == [PACKET]

    def test_agreed_by_the_bit_alone(self, sockets: Sockets) -> None:
        receiver = Channel(sockets[1], extensions=Extension.POLLED_RING)
        sockets[0].send(datagram(Push([])))
        with pytest.raises(PacketError, match="not agreed"):
            receiver.receive()
