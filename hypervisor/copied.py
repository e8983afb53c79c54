"""The peer's memory without sharing it: transport SOCKET, COPY records, and what came pushed.

Every COPY is a record to the exporter and a record back, so many are under way at once. Calls do not wait:
they take a function that is called exactly once, possibly before the call returns.

Source: Solaris ldc_shm.c, ldc_mem_copy (the loop over short counts), i_ldc_mem_acquire_release (shadow map).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol import wire
from protocol.errors import CookieError, HvStatus, Layer, LocalProtocolError
from protocol.ldc.cookie import ALIGNMENT

from .ranges import cut_cookies, skip_cookies
from .records import COPY_PIECE, Copy, CopyDirection, CopyDone, Push, refuse

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["OUTSTANDING", "CopiedMemory"]

OUTSTANDING: Final = 64
"""COPYs under way at once: 3.5 MiB of the longest pieces, twice the least that keeps both sides busy."""

RING_LIMIT: Final = 4 * 1024 * 1024
"""Longest ring that is shadowed: 512 entries with the cookies of 4 MiB each."""

Cookies: TypeAlias = Sequence[tuple[int, int]]
CopiedIn: TypeAlias = Callable[[bytes | CookieError], None]
CopiedOut: TypeAlias = Callable[[CookieError | None], None]


class _Request:
    """One copy_in or copy_out: ``left`` pieces are missing; ``parts`` is what was read, by offset."""

    __slots__ = ("done", "left", "parts")

    def __init__(self, left: int, done: Callable[[_Request | CookieError], None]) -> None:
        self.left = left
        self.parts: dict[int, wire.Buffer] = {}
        self.done: Callable[[_Request | CookieError], None] | None = done

    def finish(self, result: _Request | CookieError) -> None:
        """Report the result, the first time."""
        done, self.done = self.done, None
        if done is not None:
            done(result)


class _Piece:
    """What one COPY asks for: ``length`` bytes at ``addr``, ``offset`` bytes into the request."""

    __slots__ = ("addr", "data", "length", "offset", "request")

    def __init__(
        self, request: _Request, offset: int, addr: int, length: int, data: memoryview | None
    ) -> None:
        self.request = request
        self.offset = offset
        self.addr = addr
        self.length = length
        self.data = data


class CopiedMemory:
    """The memory that the peer of ``channel`` exports, reached by COPY records.

    The driver passes every CopyDone and Push that the channel returns to :meth:`received`. The exporter
    checks addresses and permissions; a refusal arrives as the CookieError of the request.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._copies: dict[int, _Piece] = {}
        self._waiting: deque[_Piece] = deque()
        self._last_id = 0
        self._pushed: dict[int, wire.Buffer] = {}
        self._pushed_batch = -1
        self._ring_cookie = (0, 0)
        self._ring = memoryview(bytearray())
        self._closed = False

    def copy_in(self, cookies: Cookies, nbytes: int, done: CopiedIn, skip: int = 0) -> None:
        """Read ``nbytes`` bytes at ``cookies``, ``skip`` bytes in; ``done`` gets the bytes or a CookieError.

        What was pushed with the last doorbell is taken from there, without asking. The cookies may cover
        more.

        Raises: ChannelLost.
        """

        def finished(result: _Request | CookieError) -> None:
            if isinstance(result, CookieError):
                done(result)
            else:
                done(_joined([part for _, part in sorted(result.parts.items())], nbytes))

        try:
            ranges = cut_cookies(skip_cookies(cookies, skip), nbytes)
        except CookieError as error:
            done(error)
            return
        pushed = self._find_pushed(ranges)
        if pushed is None:
            self._start(ranges, None, finished)
        else:
            done(_joined(pushed, nbytes))

    def copy_out(self, cookies: Cookies, data: wire.Buffer, done: CopiedOut, skip: int = 0) -> None:
        """Write ``data`` at ``cookies``, ``skip`` bytes in, with zeros up to a multiple of 8; ``done`` gets
        None.

        Or a CookieError: then any part of the range may have been written. ``data`` must not change until
        ``done`` is called.

        Raises: ChannelLost.
        """

        def finished(result: _Request | CookieError) -> None:
            done(result if isinstance(result, CookieError) else None)

        missing = -len(data) % ALIGNMENT
        try:
            ranges = cut_cookies(skip_cookies(cookies, skip), len(data))
        except CookieError as error:
            done(error)
            return
        self._start(ranges, memoryview(bytes(data) + bytes(missing) if missing else data), finished)

    def _start(
        self, ranges: Cookies, data: memoryview | None, done: Callable[[_Request | CookieError], None]
    ) -> None:
        request = _Request(0, done)
        if self._closed:
            request.finish(CookieError(HvStatus.ECHANNEL, "the channel was closed"))
            return
        offset = 0
        for start, size in ranges:
            for at in range(0, size, COPY_PIECE):
                length = min(COPY_PIECE, size - at)
                part = None if data is None else data[offset : offset + length]
                self._waiting.append(_Piece(request, offset, start + at, length, part))
                request.left += 1
                offset += length
        self._pump()

    def _pump(self) -> None:
        """Send waiting COPYs, as many as may be under way."""
        while self._waiting and len(self._copies) < OUTSTANDING:
            piece = self._waiting.popleft()
            if piece.request.done is None:
                continue  # another piece of it was refused
            ident = self._last_id = (self._last_id + 1) & 0xFFFFFFFF
            self._copies[ident] = piece
            direction = CopyDirection.IN if piece.data is None else CopyDirection.OUT
            self._channel.send_record(Copy(ident, direction, piece.addr, piece.length, piece.data or b""))

    def received(self, record: CopyDone | Push) -> None:
        """Take an answer to a COPY, or memory contents that were pushed.

        Contents in the ring go into its shadow. Other contents serve :meth:`copy_in` until the channel is
        read again: after that a new request may use the same place.

        Raises: PacketError (answer to nothing, or longer than asked for: close the channel); ChannelLost.
        """
        if isinstance(record, Push):
            self._take_pushed(record)
        else:
            self._take_done(record)

    def _take_done(self, record: CopyDone) -> None:
        piece = self._copies.get(record.id)
        if piece is None:
            raise refuse(f"COPY_DONE with id {record.id}, which no COPY has")
        length = record.length
        expected = length if piece.data is None else 0
        if not record.status and (
            not 0 < length <= piece.length or length % ALIGNMENT or len(record.data) != expected
        ):  # the COPY stays under way: close() ends it
            raise refuse(f"COPY_DONE of {length} bytes for a COPY of {piece.length}")
        del self._copies[record.id]
        request = piece.request
        if record.status:
            known = record.status in HvStatus._value2member_map_
            status = HvStatus(record.status) if known else HvStatus.EIO
            request.finish(CookieError(status, f"COPY of {piece.length} bytes at {piece.addr:#x}"))
            self._pump()  # after it, so that the request's other pieces are not sent
            return
        if piece.data is None:
            request.parts[piece.offset] = record.data
        if length < piece.length:
            self._waiting.appendleft(_rest(piece, length))
        else:
            request.left -= 1
        try:
            self._pump()
        finally:  # the channel may be lost in there, but not this answer
            if not request.left:
                request.finish(request)

    def _take_pushed(self, push: Push) -> None:
        start, size = self._ring_cookie
        self._pushed = {}
        self._pushed_batch = self._channel.batch
        for addr, data in push.pieces:
            if start <= addr and addr + len(data) <= start + size:
                self._ring[addr - start : addr - start + len(data)] = data
            else:
                self._pushed[addr] = data

    def forget_pushed(self) -> None:
        """Every request that came with it has begun: an idle channel holds no data."""
        self._pushed = {}

    def pushed(self, cookies: Cookies, nbytes: int) -> list[memoryview] | None:
        """Return what was pushed with the last doorbell for ``nbytes``, a multiple of 8, at ``cookies``.

        None: not all of it was. The parts are private, and stay as they are. Raises: CookieError.
        """
        found = self._find_pushed(cut_cookies(cookies, nbytes))
        return None if found is None else [memoryview(part) for part in found]

    def pushed_at(self, addr: int, nbytes: int) -> list[memoryview] | None:
        """As :meth:`pushed`, for one cookie that is known to be a good one."""
        data = self._pushed.get(addr)
        if data is not None and len(data) >= nbytes and self._pushed_batch == self._channel.batch:
            return [memoryview(data)[:nbytes]]
        return self.pushed(((addr, nbytes),), nbytes)

    def _find_pushed(self, ranges: Cookies) -> list[wire.Buffer] | None:
        """Return the pushed contents of ``ranges``, or None if any of it is missing."""
        if self._pushed_batch != self._channel.batch:
            self._pushed = {}
        found: list[wire.Buffer] = []
        for start, size in ranges:
            addr, end = start, start + size
            while addr < end:
                data = self._pushed.get(addr)
                if data is None:
                    return None
                found.append(data[: end - addr])
                addr += len(data)
        return found

    def map_ring(self, cookie: tuple[int, int], nbytes: int) -> memoryview:
        """Return a shadow of the descriptor ring at ``cookie``: zeros, until entries are acquired or pushed.

        Raises: CookieError (cookie too short or misaligned; ETOOMANY: longer than 4 MiB).
        """
        ((addr, size),) = cut_cookies((cookie,), nbytes)
        if nbytes > RING_LIMIT:
            raise CookieError(HvStatus.ETOOMANY, f"a ring of {nbytes} bytes")
        self._ring_cookie = (addr, size)
        self._ring = memoryview(bytearray(size))
        return self._ring[:nbytes]

    def acquire(self, offset: int, nbytes: int, done: CopiedOut) -> None:
        """Copy ``nbytes`` of the ring at ``offset`` into its shadow; then call ``done``. Raises:
        ChannelLost."""

        def finished(result: bytes | CookieError) -> None:
            if isinstance(result, CookieError):
                done(result)
                return
            self._ring[offset : offset + nbytes] = result
            done(None)

        self.copy_in([self._ring_cookie], nbytes, finished, offset)

    def release(self, offset: int, nbytes: int, done: CopiedOut) -> None:
        """Copy ``nbytes`` of the shadow at ``offset``, as they are now, into the ring. Raises:
        ChannelLost."""
        self.copy_out([self._ring_cookie], bytes(self._ring[offset : offset + nbytes]), done, offset)

    def ring_piece(self, offset: int, nbytes: int) -> tuple[int, bytes]:
        """Return ``nbytes`` of the shadow at ``offset``, as they are now, as a piece for ``Channel.push``."""
        if not 0 <= offset < offset + nbytes <= len(self._ring):
            raise LocalProtocolError(Layer.HYPERVISOR, f"{nbytes} bytes at {offset} are not in the ring")
        return self._ring_cookie[0] + offset, bytes(self._ring[offset : offset + nbytes])

    def close(self) -> None:
        """Fail everything under way, and whatever is asked from now on, with ECHANNEL. Harmless when done
        twice."""
        self._closed = True
        pieces = [*self._copies.values(), *self._waiting]
        self._copies.clear()
        self._waiting.clear()
        self._pushed = {}
        for piece in pieces:
            piece.request.finish(CookieError(HvStatus.ECHANNEL, "the channel was closed"))


def _rest(piece: _Piece, length: int) -> _Piece:
    """Return what is left of ``piece`` after ``length`` bytes."""
    data = None if piece.data is None else piece.data[length:]
    return _Piece(piece.request, piece.offset + length, piece.addr + length, piece.length - length, data)


def _joined(parts: list[wire.Buffer], nbytes: int) -> bytes:
    """Return the first ``nbytes`` bytes of ``parts`` in a row."""
    if len(parts) == 1:
        return bytes(parts[0][:nbytes])
    data = b"".join(parts)
    return data if len(data) == nbytes else data[:nbytes]
