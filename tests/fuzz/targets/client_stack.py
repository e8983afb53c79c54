"""A disk client's stack, under any server.

Input: one byte for the kind of session, then instructions. An instruction with bit 7 set is an honest answer
to the client's next message; bit 6 says that it is damaged before it is sent. The others are looked up in a
table by their low four bits. What has to hold:

* whatever the client says is a request of the session that it has begun;
* it believes in no more answers than it has sent requests, and in no entry outside its ring;
* with a server that begins anew it comes up, whatever went before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from protocol.ldc.cookie import Cookie
from protocol.ldc.events import LinkState
from protocol.ldc.packet import PACKET_SIZE
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    DescriptorsDone,
    InbandDone,
    RangeStopped,
    SessionLost,
    SessionReady,
    Woken,
)
from protocol.vdisk.attributes import DiskAttributes, build_answer, layout_of
from protocol.vdisk.descriptor import Request, build_payload
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from protocol.vio.messages import (
    OPEN_ENDED,
    DeviceClass,
    DoorbellLayout,
    DoorbellMessage,
    DringDataLayout,
    DringRegisterLayout,
    Envelope,
    ProcState,
    Subtype,
    TagLayout,
    TransferMode,
    Version,
    VersionLayout,
    VersionMessage,
    echo,
)
from tests.fuzz.driver import Driver, ring_scheme_of
from tests.fuzz.tape import Tape, mutated

__all__ = ["INSTRUCTIONS", "ClientDriver", "fuzz_one"]

DISK: Final = DiskAttributes(size_blocks=0x1803, max_xfer_blocks=2048)
RING: Final = RingGeometry(8, 64)
RING_IDENT: Final = 1
OFFERS: Final = (((1, 2),), ((1, 1),), ((1, 0),), ((2, 0), (1, 2)))

# Bits of the first byte; bits 3 and 4 choose what is offered.
POLLED, POLLS, INBAND, OPEN = 1, 2, 4, 32

MORE: Final = 0x80  # in a byte about a piece of an open range: others follow
CLOSED: Final = 0x80  # from this byte on a range has an end, where open ones were agreed

# What the driver has a choice in.
EAGER, TARDY, SLEEPING = 1, 2, 4


class ClientDriver(Driver[Client]):
    """Drives the client and keeps account of what it has asked for."""

    def __init__(self, tape: Tape) -> None:
        kind = tape.byte()
        scheme = ring_scheme_of(bool(kind & POLLED), bool(kind & OPEN))
        self.polled: Final = scheme == Extension.POLLED_RING
        self.opens: Final = scheme == Extension.OPEN_RANGES
        self.inband: Final = bool(kind & INBAND)
        self.offers: Final = OFFERS[kind >> 3 & 3]
        self.choices = EAGER
        self.sessions = 0  # that came to data
        self.sid = 0
        self.undecided = False  # the disk is known, and neither ring nor in-band mode was begun
        self.sent = 0  # requests of this session
        self.done = 0  # answers to them; to an open range, once it has stopped
        self.waiting: deque[bytes] = deque()  # messages of the client that the server has not answered
        super().__init__(
            Client(
                max_xfer_blocks=128,
                versions=self.offers,
                xfer_mode=TransferMode.INBAND if self.inband else TransferMode.RING,
                extensions=scheme,
                server_polls=bool(kind & POLLS),
            ),
            tape,
        )

    # -- what the driver does --------------------------------------------------------------------------------

    def handle(self, event: Any) -> None:  # noqa: ANN401  # see Driver
        """Do what an event asks for."""
        HANDLERS[type(event)](self, event)

    def linked(self, event: ChannelUp) -> None:
        """Begin."""
        self.sid += 1
        self.stack.start(self.sid)

    def attributes(self, event: AttributesReceived) -> None:
        """Decide how requests travel, now or later."""
        assert event.attributes.max_xfer_blocks >= 1
        assert any(event.version[0] == major and event.version[1] <= minor for major, minor in self.offers)
        self.undecided = True
        if self.choices & EAGER:
            self.decide()

    def ready(self, event: SessionReady) -> None:
        """Begin: requests flow."""
        assert self.stack.is_ready
        assert event.attributes == self.stack.attributes
        self.sessions += 1

    def ring_done(self, event: DescriptorsDone) -> None:
        """Look at the entries that were answered."""
        assert not self.polled
        assert not self.inband
        assert 0 <= event.start_idx < RING.num_descriptors
        assert 0 <= event.end_idx < RING.num_descriptors
        if self.opens:
            assert self.sent
            return
        self.done += 1
        assert self.done <= self.sent

    def stopped(self, event: RangeStopped) -> None:
        """The server looks no more: the next request needs a message."""
        assert self.opens
        assert not self.inband
        assert not self.stack.server_looks
        assert 0 <= event.next_idx < RING.num_descriptors
        self.done += 1
        assert self.done <= self.sent

    def woken(self, event: Woken) -> None:
        """Look at the ring: some requests are done, by the tape."""
        assert self.polled
        if self.choices & EAGER:
            self.consume()
            self.ring()

    def inband_done(self, event: InbandDone) -> None:
        """Take an answer."""
        assert self.inband
        self.done += 1
        assert self.done <= self.sent

    def lost(self, event: SessionLost) -> None:
        """Forget the session, now or later."""
        assert not self.stack.is_ready
        self.cleaning = True
        self.undecided = False
        if not self.choices & TARDY:
            self.clean_up()

    def clean_up(self) -> None:
        """Be ready for the next session."""
        if self.cleaning:
            self.sent = self.done = 0
            self.stack.reset_done()
            self.cleaning = False

    # -- instructions: the client's driver -------------------------------------------------------------------

    def choose(self) -> None:
        """Change what the driver does where it has a choice."""
        self.choices = self.tape.byte()

    def decide(self) -> None:
        """Register the ring, or begin in-band mode."""
        if self.undecided:
            self.undecided = False
            if self.inband:
                self.stack.start_data()
            else:
                self.stack.register_ring(Cookie(0x2000, RING.nbytes), RING)

    def request(self) -> None:
        """Send a request the way this session does."""
        if not self.stack.is_ready:
            return
        if self.inband:
            request = Request(self.sent, Operation.BREAD, SLICE_NONE, 0, 512, (Cookie(0x4000, 512),))
            assert self.stack.send_inband(self.sent, build_payload(request)) == self.sent + 1
            self.sent += 1
        elif not self.polled:
            start, end = self.tape.byte() % RING.num_descriptors, self.tape.byte()
            if not self.stack.server_looks:
                end = OPEN_ENDED if self.opens and end < CLOSED else end % RING.num_descriptors
                assert self.stack.announce(start, end) == self.sent + 1
                self.sent += 1
        else:
            count = self.tape.byte() % (RING.num_descriptors - (self.sent - self.done) + 1)
            self.stack.posted(count)
            self.sent += count
            self.ring()

    def ring(self) -> None:
        """Polled ring: tell the server what it has to know; a second time there is nothing left to tell."""
        if self.polled and not self.inband and self.stack.is_ready:
            sleeping = bool(self.choices & SLEEPING)
            self.stack.ring(sleeping)
            assert not self.stack.ring(sleeping)

    def consume(self) -> None:
        """Polled ring: some requests are done."""
        if self.polled and not self.inband and self.stack.is_ready:
            count = self.tape.byte() % (self.sent - self.done + 1)
            self.stack.consumed(count)
            self.done += count

    # -- instructions: the server ----------------------------------------------------------------------------

    def answer(self, damaged: bool = False) -> bool:
        """Answer the client's next message as a server should; says whether there was one."""
        if not self.waiting:
            return False
        message = self.waiting.popleft()
        envelope = TagLayout.codec.unpack_from(message)[2]
        answer = ANSWERS.get(envelope, _acknowledge)(self, message)
        self.say(mutated(answer, self.tape) if damaged else answer)
        return True

    def answer_all(self) -> None:
        """Answer until the client has no more to say."""
        for _ in range(2 * len(ANSWERS)):
            if not self.answer():
                return

    def refuse(self) -> None:
        """Refuse the client's next message."""
        if self.waiting:
            self.say(echo(self.waiting.popleft(), Subtype.NACK))

    def lower(self) -> None:
        """Refuse the version that is offered, and propose another."""
        if self.hears(Envelope.VER_INFO):
            offer = VersionLayout.codec.unpack_from(self.waiting.popleft())
            version = VersionMessage(
                subtype=Subtype.NACK,
                sid=offer[3],
                major=self.tape.byte(),
                minor=self.tape.byte(),
                dev_class=DeviceClass.DISK,
            )
            self.say(VersionLayout.build(version))

    def announce_another_disk(self) -> None:
        """Answer the client's wish with attributes by the tape."""
        if self.hears(Envelope.ATTR_INFO):
            tape = self.tape
            other = replace(
                DISK,
                size_blocks=tape.number(8),
                block_size=512 * tape.byte(),
                max_xfer_blocks=tape.number(2),
                operations=tape.number(3),
            )
            self.say(build_answer(self.wish(self.waiting.popleft()), self.stack.version, other))

    def wake(self) -> None:
        """Polled ring: send a doorbell by the tape."""
        tape = self.tape
        self.say(
            DoorbellLayout.build(
                DoorbellMessage(
                    subtype=Subtype.ACK,
                    sid=self.sid,
                    seq_num=tape.byte(),
                    dring_ident=RING_IDENT,
                    start_idx=tape.byte() % 16,
                    proc_state=tape.byte() % 4,
                    completions=tape.byte(),
                )
            )
        )

    def inject_any(self) -> None:
        """Deliver any packet at all."""
        self.inject(self.tape.take(PACKET_SIZE))

    def say_anything(self) -> None:
        """Send a message of any bytes."""
        self.say(self.tape.take(self.tape.byte()))

    def report_any(self) -> None:
        """Report any state of the server's queue."""
        self.report(self.tape.pick(tuple(LinkState)))

    # -- what the client says --------------------------------------------------------------------------------

    def hears(self, envelope: Envelope) -> bool:
        """Say whether the client's next message is about ``envelope``."""
        return bool(self.waiting) and TagLayout.codec.unpack_from(self.waiting[0])[2] == envelope

    def wish(self, message: bytes) -> Any:  # noqa: ANN401  # what build_answer() takes
        """Return the attributes that the client asks for."""
        return layout_of(self.stack.version).parse(message)

    def heard(self, message: bytes) -> None:
        """Take a message of the client: a request of its session."""
        _, subtype, _, sid = TagLayout.codec.unpack_from(message)
        assert subtype == Subtype.INFO
        assert sid >= self.sid  # one more with each version that it offers
        self.sid = sid
        self.waiting.append(message)

    def relinked(self) -> None:
        """Forget what was said over the old link."""
        self.waiting.clear()

    def play(self) -> None:
        """Do what the tape says."""
        while self.tape:
            instruction = self.tape.byte()
            if instruction & 0x80:
                self.answer(damaged=bool(instruction & 0x40))
            else:
                INSTRUCTIONS[instruction & 0x0F](self)
                self.carry()

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Begin anew, with a server that answers, and have a request answered."""
        self.choices = EAGER
        self.clean_up()
        self.carry()
        self.relink()
        self.answer_all()
        assert self.stack.is_ready
        assert self.stack.version == Version(1, min(minor for major, minor in self.offers if major == 1))
        if not self.polled or self.inband:
            self.request()
            self.carry()
            assert self.answer()
            assert self.sent == self.done == 1


def _acknowledge(driver: ClientDriver, message: bytes) -> bytes:
    return echo(message, Subtype.ACK)


def _agree(driver: ClientDriver, message: bytes) -> bytes:
    """A server that speaks 1.2 and what is below."""
    offer = VersionLayout.parse(message)
    agreed = offer.major == 1
    return VersionLayout.build(
        replace(
            offer,
            subtype=Subtype.ACK if agreed else Subtype.NACK,
            major=1,
            minor=offer.minor if agreed else 2,
            dev_class=DeviceClass.DISK_SERVER if agreed else offer.dev_class,
        )
    )


def _announce(driver: ClientDriver, message: bytes) -> bytes:
    return build_answer(driver.wish(message), driver.stack.version, DISK)


def _registered(driver: ClientDriver, message: bytes) -> bytes:
    offer = DringRegisterLayout.parse(message)
    return DringRegisterLayout.build(replace(offer, subtype=Subtype.ACK, dring_ident=RING_IDENT))


def _ring_answered(driver: ClientDriver, message: bytes) -> bytes:
    """A range with an end is done; of an open one a piece, by the tape, and the rest has to wait."""
    question = DringDataLayout.parse(message)
    if driver.polled or question.end_idx != OPEN_ENDED:
        return _acknowledge(driver, message)
    how = driver.tape.byte()
    behind = (question.start_idx + how % (RING.num_descriptors + 1)) % RING.num_descriptors
    last = (behind - 1) % RING.num_descriptors
    first = last if how % (RING.num_descriptors + 1) == 0 else question.start_idx
    more = bool(how & MORE)
    if more:
        driver.waiting.appendleft(DringDataLayout.build(replace(question, start_idx=behind)))
    return DringDataLayout.build(
        replace(
            question,
            subtype=Subtype.ACK,
            start_idx=first,
            end_idx=last,
            proc_state=ProcState.ACTIVE if more else ProcState.STOPPED,
        )
    )


ANSWERS: Final[Mapping[int, Callable[[ClientDriver, bytes], bytes]]] = {
    Envelope.VER_INFO: _agree,
    Envelope.ATTR_INFO: _announce,
    Envelope.DRING_REG: _registered,
    Envelope.DRING_DATA: _ring_answered,
}
"""How an honest server answers; whatever is not here is acknowledged as it is."""

HANDLERS: Final[Mapping[type, Callable[[ClientDriver, Any], None]]] = {
    ChannelUp: ClientDriver.linked,
    AttributesReceived: ClientDriver.attributes,
    SessionReady: ClientDriver.ready,
    DescriptorsDone: ClientDriver.ring_done,
    RangeStopped: ClientDriver.stopped,
    Woken: ClientDriver.woken,
    InbandDone: ClientDriver.inband_done,
    SessionLost: ClientDriver.lost,
}

INSTRUCTIONS: Final[tuple[Callable[[ClientDriver], object], ...]] = (
    ClientDriver.answer_all,
    ClientDriver.choose,
    ClientDriver.decide,
    ClientDriver.request,
    ClientDriver.ring,
    ClientDriver.consume,
    ClientDriver.wake,
    ClientDriver.clean_up,
    ClientDriver.relink,
    ClientDriver.vanish,
    ClientDriver.refuse,
    ClientDriver.lower,
    ClientDriver.announce_another_disk,
    ClientDriver.inject_any,
    ClientDriver.say_anything,
    ClientDriver.report_any,
)
"""What the low four bits of an instruction that is no answer choose from."""


def fuzz_one(data: bytes) -> None:
    """Run a program against one client."""
    driver = ClientDriver(Tape(data))
    driver.play()
    driver.finish()
