"""Polled ring: whatever crosses whatever, nobody sleeps while the other waits, and no one talks for ever."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from protocol.vio.doorbell import ClientDoorbell, Doorbell, ServerDoorbell

RING = 4

#: How likely the client sleeps after a look at the ring; one that never does relies on what it is told most.
SLEEPS = st.sampled_from([1.0, 0.5, 0.0])


class Pair:
    """A client and a server whose messages are under way for as long as the test likes.

    The server takes entries in ring order, completes them in any; either side sleeps between its turns unless
    a message or its own polling wakes it.
    """

    def __init__(self, server_polls: bool, sleeps: float, dice: random.Random) -> None:
        self.dice = dice
        self.client = ClientDoorbell(server_polls, RING)
        self.server = ServerDoorbell(server_polls, RING)
        self.server_polls = server_polls
        self.sleeps = sleeps
        self.to_server: deque[Doorbell] = deque()
        self.to_client: deque[Doorbell] = deque()
        self.posted = self.taken = self.consumed = 0
        self.running: list[int] = []
        self.done: set[int] = set()
        self.server_awake = False
        self.client_awake = True
        self.messages = 0

    def post(self, count: int) -> None:
        """The client fills up to ``count`` entries."""
        room = RING - (self.posted - self.consumed)
        self.posted += min(count, room)
        self.client.post(min(count, room))
        self.client_awake = True

    def client_turn(self) -> None:
        """The client looks at the ring, and sleeps or goes on polling."""
        if not self.client_awake:
            return
        reaped = len(self.done)
        self.done.clear()
        self.consumed += reaped
        self.client.consumed(reaped)
        sleeping = self.dice.random() < self.sleeps
        doorbell = self.client.ring(sleeping)
        if doorbell is not None:
            self.to_server.append(doorbell)
            self.messages += 1
        self.client_awake = not sleeping

    def server_turn(self) -> None:
        """The server takes what is READY, and sleeps or goes on polling."""
        if not self.server_awake:
            return
        self.running += range(self.taken, self.posted)
        self.taken = self.posted
        self._publish()
        stopping = not self.server_polls or self.dice.random() < 0.5
        self._end(stopping)
        self.server_awake = not stopping

    def finish(self) -> None:
        """A worker of the server is done with some; a server that sleeps does not look at the ring."""
        if self.running:
            self._publish()
            self._end(stopping=not self.server_awake)

    def _publish(self) -> None:
        for _ in range(self.dice.randint(0, len(self.running))):
            self.done.add(self.running.pop(self.dice.randrange(len(self.running))))
            self.server.completed(1)

    def _end(self, stopping: bool) -> None:
        due = self.server.due(self.taken % RING, stopping)
        if due is not None:
            self.to_client.append(due)
            self.messages += 1

    def deliver(self, to_server: bool) -> None:
        """One message arrives and wakes who gets it."""
        if to_server and self.to_server:
            self.server.received(*self.to_server.popleft())
            self.server_awake = True
        elif not to_server and self.to_client:
            self.client.received(*self.to_client.popleft())
            self.client_awake = True

    def settle(self) -> None:
        """Let everything happen that would happen by itself."""
        for _ in range(120):
            self.deliver(to_server=True)
            self.server_turn()
            self.finish()
            self.deliver(to_server=False)
            self.client_turn()


@given(
    server_polls=st.booleans(),
    sleeps=SLEEPS,
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.sampled_from(["post", "client", "server", "finish", "up", "down"]), min_size=20, max_size=200
    ),
)
def test_everything_posted_is_consumed(
    server_polls: bool, sleeps: float, seed: int, steps: list[str]
) -> None:
    dice = random.Random(seed)
    pair = Pair(server_polls, sleeps, dice)
    actions: dict[str, Callable[[], None]] = {
        "post": lambda: pair.post(dice.randint(1, RING)),
        "client": pair.client_turn,
        "server": pair.server_turn,
        "finish": pair.finish,
        "up": lambda: pair.deliver(to_server=True),
        "down": lambda: pair.deliver(to_server=False),
    }
    for step in steps:
        actions[step]()
    pair.settle()
    assert pair.consumed == pair.posted
    assert not pair.to_server
    assert not pair.to_client


@given(server_polls=st.booleans(), sleeps=SLEEPS, seed=st.integers(0, 2**32))
def test_a_slow_backend_is_not_talked_about(server_polls: bool, sleeps: float, seed: int) -> None:
    """While nothing completes, the two fall silent instead of waking each other for ever."""
    pair = Pair(server_polls, sleeps, random.Random(seed))
    pair.post(RING)
    pair._publish = lambda: None  # type: ignore[method-assign]  # the backend never finishes anything
    for _ in range(200):
        pair.deliver(to_server=True)
        pair.server_turn()
        pair.deliver(to_server=False)
        pair.client_turn()
    assert pair.messages <= 4
