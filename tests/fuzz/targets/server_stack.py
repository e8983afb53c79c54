"""A disk server's stack, under any client.

Input: one byte for the kind of session, then instructions. An instruction with bit 7 set is a message: its
low five bits say which, bit 6 that it is damaged before it is sent. The others are looked up in a table by
their low four bits. What has to hold:

* a message of a plain session has one answer, in the order of the messages, unless a reset came between;
* an open range has several, whose pieces join;
* what is unanswered is bounded by the ring;
* a client that begins anew is served, whatever went before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protocol.errors import RingError
from protocol.ldc.events import LinkState
from protocol.ldc.packet import PACKET_SIZE
from protocol.stack import (
    DescriptorsReady,
    DoorbellRung,
    Negotiated,
    RangeOpened,
    RequestReceived,
    RingOffered,
    Server,
    SessionReady,
    SessionReset,
)
from protocol.stack.server import MAX_INBAND
from protocol.vdisk.attributes import DiskAttributes
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from protocol.vio.messages import (
    OPEN_ENDED,
    DringDataLayout,
    Envelope,
    ProcState,
    Subtype,
    TagLayout,
    TransferMode,
)
from protocol.vio.ranges import ClientRange
from tests.fuzz.driver import Driver, ring_scheme_of
from tests.fuzz.messages import (
    MESSAGES,
    build_rdx,
    build_registration,
    build_ring_data,
    build_version,
    build_wish_message,
)
from tests.fuzz.tape import Tape, mutated

__all__ = ["INSTRUCTIONS", "ServerDriver", "fuzz_one"]

DISK: Final = DiskAttributes(size_blocks=0x1803, max_xfer_blocks=2048)
RING: Final = RingGeometry(8, 64)
VERSIONS: Final = ((1, 0), (1, 1), (1, 2))
END_IDX: Final = DringDataLayout.codec.fields.index("end_idx")
SEQ_NUM: Final = slice(8, 16)  # where data messages have their number

# Bits of the first byte.
POLLED, POLLS, OPEN = 1, 2, 4


# What the driver has a choice in.
EAGER, REFUSES, TARDY, STOPPING, DRAINS, LOOKS_ON = 1, 2, 4, 8, 16, 32


class ServerDriver(Driver[Server]):
    """Drives the server and keeps account of what was asked and answered."""

    def __init__(self, tape: Tape) -> None:
        kind = tape.byte()
        scheme = ring_scheme_of(bool(kind & POLLED), bool(kind & OPEN))
        self.polled: Final = scheme == Extension.POLLED_RING
        self.opens: Final = scheme == Extension.OPEN_RANGES
        self.choices = EAGER
        self.sessions = 0  # that came to data
        self.seq_num = 0
        self.ring = RING
        self.next_index = 0
        self.in_progress: list[tuple[int, int]] = []  # batch, descriptor; -1: in-band
        self.ranges: list[list[int]] = []  # open ones: batch, and the entry to be taken next
        self.told: ClientRange | None = None  # how far the client knows of the oldest message, an open range
        self.faults = 0  # of this session
        self.asked: list[bytes] = []  # over this link, in order
        self.answered = 0  # of them, those that have an answer or were passed over
        self.exact = True  # no reset has swallowed an answer
        super().__init__(
            Server(DISK, extensions=scheme, polls=bool(kind & POLLS)),
            tape,
        )

    # -- what the driver does --------------------------------------------------------------------------------

    def handle(self, event: Any) -> None:  # noqa: ANN401  # see Driver
        """Do what an event asks for."""
        HANDLERS[type(event)](self, event)
        self.check_bounds()

    def negotiated(self, event: Negotiated) -> None:
        """Agree: the version is one of ours, and everybody wants to transfer something."""
        assert event.version in VERSIONS
        assert event.max_xfer > 0
        assert event.block_size == DISK.block_size

    def offered(self, event: RingOffered) -> None:
        """Map the ring or not; its geometry has been checked."""
        event.geometry.validate()
        assert event.cookie.size >= event.geometry.nbytes
        if self.choices & REFUSES:
            self.stack.refuse_ring("the driver will not have it")
        else:
            self.ring = event.geometry
            self.next_index = 0
            self.stack.accept_ring()

    def ready(self, event: SessionReady) -> None:
        """Begin: requests flow."""
        assert event.version == self.stack.version in VERSIONS
        assert event.attributes == DISK.for_version(event.version)
        self.sessions += 1

    def descriptors(self, event: DescriptorsReady) -> None:
        """Take a range of the ring."""
        assert not self.polled
        assert 1 <= event.count <= self.ring.num_descriptors
        assert 0 <= event.start_idx < self.ring.num_descriptors
        self.stop_before()
        end = (event.start_idx + event.count - 1) % self.ring.num_descriptors
        self.in_progress += [(event.batch, index) for index in self.ring.indices(event.start_idx, end)]
        assert len(self.in_progress) <= self.ring.num_descriptors
        if self.choices & EAGER:
            self.complete_all()

    def opened(self, event: RangeOpened) -> None:
        """Take a range without an end: as much of it is READY as the tape says."""
        assert self.opens
        assert 0 <= event.start_idx < self.ring.num_descriptors
        self.stop_before()
        self.ranges.append([event.batch, event.start_idx])
        if self.choices & EAGER:
            self.walk()
            self.complete_all()
            self.stop()

    def stop_before(self) -> None:
        """Look no more at older ranges, as a server should that has another message."""
        while self.ranges and not self.choices & LOOKS_ON:
            self.stop()

    def request(self, event: RequestReceived) -> None:
        """Take a request that came in the message."""
        self.in_progress.append((event.batch, -1))
        assert len(self.in_progress) <= MAX_INBAND
        if self.choices & EAGER:
            self.complete_all()

    def rung(self, event: DoorbellRung) -> None:
        """Look at the ring: as many requests are there, and done, as the tape says."""
        assert self.polled
        if self.choices & EAGER:
            self.look()

    def reset(self, event: SessionReset) -> None:
        """Clean up, now or later."""
        self.cleaning = True
        self.exact = False
        self.ranges.clear()
        if not self.choices & TARDY:
            self.clean_up()

    def clean_up(self) -> None:
        """Drain, or give up what is in progress; then be ready for the next session."""
        if self.cleaning:
            if self.choices & DRAINS:
                self.complete_all()
            self.in_progress.clear()
            self.stack.reset_done()
            self.cleaning = False
            self.faults = 0
            self.seq_num = 0

    # -- instructions ----------------------------------------------------------------------------------------

    def choose(self) -> None:
        """Change what the driver does where it has a choice."""
        self.choices = self.tape.byte()

    def complete_at(self, place: int) -> None:
        """Complete what is at ``place`` of the requests in progress."""
        if self.in_progress:
            batch, index = self.in_progress.pop(place)
            if index < 0:
                self.stack.complete_inband(batch, 0, 512)
            else:
                self.stack.complete(batch, index)

    def complete_first(self) -> None:
        """Complete the oldest request."""
        self.complete_at(0)

    def complete_last(self) -> None:
        """Complete the latest request: its answer has to wait for those before it."""
        self.complete_at(-1)

    def complete_all(self) -> None:
        """Complete all requests, the latest first."""
        while self.in_progress:
            self.complete_at(-1)

    def fault(self) -> None:
        """Find a request that cannot be served at all."""
        if self.in_progress:
            batch, index = self.in_progress.pop(self.tape.byte() % len(self.in_progress))
            self.give_up(batch, max(index, 0))
        elif self.polled and self.stack.is_ready:
            self.stack.fault(None, self.next_index, "the driver found a fault")
            self.faults += 1

    def give_up(self, batch: int, index: int) -> None:
        """Report a fault; an open range ends with it."""
        self.ranges = [each for each in self.ranges if each[0] != batch]
        self.stack.fault(batch, index, "the driver found a fault")
        self.faults += 1

    def walk(self) -> None:
        """Open range: take as many entries of the latest one as the tape says."""
        for _ in range(self.tape.byte() % (self.ring.num_descriptors + 2)):
            if not self.ranges:
                return
            batch, index = self.ranges[-1]
            try:
                self.stack.taken(batch, index)
            except RingError:
                self.give_up(batch, index)
                return
            self.ranges[-1][1] = (index + 1) % self.ring.num_descriptors
            self.in_progress.append((batch, index))
            assert len(self.in_progress) <= self.ring.num_descriptors

    def tell(self) -> None:
        """Open range: tell of the oldest one what is complete."""
        if self.ranges:
            self.stack.progress(self.ranges[0][0])

    def stop(self) -> None:
        """Open range: look no more at the oldest one."""
        if self.ranges:
            self.stack.stopped(self.ranges.pop(0)[0])

    def look(self) -> None:
        """Polled ring: some entries are done; wake the client if it needs that."""
        if self.polled and self.stack.is_ready and self.stack.xfer_mode != TransferMode.INBAND:
            count = self.tape.byte() % (self.ring.num_descriptors + 1)
            self.stack.completed(count)
            self.next_index = (self.next_index + count) % self.ring.num_descriptors
            asked, stopping = self.stack.client_sleeps, bool(self.choices & STOPPING)
            sent = self.stack.end_of_batch(self.next_index, stopping)
            assert not sent or asked or stopping

    def clean_up_now(self) -> None:
        """End a clean-up that was put off."""
        self.clean_up()

    def inject_any(self) -> None:
        """Deliver any packet at all."""
        self.inject(self.tape.take(PACKET_SIZE))

    def say_anything(self) -> None:
        """Send a message of any bytes."""
        self.ask(self.tape.take(self.tape.byte()))

    def report_any(self) -> None:
        """Report any state of the client's queue."""
        self.report(self.tape.pick(tuple(LinkState)))

    def shake_hands(self) -> None:
        """Do a whole handshake: version and transfer mode by the tape."""
        version, inband = self.tape.pick(VERSIONS), self.tape.byte() & 1
        self.ask(build_version(*version))
        self.ask(build_wish_message(version, TransferMode.INBAND if inband else TransferMode.RING))
        if not inband:
            self.ask(build_registration(RING))
        self.ask(build_rdx(self))

    # -- what the client says, and hears ---------------------------------------------------------------------

    def next_number(self) -> int:
        """Return the number of the next data message."""
        self.seq_num += 1
        return self.seq_num

    def message(self, instruction: int) -> None:
        """Send one of the messages, damaged or not."""
        message = MESSAGES[(instruction & 0x1F) % len(MESSAGES)](self)
        self.ask(mutated(message, self.tape) if instruction & 0x40 else message)

    def ask(self, message: bytes) -> None:
        """Send a message and note it as one that has to be answered."""
        if message and self.peer.is_up:
            self.asked.append(message)
            self.say(message)

    def heard(self, message: bytes) -> None:
        """Take an answer: it is to a message that was not answered yet, and in order."""
        _, subtype, envelope, _ = TagLayout.codec.unpack_from(message)
        assert subtype in (Subtype.ACK, Subtype.NACK)
        if self.polled and envelope == Envelope.DRING_DATA:
            return  # such messages only wake
        while self.answered < len(self.asked):
            asked = self.asked[self.answered]
            if _answers(message, asked):
                if not (self.opens and self.goes_on(message, asked)):
                    self.told = None
                    self.answered += 1
                return
            self.told = None
            self.answered += 1
            assert not self.exact or not self.honest or _wakes(self, asked), f"passed over {asked.hex()}"
        assert not self.honest, f"an answer to nothing: {message.hex()}"

    def goes_on(self, message: bytes, asked: bytes) -> bool:
        """Take an answer to an open range, the next piece of it; says whether others follow."""
        if message[1] != Subtype.ACK or not _is_open_range(asked):
            return False
        answer = DringDataLayout.parse(message)
        assert answer.proc_state in (ProcState.ACTIVE, ProcState.STOPPED)
        if self.told is None:
            self.told = ClientRange()
            self.told.open(answer.seq_num, DringDataLayout.parse(asked).start_idx)
        self.told.answered(answer.start_idx, answer.end_idx, self.ring)
        return answer.proc_state == ProcState.ACTIVE

    def relinked(self) -> None:
        """Forget what was asked over the old link."""
        self.told = None
        self.asked.clear()
        self.answered = 0
        self.exact = True

    def check_bounds(self) -> None:
        """Nothing grows beyond what the ring, or the queue of in-band messages, has room for."""
        room = max(self.ring.num_descriptors, MAX_INBAND)
        assert self.stack.unanswered <= room + self.faults + 1

    def play(self) -> None:
        """Do what the tape says."""
        while self.tape:
            instruction = self.tape.byte()
            if instruction & 0x80:
                self.message(instruction)
            else:
                INSTRUCTIONS[(instruction & 0x0F) % len(INSTRUCTIONS)](self)
                self.carry()

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Complete everything and see that all has been answered; then begin anew and be served."""
        self.complete_all()
        while self.ranges:
            self.stop()
        self.choices = EAGER
        self.clean_up()
        self.carry()
        if self.exact and self.honest:
            unanswered = [asked for asked in self.asked[self.answered :] if not _wakes(self, asked)]
            assert not unanswered, f"no answer to {unanswered[0].hex()}"
        self.relink()
        assert self.peer.is_up
        self.shake_hands()
        assert self.stack.is_ready
        self.seq_num = 0
        self.ask(build_ring_data(self))
        assert self.polled or self.answered == len(self.asked) == 5


HANDLERS: Final[dict[type, Callable[[ServerDriver, Any], None]]] = {
    Negotiated: ServerDriver.negotiated,
    RingOffered: ServerDriver.offered,
    SessionReady: ServerDriver.ready,
    DescriptorsReady: ServerDriver.descriptors,
    RangeOpened: ServerDriver.opened,
    RequestReceived: ServerDriver.request,
    DoorbellRung: ServerDriver.rung,
    SessionReset: ServerDriver.reset,
}

INSTRUCTIONS: Final[tuple[Callable[[ServerDriver], object], ...]] = (
    ServerDriver.shake_hands,
    ServerDriver.choose,
    ServerDriver.complete_first,
    ServerDriver.complete_last,
    ServerDriver.complete_all,
    ServerDriver.fault,
    ServerDriver.look,
    ServerDriver.clean_up,
    ServerDriver.relink,
    ServerDriver.vanish,
    ServerDriver.inject_any,
    ServerDriver.say_anything,
    ServerDriver.report_any,
    ServerDriver.walk,
    ServerDriver.tell,
    ServerDriver.stop,
)
"""What the low four bits of an instruction that is no message choose from."""


def _answers(answer: bytes, asked: bytes) -> bool:
    """Say whether ``answer`` is one to ``asked``: of the same kind and session, and with its number."""
    if len(asked) < TagLayout.size:
        return False
    msgtype, _, envelope, sid = TagLayout.codec.unpack_from(asked)
    if TagLayout.codec.unpack_from(answer) != (msgtype, answer[1], envelope, sid):
        return False
    numbered = envelope in (Envelope.DRING_DATA, Envelope.DESC_DATA)
    return not numbered or answer[SEQ_NUM] == asked[SEQ_NUM]


def _is_open_range(asked: bytes) -> bool:
    """Say whether ``asked`` is ring data without an end."""
    is_ring_data = asked[2:4] == Envelope.DRING_DATA.to_bytes(2, "big") and len(asked) == DringDataLayout.size
    return is_ring_data and DringDataLayout.codec.unpack_from(asked)[END_IDX] == OPEN_ENDED


def _wakes(driver: ServerDriver, asked: bytes) -> bool:
    """Say whether ``asked`` is a doorbell, which has no answer of its own."""
    return driver.polled and asked[2:4] == Envelope.DRING_DATA.to_bytes(2, "big")


def fuzz_one(data: bytes) -> None:
    """Run a program against one server."""
    driver = ServerDriver(Tape(data))
    driver.play()
    driver.finish()
