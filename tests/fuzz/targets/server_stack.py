"""A disk server's stack, under any client.

Input: one byte for the kind of session, then instructions. An instruction with bit 7 set is a message: its
low five bits say which, bit 6 that it is damaged before it is sent. The others are looked up in a table by
their low four bits. What has to hold:

* a message of a plain session has one answer, in the order of the messages, unless a reset came between;
* what is unanswered is bounded by the ring;
* a client that begins anew is served, whatever went before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protocol.ldc.cookie import Cookie
from protocol.ldc.events import LinkState
from protocol.ldc.packet import PACKET_SIZE
from protocol.stack import (
    DescriptorsReady,
    DoorbellRung,
    Negotiated,
    RequestReceived,
    RingOffered,
    Server,
    SessionReady,
    SessionReset,
)
from protocol.stack.server import MAX_INBAND
from protocol.vdisk.attributes import DiskAttributes, build_wish
from protocol.vdisk.descriptor import InbandMessage, InbandMessageLayout
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension
from protocol.vio.messages import (
    OPEN_ENDED,
    DeviceClass,
    DoorbellLayout,
    DoorbellMessage,
    DringRegisterLayout,
    DringRegisterMessage,
    DringUnregisterLayout,
    DringUnregisterMessage,
    Envelope,
    MessageType,
    ProcState,
    RdxLayout,
    RdxMessage,
    Subtype,
    TagLayout,
    TransferMode,
    VersionLayout,
    VersionMessage,
)
from tests.fuzz.driver import SID, Driver
from tests.fuzz.tape import Tape, mutated

__all__ = ["INSTRUCTIONS", "MESSAGES", "ServerDriver", "fuzz_one"]

DISK: Final = DiskAttributes(size_blocks=0x1803, max_xfer_blocks=2048)
RING: Final = RingGeometry(8, 64)
VERSIONS: Final = ((1, 0), (1, 1), (1, 2))
SEQ_NUM: Final = slice(8, 16)  # where data messages have their number

# Bits of the first byte.
POLLED, POLLS = 1, 2

# What the driver has a choice in.
EAGER, REFUSES, TARDY, STOPPING, DRAINS = 1, 2, 4, 8, 16


class ServerDriver(Driver[Server]):
    """Drives the server and keeps account of what was asked and answered."""

    def __init__(self, tape: Tape) -> None:
        kind = tape.byte()
        self.polled: Final = bool(kind & POLLED)
        self.choices = EAGER
        self.sessions = 0  # that came to data
        self.seq_num = 0
        self.ring = RING
        self.next_index = 0
        self.in_progress: list[tuple[int, int]] = []  # batch, descriptor; -1: in-band
        self.faults = 0  # of this session
        self.asked: list[bytes] = []  # over this link, in order
        self.answered = 0  # of them, those that have an answer or were passed over
        self.exact = True  # no reset has swallowed an answer
        super().__init__(
            Server(
                DISK,
                extensions=Extension.POLLED_RING if self.polled else NO_EXTENSION,
                polls=bool(kind & POLLS),
            ),
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
        end = (event.start_idx + event.count - 1) % self.ring.num_descriptors
        self.in_progress += [(event.batch, index) for index in self.ring.indices(event.start_idx, end)]
        assert len(self.in_progress) <= self.ring.num_descriptors
        if self.choices & EAGER:
            self.complete_all()

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
            self.stack.fault(batch, max(index, 0), "the driver found a fault")
            self.faults += 1
        elif self.polled and self.stack.is_ready:
            self.stack.fault(None, self.next_index, "the driver found a fault")
            self.faults += 1

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
        self.ask(_build_version(*version))
        self.ask(_build_wish(version, TransferMode.INBAND if inband else TransferMode.RING))
        if not inband:
            self.ask(_build_registration(RING))
        self.ask(_rdx(self))

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
            self.answered += 1
            if _answers(message, asked):
                return
            assert not self.exact or not self.honest or _wakes(self, asked), f"passed over {asked.hex()}"
        assert not self.honest, f"an answer to nothing: {message.hex()}"

    def relinked(self) -> None:
        """Forget what was asked over the old link."""
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
        self.ask(_ring_data(self))
        assert self.polled or self.answered == len(self.asked) == 5


HANDLERS: Final[dict[type, Callable[[ServerDriver, Any], None]]] = {
    Negotiated: ServerDriver.negotiated,
    RingOffered: ServerDriver.offered,
    SessionReady: ServerDriver.ready,
    DescriptorsReady: ServerDriver.descriptors,
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


def _wakes(driver: ServerDriver, asked: bytes) -> bool:
    """Say whether ``asked`` is a doorbell, which has no answer of its own."""
    return driver.polled and asked[2:4] == Envelope.DRING_DATA.to_bytes(2, "big")


# -- messages ------------------------------------------------------------------------------------------------


def _build_version(major: int, minor: int, dev_class: int = DeviceClass.DISK) -> bytes:
    return VersionLayout.build(VersionMessage(sid=SID, major=major, minor=minor, dev_class=dev_class))


def _build_wish(version: tuple[int, int], mode: int) -> bytes:
    return build_wish(version, SID, xfer_mode=mode, block_size=512, max_xfer_blocks=128)


def _build_registration(geometry: RingGeometry, *cookies: Cookie) -> bytes:
    found = cookies or (Cookie(0x2000, geometry.nbytes),)
    return DringRegisterLayout.build(
        DringRegisterMessage(
            sid=SID,
            num_descriptors=geometry.num_descriptors,
            descriptor_size=geometry.descriptor_size,
            ncookies=len(found),
            cookie=found,
        )
    )


def _version(driver: ServerDriver) -> bytes:
    return _build_version(1, driver.tape.byte())


def _version_of_any_kind(driver: ServerDriver) -> bytes:
    tape = driver.tape
    return _build_version(tape.byte(), tape.byte(), tape.byte())


def _wish(driver: ServerDriver) -> bytes:
    return _build_wish(driver.stack.version, driver.tape.byte())


def _registration(driver: ServerDriver) -> bytes:
    """A small ring: its entries are 64 bytes, their number by the tape."""
    return _build_registration(RingGeometry(driver.tape.byte(), 64))


def _large_registration(driver: ServerDriver) -> bytes:
    tape = driver.tape
    geometry = RingGeometry(tape.number(3), tape.number(2))
    return _build_registration(geometry, *[Cookie(tape.number(4), tape.number(4))] * (tape.byte() % 4))


def build_unregistration(driver: ServerDriver) -> bytes:
    """Return a message that is refused in every state."""
    return DringUnregisterLayout.build(DringUnregisterMessage(sid=SID, dring_ident=1))


def _rdx(driver: ServerDriver) -> bytes:
    return RdxLayout.build(RdxMessage(sid=SID))


def _ring_data(driver: ServerDriver) -> bytes:
    """A range of the ring; on a polled ring a doorbell."""
    tape = driver.tape
    start, end, completions = tape.byte(), tape.byte(), tape.byte()
    return DoorbellLayout.build(
        DoorbellMessage(
            sid=SID,
            seq_num=driver.next_number(),
            dring_ident=1,
            start_idx=start,
            end_idx=OPEN_ENDED if driver.polled else end,
            proc_state=ProcState(1 + (end & 1)) if driver.polled else 0,
            completions=completions,
        )
    )


def _wrong_number(driver: ServerDriver) -> bytes:
    driver.seq_num += driver.tape.byte()
    return _ring_data(driver)


def _inband_data(driver: ServerDriver) -> bytes:
    tape = driver.tape
    cookies = tuple(Cookie(n << 13, 8192) for n in range(tape.byte() % 12))
    return InbandMessageLayout.build(
        InbandMessage(
            MessageType.DATA,
            Subtype.INFO,
            Envelope.DESC_DATA,
            SID,
            driver.next_number(),
            desc_handle=driver.seq_num,
            req_id=0,
            operation=1 + tape.byte() % max(Operation),
            slice=SLICE_NONE,
            status=0,
            addr=tape.byte(),
            nbytes=512 * tape.byte(),
            ncookies=len(cookies),
            cookie=cookies,
        )
    )


def _tag(driver: ServerDriver) -> bytes:
    tape = driver.tape
    return TagLayout.codec.pack(tape.byte(), tape.byte(), tape.byte(), SID) + tape.take(tape.byte())


MESSAGES: Final[tuple[Callable[[ServerDriver], bytes], ...]] = (
    _version,
    _wish,
    _registration,
    _rdx,
    _ring_data,
    _inband_data,
    _wrong_number,
    _large_registration,
    build_unregistration,
    _version_of_any_kind,
    _tag,
)
"""What the low five bits of a message instruction choose from."""


def fuzz_one(data: bytes) -> None:
    """Run a program against one server."""
    driver = ServerDriver(Tape(data))
    driver.play()
    driver.finish()
