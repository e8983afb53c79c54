"""Open ranges: whatever crosses whatever, each request is answered once and nobody waits for nothing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from protocol.ldc.cookie import Cookie
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    DescriptorsDone,
    LinkState,
    Negotiated,
    QueueConfigured,
    RangeOpened,
    RangeStopped,
    RingOffered,
    Server,
    SessionReady,
)
from protocol.vdisk.descriptor import Request, build_entry, parse_entry
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from protocol.vio.messages import OPEN_ENDED
from tests.support.vioscript import ATTRIBUTES

#: What happens next: either end's turn, or a packet that arrives.
STEPS = ("post", "look", "finish", "tell", "stop", "to server", "to client")


class Pair:
    """A client and a server, a ring between them, and packets that are under way as long as the test likes.

    The client announces by one rule: whenever the ring holds READY entries that it has not announced and the
    last answer said STOPPED. It does not look at the ring before it is told to.
    """

    def __init__(self, num_descriptors: int, dice: random.Random) -> None:
        self.dice = dice
        self.geometry = RingGeometry(num_descriptors, 64)
        memory = memoryview(bytearray(self.geometry.nbytes))
        self.client = Client(max_xfer_blocks=256, extensions=Extension.OPEN_RANGES)
        self.server = Server(ATTRIBUTES, extensions=Extension.OPEN_RANGES)
        self.client_ring = ClientRing(memory, self.geometry)
        self.server_ring = ServerRing(memory, self.geometry)
        self.to_server: deque[bytes] = deque()
        self.to_client: deque[bytes] = deque()
        self.posted: dict[int, int] = {}  # entry → request
        self.answered: list[int] = []
        self.fill = 0  # the entry that is filled next
        self.requests = 0
        self.announced = 0
        self.batch: int | None = None  # the range that the server looks at
        self.look_at = 0
        self.running: list[tuple[int, int, int]] = []  # batch, entry, request
        for end in (self.client, self.server):
            end.link_state(LinkState.UP)
        self.settle()

    # -- the client ------------------------------------------------------------------------------------------

    def post(self) -> None:
        """The client fills an entry, if one is free, and tells the server if it does not look."""
        if self.fill not in self.posted:
            index, self.fill = self.fill, (self.fill + 1) % self.geometry.num_descriptors
            request = Request(self.requests, 1, 0xFF, 0, 0, ())
            self.posted[index] = self.requests
            self.requests += 1
            self.client_ring.post(index, build_entry(request, self.geometry.descriptor_size))
            if not self.client.server_looks:
                self.announce(index)

    def announce(self, index: int) -> None:
        """The client opens a range."""
        self.announced += 1
        self.client.announce(index, OPEN_ENDED)
        self.collect()

    def heard(self, event: object) -> None:
        """The client reaps what is done; if the server has stopped before an entry, it is told of it."""
        if isinstance(event, DescriptorsDone):
            for index in self.geometry.indices(event.start_idx, event.end_idx):
                if index in self.posted and self.client_ring.is_done(index):
                    request = self.posted.pop(index)
                    assert self.client_ring.reap(index) == (0, request)
                    self.answered.append(request)
        elif isinstance(event, RangeStopped):
            if event.next_idx in self.posted:
                self.announce(event.next_idx)
        elif isinstance(event, ChannelUp):
            self.client.start(1)
        elif isinstance(event, AttributesReceived):
            self.client.register_ring(Cookie(0x2000, 0x2000), self.geometry)
        else:
            assert isinstance(event, SessionReady)

    # -- the server ------------------------------------------------------------------------------------------

    def asked(self, event: object) -> None:
        """The server has one range open at a time: a client that keeps to its rule asks for no second."""
        if isinstance(event, RangeOpened):
            assert self.batch is None
            self.batch, self.look_at = event.batch, event.start_idx
        elif isinstance(event, RingOffered):
            self.server.accept_ring()
        else:
            assert isinstance(event, Negotiated | SessionReady)

    def look(self) -> None:
        """The server takes an entry, if it looks and the next one is READY."""
        if self.batch is not None and self.server_ring.is_ready(self.look_at):
            self.server.taken(self.batch, self.look_at)
            request = parse_entry(self.server_ring.take(self.look_at)).req_id
            self.running.append((self.batch, self.look_at, request))
            self.look_at = (self.look_at + 1) % self.geometry.num_descriptors

    def finish(self) -> None:
        """The server completes any of the requests that run."""
        if self.running:
            batch, index, request = self.running.pop(self.dice.randrange(len(self.running)))
            self.server_ring.finish(index, 0, request)
            self.server.complete(batch, index)

    def tell(self) -> None:
        """The server tells what is complete, and goes on looking."""
        if self.batch is not None:
            self.server.progress(self.batch)

    def stop(self) -> None:
        """The server stops, where it finds an entry that is not READY."""
        if self.batch is not None and not self.server_ring.is_ready(self.look_at):
            batch, self.batch = self.batch, None
            self.server.stopped(batch)

    # -- between them ----------------------------------------------------------------------------------------

    def collect(self) -> None:
        """Put what both ends say on its way."""
        for end, queue in ((self.client, self.to_server), (self.server, self.to_client)):
            while (output := end.next_output()) is not None:
                assert not isinstance(output, QueueConfigured)
                queue.append(output)

    def handle(self) -> None:
        """Do what the events of both ends ask for."""
        while (event := self.client.next_event()) is not None:
            self.heard(event)
        while (asked := self.server.next_event()) is not None:
            self.asked(asked)
        self.collect()

    def deliver(self, end: Client | Server, queue: deque[bytes]) -> bool:
        """One packet arrives, if one is under way."""
        if not queue:
            return False
        end.receive_packet(queue.popleft())
        self.handle()
        return True

    def do(self, step: str) -> None:
        """Do one of STEPS."""
        steps: dict[str, Callable[[], object]] = {
            "post": self.post,
            "look": self.look,
            "finish": self.finish,
            "tell": self.tell,
            "stop": self.stop,
            "to server": lambda: self.deliver(self.server, self.to_server),
            "to client": lambda: self.deliver(self.client, self.to_client),
        }
        steps[step]()
        self.handle()

    def settle(self) -> None:
        """Let all packets arrive."""
        self.handle()
        while self.deliver(self.server, self.to_server) or self.deliver(self.client, self.to_client):
            pass

    def rest(self) -> None:
        """The server works, stops when there is nothing to do, and packets arrive, until nothing moves."""
        before: tuple[int, ...] = ()
        while before != (before := (self.announced, len(self.answered), len(self.running), self.look_at)):
            self.settle()
            while self.batch is not None and self.server_ring.is_ready(self.look_at):
                self.do("look")
                self.do("finish")
                self.do("tell")
                self.settle()
            while self.running:
                self.do("finish")
            self.do("stop")
            self.settle()


@given(
    num_descriptors=st.integers(1, 5),
    steps=st.lists(st.sampled_from(STEPS), max_size=120),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_request_is_answered_once_and_no_wake_up_is_lost(
    num_descriptors: int, steps: Sequence[str], seed: int
) -> None:
    pair = Pair(num_descriptors, random.Random(seed))
    for step in steps:
        pair.do(step)
    pair.rest()
    assert sorted(pair.answered) == list(range(pair.requests))
    assert not pair.posted
    assert pair.client.is_ready
    assert pair.server.is_ready
    assert pair.server.unanswered == 0
    assert not pair.client.server_looks  # the last answer was STOPPED


@given(st.integers(2, 8))
def test_what_is_filled_while_stopped_is_under_way_is_announced(num_descriptors: int) -> None:
    """The race: the server has stopped before the entry, the client fills it before it hears of that."""
    pair = Pair(num_descriptors, random.Random(1))
    for step in ("post", "to server", "look", "finish", "stop", "post"):
        pair.do(step)
    assert pair.announced == 1  # it still believes that the server looks
    pair.do("to client")
    assert pair.announced == 2
    pair.rest()
    assert pair.answered == [0, 1]


def test_a_server_that_keeps_looking_needs_no_second_message() -> None:
    pair = Pair(4, random.Random(1))
    for _ in range(20):
        for step in ("post", "to server", "look", "finish", "tell", "to client"):
            pair.do(step)
    assert pair.announced == 1
    assert pair.answered == list(range(20))
