"""The states of a disk's connection, as a table; what a state waits for stands beside it.

A disk is opened CONNECTING and lives until CLOSED. Everything between is recovery: I/O waits in every state
but RUNNING, FAILED and REPLACED, the first because it is served, the others because it is answered with EIO.

Source: Solaris vdc.c, ``vdc_process_msg_thread`` and its states; the names of ours are in the comments.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["ANSWERS_EIO", "TRANSITIONS", "Input", "State", "step"]


class State(Enum):
    """Where the connection of a disk stands."""

    CONNECTING = auto()  # no socket; the next attempt has a time (Solaris INIT)
    RENDEZVOUS = auto()  # hello sent; waits for the server's answer
    NEGOTIATING = auto()  # waits for LDC, version, attributes, ring, RDX (INIT_WAITING, NEGOTIATE)
    RUNNING = auto()  # requests flow (HANDLE_PENDING, RUNNING)
    FAILED = auto()  # no server within the timeout: I/O gets EIO, attempts go on
    REPLACED = auto()  # another volume answers to the name: I/O gets EIO until the disk is opened again
    CLOSED = auto()  # the caller closed the disk (DETACH)


class Input(Enum):
    """What can happen to a connection."""

    CONNECTED = auto()  # a socket is there and the hello is on its way
    WELCOMED = auto()  # the server let us in
    READY = auto()  # RDX was acknowledged
    LOST = auto()  # socket closed, LDC or VIO reset, refusal, protocol error
    EXPIRED = auto()  # the timeout ran out while requests waited
    OTHER_VOLUME = auto()  # the volume's instance or block size is not the one we opened
    CLOSE = auto()  # the caller is done


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.CONNECTING, Input.CONNECTED): State.RENDEZVOUS,
    (State.CONNECTING, Input.LOST): State.CONNECTING,
    (State.CONNECTING, Input.EXPIRED): State.FAILED,
    (State.RENDEZVOUS, Input.WELCOMED): State.NEGOTIATING,
    (State.RENDEZVOUS, Input.LOST): State.CONNECTING,
    (State.RENDEZVOUS, Input.EXPIRED): State.FAILED,
    (State.RENDEZVOUS, Input.OTHER_VOLUME): State.REPLACED,
    (State.NEGOTIATING, Input.READY): State.RUNNING,
    (State.NEGOTIATING, Input.LOST): State.CONNECTING,
    (State.NEGOTIATING, Input.EXPIRED): State.FAILED,
    (State.NEGOTIATING, Input.OTHER_VOLUME): State.REPLACED,
    (State.RUNNING, Input.LOST): State.CONNECTING,
    (State.FAILED, Input.CONNECTED): State.RENDEZVOUS,
    (State.FAILED, Input.LOST): State.FAILED,
} | {(state, Input.CLOSE): State.CLOSED for state in State}

ANSWERS_EIO = frozenset({State.FAILED, State.REPLACED})
"""States that answer a request with EIO at once instead of letting it wait."""


def step(state: State, event: Input) -> State | None:
    """The state after ``event``, or None where the event means nothing in this state."""
    return TRANSITIONS.get((state, event))
