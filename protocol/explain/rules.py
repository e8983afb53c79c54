"""The rules that a trace can break, each with where it comes from; what breaks one is a warning.

What drivers do that is odd and allowed is no rule broken: it gets a remark. ``docs/reference/rules.md`` has
every rule of the protocols; these are those that packets and notes alone can show.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Rule"]


class Rule(Enum):
    """A rule in few words, and the function or document that it comes from."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source

    # -- one packet
    NUMBER = "every number has a meaning", "the drivers' headers"
    TYPE = "a packet is CTRL or DATA", "Solaris ldc.c, i_ldc_rx_hdlr"
    STYPE = "INFO, ACK or NACK, and only one of them", "Solaris ldc.c, i_ldc_ctrlmsg"
    CTRL = "a control packet is a step of the handshake, in the low 4 bits", "Solaris ldc.c, i_ldc_ctrlmsg"
    CTRL_IN_DATA = "ctrl is 0 in data packets", "Solaris ldc.c, i_ldc_write_packet"
    ENV_LENGTH = "a packet holds 1 to 56 bytes, 48 in reliable mode", "Solaris ldc.c, i_ldc_read_packet"
    ENV_ZERO = "env is 0 but in data, RTS and RTR", "Solaris ldc.c, i_ldc_send_pkt"
    MODE = "both ends use the same mode", "Solaris ldc.c, i_ldc_process_RTS"
    LINK_VERSION = "the link version is 1.0", "Solaris ldc.c, i_ldc_process_VER"
    RELIABLE_ACK = "only reliable mode acknowledges data", "Solaris ldc.c, i_ldc_process_data_ACK"

    # -- one message
    LENGTH = "a message is as long as its structure", "Solaris vds.c, vd_do_process_msg"
    TAG = "an envelope belongs to one type of message", "Solaris sys/vio_mailbox.h, vio_msg_tag_t"
    NO_DISK = "no disk sends or takes it", "Solaris vds.c, vd_do_process_msg"
    CLIENT_CLASS = "a client is a DISK", "Solaris vds.c, vd_process_ver_msg"
    SERVER_CLASS = "a server is a DISK_SERVER", "Solaris vdc.c, vdc_handle_ver_msg"
    WISH = "the client's attributes can be served", "Solaris vds.c, vd_process_attr_msg"
    RING_OFFER = "a ring has one cookie and a possible geometry", "Solaris vds.c, vd_process_dring_reg_msg"
    RANGE = "a range lies within the ring", "Solaris vds.c, vd_process_dring_msg"
    COOKIE = "a cookie is aligned to 8 and has a page size that exists", "FWARC 2008/424, LDC_COPY"
    ROOM = "the cookies fit the descriptor", "Solaris vds.c, vd_process_element"
    BUFFER = "the cookies cover all bytes of the request", "Solaris vds.c, vd_do_process_task"

    # -- the link, packet after packet
    SEQID = "packets are numbered without gaps", "Solaris ldc.c, i_ldc_check_seqid"
    NOT_UP = "data flows when the link is up", "Solaris ldc.c, i_ldc_rx_process_hvq"
    STEP = "a step of the handshake has its turn", "Solaris ldc.c, i_ldc_ctrlmsg"
    SECOND_RDX = "one RDX for each end", "Solaris ldc.c, i_ldc_process_RDX"
    REFUSED_STEP = "nobody refuses a step of the handshake", "Solaris ldc.c, i_ldc_process_RTS"
    LOST = "nothing is lost: a NACK means reset", "Solaris ldc.c, i_ldc_rx_process_hvq"
    PIECES = "a message begins with START and ends with STOP", "Solaris ldc.c, i_ldc_read_packet"
    TOO_LONG = "a message fits the sender's queue", "Solaris ldc.c, ldc_write"

    # -- the session, message after message
    TURN = "a message has its turn", "Solaris vds.c, vd_do_process_msg"
    ANSWER = "an answer belongs to the oldest message", "Solaris vdc.c, vdc_process_msg_thread"
    SID = "a session has one id", "Solaris vdc.c, vdc_process_msg_thread"
    AGREED_VERSION = "the version agreed is not above the one offered", "Solaris vdc.c, vdc_handle_ver_msg"
    ATTRIBUTES = "the disk's attributes can be", "Solaris vdc.c, vdc_handle_attr_msg"
    NACKED = "no message is refused: a reset follows", "Solaris vds.c, vd_process_msg"
    REQUEST_NUMBER = "requests are numbered without gaps", "Solaris vds.c, vd_check_seq_num"
    ANSWER_NUMBER = "one answer for each message, in their order", "Solaris vdc.c, vdc_verify_seq_num"
    IDENT = "a message names the ring that was registered", "Solaris vds.c, vd_process_dring_msg"
    OPEN_RANGE = "an open range is told in pieces that join, up to STOPPED", "docs/extensions.md, OPEN_RANGES"
    DOORBELL = "a doorbell counts what has happened", "docs/extensions.md, POLLED_RING"

    # -- requests
    DSTATE = "an entry goes from FREE to READY, ACCEPTED, DONE", "Solaris vds.c, vd_process_element"
    ENTRY_OWNER = "an entry is moved by who owns it", "Solaris vds.c, vd_mark_elem_done"
    ANNOUNCED = "an entry lies in the range of its message", "Solaris vds.c, vd_process_element_range"
    TOO_EARLY = "an entry is DONE before its message is answered", "Solaris vds.c, vd_complete_notify"
    REQUEST = "a request is one that the disk offers", "Solaris vds.c, vd_do_process_task"
    NBYTES = "no more is transferred than was asked for", "Solaris vdc.c, vdc_depopulate_descriptor"
    NOTE = "a note says what can be", "docs/reference/capture.md"
