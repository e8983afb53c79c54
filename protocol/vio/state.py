"""The handshake as tables, for both roles: which message is legal when, and where each step leads.

Theory of operation. The client starts, the server only answers; FWARC 2010/054 would let either begin, no
disk driver does. The server's states:

    INIT ─version─▶ VERSION ─attributes, ring─▶ ATTRIBUTES_RING ─ring registered─▶ RING ─RDX─▶ DATA_RING
                       └─attributes, in-band─▶ ATTRIBUTES_INBAND ─RDX─▶ DATA_INBAND

and from everywhere a reset leads back to INIT. The client's states are the same seen from its side, each
named after what it waits for. What is not in a table is illegal: a message is then answered with a NACK and a
soft reset (server) or ends the session (client), a step of our own is a LocalProtocolError.
Source: Solaris vds.c, vd_do_process_msg (VD_STATE_*); vdc.c, vdc_process_msg_thread; FWARC 2010/054.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from .messages import Envelope

__all__ = [
    "CLIENT_EXPECTS",
    "CLIENT_STEPS",
    "SERVER_EXPECTS",
    "SERVER_STEPS",
    "ClientState",
    "ClientStep",
    "ServerState",
    "ServerStep",
]


class ServerState(Enum):
    """Where the server stands; the comment says what it waits for."""

    INIT = "init"  # VER_INFO
    VERSION = "version"  # ATTR_INFO
    ATTRIBUTES_RING = "attributes, ring"  # DRING_REG
    ATTRIBUTES_INBAND = "attributes, in-band"  # RDX
    RING = "ring"  # RDX
    DATA_RING = "data, ring"  # DRING_DATA
    DATA_INBAND = "data, in-band"  # DESC_DATA


class ServerStep(Enum):
    """What moves the server on."""

    VERSION_AGREED = "version agreed"
    RING_AGREED = "attributes agreed, ring"
    INBAND_AGREED = "attributes agreed, in-band"
    RING_REGISTERED = "ring registered"
    PEER_READY = "RDX acknowledged"
    RESET = "reset"


SERVER_STEPS: Final[Mapping[tuple[ServerState, ServerStep], ServerState]] = {
    (ServerState.INIT, ServerStep.VERSION_AGREED): ServerState.VERSION,
    (ServerState.VERSION, ServerStep.RING_AGREED): ServerState.ATTRIBUTES_RING,
    (ServerState.VERSION, ServerStep.INBAND_AGREED): ServerState.ATTRIBUTES_INBAND,
    (ServerState.ATTRIBUTES_RING, ServerStep.RING_REGISTERED): ServerState.RING,
    (ServerState.RING, ServerStep.PEER_READY): ServerState.DATA_RING,
    (ServerState.ATTRIBUTES_INBAND, ServerStep.PEER_READY): ServerState.DATA_INBAND,
    **{(state, ServerStep.RESET): ServerState.INIT for state in ServerState},
}

SERVER_EXPECTS: Final[Mapping[ServerState, frozenset[int]]] = {
    ServerState.INIT: frozenset({Envelope.VER_INFO}),
    ServerState.VERSION: frozenset({Envelope.ATTR_INFO}),
    ServerState.ATTRIBUTES_RING: frozenset({Envelope.DRING_REG}),
    ServerState.ATTRIBUTES_INBAND: frozenset({Envelope.RDX}),
    ServerState.RING: frozenset({Envelope.RDX, Envelope.DRING_REG, Envelope.DRING_UNREG}),
    ServerState.DATA_RING: frozenset({Envelope.DRING_DATA, Envelope.DRING_UNREG}),
    ServerState.DATA_INBAND: frozenset({Envelope.DESC_DATA}),
}
"""Envelopes of INFO messages that are not unexpected; a second DRING_REG and any DRING_UNREG are refused all
the same. VER_INFO restarts the handshake in every state. Source: Solaris vds.c, vd_do_process_msg."""


class ClientState(Enum):
    """Where the client stands; the comment says what it waits for."""

    DOWN = "down"  # the link
    UP = "up"  # start()
    VERSION = "version"  # answer to VER_INFO
    ATTRIBUTES = "attributes"  # answer to ATTR_INFO
    AGREED = "agreed"  # register_ring() or start_data()
    RING = "ring"  # answer to DRING_REG
    READY = "ready"  # answer to RDX
    DATA_RING = "data, ring"  # answers to DRING_DATA
    DATA_INBAND = "data, in-band"  # answers to DESC_DATA
    LOST = "lost"  # reset_done()


class ClientStep(Enum):
    """What moves the client on."""

    LINK_UP = "link up"
    START = "VER_INFO sent"
    VERSION_AGREED = "version agreed, ATTR_INFO sent"
    ATTRIBUTES_AGREED = "attributes received"
    REGISTER = "DRING_REG sent"
    REGISTERED = "ring registered, RDX sent"
    START_DATA = "RDX sent, in-band"
    RING_READY = "RDX acknowledged, ring"
    INBAND_READY = "RDX acknowledged, in-band"
    LOSE = "session lost"
    RESET = "reset"


_BEGUN: Final = frozenset(ClientState) - {ClientState.DOWN, ClientState.LOST}

CLIENT_STEPS: Final[Mapping[tuple[ClientState, ClientStep], ClientState]] = {
    (ClientState.DOWN, ClientStep.LINK_UP): ClientState.UP,
    (ClientState.UP, ClientStep.START): ClientState.VERSION,
    (ClientState.VERSION, ClientStep.VERSION_AGREED): ClientState.ATTRIBUTES,
    (ClientState.ATTRIBUTES, ClientStep.ATTRIBUTES_AGREED): ClientState.AGREED,
    (ClientState.AGREED, ClientStep.REGISTER): ClientState.RING,
    (ClientState.RING, ClientStep.REGISTERED): ClientState.READY,
    (ClientState.AGREED, ClientStep.START_DATA): ClientState.READY,
    (ClientState.READY, ClientStep.RING_READY): ClientState.DATA_RING,
    (ClientState.READY, ClientStep.INBAND_READY): ClientState.DATA_INBAND,
    **{(state, ClientStep.LOSE): ClientState.LOST for state in _BEGUN},
    (ClientState.LOST, ClientStep.RESET): ClientState.DOWN,
}

CLIENT_EXPECTS: Final[Mapping[ClientState, Envelope | None]] = {
    ClientState.DOWN: None,
    ClientState.UP: None,
    ClientState.VERSION: Envelope.VER_INFO,
    ClientState.ATTRIBUTES: Envelope.ATTR_INFO,
    ClientState.AGREED: None,
    ClientState.RING: Envelope.DRING_REG,
    ClientState.READY: Envelope.RDX,
    ClientState.DATA_RING: Envelope.DRING_DATA,
    ClientState.DATA_INBAND: Envelope.DESC_DATA,
    ClientState.LOST: None,
}
"""The envelope that is awaited; an ACK of any other, and an INFO of any, ends the session. Source: Solaris
vdc.c, vdc_handle_ver_msg, vdc_handle_attr_msg, vdc_handle_dring_reg_msg, vdc_process_data_msg."""
