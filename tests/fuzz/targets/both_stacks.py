"""Client and server joined in one process, with a disk behind, over a channel that the fuzzer disturbs.

Input: one byte for the mode and the damage allowed, then instructions, looked up in a table by their low four
bits. The channel is a queue each way; it drops, doubles and damages what it carries, holds it back, and
reports resets that nobody has made, but it keeps the order. With open ranges the server looks at the ring as
often as the tape says, and stops where it finds nothing. What has to hold:

* a block reads as what was last written to it and acknowledged;
* once the disturbance stops, the session recovers and every request is answered, by itself if nothing was
  dropped, doubled or damaged; otherwise when the channel was cut and made anew, as a time limit would do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from protocol.stack import LinkState, QueueConfigured
from protocol.vio.extensions import NO_EXTENSION
from tests.fuzz.driver import ring_scheme_of
from tests.fuzz.ends import BLOCKS, ClientEnd, ServerEnd
from tests.fuzz.tape import Tape
from tests.support.stackdisk import Guest

__all__ = ["INSTRUCTIONS", "DisturbedDisk", "fuzz_one"]

Output: TypeAlias = bytes | QueueConfigured

MAX_QUEUED: Final = 64  # packets the fuzzer may leave in one direction
REST: Final = 5_000  # deliveries after which two ends that are left alone are done

# Bits of the first byte.
POLLED, INBAND, DAMAGE, LOSS, OPEN = 1, 2, 4, 8, 16


class DisturbedDisk:
    """Both ends and the channel between them."""

    def __init__(self, tape: Tape) -> None:
        kind = tape.byte()
        inband = bool(kind & INBAND)
        extensions = NO_EXTENSION if inband else ring_scheme_of(bool(kind & POLLED), bool(kind & OPEN))
        guest = Guest()
        self.tape: Final = tape
        self.may_damage: Final = bool(kind & DAMAGE) and not inband  # nothing would notice a wrong block
        self.may_lose: Final = bool(kind & LOSS)
        self.intact = True  # nothing was dropped, doubled or damaged since the channel was made
        self.server: Final = ServerEnd(guest, extensions)
        self.client: Final = ClientEnd(guest, extensions, inband)
        self.ends: Final = (self.server, self.client)
        self.queues: list[deque[Output]] = [deque(), deque()]  # towards each end
        self.connect()

    def connect(self) -> None:
        """Make a channel anew: what was under way is gone, and each end sees the other come."""
        for end in self.ends:
            end.stack.link_state(LinkState.DOWN)
            self.settle(end)
        self.queues = [deque(), deque()]
        self.intact = True
        for end in self.ends:
            end.stack.link_state(LinkState.UP)
            self.settle(end)

    def settle(self, end: ServerEnd | ClientEnd) -> None:
        """Take all that an end has to say."""
        busy = True
        while busy:
            busy = self.collect(end)
            while (event := end.stack.next_event()) is not None:
                end.handle(event)
                busy = self.collect(end) or True

    def collect(self, end: ServerEnd | ClientEnd) -> bool:
        """Take what an end sends. A queue that is configured again has lost what was in it."""
        number = self.ends.index(end)
        found = False
        while (output := end.stack.next_output()) is not None:
            found = True
            self.queues[1 - number].append(output)
            if isinstance(output, QueueConfigured):
                marks = [item for item in self.queues[number] if isinstance(item, QueueConfigured)]
                self.queues[number] = deque(marks)
        return found

    def deliver(self, number: int) -> None:
        """Give an end what comes next."""
        if self.queues[number]:
            end = self.ends[number]
            output = self.queues[number].popleft()
            if isinstance(output, QueueConfigured):
                end.stack.link_state(LinkState.RESET)
                end.stack.link_state(LinkState.UP)
            elif end.stack.take_packet(output):
                end.handle(end.rung)
            self.settle(end)

    # -- instructions ----------------------------------------------------------------------------------------

    def to_server(self) -> None:
        """Deliver to the server, as many as the tape says."""
        for _ in range(1 + self.tape.byte() % 8):
            self.deliver(0)

    def to_client(self) -> None:
        """Deliver to the client, as many as the tape says."""
        for _ in range(1 + self.tape.byte() % 8):
            self.deliver(1)

    def quiet(self) -> None:
        """Deliver until nothing is under way; the server executes nothing."""
        for _ in range(REST):
            if not any(self.queues):
                return
            for number in (0, 1):
                self.deliver(number)
        raise AssertionError("two ends do not come to rest")

    def work(self) -> None:
        """Execute one of the requests that the server has taken."""
        if self.server.in_progress:
            self.server.execute(self.tape.byte() % len(self.server.in_progress))
            self.settle(self.server)

    def look(self) -> None:
        """Open range: let the server look at the ring once more, or stop."""
        self.server.look_on()
        self.settle(self.server)

    def write(self) -> None:
        """Begin to write a block."""
        self.client.submit(True, self.tape.byte() % BLOCKS)
        self.settle(self.client)

    def read(self) -> None:
        """Begin to read a block."""
        self.client.submit(False, self.tape.byte() % BLOCKS)
        self.settle(self.client)

    def drop(self) -> None:
        """Lose a packet, or the notice of a reset."""
        queue = self.tape.pick(self.queues)
        if queue and self.may_lose:
            self.intact = False
            queue.popleft()

    def double(self) -> None:
        """Let a packet arrive twice."""
        queue = self.tape.pick(self.queues)
        if queue and self.may_lose and len(queue) < MAX_QUEUED:
            self.intact = False
            queue.appendleft(queue[0])

    def damage(self) -> None:
        """Change some bits of one byte of a packet."""
        queue = self.tape.pick(self.queues)
        place, bits = self.tape.byte() % 64, self.tape.byte()
        packet = queue[0] if queue and self.may_damage else None
        if isinstance(packet, bytes):
            self.intact = False
            queue[0] = packet[:place] + bytes([packet[place] ^ bits]) + packet[place + 1 :]

    def report_reset(self) -> None:
        """Report a reset of one end to the other, in order with what is under way."""
        queue = self.tape.pick(self.queues)
        if len(queue) < MAX_QUEUED:
            queue.append(QueueConfigured())

    def fault(self) -> None:
        """Let the server find that a request cannot be served at all."""
        if self.server.in_progress:
            batch, index, _ = self.server.in_progress.pop(0)
            self.server.fault(batch, index, "the fuzzer wants it so")
            self.settle(self.server)

    def play(self) -> None:
        """Do what the tape says."""
        while self.tape:
            INSTRUCTIONS[(self.tape.byte() & 0x0F) % len(INSTRUCTIONS)](self)

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Leave the two alone: every request is answered. Then read everything back."""
        self.recover()
        for block in range(BLOCKS):
            self.client.submit(False, block)
            self.settle(self.client)
        self.recover()

    def recover(self) -> None:
        """See all requests answered; after loss or damage that nobody has noticed, over a new channel."""
        self.rest()
        if not self.intact and not self.is_idle:
            self.connect()
            self.rest()
        assert self.is_idle, "two ends that nobody disturbs any more do not get on"

    @property
    def is_idle(self) -> bool:
        """There is a session, and it has nothing to do."""
        return self.client.running and not self.client.requests

    def rest(self) -> None:
        """Deliver and execute until nothing moves."""
        self.quiet()
        while self.server.in_progress or self.server.open is not None:
            if self.server.in_progress:
                self.server.execute(0)
            else:
                self.server.look_on()
            self.settle(self.server)
            self.quiet()


INSTRUCTIONS: Final[tuple[Callable[[DisturbedDisk], None], ...]] = (
    DisturbedDisk.quiet,
    DisturbedDisk.to_server,
    DisturbedDisk.to_client,
    DisturbedDisk.work,
    DisturbedDisk.write,
    DisturbedDisk.read,
    DisturbedDisk.drop,
    DisturbedDisk.double,
    DisturbedDisk.damage,
    DisturbedDisk.report_reset,
    DisturbedDisk.fault,
    DisturbedDisk.look,
)
"""What the low four bits of an instruction choose from."""


def fuzz_one(data: bytes) -> None:
    """Run a program against a disk."""
    disk = DisturbedDisk(Tape(data))
    disk.play()
    disk.finish()
