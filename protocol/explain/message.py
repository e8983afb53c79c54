"""One VIO message by itself: its tag, its structure, and the rules that it shows to be broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from protocol import wire
from protocol.errors import RemoteProtocolError
from protocol.vdisk.attributes import AttributeLayout, AttributeLayoutV12, parse_wish
from protocol.vdisk.descriptor import InbandMessageLayout
from protocol.vio.handshake import ServerHandshake
from protocol.vio.messages import (
    OPEN_ENDED,
    DeviceClass,
    DoorbellLayout,
    DringDataLayout,
    DringRegisterLayout,
    DringUnregisterLayout,
    Envelope,
    MessageType,
    RdxLayout,
    Subtype,
    TagLayout,
    VersionLayout,
)

from .lines import Line, head, remark, say, warn
from .request import ask_of_message, explain_request
from .rules import Rule
from .structure import Values, fields_of, values_of

__all__ = ["explain_message", "is_doorbell", "message_title", "name_of"]

Version: TypeAlias = tuple[int, int]

NEWEST: Final = (1, 2)
"""The version whose rules hold where none is known."""

_DATA_FROM: Final = int(Envelope.PKT_DATA)  # envelopes below are of CTRL messages
_LAYOUTS: Final[Mapping[int, wire.Layout[Any]]] = {
    Envelope.VER_INFO: VersionLayout,
    Envelope.ATTR_INFO: AttributeLayout,
    Envelope.DRING_REG: DringRegisterLayout,
    Envelope.DRING_UNREG: DringUnregisterLayout,
    Envelope.RDX: RdxLayout,
    Envelope.DESC_DATA: InbandMessageLayout,
    Envelope.DRING_DATA: DringDataLayout,
}
_ENVELOPES: Final = {int(envelope): envelope.name for envelope in Envelope}
_SUBTYPES: Final = {int(subtype): subtype.name for subtype in Subtype}


def name_of(envelope: int, subtype: int) -> str:
    """Return what a message is called: its envelope and its subtype."""
    return f"{_ENVELOPES.get(envelope, f'{envelope:#06x}')} {_SUBTYPES.get(subtype, f'{subtype:#x}')}"


def message_title(message: bytes) -> str:
    """Return what a message is, in a few words."""
    if len(message) < TagLayout.size:
        return f"{len(message)} bytes, no message"
    tag = values_of(TagLayout, message)
    envelope = tag["subtype_env"]
    name = name_of(envelope, tag["subtype"])
    layout = _LAYOUTS.get(envelope)
    if envelope not in _TITLES or layout is None or len(message) < layout.size:
        return name
    return f"{name} {_TITLES[envelope](values_of(layout, message))}"


def _version_title(values: Values) -> str:
    return f"{values['major']}.{values['minor']}"


def _attribute_title(values: Values) -> str:
    blocks, block_size = values["vdisk_size"], values["vdisk_block_size"]
    return f"of {blocks} blocks of {block_size} bytes" if blocks else "of a client"


def _register_title(values: Values) -> str:
    return f"of {values['num_descriptors']} entries of {values['descriptor_size']} bytes"


def _ring_title(values: Values) -> str:
    if values["end_idx"] == OPEN_ENDED:
        what = "doorbell at entry {}" if values["proc_state"] else "entries from {} on"
        return f"number {values['seq_num']}, {what.format(values['start_idx'])}"
    return f"number {values['seq_num']}, entries {values['start_idx']} to {values['end_idx']}"


def _inband_title(values: Values) -> str:
    return f"number {values['seq_num']}"


_TITLES: Final[Mapping[int, Callable[[Values], str]]] = {
    Envelope.VER_INFO: _version_title,
    Envelope.ATTR_INFO: _attribute_title,
    Envelope.DRING_REG: _register_title,
    Envelope.DRING_DATA: _ring_title,
    Envelope.DESC_DATA: _inband_title,
}


def explain_message(message: bytes, version: Version | None = None) -> list[Line]:
    """Return what one message means by itself; ``version`` is the one agreed, if that is known."""
    lines = [head("VIO", f"{message_title(message)}, {len(message)} bytes")]
    if len(message) < TagLayout.size:
        return [*lines, warn(Rule.LENGTH, f"{len(message)} bytes, a tag has {TagLayout.size}")]
    tag = values_of(TagLayout, message)
    layout = _layout(message, tag["subtype_env"], version)
    if layout is None or len(message) < layout.size:
        lines += [*fields_of(TagLayout, message), *_no_structure(message, tag, layout)]
        return [*lines, *_tag(tag)]
    values = values_of(layout, message)
    lines += [*fields_of(layout, message), *_tag(tag)]
    try:
        layout.parse(message)
    except RemoteProtocolError as error:
        return [*lines, warn(Rule.LENGTH, error.reason)]
    return [*lines, *_CHECKS[tag["subtype_env"]](message, values, version)]


def _layout(message: bytes, envelope: int, version: Version | None) -> wire.Layout[Any] | None:
    """Return the structure of a message; without a version its contents decide between two of them."""
    if envelope == Envelope.DRING_DATA and is_doorbell(message):
        return DoorbellLayout
    layout = _LAYOUTS.get(envelope)
    if layout is AttributeLayout and (version or NEWEST) >= NEWEST:
        return AttributeLayoutV12
    return layout


def is_doorbell(message: bytes) -> bool:
    """Say whether ring data is a message of a polled ring: no end, and a processing state."""
    if len(message) < DoorbellLayout.size:
        return False
    values = values_of(DoorbellLayout, message)
    return bool(values["end_idx"] == OPEN_ENDED and values["proc_state"])


def _no_structure(message: bytes, tag: Values, layout: wire.Layout[Any] | None) -> Iterator[Line]:
    if layout is None:
        yield say(f"carries {message[TagLayout.size :].hex() or 'nothing'}")
        yield warn(Rule.NO_DISK, f"envelope {tag['subtype_env']:#x}")
    elif layout is RdxLayout and tag["subtype"] == Subtype.ACK and len(message) == TagLayout.size:
        yield remark("RDX is acknowledged with a tag alone (OpenBSD does so)")
    else:
        yield warn(Rule.LENGTH, f"{layout.name}: {len(message)} bytes, must be {layout.size}")


def _tag(tag: Values) -> Iterator[Line]:
    kind = MessageType.CTRL if tag["subtype_env"] < _DATA_FROM else MessageType.DATA
    if tag["subtype_env"] in _ENVELOPES and tag["msgtype"] != kind:
        yield warn(Rule.TAG, f"{_ENVELOPES[tag['subtype_env']]} in type {tag['msgtype']}, not {kind.name}")


# -- what one message shows, by envelope ---------------------------------------------------------------------

_CLASSES: Final = {
    Subtype.INFO: (DeviceClass.DISK, Rule.CLIENT_CLASS),
    Subtype.ACK: (DeviceClass.DISK_SERVER, Rule.SERVER_CLASS),
}


def _check_version(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    expected = _CLASSES.get(values["subtype"])
    if expected is not None and values["dev_class"] != expected[0]:
        yield warn(expected[1], f"device class {values['dev_class']}")


def _check_attributes(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    if values["subtype"] == Subtype.INFO:
        try:
            parse_wish(message, version or NEWEST)
        except RemoteProtocolError as error:
            yield warn(Rule.WISH, error.reason)


def _check_ring(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    if values["subtype"] == Subtype.INFO:
        try:
            ServerHandshake(()).offered_ring(message)
        except RemoteProtocolError as error:
            yield warn(Rule.RING_OFFER, error.reason)
    elif values["subtype"] == Subtype.ACK and not values["num_descriptors"]:
        yield remark("nothing but the ident is filled in (OpenBSD does so)")


def _check_unregistration(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    if values["subtype"] == Subtype.INFO:
        yield remark("vds refuses to forget a ring, and resets")


def _check_range(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    is_open = values["end_idx"] == OPEN_ENDED and not values["proc_state"]
    if values["end_idx"] < OPEN_ENDED or (is_open and values["subtype"] == Subtype.ACK):
        yield warn(Rule.RANGE, f"the range ends at {values['end_idx']}")
    elif is_open and values["subtype"] == Subtype.INFO:
        yield remark("an open range, which is refused unless OPEN_RANGES was agreed")


def _check_descriptor(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    ask = ask_of_message(message)
    yield head("vDisk", str(ask))
    if values["subtype"] == Subtype.INFO:
        yield from explain_request(ask)


def _check_nothing(message: bytes, values: Values, version: Version | None) -> Iterator[Line]:
    return iter(())


_CHECKS: Final[Mapping[int, Callable[[bytes, Values, Version | None], Iterator[Line]]]] = {
    Envelope.VER_INFO: _check_version,
    Envelope.ATTR_INFO: _check_attributes,
    Envelope.DRING_REG: _check_ring,
    Envelope.DRING_UNREG: _check_unregistration,
    Envelope.RDX: _check_nothing,
    Envelope.DESC_DATA: _check_descriptor,
    Envelope.DRING_DATA: _check_range,
}
