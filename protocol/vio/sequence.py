"""Sequence numbers of data messages: what a server demands of requests, and a client of answers.

There is no counter per direction: an answer carries the number of the request it answers, which is why
answers have to go out in the order of the requests. Source: Solaris vds.c, vd_check_seq_num; vdc.c,
vdc_verify_seq_num.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import Layer, Reaction, SequenceError

__all__ = ["AnswerSequence", "RequestSequence"]

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF


class RequestSequence:
    """The server's check: the first number is any, each later one the next.

    Linux never restarts its counter, so a session need not begin at 0 or 1 (sunvdc.c).
    """

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: int | None = None

    def check(self, seq_num: int) -> None:
        """Take the number of a request.

        Raises: SequenceError (not the one after the last): NACK and soft reset.
        Source: Solaris vds.c, vd_check_seq_num.
        """
        if self.last is not None and seq_num != (self.last + 1) & _MASK:
            raise SequenceError(Layer.VIO, Reaction.NACK, f"request {seq_num} follows {self.last}")
        self.last = seq_num


class AnswerSequence:
    """The client's counter, from 1, and its check of answers: strictly rising, none from the future."""

    __slots__ = ("answered", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0

    def next(self) -> int:
        """Return the number of the next request. Source: Solaris vdc.c, vdc_send."""
        self.sent += 1
        return self.sent

    def check(self, seq_num: int) -> None:
        """Take the number of an answer.

        Raises: SequenceError (answered before, or never sent): reset.
        Source: Solaris vdc.c, vdc_verify_seq_num.
        """
        if not self.answered < seq_num <= self.sent:
            raise SequenceError(
                Layer.VIO, Reaction.RESET, f"answer {seq_num} after {self.answered}, {self.sent} sent"
            )
        self.answered = seq_num

    def check_progress(self, seq_num: int) -> None:
        """Take the number of an answer that more answers of the same number follow: an open range's.

        Raises: SequenceError (as :meth:`check`).
        """
        self.check(seq_num)
        self.answered = seq_num - 1
