"""The channel between two processes: what makes them look like two domains with a hypervisor between.

rendezvous    connect, accept, who the peer is, what it wants
records       queue, map table and COPY calls as datagrams
channel       packets and records in and out, link state, back-pressure
memory        exported and imported memory: cookies to bytes
credentials   who a peer is
filelock      who may write a backend
capture       a file of what was said and done, when one is asked for
captured      the channel and the rings that tell it

Everything is non-blocking and knows no event loop. Imports ``protocol``; ``vds`` and ``vdc`` import this.
"""

from .capture import Capture, Tap
from .captured import CapturedChannel, CapturedClientRing, CapturedServerRing
from .channel import Channel
from .credentials import Credentials
from .memory import CopiedMemory, LocalMemory, MappedMemory
from .records import Copy, CopyDone, MapTableRecord, Push
from .rendezvous import (
    Hello,
    Listener,
    Pending,
    Refused,
    Transport,
    Welcome,
    connect,
    receive_answer,
    send_hello,
)

__all__ = [
    "Capture",
    "CapturedChannel",
    "CapturedClientRing",
    "CapturedServerRing",
    "Channel",
    "CopiedMemory",
    "Copy",
    "CopyDone",
    "Credentials",
    "Hello",
    "Listener",
    "LocalMemory",
    "MapTableRecord",
    "MappedMemory",
    "Pending",
    "Push",
    "Refused",
    "Tap",
    "Transport",
    "Welcome",
    "connect",
    "receive_answer",
    "send_hello",
]
