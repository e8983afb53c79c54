"""The exception tree: who is whose child, what each carries, what it says."""

from __future__ import annotations

import errno
from enum import IntEnum

import pytest

from protocol.errors import (
    ChannelError,
    ChannelLost,
    ConfigError,
    CookieError,
    DiskError,
    HvStatus,
    Layer,
    LocalProtocolError,
    NegotiationError,
    NegotiationTimeout,
    PacketError,
    ProtocolError,
    Reaction,
    RemoteProtocolError,
    RingError,
    SequenceError,
)


@pytest.mark.parametrize("kind", [PacketError, SequenceError, NegotiationError, RingError])
def test_remote_error_says_layer_reaction_and_reason(kind: type[RemoteProtocolError]) -> None:
    error = kind(Layer.VIO, Reaction.NACK, "no such ring")
    assert isinstance(error, RemoteProtocolError)
    assert (error.layer, error.reaction, error.reason) == (Layer.VIO, Reaction.NACK, "no such ring")
    assert str(error) == "vio: no such ring"
    assert error.args == (Layer.VIO, Reaction.NACK, "no such ring")


def test_local_error_asks_for_no_reaction() -> None:
    error = LocalProtocolError(Layer.LDC, "the link is not up")
    assert isinstance(error, ProtocolError)
    assert not isinstance(error, RemoteProtocolError)
    assert error.reaction is None
    assert str(error) == "ldc: the link is not up"


def test_cookie_error_resets_and_carries_the_hypervisor_status() -> None:
    error = CookieError(HvStatus.ENOMAP, "cookie 0x2000")
    assert isinstance(error, RemoteProtocolError)
    assert (error.layer, error.reaction, error.hv_status) == (
        Layer.HYPERVISOR,
        Reaction.RESET,
        HvStatus.ENOMAP,
    )
    assert str(error) == "hypervisor: cookie 0x2000 (ENOMAP)"


@pytest.mark.parametrize("error", [LocalProtocolError(Layer.LDC, "x"), CookieError(HvStatus.EIO, "x")])
def test_error_can_be_made_again_from_its_arguments(error: ProtocolError) -> None:
    again = type(error)(*error.args)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", [ChannelLost, NegotiationTimeout])
def test_channel_error_is_no_protocol_error(kind: type[ChannelError]) -> None:
    error = kind("peer closed")
    assert isinstance(error, ChannelError)
    assert not isinstance(error, ProtocolError)
    assert (error.reason, str(error)) == ("peer closed", "peer closed")


class Verb(IntEnum):
    """An operation with a name."""

    BREAD = 1


def test_disk_error_is_an_oserror_with_the_request() -> None:
    error = DiskError(errno.ENOSPC, Verb.BREAD, slice=0xFF, addr=17, nbytes=4096)
    assert isinstance(error, OSError)
    assert (error.errno, error.operation) == (errno.ENOSPC, Verb.BREAD)
    assert (error.slice, error.addr, error.nbytes) == (0xFF, 17, 4096)
    text = "[Errno 28] BREAD failed with ENOSPC (slice 0xff, block 17, 4096 bytes)"
    assert str(error) == text


def test_disk_error_names_what_has_no_name_by_number() -> None:
    error = DiskError(4711, 0x33, slice=0, addr=0, nbytes=0)
    assert str(error) == "[Errno 4711] operation 0x33 failed with unknown error (slice 0x0, block 0, 0 bytes)"


def test_config_error_says_where_and_why() -> None:
    error = ConfigError("vds.toml", "blocksize", 7, "must be 512 or 4096")
    assert isinstance(error, ValueError)
    assert (error.file, error.key, error.value, error.why) == (
        "vds.toml",
        "blocksize",
        7,
        "must be 512 or 4096",
    )
    assert str(error) == "vds.toml: blocksize=7: must be 512 or 4096"


def test_config_error_of_the_command_line_names_no_file() -> None:
    assert str(ConfigError(None, "poll-us", -1, "must not be negative")) == "poll-us=-1: must not be negative"


def test_hypervisor_status_numbers_are_those_of_the_specification() -> None:
    names = (
        "EOK ENOCPU ENORADDR ENOINTR EBADPGSZ EBADTSB EINVAL EBADTRAP EBADALIGN EWOULDBLOCK ENOACCESS EIO "
        "ECPUERROR ENOTSUPPORTED ENOMAP ETOOMANY ECHANNEL EBUSY"
    )
    assert [status.name for status in HvStatus] == names.split()
    assert [status.value for status in HvStatus] == list(range(18))
