"""What tests of a server's session share: two messages, answers in short, refusals, resets, each state."""

from __future__ import annotations

from protocol.stack import SessionReset
from protocol.vio.state import ServerState
from tests.support.vioscript import SID, ServerScript

ATTR = f"01 01 00 02 {SID} 03 00 00 00 00000200 {'00' * 16} 0000000000000100"
RDX = f"01 01 00 05 {SID}"


def subtypes(answers: list[bytes]) -> list[tuple[int, int, int]]:
    """Return (subtype, envelope, low octet of seq_num) of each answer."""
    return [(answer[1], answer[3], answer[15]) for answer in answers]


def reset_of(script: ServerScript) -> SessionReset | None:
    """Return the reset that was reported, if any, after it was carried out."""
    resets = [event for event in script.events() if isinstance(event, SessionReset)]
    for _ in resets:
        script.stack.reset_done()
        script.carry()
    assert len(resets) <= 1
    return resets[0] if resets else None


def only_reset(script: ServerScript) -> SessionReset:
    """Return the one event there is, a reset, and carry it out."""
    (event,) = script.events()
    assert isinstance(event, SessionReset)
    script.stack.reset_done()
    script.carry()
    return event


def refused(script: ServerScript, message: bytes) -> SessionReset | None:
    """Send what must be answered with a NACK of the same length; return the reset that follows."""
    (answer,) = script.send(message)
    assert answer[:1] + answer[2:4] == message[:1] + message[2:4]
    assert answer[1] == 4
    assert len(answer) == len(message)
    return reset_of(script)


def server_in(state: ServerState) -> ServerScript:
    """Return a server in ``state``, its events forgotten."""
    script = ServerScript()
    if state is ServerState.VERSION:
        script.say(f"01 01 00 01 {SID} 0001 0002 03")
    elif state in (ServerState.ATTRIBUTES_RING, ServerState.RING):
        script.agree()
    elif state is ServerState.ATTRIBUTES_INBAND:
        script.agree(xfer_mode=2)
    elif state is ServerState.DATA_RING:
        script.data()
    elif state is ServerState.DATA_INBAND:
        script.inband()
    if state is ServerState.RING:
        script.register()
    script.events()
    return script
