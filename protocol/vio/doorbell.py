"""Who has to wake whom on a polled ring (:attr:`~protocol.vio.extensions.Extension.POLLED_RING`).

Theory of operation. Both ends know the ring order: the client fills entries 0, 1, 2, … and wraps, the server
takes them in that order from an index of its own; they complete in any order. Messages carry no work, they
only wake:

* client → server, INFO: "I filled entries up to ``start_idx``, look at the ring"; STOPPED adds "I sleep:
  send me one message as soon as something is complete that I have not consumed", ACTIVE "I look myself".
* server → client, ACK: "``completions`` requests are complete"; ACTIVE adds "I go on looking at the ring",
  STOPPED "I look no more: wake me for anything at or after ``start_idx``".

Messages cross each other. A side may believe less of its peer than is true, which costs a needless message;
it never believes more, which would lose a wake-up: the client takes the server for looking only after a
doorbell of its own or an ACTIVE, and every STOPPED undoes that; the server forgets that the client sleeps
only with a message that tells it of a completion. An answer that does not carry the number of the client's
last doorbell has crossed it, and is out of date. Counts are modulo 2³².
Source: docs/extensions.md; the states themselves FWARC 2010/054, DRING_DATA, processing state.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol.errors import Layer, Reaction, RingError

from .dring import MAX_DESCRIPTORS
from .messages import ProcState

__all__ = ["ClientDoorbell", "Doorbell", "ServerDoorbell"]

_MASK: Final = 0xFFFFFFFF
_ACTIVE: Final = int(ProcState.ACTIVE)
_STOPPED: Final = int(ProcState.STOPPED)
_STATES: Final = (_ACTIVE, _STOPPED)


class Doorbell(NamedTuple):
    """What the message says; ``completions`` are those consumed (client) or published (server) since RDX."""

    seq_num: int
    start_idx: int
    proc_state: int
    completions: int


def _check(start_idx: int, proc_state: int, num_descriptors: int) -> None:
    if proc_state not in _STATES:
        raise RingError(Layer.VIO, Reaction.NACK, f"processing state {proc_state} in a doorbell")
    if start_idx >= num_descriptors:
        raise RingError(Layer.VIO, Reaction.RESET, f"descriptor {start_idx} of a ring of {num_descriptors}")


class ServerDoorbell:
    """The server's side: when to send a message, and which.

    ``polls``: this server looks at the ring for a while before it sleeps. ``looking``: the client believes
    that it is looking now, so that stopping has to be told. ``asked``: it wants a message at the next
    completion.
    """

    __slots__ = ("_consumed", "_num_descriptors", "_polls", "_published", "_seq_num", "asked", "looking")

    def __init__(self, polls: bool, num_descriptors: int = MAX_DESCRIPTORS) -> None:
        self._polls: Final = polls
        self._num_descriptors: Final = num_descriptors
        self._seq_num = 0
        self._published = 0
        self._consumed = 0
        self.asked = False
        self.looking = False

    def received(self, seq_num: int, start_idx: int, proc_state: int, completions: int) -> None:
        """Take the client's :class:`Doorbell`; look at the ring next, then call :meth:`due`.

        A message may be old: the ring may have gone round since it was sent. But messages come in order, so
        its count lies between the last one and ours.

        Raises: RingError (no such state or entry; more completions consumed than were published, or fewer
            than before).
        """
        _check(start_idx, proc_state, self._num_descriptors)
        if (self._published - completions) & _MASK > (self._published - self._consumed) & _MASK:
            raise RingError(
                Layer.VIO,
                Reaction.RESET,
                f"{completions} completions consumed, {self._published} published",
            )
        self._seq_num = seq_num
        self._consumed = completions
        self.asked = proc_state == _STOPPED
        self.looking = self._polls

    def completed(self, count: int) -> None:
        """``count`` more entries are DONE, visibly."""
        self._published = (self._published + count) & _MASK

    def due(self, next_index: int, stopping: bool) -> Doorbell | None:
        """Return the message that has to go out at the end of a batch, if one has to.

        ``next_index`` is the entry the server looks at next, ``stopping`` says that it goes to sleep.
        """
        wake = self.asked and self._published != self._consumed
        if not wake and not (stopping and self.looking):
            return None
        if wake:
            self.asked = False
        self.looking = self._polls and not stopping
        state = _ACTIVE if self.looking else _STOPPED
        return Doorbell(self._seq_num, next_index, state, self._published)


class ClientDoorbell:
    """The client's side: when to ring, and what to ask for.

    ``server_polls``: the server looks at the ring for a while after a doorbell; otherwise ring each time.
    ``server_looks``: it is looking now, as far as we can know.
    """

    __slots__ = (
        "_armed",
        "_consumed",
        "_num_descriptors",
        "_posted",
        "_rung",
        "_rung_posted",
        "_seq_num",
        "_server_polls",
        "_told",
        "server_looks",
    )

    def __init__(self, server_polls: bool, num_descriptors: int = MAX_DESCRIPTORS) -> None:
        self._server_polls: Final = server_polls
        self._num_descriptors: Final = num_descriptors
        self._seq_num = 0  # of the last doorbell
        self._posted = 0  # entries filled
        self._consumed = 0  # completions consumed
        self._told = 0  # completions consumed as of the last doorbell
        self._rung_posted = 0  # entries filled as of the last doorbell
        self._rung = True  # the server knows of all that is posted, or looks by itself
        self.server_looks = False
        self._armed = False  # the server owes a message at the next completion

    def post(self, count: int) -> None:
        """``count`` more entries are READY, in ring order; call :meth:`ring` before sleeping."""
        self._posted += count
        if count and not self.server_looks:  # looking at the ring without filling it is no reason to ring
            self._rung = False

    def consumed(self, count: int) -> None:
        """``count`` more completions were consumed and their entries are FREE."""
        self._consumed += count

    def ring(self, sleeping: bool) -> Doorbell | None:
        """Return the message that the server needs now, if any; ``sleeping`` says that we wait for one."""
        arm = sleeping and not self._armed and self._posted != self._consumed
        if self._rung and not arm:
            return None
        self._seq_num += 1
        self._rung_posted = self._posted
        self._told = self._consumed
        self._rung = True
        self.server_looks = self._server_polls
        self._armed = sleeping
        return Doorbell(
            self._seq_num,
            self._posted % self._num_descriptors,
            _STOPPED if sleeping else _ACTIVE,
            self._consumed & _MASK,
        )

    def received(self, seq_num: int, start_idx: int, proc_state: int, completions: int) -> None:
        """Take the server's :class:`Doorbell`; look at the ring next, then call :meth:`ring` before sleeping.

        Raises: RingError (no such state or entry; a doorbell never sent; more completions than requests).
        """
        _check(start_idx, proc_state, self._num_descriptors)
        if seq_num > self._seq_num:
            raise RingError(Layer.VIO, Reaction.RESET, f"doorbell {seq_num} answered, {self._seq_num} sent")
        if (self._posted - completions) & _MASK > self._posted:
            raise RingError(
                Layer.VIO, Reaction.RESET, f"{completions} completions of {self._posted} requests"
            )
        if seq_num < self._seq_num:
            return  # it crossed our last doorbell, which has changed all that it says
        if completions != self._told & _MASK:
            self._armed = False
        self.server_looks = proc_state == _ACTIVE
        self._rung = self.server_looks or self._seen(start_idx)

    def _seen(self, next_index: int) -> bool:
        """Say whether a server that stopped at ``next_index`` has seen all that is posted.

        What was posted before a doorbell is covered by it. Of the rest, a full ring of new entries and none
        at all give the same index; then a needless doorbell is sent.
        """
        uncovered = self._posted - self._rung_posted
        here = self._posted % self._num_descriptors
        return uncovered == 0 or (next_index == here and uncovered < self._num_descriptors)
