"""A client with a ring: the way of each request from descriptor to answer, which all drivers have in common.

Sources: Solaris ``vdc.c`` (``vdc_send_request``), Linux ``sunvdc.c`` (``__send_request``), OpenBSD ``vdsk.c``
(``vdsk_scsi_cmd``, ``vdsk_rx_vio_dring_data``).
"""

from abc import abstractmethod

from tests.vectors.memory import Memory
from tests.vectors.ring import Ring
from tests.vectors.scenario import Client, Request


class RingClient(Client):
    """One request at a time: an entry, a message about it, the answer, and the entry once more."""

    def __init__(self, memory: Memory, buffer_ra: int, ring: Ring) -> None:
        super().__init__(memory, buffer_ra)
        self.ring = ring

    @abstractmethod
    def entry(self) -> int:
        """The entry that comes next."""

    def req_id(self) -> int:
        """What the driver calls the request: nothing, unless it counts them."""
        return 0

    def request(self, request: Request) -> None:
        index, what = self.entry(), request.what
        self.ring.post(
            index,
            request.operation,
            request.part,
            request.addr,
            request.nbytes,
            request.cookies,
            req_id=self.req_id(),
            ncookies=request.stale_ncookies,
        )
        self.ring.expect_ack(what, self.ring.announce(index), index)
        self.ring.reap(what, index, request.status, request.answered)
