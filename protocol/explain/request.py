"""One request, a ring entry in a note or the descriptor in a message: in words, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from protocol.ldc.cookie import Cookie
from protocol.vdisk.descriptor import COOKIE, ENTRY, INBAND, EntryLayout
from protocol.vdisk.operations import BLOCK_IO, SLICE_NONE, Operation
from protocol.vdisk.status import WireErrno
from protocol.vdisk.validate import RULES, Export

from .lines import Line, head, remark, say, warn
from .rules import Rule
from .structure import LINUX_ACK_FLAG, fields_of, status_words

__all__ = [
    "Ask",
    "ask_of_entry",
    "ask_of_message",
    "explain_entry",
    "explain_refusal",
    "explain_request",
    "explain_result",
]

_OPERATIONS: Final = {int(operation): operation.name for operation in Operation}
_UNLABELLED: Final = WireErrno.EIO  # of a disk without a label: whether there is one, packets do not tell


class Ask(NamedTuple):
    """What a request asks for, and what was answered if it was; ``cookies`` are those that are there."""

    req_id: int
    operation: int
    slice: int
    status: int
    addr: int
    nbytes: int
    ncookies: int
    cookies: tuple[Cookie, ...]

    @property
    def name(self) -> str:
        """The operation's name."""
        return _OPERATIONS.get(self.operation, f"operation {self.operation:#x}")

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What a request has in common with itself when it is sent again."""
        return self.req_id, self.operation, self.slice, self.addr

    def __str__(self) -> str:
        if self.operation not in BLOCK_IO:
            return f"{self.name}, {self.nbytes} bytes" if self.nbytes else self.name
        where = "" if self.slice == SLICE_NONE else f" of slice {self.slice}"
        return f"{self.name} of {self.nbytes} bytes at block {self.addr}{where}"


def ask_of_entry(entry: bytes) -> Ask:
    """Return the request in a ring entry, 48 bytes or more."""
    return Ask._make((*ENTRY.unpack_from(entry)[2:], _cookies(entry[ENTRY.size :])))


def ask_of_message(message: bytes) -> Ask:
    """Return the request in an in-band message, 64 bytes or more."""
    return Ask._make((*INBAND.unpack_from(message)[6:], _cookies(message[INBAND.size :])))


def _cookies(data: bytes) -> tuple[Cookie, ...]:
    whole = len(data) - len(data) % COOKIE.size
    return tuple(Cookie(*each) for each in COOKIE.iter_unpack(data[:whole]))


def explain_entry(entry: bytes) -> Iterator[Line]:
    """Yield the fields of a ring entry, 48 bytes or more, and what is wrong with it by itself."""
    ask = ask_of_entry(entry)
    yield head("vDisk", str(ask))
    yield from fields_of(EntryLayout, entry)
    if entry[1] == LINUX_ACK_FLAG:
        yield remark("flags are 0x01, where Solaris and OpenBSD have 0x80 (Linux does so)")
    yield from explain_request(ask)


def explain_request(ask: Ask) -> Iterator[Line]:
    """Yield what is wrong with the buffer of a request."""
    if ask.nbytes:  # otherwise the cookies are left from an older request
        if ask.ncookies > len(ask.cookies):
            yield warn(Rule.ROOM, f"{ask.ncookies} cookies, there is room for {len(ask.cookies)}")
        elif (covered := sum(cookie.size for cookie in ask.cookies[: ask.ncookies])) < ask.nbytes:
            yield warn(Rule.BUFFER, f"{covered} bytes of buffer for {ask.nbytes}")


def explain_refusal(ask: Ask, export: Export) -> Iterator[Line]:
    """Yield why a server will refuse a request, if the attributes say so."""
    for rule in RULES:
        if rule.status != _UNLABELLED and rule.applies(ask.operation, ask.slice, ask.nbytes, export):
            yield warn(Rule.REQUEST, f"{rule.reason}, to be refused with {rule.status.name}")
            return


def explain_result(ask: Ask, wanted: int | None) -> Iterator[Line]:
    """Yield how a request ended; ``wanted`` is how many bytes were asked for, if that is known."""
    if ask.status:
        yield say(f"ended with status {ask.status}: {status_words(ask.status)}")
    elif wanted is not None and ask.nbytes > wanted:
        yield warn(Rule.NBYTES, f"{ask.nbytes} bytes done, {wanted} asked for")
    elif wanted is not None and ask.nbytes < wanted:
        yield remark(f"short: {ask.nbytes} of {wanted} bytes, the rest is beyond the end of the disk")
